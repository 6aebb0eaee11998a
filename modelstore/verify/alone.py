"""The main file without its log, as SQLite checks it: every page, also those not in the log."""

from __future__ import annotations

import os
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import TYPE_CHECKING

from modelstore.database.handle import connect
from modelstore.database.sqlite import sqlite3
from modelstore.database.sqlite_errors import SQLITE_ERROR, primary_code
from modelstore.text import visible
from modelstore.verify.structure import MESSAGES, by_table, said, ticking
from modelstore.wal.inspection import MainCheck
from modelstore.wal.stillness import OpenFiles

if TYPE_CHECKING:
    from modelstore.database.handle import Database

_SHOWN = 200  # characters of a message


def check_alone(path: str, pragma: str = "integrity_check") -> MainCheck:
    """Check the main file of the database at `path`; take no lock, and write nothing.

    No SQLite of this process may have the database open: raw files are opened and closed, which
    drops its locks (sqlite.org/howtocorrupt.html, section 2.2).
    """
    path = os.path.realpath(path)
    with ExitStack() as stack:
        files = OpenFiles.open(path, path + "-wal", stack)
        before = files.stamp()
        try:
            with closing(connect(path, "immutable")) as db:
                found = check_view(db, pragma)
        except sqlite3.Error as error:
            found = MainCheck(visible(str(error), _SHOWN))
        return replace(found, is_still=before.settles(files.stamp(before)))


def check_view(db: Database, pragma: str) -> MainCheck:
    """Check the database that a connection sees, which nobody changes meanwhile."""
    unchecked: list[str] = []
    try:
        with ticking(db.conn, lambda: None):
            try:
                messages = said(db, f"PRAGMA {pragma}({MESSAGES})")
            except sqlite3.Error as error:
                if primary_code(error) != SQLITE_ERROR:
                    raise
                messages, unchecked = by_table(db, pragma)
    except sqlite3.Error as error:
        return MainCheck(visible(str(error), _SHOWN))
    lines = [line for message in messages for line in message.splitlines()]
    faults = [line for line in lines if line != "ok" and not line.startswith("***")]  # a heading
    tables = tuple(visible(table, _SHOWN) for table in unchecked)
    return MainCheck(visible(faults[0], _SHOWN) if faults else None, unchecked=tables)
