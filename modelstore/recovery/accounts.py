"""The accounts of a recovery: rows of each table, where they come from, frames that are lost."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from modelstore.database.sqlite import sqlite3
from modelstore.recovery.comparison import differing_cells
from modelstore.recovery.states import main_alone
from modelstore.recovery.tables import is_unicode, quoted
from modelstore.recovery.trees import TreeReader
from modelstore.wal.pages import TABLE_INTERIOR, TABLE_LEAF, CorruptPageError, PageSet
from modelstore.wal.schema import read_schema

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from modelstore.recovery.history import LogHistory
    from modelstore.recovery.states import State, StateView

_MAX_KEYS = 4_000_000  # rowids that are compared to tell where rows come from


def lost_frames(log: LogHistory) -> list[int]:
    """Return the damaged frames whose page no later sound frame has again."""
    current = log.current
    if current is None:
        return []
    latest = current.latest(current.end)
    return [
        frame
        for frame in current.unsound()
        if latest.get(current.page_numbers[frame - current.first], 0) < frame
        and (frame not in current.likely or frame in log.doubtful)
    ]


def user_rows(conn: sqlite3.Connection) -> dict[str, int]:
    """Return the rows of each table of the new file that is not one of SQLite's."""
    names = conn.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0"
    ).fetchall()
    found = {}
    for (name,) in names:
        if not is_unicode(str(name)) or str(name).lower().startswith("sqlite_"):
            continue
        try:
            found[str(name)] = int(
                conn.execute(f"SELECT count(*) FROM {quoted(name)}").fetchone()[0]
            )
        except (sqlite3.Error, UnicodeDecodeError):
            found[str(name)] = 0
    return found


def rows_without_sql(view: StateView) -> dict[str, int]:
    """Return the rows of each table that Python's SQL cannot name: its definition is no UTF-8."""
    return {
        item.name: sum(1 for _ in TreeReader(view).rows(item.root))
        for item in read_schema(view).values()
        if item.type == "table" and item.root and not is_unicode(item.name + item.sql)
    }


def only_in_log(base: State, conn: sqlite3.Connection, same_keys: PageSet) -> dict[str, int]:
    """Return for each table with rowids how many rows have a key that the main file lacks.

    `same_keys` are leaves that are known to have the same rowids in both.
    """
    alone = main_alone(base.pair)
    view = base.view()
    other = None if alone is None else alone.view()
    views = [view] if other is None else [view, other]
    others = (number for number in base.frames if number not in same_keys)
    is_same = not any(_is_leaf(one, number) for number in others for one in views)
    found: dict[str, int] = {}
    for name, root in conn.execute(
        "SELECT name, rootpage FROM sqlite_schema WHERE type = 'table' AND rootpage > 0"
    ).fetchall():
        with suppress(CorruptPageError):
            if is_same and view.btree_page(root).kind in (TABLE_LEAF, TABLE_INTERIOR):
                found[str(name)] = 0
                continue
            leaves = _changed_leaves(view, root, base)
            before: dict[int, None] = {}
            with suppress(CorruptPageError):
                before = {} if other is None else _changed_leaves(other, root, base)
            for number in [n for n in leaves if n in before and n in same_keys]:
                del leaves[number], before[number]
            found[str(name)] = _count_new_keys(view, leaves, other, before)
    return found


def _is_leaf(view: StateView, number: int) -> bool:
    try:
        return view.btree_page(number).kind == TABLE_LEAF
    except CorruptPageError:
        return False


def _changed_leaves(view: StateView, root: int, base: State) -> dict[int, None]:
    """Return the leaves of a table with rowids that the log has in any version, in key order."""
    tree = view.tree(root, PageSet())
    if not tree.has_rowids:
        raise CorruptPageError("a table without rowids")
    return dict.fromkeys(filter(base.frames.__contains__, tree.leaves))


def _count_new_keys(
    view: StateView, leaves: Collection[int], other: StateView | None, before: Collection[int]
) -> int:
    """Return how many rowids `leaves` have that the leaves `before` in the main file lack."""
    mine: set[int] = set()
    theirs: set[int] = set()
    for number in leaves:
        page = view.btree_page(number)
        here: Sequence[int] = range(len(page.cells))
        if other is not None and number in before:
            with suppress(CorruptPageError):
                old = other.btree_page(number)
                here, there = differing_cells(view, page, old)
                theirs.update(other.rowid(old, index) for index in there)
        mine.update(view.rowid(page, index) for index in here)
        _require_few(mine, theirs)
    for number in before:
        if other is not None and number not in leaves:
            with suppress(CorruptPageError):
                old = other.btree_page(number)
                theirs.update(other.rowid(old, index) for index in range(len(old.cells)))
            _require_few(mine, theirs)
    return len(mine - theirs)


def _require_few(*keys: set[int]) -> None:
    if max(map(len, keys)) > _MAX_KEYS:
        raise CorruptPageError("too many rows to compare")
