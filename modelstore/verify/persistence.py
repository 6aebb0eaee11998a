"""Whether the main file alone holds what a reader of database and log sees.

The content is read three times at most: by a reader of database and log before the fold, by a
reader of the main file alone after it, and where these differ, by a reader of database and log
at that very moment, since others may have written meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from modelstore.store.failures import is_busy
from modelstore.store.sqlite import sqlite3
from modelstore.text import plural
from modelstore.verify.content import Content, Wanted, read_content
from modelstore.verify.finding import Finding, Severity
from modelstore.verify.risk import TORN, at_risk, is_many, loss_data, where_lost
from modelstore.verify.subject import NAMED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.verify.subject import Orders, Subject
    from modelstore.wal.inspection import Inspection

SMALL = 64 << 20  # bytes of a database of which all tables are compared, deep or not


@dataclass(frozen=True, slots=True)
class Difference:
    """Where two contents differ: tables with their counts of rows, expected and found."""

    schema: bool
    tables: dict[str, tuple[int | None, int | None]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether they differ at all."""
        return self.schema or bool(self.tables)


def tables_to_compare(subject: Subject, orders: Orders) -> Wanted:
    """Return the tables that had pages in the log; all of a small database, or of a deep look."""
    loss = subject.log.loss
    size = subject.probe.size if subject.probe is not None else 0
    if orders.deep or size + subject.log.scan.size <= SMALL:
        return None
    if loss.unattributed or loss.live_problem or loss.raced:
        return None
    return frozenset(
        pages.object.name.lower()
        for pages in loss.objects
        if pages.object is not None and pages.object.type == "table"
    )


def compare(
    alone: sqlite3.Connection,
    holder: sqlite3.Connection,
    before: Content | None,
    wanted: Wanted,
    orders: Orders,
    path: str,
) -> Iterator[Finding]:
    """Yield whether the main file `alone` holds what was there `before`, and what `holder` sees.

    Both connections must see the same moment: `holder` keeps the main file still.
    """
    with orders.watching("rows") as tick:
        try:
            found = read_content(alone, wanted, tick)
        except sqlite3.Error as error:
            if is_busy(error):
                raise
            yield _finding(
                "malformed", "fail", f"the main file alone cannot be read: {error}", path, _KEEP
            )
            return
        others_wrote = False
        if before is None or difference(before, found):
            others_wrote = before is not None
            unequal = difference(read_content(holder, wanted, tick), found)
            if unequal:
                yield _unequal(unequal, path)
                return
    yield _equal(found, path, others_wrote=others_wrote)


_KEEP = "keep the -wal and a copy of both files; restore the database from a backup"


def difference(expected: Content, found: Content) -> Difference:
    """Return where `found` differs from `expected`."""
    tables: dict[str, tuple[int | None, int | None]] = {}
    for name in sorted(expected.tables.keys() | found.tables.keys()):
        one, other = expected.tables.get(name), found.tables.get(name)
        if one != other:
            tables[name] = one.rows if one else None, other.rows if other else None
    return Difference(expected.schema != found.schema, tables)


def _unequal(unequal: Difference, path: str) -> Finding:
    parts = [
        f"{name}: {_rows(found)} instead of {_rows(expected)}"
        if expected != found
        else f"{name}: {_rows(found)}, of which some have other content"
        for name, (expected, found) in unequal.tables.items()
    ]
    if unequal.schema:
        parts.insert(0, "another schema")
    return _finding(
        "differs",
        "fail",
        f"the main file alone differs from what its readers see: {'; '.join(parts[:NAMED])}",
        path,
        _KEEP,
        {
            "schema": unequal.schema,
            "tables": {
                name: {"expected": expected, "found": found}
                for name, (expected, found) in unequal.tables.items()
            },
        },
    )


def _rows(count: int | None) -> str:
    return "no table" if count is None else plural(count, "row")


def _equal(found: Content, path: str, *, others_wrote: bool) -> Finding:
    tables = found.tables
    data: dict[str, object] = {
        "rows": found.rows,
        "tables": {name: {"rows": t.rows, "digest": t.digest} for name, t in tables.items()},
        "schema_digest": found.schema,
        "others_wrote": others_wrote,
        "unread": found.unread,
    }
    if not tables and found.names:
        words = f"no table had pages in the log; the schema of {plural(len(found.names), 'table')}"
        measured = f"{words} is in the main file alone"
    else:
        count = f"{found.rows:,} of {plural(found.rows, 'row')}"
        measured = f"{count} in the main file alone ({plural(len(tables), 'table')} compared)"
    if others_wrote:
        measured += "; others wrote meanwhile"
    if found.unread:
        names = ", ".join(f"{name} ({why})" for name, why in found.unread.items())
        return _finding(
            "unread",
            "warn",
            f"{measured}; not compared: {names}",
            path,
            "the application defines what these tables need",
            data,
        )
    return _finding("same", "pass", measured, path, None, data)


def unfolded(found: Inspection, path: str, why: str) -> Finding:
    """Return what it means that frames are left in the log, as the raw files have it now."""
    risk = at_risk(found)
    frames = found.scan.committed
    if risk is None:
        return _finding(
            "same",
            "pass",
            f"{plural(frames, 'frame')} in the log, and every page of them in the main file too",
            path,
        )
    verb = "are" if is_many(found) else "is"
    lost = where_lost(found)
    torn = "; without its -wal the main file is corrupt" if found.loss.main.state in TORN else ""
    return _finding(
        "pending",
        "fail",
        f"{risk} {verb} not in the main file alone ({why})" + (f": {lost}" if lost else "") + torn,
        path,
        "keep the -wal; fold it with `modelstore checkpoint`, and verify again",
        {"frames": frames, "left": found.pending, **loss_data(found.loss)},
    )


def not_still(path: str) -> Finding:
    """Return that others kept the main file from being looked at."""
    return _finding(
        "busy",
        "warn",
        "the main file could not be held still to be compared: others write or checkpoint all the "
        "time; the checkpoint is the only evidence",
        path,
        "verify while less is written, or wait longer with --timeout",
    )


def _finding(
    word: str,
    severity: Severity,
    measured: str,
    path: str,
    advice: str | None = None,
    data: dict[str, object] | None = None,
) -> Finding:
    return Finding(
        code=f"persistence.{word}",
        check="persistence",
        severity=severity,
        measured=measured,
        where=path,
        advice=advice,
        data=data or {},
    )
