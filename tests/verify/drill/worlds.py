"""Places in which the promise does not hold: the program behind a stand-in that breaks it.

Run as a script with the name of a world and then the program's arguments.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from typing import NoReturn


def modelstore(arguments: list[str]) -> int:
    return subprocess.run([sys.executable, "-m", "modelstore", *arguments], check=False).returncode


def become_modelstore(arguments: list[str]) -> NoReturn:
    """Leave no process between the drill and the program: a kill must reach it."""
    os.execv(sys.executable, [sys.executable, "-m", "modelstore", *arguments])


def database(arguments: list[str]) -> str:
    return arguments[arguments.index("--db") + 1]


def forgetful(arguments: list[str]) -> int:
    """What was imported is not in the file: a disk that reports writes and drops them."""
    code = modelstore(arguments)
    if arguments[0] == "import":
        with closing(sqlite3.connect(database(arguments), isolation_level=None)) as conn:
            conn.execute("DELETE FROM models WHERE name = 'Model-Test-2'")
    return code


def swapping(arguments: list[str]) -> int:
    """The file that is read is not the one that was written."""
    code = modelstore(arguments)
    if arguments[0] == "import":
        with closing(sqlite3.connect(database(arguments), isolation_level=None)) as conn:
            conn.execute("UPDATE models SET name = 'Other' WHERE name = 'Model-Test-2'")
    return code


def amnesic(arguments: list[str]) -> int:
    """After a crash the log is gone: a volume that is made anew, a temporary directory."""
    if arguments[0] == "checkpoint":
        os.unlink(database(arguments) + "-wal")
    become_modelstore(arguments)


def walless(arguments: list[str]) -> int:
    """WAL mode cannot be had: no shared memory."""
    code = modelstore(arguments)
    with closing(sqlite3.connect(database(arguments))) as conn:
        conn.execute("PRAGMA journal_mode = DELETE")
    return code


def unwilling(arguments: list[str]) -> int:
    """Nothing can be written."""
    print("error: the disk is full \x1b[31m", file=sys.stderr)
    return 3


def frozen(arguments: list[str]) -> int:
    """A process that never comes back."""
    time.sleep(60)
    return 0


def mumbling(arguments: list[str]) -> int:
    """What is said is no JSON."""
    if arguments[0] == "list":
        print("[")
        return 0
    become_modelstore(arguments)


if __name__ == "__main__":
    sys.exit(globals()[sys.argv[1]](sys.argv[2:]))
