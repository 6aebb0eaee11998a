"""Checks of the new file before rows are added: if it is whole, and what it holds."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from modelstore.database.sqlite import sqlite3
from modelstore.database.sqlite_errors import primary_code
from modelstore.errors import RefusedError
from modelstore.recovery.accounts import user_rows
from modelstore.recovery.doubts import may_have_lost_sectors
from modelstore.recovery.trees import TreeReader
from modelstore.recovery.writer import SQL_ERRORS, open_new
from modelstore.wal.pages import CorruptPageError
from modelstore.wal.schema import read_schema

if TYPE_CHECKING:
    from collections.abc import Callable

    from modelstore.recovery.states import State

_SQLITE_ERROR = 1
_MAX_MESSAGES = 20
_THREAD_LIMIT = 64 << 20  # bytes; a smaller file is checked before a thread has started


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of a check: `is_whole` if integrity_check passes; else the first messages.

    `is_readable` is True if every b-tree can be walked, whatever SQLite says of its content. `rows`
    counts those of each table of a whole file; `may_have_lost` is False if no row in it can have
    lost a sector.
    """

    is_whole: bool
    is_readable: bool
    messages: tuple[str, ...] = ()
    rows: dict[str, int] = field(default_factory=dict)
    may_have_lost: bool = True


def check_beside(path: str, state: State, work: Callable[[], object]) -> Verdict:
    """Check a file with the pages of `state`, count its rows, and do some `work` meanwhile.

    A large file is checked in a thread: most of the time SQLite is at work there, beside Python.
    """
    if state.page_count * state.page_size < _THREAD_LIMIT:
        work()
        verdict = _check_and_count(path, state)
        return replace(verdict, may_have_lost=may_have_lost_sectors(state, path))
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        checked = pool.submit(_check_and_count, path, state)
        work()
        may_have_lost = may_have_lost_sectors(state, path)
        return replace(checked.result(), may_have_lost=may_have_lost)


def _check_and_count(path: str, state: State) -> Verdict:
    verdict = check(path, state)
    if not verdict.is_whole:
        return verdict
    try:
        with closing(open_new(path, immutable=True)) as conn:
            return replace(verdict, rows=user_rows(conn))
    except SQL_ERRORS:
        return verdict


def check(path: str, state: State) -> Verdict:
    """Run integrity_check on the new file, and walk its b-trees if that does not pass."""
    messages: list[str] = []
    try:
        conn = open_new(path, immutable=True)
        try:
            rows = conn.execute(f"PRAGMA integrity_check({_MAX_MESSAGES})").fetchall()
        finally:
            conn.close()
        messages = [str(row[0]) for row in rows]
        if messages == ["ok"]:
            return Verdict(is_whole=True, is_readable=True)
    except SQL_ERRORS as error:
        messages = [str(error)]
        # Functions and collations of the application are missing here: SQLite cannot judge.
        if not isinstance(error, sqlite3.Error) or primary_code(error) != _SQLITE_ERROR:
            return Verdict(is_whole=False, is_readable=False, messages=tuple(messages))
    return Verdict(
        is_whole=False, is_readable=not state.missing_pages() and _can_be_walked(state),
        messages=tuple(messages),
    )  # fmt: skip


def _can_be_walked(state: State) -> bool:
    """Return True if each row of the schema's b-trees is whole and none shares a page."""
    try:
        view = state.view()
        reader = TreeReader(view, mends=True)
        for item in read_schema(view).values():
            for row in reader.rows(item.root) if item.root else ():
                if row.lost or row.is_doubtful:
                    return False
    except (CorruptPageError, RefusedError):
        return False
    return not (reader.gaps or reader.mended)
