"""The accounts of a recovery: rows of each table, where they come from, frames that are lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelstore.database.sqlite import sqlite3
from modelstore.recovery.evidence import Pair
from modelstore.recovery.states import candidate_states, has_page_one
from modelstore.recovery.tables import is_unicode, quoted
from modelstore.wal.pages import CorruptPageError, PageSet

if TYPE_CHECKING:
    from collections.abc import Collection

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


def user_rows(conn: sqlite3.Connection, own_tables: Collection[str]) -> dict[str, int]:
    """Return the rows of each table of the new file that is not one of ours."""
    names = conn.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0"
    ).fetchall()
    found = {}
    for (name,) in names:
        if (
            name in own_tables
            or not is_unicode(str(name))
            or str(name).lower().startswith("sqlite_")
        ):
            continue
        try:
            found[str(name)] = int(
                conn.execute(f"SELECT count(*) FROM {quoted(name)}").fetchone()[0]
            )
        except (sqlite3.Error, UnicodeDecodeError):
            found[str(name)] = 0
    return found


def only_in_log(base: State, conn: sqlite3.Connection) -> dict[str, int]:
    """Return for each table with rowids how many rows have a key that the main file lacks."""
    alone = candidate_states(Pair(base.pair.main, None), None) if base.pair.main else []
    view = base.view()
    other = alone[0].view() if alone and has_page_one(alone[0]) else None
    found: dict[str, int] = {}
    for name, root in conn.execute(
        "SELECT name, rootpage FROM sqlite_schema WHERE type = 'table' AND rootpage > 0"
    ).fetchall():
        try:
            mine = _changed_keys(view, root, base)
        except CorruptPageError:
            continue
        try:
            theirs = set() if other is None else _changed_keys(other, root, base)
        except CorruptPageError:
            theirs = set()
        found[str(name)] = len(mine - theirs)
    return found


def _changed_keys(view: StateView, root: int, base: State) -> set[int]:
    """Return the rowids in the leaves of a table that the log has in any version."""
    found: set[int] = set()
    tree = view.tree(root, PageSet())
    if not tree.has_rowids:
        raise CorruptPageError("a table without rowids")
    for number in tree.leaves:
        if number in base.frames:
            page = view.btree_page(number)
            found.update(view.rowid(page, index) for index in range(len(page.cells)))
            if len(found) > _MAX_KEYS:
                raise CorruptPageError("too many rows to compare")
    return found
