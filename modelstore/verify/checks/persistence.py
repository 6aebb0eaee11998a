"""Persistence: the main file alone must hold what a reader of database and log sees.

The best evidence is the content before the fold, as long as nobody committed since, for the fold
itself may lose something. Otherwise it is what a reader sees at the moment when the main file is
read, while a lock of ours keeps that file still.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Self

from modelstore.database.evidence import HOT_JOURNAL
from modelstore.database.sqlite import sqlite3
from modelstore.database.sqlite_errors import is_busy
from modelstore.finding import Finding
from modelstore.text import plural
from modelstore.verify.check import NAMED, Check, Run, not_checked
from modelstore.verify.content import Content, Wanted, read_content
from modelstore.verify.loss_summary import TORN, at_risk, is_many, loss_data, where_lost
from modelstore.verify.subject import look_at_log

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.database.connection import OpenDatabase
    from modelstore.database.handle import Database
    from modelstore.verify.check import MainFile, VerifyOptions
    from modelstore.verify.subject import Subject
    from modelstore.wal.inspection import Inspection

SMALL = 64 << 20  # bytes; in a smaller database all tables are compared, deep or not
_KEEP = (
    "keep the database and its -wal; `modelstore recover DATABASE --into NEW.db` writes what both "
    "hold to a new file"
)


@dataclass(frozen=True, slots=True)
class Difference:
    """The difference of two contents: tables with their counts of rows, expected and found."""

    schema: bool
    tables: dict[str, tuple[int | None, int | None]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Return True if they differ at all."""
        return self.schema or bool(self.tables)


class Snapshot(NamedTuple):
    """The content that a reader of database and log saw, and the count of commits before that.

    The count is iChange of the wal-index. While a process is attached it changes with commits
    alone. https://www.sqlite.org/walformat.html#the_wal_index_file_format
    """

    reader: OpenDatabase
    content: Content
    change_counter: int | None

    @classmethod
    def take(cls, reader: OpenDatabase, wanted: Wanted, options: VerifyOptions) -> Self:
        """Read the content in one transaction. Raises `sqlite3.Error` for damage."""
        counter = _change_counter(reader)
        reader.db.begin()
        try:
            with options.watching("rows") as tick:
                return cls(reader, read_content(reader.db, wanted, tick), counter)
        finally:
            reader.db.rollback()

    def is_current(self) -> bool:
        """Tell if nobody committed since; the reader must still be open."""
        counter = self.change_counter
        return counter is not None and counter == _change_counter(self.reader)


def _change_counter(reader: OpenDatabase) -> int | None:
    index = reader.log.index() if reader.log is not None else None
    return index.change_counter if index is not None else None


def _tables_to_compare(subject: Subject, options: VerifyOptions) -> Wanted:
    """Return the tables that had pages in the log; all of a small database or with --deep."""
    loss = subject.log.loss
    size = subject.probe.size if subject.probe is not None else 0
    if options.deep or size + subject.log.scan.size <= SMALL:
        return None
    if loss.unattributed or loss.live_problem or loss.raced:
        return None
    return frozenset(
        pages.object.name.lower()
        for pages in loss.objects
        if pages.object is not None and pages.object.type == "table"
    )


def compare(
    alone: Database,
    holder: Database,
    before: Content | None,
    wanted: Wanted,
    options: VerifyOptions,
    path: str,
) -> Iterator[Finding]:
    """Compare the main file `alone` with the content `before` the fold.

    Without `before`, the main file must hold what `holder` sees, which keeps it still meanwhile.
    """
    with options.watching("rows") as tick:
        try:
            found = read_content(alone, wanted, tick)
        except sqlite3.Error as error:
            if is_busy(error):
                raise
            yield Finding(
                "persistence.malformed",
                "fail",
                f"the main file alone cannot be read: {error}",
                path,
                _KEEP,
            )
            return
        unequal = difference(before or read_content(holder, wanted, tick), found)
    yield _unequal(unequal, path) if unequal else _equal(found, path)


def difference(expected: Content, found: Content) -> Difference:
    """Return the tables of `found` that differ from `expected`."""
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
    return Finding(
        "persistence.differs",
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
        return Finding(
            "persistence.unread",
            "warn",
            f"{measured}; not compared: {names}",
            path,
            "the application defines what these tables need",
            data,
        )
    return Finding("persistence.same", "pass", measured, path, None, data)


def _unfolded(found: Inspection, path: str, why: str) -> Finding:
    """Return the finding for frames that are left in the log, as the raw files show it now."""
    risk = at_risk(found)
    frames = found.scan.max_frame
    if risk is None:
        return Finding(
            "persistence.same",
            "pass",
            f"{plural(frames, 'frame')} in the log, and every page of them in the main file too",
            path,
        )
    verb = "are" if is_many(found) else "is"
    lost = where_lost(found)
    torn = (
        "; without its -wal the main file may be corrupt" if found.loss.main.state in TORN else ""
    )
    if found.loss.raced:
        return Finding(
            "persistence.unknown",
            "fail",
            f"the files changed during each of {found.loss.attempts} looks: what the main file "
            f"alone lacks of {plural(frames, 'frame')} is unknown ({why})",
            path,
            "keep the -wal, and verify while less is written",
            {"frames": frames, "left": found.pending, **loss_data(found.loss)},
        )
    return Finding(
        "persistence.pending",
        "fail",
        f"{risk} {verb} not in the main file ({why})" + (f": {lost}" if lost else "") + torn,
        path,
        "keep the -wal; fold it with `modelstore checkpoint`, and verify again",
        {"frames": frames, "left": found.pending, **loss_data(found.loss)},
    )


def _hot_journal(run: Run) -> Iterator[Finding]:
    """Warn of a main file that must not be opened, as its journal would be used up."""
    subject = run.subject
    if subject.has_hot_journal and subject.is_wal:
        yield Finding(
            "persistence.hot-journal",
            "fail",
            "whoever opens the database writes the old pages of a hot rollback journal over it",
            subject.path,
            next((r.hint for r in subject.reasons if r.code == HOT_JOURNAL), _KEEP),
        )
    elif subject.has_hot_journal:
        yield Finding(
            "persistence.hot-journal",
            "fail",
            "the main file alone may be in the middle of a transaction, which only its journal "
            "takes back",
            subject.path,
            "never delete the journal; the next opening of the database uses it up",
        )


def _take_snapshot(run: Run, reader: OpenDatabase) -> Iterator[Finding]:
    """Keep the content before the fold, if there is something to fold."""
    if run.options.fold and run.subject.log.scan.max_frame:
        with run.tolerating_damage():
            wanted = _tables_to_compare(run.subject, run.options)
            run.kept["persistence"] = Snapshot.take(reader, wanted, run.options)
    return iter(())


def _check(run: Run, main: MainFile) -> Iterator[Finding]:
    path, options = run.subject.path, run.options
    if main.alone is not None and main.holder is not None:
        snapshot: Snapshot | None = run.kept.get("persistence")
        before = snapshot.content if snapshot is not None and snapshot.is_current() else None
        wanted = _tables_to_compare(run.subject, options)
        yield from compare(main.alone, main.holder, before, wanted, options, path)
    elif main.is_moving:
        yield Finding(
            "persistence.busy",
            "warn",
            "the main file could not be held still to be compared: others write or checkpoint all "
            "the time; the checkpoint is the only evidence",
            path,
            "verify while less is written, or wait longer with --timeout",
        )
    elif run.unfoldable is not None:
        yield not_checked("persistence", run.unfoldable)


def _check_unfolded(run: Run) -> Iterator[Finding]:
    """Look at the raw files once more, now that no connection is open."""
    if run.left is not None:
        path = run.subject.path
        now = look_at_log(path) if run.options.fold else run.subject.log
        yield _unfolded(now, path, run.left)


CHECK = Check(
    name="persistence",
    title="whether the main file alone holds everything",
    order=50,
    raw=_hot_journal,
    reading=_take_snapshot,
    main_file=_check,
    closed=_check_unfolded,
)
