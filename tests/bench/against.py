"""Two commits of this program on one machine, in turn: a slower change is seen before it lands.

The works are those that a person waits for. Both commits run on the same interpreter with the same
libraries, and each run begins with the same files.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.data import records, write_lines
from tests.bench.listing import filled
from tests.bench.logs import make_log
from tests.bench.measure import FailedError, Pairs, Sample, alternate, output, run
from tests.bench.place import CHILDREN, Place, python, remove_database
from tests.bench.row import Row, compared
from tests.bench.startup import COMPLETION
from tests.bench.trees import make_tree

TOLERANCE = 0.1
"""A work may take so much longer than in the other commit; less is noise."""

ROOT = Path(__file__).resolve().parents[2]
_MAIN = "import sys; sys.path.insert(0, {!r}); from modelstore.__main__ import main; main()"


@dataclass(frozen=True, slots=True)
class Work:
    """A command line to measure. `prepare` makes its files anew before each run."""

    name: str
    words: tuple[str | Path, ...]
    prepare: Callable[[], object] = lambda: None
    env: dict[str, str] | None = None
    codes: tuple[int, ...] = (0,)


@contextmanager
def tree_of(commit: str, directory: Path) -> Iterator[Path]:
    """Check a commit out into a directory for the length of a block."""
    tree = directory / "other"
    _git("worktree", "add", "--quiet", "--detach", str(tree), commit)
    try:
        yield tree
    finally:
        _git("worktree", "remove", "--force", str(tree))


def _git(*words: str) -> None:
    done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, check=False)
    if done.returncode:
        raise FailedError(f"git {' '.join(words)}: {done.stderr.decode(errors='replace').strip()}")


def compare(place: Place, commit: str, tolerance: float) -> Iterator[Row]:
    """Yield a row for each work: this tree beside a commit, and whether it is slower."""
    with tree_of(commit, place.directory) as other:
        for work in works(place):
            pairs = _paired(work, other, place.size(15, 5))
            if pairs.ratio > 1 + tolerance:  # once may be the machine's doing
                pairs = _paired(work, other, place.size(25, 9))
            note = f"{pairs.cpu_ratio:.2f} × the processor time"
            yield compared("against", work.name, commit, pairs, limit=1 + tolerance, note=note)


def _paired(work: Work, other: Path, rounds: int) -> Pairs:
    return alternate(lambda: _once(work, ROOT), lambda: _once(work, other), rounds)


def _once(work: Work, tree: Path) -> Sample:
    work.prepare()
    words = [python(), "-c", _MAIN.format(str(tree)), *work.words]
    return run(words, env=work.env, codes=work.codes)


def works(place: Place) -> Iterator[Work]:
    """Yield the works that are compared."""
    yield Work("--version", ("--version",))
    yield Work("--help", ("--help",))
    yield Work("shell completion", (), env=COMPLETION)
    few, many = filled(place, 18), filled(place, place.size(100_000, 10_000))
    yield Work("list --json, 18 models", ("list", "--json", "--db", few))
    for form in ("jsonl", "tsv", "table"):
        yield Work(f"list -f {form}, many models", ("list", "-f", form, "--db", many))
    yield Work("search among many models", ("list", "qwen3-30B", "-q", "--db", many))
    yield Work("verify", ("verify", many))
    yield from _imports(place)
    yield from _logs(place)


def _imports(place: Place) -> Iterator[Work]:
    database = place.directory / "against.db"

    def anew() -> None:
        remove_database(database)

    lines = write_lines(place.directory / "against.jsonl", records(place.size(20_000, 2_000)))
    tree = make_tree(place.directory / "against-tree", place.size(1_000, 100))
    for what, source in (("JSON lines", lines), ("GGUF files", tree)):
        command = ("import", source, "--db", database)
        yield Work(f"import of {what}", command, anew)
        yield Work(f"import of {what} again", command)


def _logs(place: Place) -> Iterator[Work]:
    master, copy = place.directory / "against-log.db", place.directory / "against-copy.db"
    make_log(place, master, place.size(50_000_000, 5_000_000))

    def anew() -> None:
        remove_database(copy)
        for suffix in ("", "-wal"):
            shutil.copyfile(f"{master}{suffix}", f"{copy}{suffix}")

    yield Work("inspect-wal", ("inspect-wal", copy, "--no-checkpoint"), anew)
    yield Work("checkpoint", ("checkpoint", copy), anew)
    large = place.fresh("against-large.db")
    output([python(), CHILDREN / "make_large.py", large, str(place.size(60_000_000, 6_000_000))])
    into = place.directory / "against-recovered.db"
    recover = ("recover", large, "--into", into)
    yield Work("recover", recover, lambda: remove_database(into))
