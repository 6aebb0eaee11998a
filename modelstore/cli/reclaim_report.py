"""``modelstore list --duplicates`` and ``--reclaim``: bytes that a disk could have back."""

from __future__ import annotations

import time
from itertools import count
from typing import TYPE_CHECKING

from modelstore.reclaim.report import Known, duplicates_of, reclaim
from modelstore.render.grid import Cell, Grid, Heading
from modelstore.render.report import Report, write_report
from modelstore.text import host_name, human_bytes, plural, visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.catalogue.query import Query
    from modelstore.cli.session import DatabaseChoice, Session
    from modelstore.database.handle import Database
    from modelstore.reclaim.result import Copy, Duplicate, Kind, Leftover, Reclaim
    from modelstore.render.report import Part

_TITLES: dict[Kind, str] = {
    "orphan": "orphans: no model names them",
    "superseded": "superseded revisions: no branch or tag names them",
    "unfinished": "downloads that were broken off",
}
_SHOWN = 50  # duplicates and leftovers of a kind in a table: the largest
_COLUMNS = (*("kind", "group", "frees", "certain", "model", "name", "source", "paths", "command"),)


def read_known(db: Database, choice: DatabaseChoice, query: Query) -> Known:
    """Read what the catalogue knows of files and stores.

    Raises `RefusedError` for a database without a catalogue.
    """
    from contextlib import closing

    from modelstore.catalogue.query import select
    from modelstore.catalogue.schema import ownership
    from modelstore.errors import RefusedError

    if ownership(db) != "catalogue":
        raise RefusedError(
            f"{choice.path} is not a modelstore catalogue: it knows no files",
            hint="import its models into a catalogue first",
        )
    models = None
    if query.text or query.where or query.filters:
        with closing(select(db, query._replace(columns=("id",), sort=()))) as rows:
            models = {str(model) for (model,) in rows}
    return Known.read(db, host_name(), models)


def write_reclaim(session: Session, known: Known, form: str, *, whole: bool, header: bool) -> None:
    """Look at the disk, and write the duplicates, or the `whole` report."""
    from modelstore.cli.reporting import payload, write_answer_and_fold, write_fold

    found = reclaim(known, time.time()) if whole else duplicates_of(known)
    for sentence in found.notes:
        session.out.note(sentence)
    body = _json(found) if whole else {"bytes": found.size, "duplicates": _duplicates(found)}
    report = Report(
        body=tuple(_body(found, whole=whole)),
        payload=payload("list", session.choice, body, session.exit_code("read")),
        columns=_COLUMNS,
        rows=_rows(found),
    )
    if form in ("csv", "tsv"):
        write_report(session.out.answer, report, form, header=header)
        write_fold(session, on_stdout=False)
    else:
        write_answer_and_fold(session, report, form)


def _json(found: Reclaim) -> dict[str, object]:
    return {
        "bytes": found.size,
        "duplicates": _duplicates(found),
        **{
            kind: [
                {
                    "name": one.name,
                    "source": one.source,
                    "paths": list(one.paths),
                    "bytes": one.size,
                    "command": one.command,
                }
                for one in found.of(kind)
            ]
            for kind in _TITLES
        },
        "notes": list(found.notes),
    }


def _duplicates(found: Reclaim) -> list[dict[str, object]]:
    return [
        {
            "host": one.host,
            "sha256": one.sha256,
            "certain": one.is_certain,
            "size": one.size,
            "frees": one.frees,
            "copies": [
                {
                    "model": copy.model,
                    "name": copy.name,
                    "source": copy.source,
                    "paths": list(copy.paths),
                    "frees": copy.frees,
                    "certain": copy.is_certain,
                    "command": copy.command,
                }
                for copy in one.copies
            ],
        }
        for one in found.duplicates
    ]


def _rows(found: Reclaim) -> Iterator[tuple[object, ...]]:
    groups = count(1)
    for one in found.duplicates:
        group = next(groups)
        for copy in one.copies:
            yield (
                *("duplicate", group, copy.frees, copy.is_certain, copy.model),
                *(copy.name, copy.source, list(copy.paths), copy.command),
            )
    for left in found.leftovers:
        yield (
            *(left.kind, next(groups), left.size, True, None, left.name),
            *(left.source, list(left.paths), left.command),
        )


def _body(found: Reclaim, *, whole: bool) -> Iterator[Part]:
    yield Cell(_sum(found, whole=whole), "strong")
    for one in found.duplicates[:_SHOWN]:
        yield ""
        yield Cell(_title(one), "strong")
        yield _commands([(copy.frees, _what_to_do(one, copy)) for copy in one.copies])
    yield from _more(len(found.duplicates))
    for kind, title in _TITLES.items():
        left = found.of(kind)
        if left:
            yield ""
            yield Cell(f"{human_bytes(sum(one.size for one in left))} of {title}", "strong")
            yield _commands([(one.size, one.command) for one in _largest(left)])
            yield from _more(len(left))
    if found.size:
        yield ""
        yield Cell("nothing was deleted: the commands are for you to run", "dim")


def _largest(left: tuple[Leftover, ...]) -> tuple[Leftover, ...]:
    return left[:_SHOWN]


def _more(number: int) -> Iterator[Part]:
    if number > _SHOWN:
        yield f"{number - _SHOWN:,} more: use -f json"


def _sum(found: Reclaim, *, whole: bool) -> str:
    if not found.size:
        return "nothing can be freed" if whole else "no file is there twice"
    parts = {"duplicates": sum(one.frees for one in found.duplicates)}
    if whole:
        names = {"orphan": "orphans", "superseded": "old revisions", "unfinished": "downloads"}
        parts |= {names[kind]: sum(one.size for one in found.of(kind)) for kind in _TITLES}
    told = [f"{human_bytes(size)} of {name}" for name, size in parts.items() if size]
    return f"{human_bytes(found.size)} can be freed: {', '.join(told)}"


def _title(one: Duplicate) -> str:
    names = list(dict.fromkeys(copy.name for copy in one.copies))
    more = f" and {plural(len(names) - 1, 'other name')}" if len(names) > 1 else ""
    maybe = "" if one.is_certain else " that may be the same: `verify --hash` tells"
    return f"{names[0]}{more}: {len(one.copies)} copies of {human_bytes(one.size)}{maybe}"


def _what_to_do(one: Duplicate, copy: Copy) -> str:
    if copy.command is not None:
        return copy.command
    path = visible(copy.paths[0], 1000)
    return f"keep {path}" if copy is one.copies[0] else f"maybe the same: {path}"


def _commands(rows: list[tuple[int, str]]) -> Grid:
    headings = (Heading("FREES", right=True), Heading("COMMAND", shrink="wrap"))
    return Grid(headings, [(human_bytes(size) if size else "-", command) for size, command in rows])
