"""The one door to SQLite: the library that is really linked, and sqlite-utils on top of it.

sqlite-utils picks pysqlite3 by itself where it is installed; this module uses the same one, for
two copies of SQLite on one file in one process drop each other's locks
(sqlite.org/howtocorrupt.html, section 2.2).
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from modelstore.database.versions import has_wal_reset_bug

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from sqlite_utils import Database
else:
    try:
        from pysqlite3 import dbapi2 as sqlite3
    except ImportError:
        import sqlite3


class _Later(ModuleType):
    """A module that is imported when something of it is first asked for."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # whatever the module has
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)


@contextmanager
def _quick_import() -> Iterator[None]:
    """Keep sqlite-utils from importing what a program that is no sqlite-utils seldom needs.

    numpy and pandas, which it asks for only to map their types to columns (50 ms to seconds):
    a None makes that fail quickly. Click (for its own commands) and dateutil (for its recipes),
    a fifth of the time of `list`: they come when they are first used. A second SQLite, for the
    name of a type.
    """
    click = _Later("click")
    click.Group = object  # type: ignore[attr-defined]  # for an annotation
    dateutil = _Later("dateutil")
    dateutil.parser = _Later("dateutil.parser")  # type: ignore[attr-defined]
    wanted = {"numpy": None, "pandas": None, "click": click, "dateutil": dateutil}
    replaced = {
        name: module
        for name, module in (wanted | {"sqlite3": sqlite3}).items()
        if name not in sys.modules
    }
    sys.modules.update(replaced)  # type: ignore[arg-type]  # None is what Python documents
    try:
        yield
    finally:
        for name, module in replaced.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


if not TYPE_CHECKING:
    with _quick_import():
        from sqlite_utils import Database

__all__ = ["HAS_WAL_RESET_BUG", "SQLITE_VERSION", "Database", "sqlite3"]

SQLITE_VERSION: str = sqlite3.sqlite_version
"""The version of the SQLite library that is linked, such as ``3.53.4``."""

HAS_WAL_RESET_BUG: bool = has_wal_reset_bug(SQLITE_VERSION)
"""Whether the linked SQLite can lose rows when a PASSIVE checkpoint meets a log restart."""
