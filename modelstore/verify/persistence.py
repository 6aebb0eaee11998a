"""Whether the main file alone holds what a reader of database and log sees.

Best is what a reader saw before the fold, as long as nobody committed anything since: the fold
itself may have lost it. Else it is what a reader sees at the very moment that the main file is
looked at, while a lock of ours keeps that file still.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from modelstore.database.sqlite import sqlite3
from modelstore.database.sqlite_errors import is_busy
from modelstore.finding import Finding, findings_of
from modelstore.text import plural
from modelstore.verify.content import Content, Wanted, read_content
from modelstore.verify.loss_summary import TORN, at_risk, is_many, loss_data, where_lost
from modelstore.verify.subject import NAMED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.database.connection import OpenDatabase
    from modelstore.verify.subject import Subject, VerifyOptions
    from modelstore.wal.inspection import Inspection

_finding = findings_of("persistence")

SMALL = 64 << 20  # bytes of a database of which all tables are compared, deep or not


@dataclass(frozen=True, slots=True)
class Difference:
    """Where two contents differ: tables with their counts of rows, expected and found."""

    schema: bool
    tables: dict[str, tuple[int | None, int | None]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether they differ at all."""
        return self.schema or bool(self.tables)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a reader of database and log saw, and the count of commits (iChange) just before."""

    content: Content
    change_counter: int | None

    @classmethod
    def take(cls, reader: OpenDatabase, wanted: Wanted, orders: VerifyOptions) -> Self:
        """Read the content in one transaction. Raises `sqlite3.Error` for damage."""
        counter = _change_counter(reader)
        reader.conn.execute("BEGIN")
        try:
            with orders.watching("rows") as tick:
                return cls(read_content(reader.conn, wanted, tick), counter)
        finally:
            reader.conn.rollback()

    def is_still(self, reader: OpenDatabase) -> bool:
        """Whether nobody committed since; `reader` must have been open all the time.

        While a process is attached the counter changes with commits alone.
        https://www.sqlite.org/walformat.html#the_wal_index_file_format
        """
        return self.change_counter is not None and self.change_counter == _change_counter(reader)


def _change_counter(reader: OpenDatabase) -> int | None:
    index = reader.log.index() if reader.log is not None else None
    return index.change_counter if index is not None else None


def tables_to_compare(subject: Subject, orders: VerifyOptions) -> Wanted:
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
    orders: VerifyOptions,
    path: str,
) -> Iterator[Finding]:
    """Yield whether the main file `alone` holds what was there `before`.

    Where that is unknown, or no longer so, it must hold what `holder` sees, which keeps the file
    still meanwhile.
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
        unequal = difference(before or read_content(holder, wanted, tick), found)
    yield _unequal(unequal, path) if unequal else _equal(found, path)


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


def _equal(found: Content, path: str) -> Finding:
    tables = found.tables
    data: dict[str, object] = {
        "rows": found.rows,
        "tables": {name: {"rows": t.rows, "digest": t.digest} for name, t in tables.items()},
        "schema_digest": found.schema,
        "unread": found.unread,
    }
    if not tables and found.names:
        words = f"no table had pages in the log; the schema of {plural(len(found.names), 'table')}"
        measured = f"{words} is in the main file alone"
    else:
        count = f"{found.rows:,} of {plural(found.rows, 'row')}"
        measured = f"{count} in the main file alone ({plural(len(tables), 'table')} compared)"
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
    frames = found.scan.max_frame
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
