"""The structure of the database as its readers see it, its foreign keys and CHECK constraints."""

from __future__ import annotations

import time
from contextlib import ExitStack, closing, contextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING

from modelstore.database.files import HeldFiles, private_copy
from modelstore.database.handle import CACHE_SIZE, connect, quote_identifier
from modelstore.database.sqlite import sqlite3
from modelstore.database.sqlite_errors import (
    SQLITE_ERROR,
    is_busy,
    primary_code,
    translate_sqlite_error,
)
from modelstore.errors import RefusedError
from modelstore.finding import Finding
from modelstore.text import plural
from modelstore.verify.alone import check_alone, check_view
from modelstore.verify.check import DAMAGED, Check, Run
from modelstore.verify.structure import MESSAGES, STORED, by_table, said, ticking

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from modelstore.database.connection import OpenDatabase
    from modelstore.database.handle import Database
    from modelstore.progress import Progress
    from modelstore.verify.check import MainFile, VerifyOptions
    from modelstore.wal.inspection import MainCheck

_COUNTERS = "/proc/self/io"
_KEYS = 10_000  # broken references that are counted
_TELL_EVERY = 0.1  # seconds
# In KiB. Each page is read once and each index entry is looked up once, so a large cache keeps
# little of use, and to search it costs more than to read a page again: on 0.4 GB with random keys,
# 5.4 s of processor time with 2 MB (the shell's default), 6.9 s with 64 MB.
_CACHE = 2000
_SMALL = 64 << 20  # bytes of a database in rollback mode that are copied to check constraints
_READ_ONLY = "SQLite checks them only on a connection that may write"
_VIRTUAL = "SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage = 0"
# A table with the word elsewhere in its SQL is checked in vain, which does no harm.
_CONSTRAINED = f"{STORED} AND sql LIKE '%check%'"
_RESTORE = (
    "keep this copy and its -wal; `modelstore recover DATABASE --into NEW.db` writes what is left "
    "to a new file, or restore it from a backup"
)

_FOLD_IT = "fold it with `modelstore checkpoint`, and verify again"
_NEEDS = (
    "the application, or a fuller build of SQLite, has what its tables need: a collation, "
    "a function, a module"
)


def check_integrity(opened: OpenDatabase, options: VerifyOptions) -> Iterator[Finding]:
    """Yield SQLite's verdict on every page, index and row, then on the foreign keys."""
    pragma = _pragma(options)
    with (
        options.watching("bytes") as tick,
        ticking(opened.conn, _pages(opened, pragma, tick)),
        _small_cache(opened.db),
    ):
        yield _structure(opened, pragma)
        yield from _virtual_tables(opened)
        yield from _references(opened)


@contextmanager
def _small_cache(db: Database) -> Iterator[None]:
    """Use a small cache for a block; on a damaged database either pragma may fail."""
    # plain SQL: sqlite-utils sets no pragma
    with suppress(sqlite3.Error):
        db.execute(f"PRAGMA cache_size = -{_CACHE}")
    try:
        yield
    finally:
        with suppress(sqlite3.Error):
            db.execute(f"PRAGMA cache_size = {CACHE_SIZE}")


def _pages(opened: OpenDatabase, what: str, tick: Progress) -> Callable[[], None]:
    """Return a function that shows how many bytes of the database were read so far."""
    size = opened.probe.size + (opened.probe.wal_size or 0)
    before, told = _bytes_read(), 0.0

    def tell() -> None:
        nonlocal told
        now = time.monotonic()
        if now - told < _TELL_EVERY:
            return
        told = now
        done = _bytes_read() - before
        tick(what, done, size if done < size else None)  # it reads some pages twice

    return tell


def _structure(opened: OpenDatabase, pragma: str) -> Finding:
    unchecked: list[str] = []
    try:
        told = said(opened.db, f"PRAGMA {pragma}({MESSAGES})")
    except sqlite3.Error as error:
        if primary_code(error) != SQLITE_ERROR:
            return _failure(opened, error)
        told, unchecked = by_table(opened.db, pragma)
    messages = [message for message in told if message != "ok"]
    if messages:
        more = "" if len(messages) < MESSAGES else " or more"
        return Finding(
            "integrity.damaged",
            "fail",
            f"{pragma}: {plural(len(messages), 'problem')}{more}: {messages[0]}",
            opened.path,
            _RESTORE,
            {"pragma": pragma, "messages": messages},
        )
    if unchecked:
        return Finding(
            "integrity.unchecked",
            "warn",
            f"{pragma} could not check {', '.join(unchecked[:5])}",
            opened.path,
            _NEEDS,
            {"pragma": pragma, "unchecked": unchecked},
        )
    where = " of a copy" if opened.access == "copy" else ""
    if opened.access == "immutable" and opened.probe.wal_size:
        where = " of the main file alone"
    return Finding(
        "integrity.ok", "pass", f"{pragma}{where}: ok", opened.path, data={"pragma": pragma}
    )


def _virtual_tables(opened: OpenDatabase) -> Iterator[Finding]:
    """Yield the virtual tables whose module this SQLite lacks, such as fts5: no check sees them."""
    unusable = []
    try:
        for name in [row["name"] for row in opened.db.query(_VIRTUAL)]:
            try:
                next(opened.db.query(f"SELECT 1 FROM {quote_identifier(name)} LIMIT 0"), None)
            except sqlite3.Error as error:
                if primary_code(error) == SQLITE_ERROR:
                    unusable.append(name)
    except sqlite3.Error:
        return  # damage: the whole check reported it
    if unusable:
        yield Finding(
            "integrity.virtual-tables-unchecked",
            "note",
            f"{plural(len(unusable), 'virtual table')} not checked, because this SQLite lacks "
            f"the module: {', '.join(unusable[:5])}; the tables that hold the rows were checked",
            opened.path,
            data={"tables": unusable},
        )


def _references(opened: OpenDatabase) -> Iterator[Finding]:
    try:
        rows = list(islice(opened.db.query("PRAGMA foreign_key_check"), _KEYS))
    except sqlite3.Error as error:
        if primary_code(error) != SQLITE_ERROR:
            return  # damage: the whole check reported it
        yield Finding(
            "integrity.foreign-keys-unchecked",
            "warn",
            f"the foreign keys could not be checked: {error}",
            opened.path,
            "a foreign key names a column that is no key of the table it refers to",
        )
        return
    counts: dict[tuple[str, str], int] = {}
    for row in rows:
        key = str(row["table"]), str(row["parent"])
        counts[key] = counts.get(key, 0) + 1
    more = " or more" if len(rows) == _KEYS else ""
    for (table, parent), count in counts.items():
        verb = "refers" if count == 1 else "refer"
        yield Finding(
            "integrity.foreign-key",
            "fail",
            f"{plural(count, 'row')}{more} of {table} {verb} to rows of {parent} that do not exist",
            table,
            "a program wrote or deleted without PRAGMA foreign_keys=ON; add the missing rows or "
            "remove the references",
            {"table": table, "parent": parent, "count": count},
        )
    if not rows:
        yield Finding("integrity.foreign-keys", "pass", "foreign_key_check: ok", opened.path)


def _failure(opened: OpenDatabase, error: sqlite3.Error) -> Finding:
    if is_busy(error):
        raise translate_sqlite_error(error, opened.path) or error from error
    return Finding(
        "integrity.malformed", "fail", f"it cannot be read: {error}", opened.path, _RESTORE
    )


def check_constraints(opened: OpenDatabase, options: VerifyOptions) -> Iterator[Finding]:
    """Yield each table with a row that breaks one of its CHECK constraints."""
    tables = [row["name"] for row in opened.db.query(_CONSTRAINED)]
    if not tables:
        return
    with ExitStack() as stack:
        db = opened.db
        if opened.access in {"ro", "immutable"}:
            if opened.access != "ro" or opened.journal_mode == "wal" or opened.probe.size > _SMALL:
                yield _unchecked(opened, tables, _READ_ONLY)
                return
            try:
                held = stack.enter_context(HeldFiles.hold(opened.path))
                copy = stack.enter_context(private_copy(held, with_journal=True))
                db = stack.enter_context(closing(connect(copy, "copy")))
            except (OSError, RefusedError, sqlite3.Error) as error:
                yield _unchecked(opened, tables, str(error))
                return
        yield from _broken_tables(opened, db, tables, options)


def _broken_tables(
    opened: OpenDatabase, db: Database, tables: list[str], options: VerifyOptions
) -> Iterator[Finding]:
    with options.watching("tables") as tick:
        for done, table in enumerate(tables):
            tick("CHECK constraints", done, len(tables))
            try:
                with ticking(db.conn, lambda: None):
                    is_broken = _is_broken(db, table)
            except sqlite3.Error as error:  # a function of the application's own, say
                yield _unchecked(opened, [table], str(error))
                continue
            if is_broken:
                yield Finding(
                    "integrity.constraint",
                    "fail",
                    f"rows of {table} break its CHECK constraints",
                    table,
                    "a program wrote with PRAGMA ignore_check_constraints, or the constraint is "
                    "newer than the rows; mend the rows",
                    {"table": table},
                )


def _unchecked(opened: OpenDatabase, tables: list[str], why: str) -> Finding:
    return Finding(
        "integrity.constraints-unchecked",
        "note",
        f"the CHECK constraints of {plural(len(tables), 'table')} are not checked: {why}",
        opened.path,
        data={"tables": tables},
    )


def _is_broken(db: Database, table: str) -> bool:
    """Tell if a row of the table breaks a constraint.

    Any other fault is found even while constraints are ignored, and the whole check reported it.
    SQLite reports the first hundred faults, in the same order either way.
    """
    found = _faults(db, table)
    if not found:
        return False
    with _constraints_ignored(db):
        return not found <= _faults(db, table)


def _faults(db: Database, table: str) -> set[str]:
    return {fault for fault in said(db, f"PRAGMA quick_check({db.quote(table)})") if fault != "ok"}


@contextmanager
def _constraints_ignored(db: Database) -> Iterator[None]:
    """Let checks ignore the CHECK constraints for a block (sqlite.org/pragma.html)."""
    # plain SQL: sqlite-utils sets no pragma
    db.execute("PRAGMA ignore_check_constraints = ON")
    try:
        yield
    finally:
        db.execute("PRAGMA ignore_check_constraints = OFF")


def _bytes_read() -> int:
    """Return the bytes that this process has read so far; 0 if the system does not tell."""
    try:
        with open(_COUNTERS, "rb") as counters:
            first = counters.readline()
    except OSError:
        return 0
    name, _, count = first.partition(b":")
    return int(count) if name == b"rchar" else 0


def _read(run: Run, reader: OpenDatabase) -> Iterator[Finding]:
    """Check the structure; a database with a fault in it must not be folded."""
    for finding in check_integrity(reader, run.options):
        if finding.code in ("integrity.damaged", "integrity.malformed"):
            run.unfoldable = run.unfoldable or DAMAGED
        yield finding


def _fold(run: Run, opened: OpenDatabase) -> Iterator[Finding]:
    return check_constraints(opened, run.options)


def _alone(run: Run, main: MainFile) -> Iterator[Finding]:
    """Check the main file by itself while it is kept still."""
    if run.options.deep and main.alone is not None:
        run.kept["integrity"] = True
        with run.options.watching("bytes"):
            yield _verdict(check_view(main.alone, _pragma(run.options)), run)


def _alone_later(run: Run) -> Iterator[Finding]:
    """Check the main file by itself where it could not be kept still, or nothing was folded."""
    subject = run.subject
    is_wanted = run.options.deep and not run.kept.get("integrity") and subject.probe is not None
    if is_wanted and subject.log.scan.max_frame and not subject.has_hot_journal:
        with run.options.watching("bytes"):
            yield _verdict(check_alone(subject.path, _pragma(run.options)), run)


def _pragma(options: VerifyOptions) -> str:
    return "quick_check" if options.quick else "integrity_check"


def _verdict(found: MainCheck, run: Run) -> Finding:
    path, pragma = run.subject.path, _pragma(run.options)
    if not found.is_still:
        return Finding(
            "integrity.alone-unknown",
            "note",
            f"{pragma} of the main file alone proves nothing: it was written meanwhile",
            path,
            "verify while less is written",
        )
    if found.problem is not None:
        return Finding(
            "integrity.alone-damaged",
            "fail",
            f"{pragma} of the main file alone: {found.problem}",
            path,
            "never delete the -wal: "
            + ("first see to what keeps it from being folded" if run.unfoldable else _FOLD_IT),
        )
    if found.unchecked:
        return Finding(
            "integrity.alone-unchecked",
            "warn",
            f"{pragma} of the main file alone could not check {', '.join(found.unchecked[:5])}",
            path,
            _NEEDS,
            {"pragma": pragma, "unchecked": list(found.unchecked)},
        )
    return Finding("integrity.alone", "pass", f"{pragma} of the main file alone: ok", path)


CHECK = Check(
    name="integrity",
    title="pages, indexes and references, as SQLite checks them",
    order=30,
    reading=_read,
    folded=_fold,
    main_file=_alone,
    closed=_alone_later,
)
