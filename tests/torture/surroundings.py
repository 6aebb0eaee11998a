"""Faults of what is around: space, rights, descriptors, the files themselves, the clock, stdout."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tests.torture import loads
from tests.torture.bench import Bench, require, require_alone
from tests.torture.client import Outcome
from tests.torture.scenes import DOCUMENTED, Scene, go_on, judge
from tests.torture.shim import Action, Op, Trap

_NOBODY = 65534
_DAY = 86_400 * 10**9  # nanoseconds


@dataclass(frozen=True, slots=True)
class Case:
    """A fault of the surroundings; `run` returns the exit code, or raises `BrokenError`."""

    name: str
    run: Callable[[Bench], int]


def cases(bench: Bench) -> Iterator[Case]:
    """Yield every case."""
    place = bench.place / "surroundings"
    place.mkdir()
    load = loads.jsonl(place / "load.jsonl", "New", 30)
    large = loads.jsonl(place / "large.jsonl", "New", 3000)
    small = Scene("import", "small", load)
    create = Scene("create", "none", load)
    listing = Scene(
        "list", "pending", replace(load, arguments=("list", "--json"), names=frozenset())
    )
    for scene in (small, create, listing):
        for limit in range(3, 24):
            yield Case("descriptors exhausted", _limited(scene, "RLIMIT_NOFILE", limit))
    for scene in (small, create, Scene("import-large", "small", replace(large))):
        for size in (2048, 4096, 8192, 16384, 32768, 40960, 65536, 131072, 300_000, 1_000_000):
            yield Case("file size limited", _limited(scene, "RLIMIT_FSIZE", size))
        for nth in (1, 3, 9, 27, 81, 150):
            for jump in (-3650 * _DAY, -_DAY, _DAY, 3650 * _DAY):
                yield Case("clock jumps", _jumping(scene, nth, jump))
        for suspended in (3, 40, 120):
            yield Case("clock jumps", _jumping(scene, suspended, _DAY, monotonic=True))
    for scene in (small, create, listing):
        yield Case("stdout full", _stdout(scene, Path("/dev/full")))
    for nth in range(1, 60, 4):
        for name, change in _CHANGES.items():
            yield Case(f"{name} meanwhile", _meanwhile(small, nth, change, name))
    if os.getuid() == 0 and _can_mount(place):
        yield from _as_root(small, create, Scene("import-large", "small", large), listing)


def _as_root(small: Scene, create: Scene, large: Scene, listing: Scene) -> Iterator[Case]:
    for scene in (small, create, listing):
        for mode in (0o555, 0o500, 0o000):
            yield Case("directory without rights", _without_rights(scene, mode, None))
        for mode in (0o444, 0o000):
            yield Case("database without rights", _without_rights(scene, 0o777, mode))
        yield Case("read-only file system", _read_only(scene))
    for scene in (small, create, large):
        for pages in (1, 4, 8, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 34, 40, 60, 120, 200, 300):
            yield Case("small file system", _on_small(scene, pages))
        for pages in (1, 4, 10, 40, 100):
            yield Case("no space for scratch files", _small_scratch(scene, pages))


def _can_mount(place: Path) -> bool:
    """Whether file systems of a chosen size can be had here: root, and no confined container."""
    try:
        with _mounted(place / "probe", 8):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


def _limited(scene: Scene, limit: str, value: int) -> Callable[[Bench], int]:
    def run(bench: Bench) -> int:
        bench.base(scene.base)
        done = bench.run(scene.load, limits={limit: value})
        what = f"{limit} {value}"
        if _answer_failed(done):
            return done.code
        judge(bench, scene, done, what)
        go_on(bench, scene, what)
        return done.code

    return run


def _answer_failed(done: Outcome) -> bool:
    """Whether stdout itself hit the limit, which is said, and is no fault of the database."""
    return done.code == 1 and done.err.rstrip().endswith(
        tuple(
            f"stdout could not be written: {os.strerror(number)}"
            for number in (errno.EFBIG, errno.ENOSPC)
        )
    )


def _jumping(
    scene: Scene, nth: int, jump: int, *, monotonic: bool = False
) -> Callable[[Bench], int]:
    def run(bench: Bench) -> int:
        bench.base(scene.base)
        trap = Trap(
            ops=frozenset(Op), nth=nth, action=Action.JUMP, argument=jump, error=int(monotonic)
        )
        done = bench.run(scene.load, trap)
        what = f"the clock jumps by {jump / _DAY:g} days at call {nth}"
        judge(bench, scene, done, what, codes=DOCUMENTED if monotonic else frozenset((0,)))
        go_on(bench, scene, what)
        return done.code

    return run


def _stdout(scene: Scene, stdout: Path) -> Callable[[Bench], int]:
    def run(bench: Bench) -> int:
        bench.base(scene.base)
        done = bench.run(scene.load, stdout=stdout)
        what = f"{scene.name}: stdout is {stdout}: exit {done.code}: {done.err}"
        require(done.code == 1, what)
        require("error: stdout could not be written" in done.err, what)
        require("Traceback" not in done.err, what)
        if scene.imports:  # a closed stdout never stops an import
            require_alone(bench.database, what, scene.load)
        return done.code

    return run


def _gone(bench: Bench) -> None:
    bench.database.parent.rename(bench.place / "moved")


def _replaced(bench: Bench) -> None:
    _gone(bench)
    bench.base("big")


def _file_replaced(bench: Bench) -> None:
    new = bench.place / "new.db"
    shutil.copyfile(bench.place / "bases" / "big" / "models.db", new)
    new.rename(bench.database)


def _log_deleted(bench: Bench) -> None:
    Path(f"{bench.database}-wal").unlink(missing_ok=True)


def _deleted(bench: Bench) -> None:
    bench.database.unlink(missing_ok=True)


_CHANGES: dict[str, Callable[[Bench], None]] = {
    "directory gone": _gone,
    "directory replaced": _replaced,
    "database replaced": _file_replaced,
    "database deleted": _deleted,
    "log deleted": _log_deleted,
}


def _meanwhile(
    scene: Scene, nth: int, change: Callable[[Bench], None], name: str
) -> Callable[[Bench], int]:
    def run(bench: Bench) -> int:
        shutil.rmtree(bench.place / "moved", ignore_errors=True)
        bench.base(scene.base)
        trap = Trap(ops=frozenset(Op), nth=nth, action=Action.STOP)
        done = bench.run(scene.load, trap, when_stopped=lambda: change(bench))
        what = f"{scene.name}: {name} at call {nth}: exit {done.code}: {done.err}"
        require(done.code in DOCUMENTED, what)
        require("Traceback" not in done.err and "this is a bug" not in done.err, what)
        if done.code == 0:  # then it must be there, by the path that was given
            require_alone(bench.database, what, scene.load)
        return done.code

    return run


def _without_rights(scene: Scene, directory: int, file: int | None) -> Callable[[Bench], int]:
    def run(bench: Bench) -> int:
        bench.base(scene.base)
        bench.database.parent.chmod(directory)
        if file is not None and bench.database.exists():
            bench.database.chmod(file)
        done = bench.run(scene.load, user=_NOBODY)
        bench.database.parent.chmod(0o755)
        if bench.database.exists():
            bench.database.chmod(0o644)
        what = f"as nobody, directory {directory:o}, database {file or 0:o}"
        codes = {0, 3} if not scene.imports else {3}
        if scene.base == "none" and file is not None:
            codes = {0}
        judge(bench, scene, done, what, codes=frozenset(codes))
        for path in bench.database.parent.iterdir():
            os.chown(path, 0, 0)
        go_on(bench, scene, what)
        return done.code

    return run


@contextmanager
def _mounted(place: Path, pages: int) -> Iterator[None]:
    place.mkdir(exist_ok=True)
    size = f"size={pages * 4096},mode=777"
    command = ["mount", "-t", "tmpfs", "-o", size, "torture", str(place)]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def _read_only(scene: Scene) -> Callable[[Bench], int]:
    def run(bench: Bench) -> int:
        shutil.rmtree(bench.database.parent, ignore_errors=True)
        with _mounted(bench.database.parent, 4000):
            _fill(bench, scene)
            again = ["mount", "-o", "remount,ro", str(bench.database.parent)]
            subprocess.run(again, check=True)
            done = bench.run(scene.load)
            codes = frozenset((3,)) if scene.imports else frozenset((0,))
            _judge_there(bench, scene, done, "read-only file system", codes)
            return done.code

    return run


def _fill(bench: Bench, scene: Scene) -> None:
    source = bench.place / "bases" / scene.base / "models.db"
    for suffix in ("", "-wal"):
        if Path(f"{source}{suffix}").exists():
            shutil.copyfile(f"{source}{suffix}", f"{bench.database}{suffix}")


def _judge_there(
    bench: Bench, scene: Scene, done: Outcome, what: str, codes: frozenset[int]
) -> None:
    """Judge a database on a file system that has no room for the copy to look at."""
    there = bench.database
    aside = bench.place / "aside"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    for suffix in ("", "-wal", "-journal"):
        if Path(f"{there}{suffix}").exists():
            shutil.copyfile(f"{there}{suffix}", aside / f"models.db{suffix}")
    judge(replace(bench, elsewhere=aside / "models.db"), scene, done, what, codes=codes)


def _on_small(scene: Scene, pages: int) -> Callable[[Bench], int]:
    def run(bench: Bench) -> int:
        shutil.rmtree(bench.database.parent, ignore_errors=True)
        with _mounted(bench.database.parent, pages):
            try:
                _fill(bench, scene)
            except OSError:
                return 0  # there is not even room for what was there before
            done = bench.run(scene.load)
            what = f"file system of {pages} pages"
            _judge_there(bench, scene, done, what, DOCUMENTED)
            subprocess.run(
                ["mount", "-o", "remount,size=64m", str(bench.database.parent)], check=True
            )
            after = bench.run(scene.load)
            require(after.code == 0, f"{scene.name}: {what}, then room: {after}")
            _judge_there(bench, scene, after, f"{what}, then room", frozenset((0,)))
            return done.code

    return run


def _small_scratch(scene: Scene, pages: int) -> Callable[[Bench], int]:
    def run(bench: Bench) -> int:
        bench.base(scene.base)
        scratch = bench.place / "tiny"
        with _mounted(scratch, pages):
            done = bench.run(scene.load, variables={"TMPDIR": str(scratch)})
        what = f"scratch directory of {pages} pages"
        judge(bench, scene, done, what)
        go_on(bench, scene, what)
        return done.code

    return run
