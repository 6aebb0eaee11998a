"""A process that reads a database and does not let go: run as a module, with the path.

It says how many models it sees, and keeps that snapshot until its stdin ends, as it also does
when the process that started it is gone.
"""

from __future__ import annotations

import sys
from contextlib import closing

from modelstore.database.handle import connect


def main() -> None:
    """Hold a read transaction on the database that the first argument names."""
    with closing(connect(sys.argv[1], "ro")) as conn:
        conn.execute("PRAGMA busy_timeout = 5000")
        conn.execute("BEGIN")
        (count,) = conn.execute("SELECT count(*) FROM models").fetchone()
        sys.stdout.write(f"{count}\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main()
