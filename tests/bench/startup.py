"""How soon the program answers, beside sqlite-utils, by processor time: a start never waits."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from tests.bench.data import records, write_lines
from tests.bench.equality import same_objects
from tests.bench.measure import Command, alternate, in_turn, output, run
from tests.bench.place import Place, program
from tests.bench.row import Row, compared, missing

COMPLETION = {
    "_MODELSTORE_COMPLETE": "complete_bash",
    "COMP_WORDS": "modelstore li",
    "COMP_CWORD": "1",
}


def bench(place: Place) -> Iterator[Row]:
    """Yield the rows."""
    utils = place.peer("sqlite-utils", "sqlite-utils")
    rounds = place.size(25, 9)
    cases: tuple[tuple[str, tuple[str, ...], dict[str, str]], ...] = (
        ("modelstore --version", ("--version",), {}),
        ("modelstore --help", ("--help",), {}),
        ("shell completion", (), COMPLETION),
    )
    for what, arguments, extra in cases:
        peer = "sqlite-utils --version"
        if utils is None:
            yield missing("startup", what, peer)
            continue
        ours: Command = [*program(), *arguments]
        pairs = alternate(partial(run, ours, env=extra), partial(run, [utils, "--version"]), rounds)
        yield compared("startup", what, peer, pairs, limit=0.7, steady=True)
    database = place.fresh("few.db")
    lines = write_lines(place.directory / "few.jsonl", records(18))
    run([*program(), "import", lines, "--db", database])
    what, peer = "list --json, 18 models", "sqlite-utils rows"
    if utils is None:
        yield missing("startup", what, peer)
        return
    ours = [*program(), "list", "--json", "--db", database]
    theirs: Command = [utils, "rows", database, "models", "--order", "name"]
    same_objects(output(ours), output(theirs))
    pairs = in_turn(ours, theirs, rounds)
    yield compared("startup", what, peer, pairs, limit=0.7, steady=True, note="same rows")
