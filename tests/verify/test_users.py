"""The processes that have a file open, and the SQLite in the binaries that they run."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.database.sqlite import SQLITE_VERSION, sqlite3
from modelstore.verify import users
from modelstore.verify.users import users_of
from tests.cli.program import python

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells")

HOLD = """
    import sys
    from modelstore.database.sqlite import sqlite3
    conn = sqlite3.connect(sys.argv[1])
    conn.execute("CREATE TABLE IF NOT EXISTS t (a)")
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_every_user_is_named_with_its_sqlite_and_each_library_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "app.db"
    searched: list[str] = []
    search = users._search_version

    def counted(descriptor: int) -> str | None:
        searched.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        return search(descriptor)

    monkeypatch.setattr(users, "_search_version", counted)
    monkeypatch.setattr(users, "_known_versions", {})
    with python(HOLD, path) as one, python(HOLD, path) as other:
        assert one.stdout is not None
        assert other.stdout is not None
        one.stdout.readline()
        other.stdout.readline()
        found, _ = users_of(str(path))
    assert {user.pid for user in found} == {one.pid, other.pid}
    assert {user.sqlite for user in found} == {SQLITE_VERSION}
    assert len(searched) == len(set(searched))


def test_the_sqlite_of_this_very_process_is_recognised_in_its_library() -> None:
    with open("/proc/self/maps") as maps:
        names = {line.split(maxsplit=5)[5].strip() for line in maps if "sqlite" in line}
    versions = {users._version_of(os.fsencode(name)) for name in names if os.path.isfile(name)}
    assert sqlite3.sqlite_version in versions


def test_a_large_binary_without_sqlite_is_no_burden(tmp_path: Path) -> None:
    huge = tmp_path / "huge"
    with open(huge, "wb") as file:
        file.truncate(1 << 40)
    assert users._version_of(os.fsencode(huge)) is None


def test_a_pipe_in_the_place_of_a_binary_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert users._version_of(os.fsencode(tmp_path / "pipe")) is None


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_bytes_around_the_magic_text_prove_nothing(before: bytes, after: bytes) -> None:
    descriptor = os.memfd_create("binary")
    try:
        os.write(descriptor, before + b"SQLite format 3\0" + after)
        assert users._search_version(descriptor) is None
    finally:
        os.close(descriptor)
