from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from modelstore.replica.shadow import LogPosition, Piece, copied_pieces, has_copied, raw_position
from tests.replica.litestream import TABLE, change, daemon, make, needs_litestream, numbered
from tests.waiting import wait_until


@given(st.binary(max_size=200))
def test_any_bytes_are_a_piece_or_none(raw: bytes) -> None:
    piece = Piece.parse(raw)
    assert (piece is not None) == (raw[:4] == b"LTX1" and len(raw) >= 72 and _is_sane(raw))


def _is_sane(raw: bytes) -> bool:
    return not (raw[48] & 0x80 or raw[56] & 0x80)


@given(st.binary(min_size=68, max_size=200))
def test_any_header_is_a_piece_that_reaches_or_does_not(raw: bytes) -> None:
    piece = Piece.parse(b"LTX1" + raw)
    if piece is not None:
        assert piece.reaches(LogPosition(0.0, piece.end, piece.salt))
        assert not piece.reaches(LogPosition(1e30, piece.end + 1, piece.salt))


def test_a_later_log_reaches_the_end_of_an_earlier_one_and_no_other_does() -> None:
    position = LogPosition(1e9, 5000, (7, 1))
    later, earlier, other = (Piece(1, 0.0, 32, (salt, 2)) for salt in (8, 6, 1 << 31))
    assert later.reaches(position)
    assert not earlier.reaches(position)
    assert not other.reaches(position)


def test_without_the_files_of_litestream_nothing_is_known(tmp_path: Path) -> None:
    database = make(tmp_path / "app.db", TABLE)
    assert copied_pieces(str(database)) == []
    assert not has_copied(str(database), LogPosition(0.0), 1 << 62)


@needs_litestream
def test_the_files_of_litestream_tell_how_far_its_copy_reaches(tmp_path: Path) -> None:
    database = make(tmp_path / "app.db", TABLE + numbered(1, 100))
    with daemon(database, f"file://{tmp_path}/replica"):
        change(database, numbered(101, 200))
        path = str(database)
        at = os.stat(path + "-wal").st_mtime
        position = raw_position(path, at)
        assert position.end is not None
        wait_until(lambda: has_copied(path, position, 1 << 62))
        newest = copied_pieces(path)[0]
        assert not has_copied(path, position, newest.txid - 1)
        assert newest.end == position.end
        with closing(sqlite3.connect(database, isolation_level=None)) as db:
            db.execute("DELETE FROM t WHERE n = 1")
            later = raw_position(path, os.stat(path + "-wal").st_mtime)
            assert not newest.reaches(later)
