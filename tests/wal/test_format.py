from __future__ import annotations

import contextlib
import sqlite3
import struct
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.wal.format import (
    DatabaseFault,
    DatabaseHeader,
    DatabaseHeaderError,
    checksum,
    is_page_size,
    page_offset,
    weights,
)
from tests.wal.logfiles import PAGE_SIZES, naive_checksum

if TYPE_CHECKING:
    from pathlib import Path


def make(path: Path, *statements: str) -> bytes:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)
    return path.read_bytes()[:100]


@pytest.mark.parametrize("page_size", PAGE_SIZES)
def test_header_is_what_sqlite_was_told(tmp_path: Path, page_size: int) -> None:
    raw = make(
        tmp_path / "a.db",
        f"PRAGMA page_size={page_size}",
        "PRAGMA auto_vacuum=INCREMENTAL",
        "PRAGMA encoding='UTF-16be'",
        "PRAGMA application_id=305419896",
        "PRAGMA user_version=77",
        "PRAGMA journal_mode=WAL",
        "CREATE TABLE t(x)",
        "INSERT INTO t VALUES (zeroblob(500000))",
        "DELETE FROM t",
        "PRAGMA wal_checkpoint(TRUNCATE)",
    )
    header = DatabaseHeader.parse(raw)
    with contextlib.closing(sqlite3.connect(tmp_path / "a.db")) as connection:

        def pragma(name: str) -> int:
            return int(connection.execute(f"PRAGMA {name}").fetchone()[0])

        assert header.page_size == page_size == pragma("page_size")
        assert header.page_count == pragma("page_count")
        assert header.has_valid_page_count
        assert header.freelist_count == pragma("freelist_count") > 0
        assert header.freelist_trunk > 1
        assert header.schema_cookie == pragma("schema_version")
        assert header.user_version == 77 == pragma("user_version")
        assert header.application_id == 0x12345678 == pragma("application_id")
    assert (header.text_encoding, header.incremental_vacuum, header.schema_format) == (3, 1, 4)
    assert header.largest_root > 0
    assert header.is_wal
    assert not header.is_too_new
    assert header.usable_size == page_size - header.reserved
    version = sqlite3.sqlite_version_info
    assert header.sqlite_version == version[0] * 1_000_000 + version[1] * 1000 + version[2]


def test_rollback_journal_is_not_wal(tmp_path: Path) -> None:
    header = DatabaseHeader.parse(make(tmp_path / "a.db", "CREATE TABLE t(x)"))
    assert (header.write_version, header.read_version, header.is_wal) == (1, 1, False)


@pytest.mark.parametrize("versions", [(1, 1), (1, 2), (2, 1), (2, 2), (0, 2), (3, 2), (3, 1)])
def test_wal_mode_is_what_sqlite_takes_for_it(tmp_path: Path, versions: tuple[int, int]) -> None:
    """SQLite makes an index beside a file in WAL mode, so that to err would leave one behind."""
    path = tmp_path / "a.db"
    make(path, "CREATE TABLE t(x)")
    with path.open("r+b") as file:
        file.seek(18)
        file.write(bytes(versions))
    header = DatabaseHeader.parse(path.read_bytes()[:100])
    with contextlib.closing(sqlite3.connect(path)) as connection:
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    assert header.is_wal == (mode == "wal")


@pytest.mark.parametrize(
    ("offset", "change", "fault"),
    [
        (0, b"SQLite format 4\0", DatabaseFault.BAD_MAGIC),
        (15, b"x", DatabaseFault.BAD_MAGIC),
        (16, b"\x03\x00", DatabaseFault.BAD_PAGE_SIZE),
        (16, b"\x00\x00", DatabaseFault.BAD_PAGE_SIZE),
        (16, b"\x01\x00", DatabaseFault.BAD_PAGE_SIZE),
        (20, b"\xff", None),
        (21, b"\x41", DatabaseFault.BAD_FRACTIONS),
        (23, b"\x00", DatabaseFault.BAD_FRACTIONS),
    ],
)
def test_each_lie_has_its_own_fault_and_sqlite_refuses_too(
    tmp_path: Path, offset: int, change: bytes, fault: DatabaseFault | None
) -> None:
    path = tmp_path / "a.db"
    make(path, "CREATE TABLE t(x)")
    raw = bytearray(path.read_bytes())
    raw[offset : offset + len(change)] = change
    path.write_bytes(raw)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        if fault is None:
            assert DatabaseHeader.parse(bytes(raw)).reserved == 255
            return
        with pytest.raises(sqlite3.DatabaseError) as refused:
            connection.execute("SELECT count(*) FROM t")
        assert refused.value.sqlite_errorname == "SQLITE_NOTADB"
    with pytest.raises(DatabaseHeaderError) as caught:
        DatabaseHeader.parse(bytes(raw))
    assert caught.value.fault is fault
    assert fault.value in caught.value.message
    assert caught.value.hint


def test_reserved_bytes_leave_at_least_480(tmp_path: Path) -> None:
    raw = bytearray(make(tmp_path / "a.db", "PRAGMA page_size=512", "CREATE TABLE t(x)"))
    raw[20] = 32
    assert DatabaseHeader.parse(bytes(raw)).usable_size == 480
    raw[20] = 33
    with pytest.raises(DatabaseHeaderError) as caught:
        DatabaseHeader.parse(bytes(raw))
    assert caught.value.fault is DatabaseFault.BAD_RESERVED


@pytest.mark.parametrize("length", range(100))
def test_truncated_anywhere(tmp_path: Path, length: int) -> None:
    raw = make(tmp_path / "a.db", "CREATE TABLE t(x)")[:length]
    with pytest.raises(DatabaseHeaderError) as caught:
        DatabaseHeader.parse(raw)
    assert caught.value.fault is (DatabaseFault.SHORT if length else DatabaseFault.EMPTY)


def test_newer_format_is_said_to_be_newer(tmp_path: Path) -> None:
    raw = bytearray(make(tmp_path / "a.db", "CREATE TABLE t(x)"))
    raw[18:20] = b"\x03\x03"
    assert DatabaseHeader.parse(bytes(raw)).is_too_new


def test_page_sizes_are_the_powers_of_two_from_512_to_65536() -> None:
    assert tuple(size for size in range(-2, 2**18) if is_page_size(size)) == PAGE_SIZES


def test_page_offset_is_where_sqlite_writes_the_page(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE t(x)")
        log = (tmp_path / "a.db-wal").read_bytes()
        size = connection.execute("PRAGMA page_size").fetchone()[0]
    assert struct.unpack_from(">I", log, page_offset(1, size) - 24)[0] == 1
    assert log[page_offset(1, size) :][:16] == b"SQLite format 3\0"


WORD = st.integers(0, 2**32 - 1)
WORDS = st.integers(1, 64).flatmap(lambda pairs: st.binary(min_size=8 * pairs, max_size=8 * pairs))


@given(WORDS, WORD, WORD, st.booleans())
def test_checksum_is_the_definition(data: bytes, s0: int, s1: int, big_endian: bool) -> None:
    expected = naive_checksum(data, (s0, s1), big_endian=big_endian)
    assert checksum(data, s0, s1, big_endian=big_endian) == expected


@given(WORDS, WORD, WORD, st.booleans())
def test_state_and_words_add_up(data: bytes, s0: int, s1: int, big_endian: bool) -> None:
    a, b = (column[0] for column in weights(len(data)))
    own0, own1 = checksum(data, big_endian=big_endian)
    total = (
        (a * s0 + b * s1 + own0) % 2**32,
        (b * s0 + (a + b) * s1 + own1) % 2**32,
    )
    assert total == naive_checksum(data, (s0, s1), big_endian=big_endian)


@given(WORDS)
def test_weights_are_how_often_each_word_counts(data: bytes) -> None:
    words = memoryview(data).cast("I")
    in_s0, in_s1 = weights(len(data))
    sums = tuple(
        sum(word * weight for word, weight in zip(words, column, strict=True)) % 2**32
        for column in (in_s0, in_s1)
    )
    assert sums == checksum(data, big_endian=sys.byteorder == "big")
