"""Programs that are wrong on purpose, for the attack on rights to catch."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
from pathlib import Path


def _option(name: str) -> str:
    return sys.argv[sys.argv.index(name) + 1]


def makes_files_for_all() -> None:
    """Let everybody read and write."""
    if sys.argv[1] == "import":
        db = Path(_option("--db"))
        connection = sqlite3.connect(db)
        connection.execute("CREATE TABLE IF NOT EXISTS models (id)")
        connection.close()
        db.chmod(0o666)


def writes_through_links() -> None:
    """Write reports and copies wherever their names lead."""
    for option in ("--junit", "--report"):
        if option in sys.argv:
            Path(_option(option)).write_text("a report")
    if "--db" in sys.argv:
        Path(_option("--db")).touch()


def says_what_it_knows() -> None:
    """Tell the key, and keep it."""
    for name in sys.argv:
        if os.path.basename(name) == "key":
            print(Path(name).read_text())
        elif os.path.isfile(name) and "--db" in sys.argv and name != _option("--db"):
            shutil.copyfile(name, _option("--db"))
