"""Another program's SQLite file as a source: which kind it is, opened so that nothing changes."""

from __future__ import annotations

from urllib.parse import quote

from modelstore.errors import SourceError
from modelstore.store.sqlite import sqlite3
from modelstore.text import visible


def sqlite_kind(path: str) -> str:
    """Return ``catalogue`` or ``dashboard`` by what the database's tables are.

    The log is read as well: a young database may have its first rows, and its mark, only there.
    Raises `SourceError` where it has no table of models or cannot be read.
    """
    name = visible(path, 200)
    try:
        connection = sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True, timeout=5.0)
        try:
            columns = {row[1] for row in connection.execute("PRAGMA table_info(models)")}
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise SourceError(
            f"the database '{name}' cannot be read: {visible(str(error), 200)}",
            hint="see: modelstore inspect-wal FILE",
        ) from None
    if {"locator", "source_id"} <= columns:
        return "catalogue"
    if columns:
        return "dashboard"
    raise SourceError(
        f"the database '{name}' has no table of models",
        hint="modelstore reads its own catalogues and the llama proxy dashboard's database",
    )
