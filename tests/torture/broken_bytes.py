"""Programs that are wrong on purpose, for the attack on bytes to catch."""

from __future__ import annotations

import json
import sqlite3
import sys


def _option(name: str) -> str:
    return sys.argv[sys.argv.index(name) + 1]


def prints_tracebacks() -> None:
    """Import as if every file were what its name says."""
    data = sys.stdin.buffer.read() if sys.argv[2] == "-" else open(sys.argv[2], "rb").read()
    rows = [json.loads(line) for line in data.decode().splitlines()]
    print(json.dumps({"added": len(rows), "found": len(rows)}))


def trusts_lengths() -> None:
    """Import by reading as much as the file says that there is."""
    data = sys.stdin.buffer.read() if sys.argv[2] == "-" else open(sys.argv[2], "rb").read()
    kept = [bytes(int.from_bytes(data[at : at + 8], "little") % (1 << 31)) for at in (0, 4, 8)]
    print(len(kept))


def folds_what_it_finds() -> None:
    """Open whatever is there and let SQLite recover, fold and delete the log."""
    connection = sqlite3.connect(_option("--db"))
    try:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(3)
    finally:
        connection.close()
    if sys.argv[1] in {"inspect-wal", "verify"}:
        print('{"raced": false}')


def believes_any_database() -> None:
    """List what can be read, and pass whatever can be opened."""
    if "--json" in sys.argv and sys.argv[1] in {"list", "inspect-wal"}:
        print("[]" if sys.argv[1] == "list" else '{"raced": false}')
