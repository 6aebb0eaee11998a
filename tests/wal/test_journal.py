"""Rollback journals: hot, live, stale, and any bytes at all."""

from __future__ import annotations

import os
import sqlite3
import struct
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelstore.wal.journal import read_journal
from tests.waiting import wait_until
from tests.wal.children import running

MAGIC = bytes.fromhex("d9d505f920a163d7")
WRITER = """
import sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None)
c.execute("PRAGMA cache_size = 5")
c.execute("BEGIN")
c.execute("UPDATE t SET x = x || 'changed'")
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def database(tmp_path: Path) -> str:
    path = str(tmp_path / "a.db")
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute("CREATE TABLE t(x)")
        conn.executemany("INSERT INTO t VALUES(?)", (("y" * 500,) for _ in range(300)))
    return path


def test_no_journal_is_none(database: str) -> None:
    assert read_journal(database) is None


def test_the_journal_of_a_writer_is_hot_once_it_was_killed(database: str) -> None:
    with running(WRITER, database) as process:
        live = read_journal(database)
        assert live is not None
        assert not live.is_hot
        process.kill()
        process.wait()
    wait_until(lambda: getattr(read_journal(database), "is_hot", False))
    with closing(sqlite3.connect(database)) as conn:  # SQLite agrees: it takes the rows back
        assert conn.execute("SELECT count(*) FROM t WHERE x LIKE '%changed'").fetchone() == (0,)
    assert read_journal(database) is None


@pytest.mark.parametrize("exists", [True, False])
def test_a_journal_without_its_super_journal_is_stale(database: str, *, exists: bool) -> None:
    name = os.fsencode(f"{database}-mjé")
    total = sum(byte - 256 if byte >= 128 else byte for byte in name) % (1 << 32)
    tail = struct.pack(">I", 9) + name + struct.pack(">II", len(name), total) + MAGIC
    Path(f"{database}-journal").write_bytes(MAGIC + bytes(504) + tail)
    if exists:
        Path(os.fsdecode(name)).touch()
    found = read_journal(database)
    assert found is not None
    assert (found.is_hot, found.is_stale) == (exists, not exists)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=80), st.binary(max_size=60))
def test_any_bytes_have_an_answer(database: str, start: bytes, end: bytes) -> None:
    for content in (start, MAGIC + start, MAGIC + start + end + MAGIC):
        Path(f"{database}-journal").write_bytes(content)
        found = read_journal(database)
        assert found is not None
        assert found.size == len(content)
