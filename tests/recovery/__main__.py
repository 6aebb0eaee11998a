"""Score the recovery: ``python -m tests.recovery [--quick] [--kind TEXT] [--json] [peers]``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.recovery.corpus import ceilings, corpus_folder, score_corpus
from tests.recovery.kinds import KINDS
from tests.recovery.mutants import mutate
from tests.recovery.scores import Case, Score, cases
from tests.recovery.tools import (
    Tool,
    dissect,
    plain_open,
    recover,
    recover_here,
    shell_recover,
    sqlite_dissect,
)

_OURS = "recover"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the scores; return 1 if rows shown were never committed, or more could come back."""
    options = _options().parse_args(arguments)
    if options.mutants or options.commands:
        return mutate(options.mutants, options.commands, options.seed, options.first)
    tools: dict[str, Tool] = {_OURS: recover_here if options.here else recover}
    if not options.no_peers:
        tools["plain open"] = plain_open
    if options.shell:
        tools[".recover"] = shell_recover(options.shell)
    if options.dissect:
        tools["dissect"] = dissect(options.dissect)
    if options.sqlite_dissect:
        tools["sqlite-dissect"] = sqlite_dissect(options.sqlite_dissect)
    kinds = [kind for kind in KINDS if not options.kind or options.kind in kind.name]
    totals: dict[str, dict[str, Score]] = {}
    found: list[Case] = []
    for case in cases(kinds, tools, options.seed, options.rows, quick=options.quick):
        found.append(case)
        for tool, one in case.scores.items():
            totals.setdefault(case.kind, {}).setdefault(tool, Score()).add(one)
        if options.verbose:
            _tell_case(case)
    folder = corpus_folder()
    corpus = score_corpus(folder) if folder is not None and not options.kind else {}
    most = ceilings(folder) if folder is not None and corpus else {}
    if options.json:
        _write_json(options.seed, totals, corpus, most)
    else:
        _tell(totals, list(tools), len(found))
        _tell_corpus(corpus, most, folder)
    is_short = any(one.back < most[category] for category, one in corpus.items())
    return int(_is_behind(totals) or is_short)


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.recovery", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one schema for each kind of damage")
    parser.add_argument("--kind", help="only the kinds of damage with this in their name")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rows", type=int, default=240, help="rows of each database")
    parser.add_argument("--no-peers", action="store_true", help="run recover alone")
    parser.add_argument(
        "--shell",
        default=os.environ.get("MODELSTORE_TEST_SHELL"),
        metavar="SQLITE3",
        help="a sqlite3 shell whose .recover works",
    )
    parser.add_argument(
        "--dissect", metavar="PYTHON", help="an interpreter that has dissect.database"
    )
    parser.add_argument("--sqlite-dissect", metavar="PROGRAM", help="sqlite-dissect's program")
    parser.add_argument("--here", action="store_true", help="call recover in this process")
    parser.add_argument("--verbose", action="store_true", help="every case, with what it lacks")
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--mutants", type=int, default=0, metavar="N", help="feed N wrong inputs to the readers"
    )
    parser.add_argument(
        "--commands", type=int, default=0, metavar="N", help="run the command on N wrong inputs"
    )
    parser.add_argument("--first", type=int, default=0, help="the first of them, to go on")
    return parser


def _tell_case(case: Case) -> None:
    ours = case.scores[_OURS]
    print(
        f"{case.kind}, {case.schema}, {case.story}: {ours.back} of {ours.wanted} back, "
        f"{ours.true} of {ours.shown} true, {ours.returned} returned, {ours.keyless} keyless",
        dict(case.failures) or "",
    )
    for name, rows in (("missing", case.missing), ("false", case.false)):
        for row in rows[:2]:
            print(f"    {name}: {str(row)[:120]}")


def _tell(totals: dict[str, dict[str, Score]], tools: Sequence[str], count: int) -> None:
    print(f"{len(totals)} kinds, {count} databases; recall/precision of each tool, then the rows")
    print("of ours in the table itself that were deleted or changed later")
    print(f"{'':42}" + "".join(f"{tool:>14}" for tool in tools))
    for kind, scores in totals.items():
        cells = "".join(f"{_cell(scores[tool]):>14}" for tool in tools)
        print(f"{kind:42}{cells}  {scores[_OURS].returned or ''}")


def _cell(score: Score) -> str:
    return f"{score.recall:.3f}/{score.precision:.3f}"


def _tell_corpus(corpus: dict[str, Score], most: dict[str, int], folder: Path | None) -> None:
    if folder is None:
        print("no corpus: name its folder in MODELSTORE_TEST_CORPUS")
        return
    print(f"{folder.name}: deleted rows by category")
    for category, one in corpus.items():
        print(
            f"{category}: {one.back} of {one.wanted}, {_cell(one)}; live again {one.returned}; "
            f"the files have all values of {most[category]}"
        )


def _write_json(
    seed: int,
    totals: dict[str, dict[str, Score]],
    corpus: dict[str, Score],
    most: dict[str, int],
) -> None:
    def plain(score: Score) -> dict[str, float]:
        return {"recall": score.recall, "precision": score.precision, "wanted": score.wanted}

    kinds = {kind: {tool: plain(s) for tool, s in of.items()} for kind, of in totals.items()}
    parts = {name: {**plain(score), "most": most[name]} for name, score in corpus.items()}
    print(json.dumps({"format_version": 1, "seed": seed, "kinds": kinds, "corpus": parts}))


def _is_behind(totals: dict[str, dict[str, Score]]) -> bool:
    """Return True if a row was made up, or a peer brought more rows back."""
    return any(
        scores[_OURS].true < scores[_OURS].shown
        or any(score.back > scores[_OURS].back for score in scores.values())
        for scores in totals.values()
    )


if __name__ == "__main__":
    sys.exit(main())
