"""Each claim of inspect-wal about a log that is not what it should be, and what it never says."""

from __future__ import annotations

import os
import random
import sqlite3
import struct
from contextlib import closing
from importlib import resources
from pathlib import Path

import pytest

from modelstore.render.inspection_json import inspection_payload
from modelstore.render.statements import Claim, statements
from modelstore.wal.format import WAL_HEADER_SIZE
from modelstore.wal.inspection import Inspection, inspect_log
from tests.wal.children import holding_index
from tests.wal.logfiles import LogBuilder, naive_checksum

PAGE = 4096
NOTHING = "nothing would be lost"


def crashed(path: Path, *statements: str) -> str:
    """Return a copy of a database whose log nobody folded."""
    origin = path.with_suffix(".origin")
    with closing(sqlite3.connect(origin, isolation_level=None)) as conn:
        conn.execute("PRAGMA journal_mode = WAL")
        conn.execute("PRAGMA wal_autocheckpoint = 0")
        conn.execute("CREATE TABLE t(x)")
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        for statement in statements or ("INSERT INTO t VALUES(1)", "INSERT INTO t VALUES(2)"):
            conn.execute(statement)
        for suffix in ("", "-wal"):
            Path(f"{path}{suffix}").write_bytes(Path(f"{origin}{suffix}").read_bytes())
    return str(path)


def claims(found: Inspection) -> list[Claim]:
    """Return the claims; JSON has the same, in the same order."""
    said = list(statements(found))
    payload = inspection_payload(found)
    assert payload["claims"] == [statement.claim.value for statement in said]
    assert payload["state"] == [statement.text for statement in said]
    return [statement.claim for statement in said]


def text(found: Inspection) -> str:
    return " ".join(statement.text for statement in statements(found))


def test_the_same_is_said_of_a_folded_log_alone(tmp_path: Path) -> None:
    path = crashed(tmp_path / "a.db")
    assert claims(inspect_log(path)) == [Claim.ROWS_DIFFER]
    folded = crashed(tmp_path / "b.db", "INSERT INTO t VALUES(1)", "PRAGMA wal_checkpoint(PASSIVE)")
    found = inspect_log(folded)
    assert claims(found) == [Claim.SAME]
    assert found.nothing_lost


@pytest.mark.parametrize(
    ("statement", "claim", "words"),
    [
        ("PRAGMA user_version = 7", Claim.NO_ROW_DIFFERS, "user_version is 7 with the log, 0"),
        ("ALTER TABLE t ADD COLUMN y", Claim.SCHEMA_DIFFERS, "table t would revert"),
        ("CREATE INDEX i ON t(x)", Claim.SCHEMA_DIFFERS, "index i would vanish"),
        ("DROP TABLE t", Claim.SCHEMA_DIFFERS, "t comes back, which is empty"),
    ],
)
def test_what_differs_where_no_row_does(
    tmp_path: Path, statement: str, claim: Claim, words: str
) -> None:
    found = inspect_log(crashed(tmp_path / "a.db", statement))
    assert claims(found) == [claim]
    assert words in text(found)
    assert NOTHING not in text(found)


def test_an_encrypted_log_is_no_damage(tmp_path: Path) -> None:
    # As SQLCipher leaves it: readable headers, sound checksums, pages of random bytes.
    noise = random.Random(1)
    path = tmp_path / "a.db"
    path.write_bytes(noise.randbytes(4 * PAGE))
    log = LogBuilder(PAGE)
    for commit in range(1, 122):
        log.frame(1 + commit % 4, noise.randbytes(PAGE), 4)
    log.frame(2, noise.randbytes(PAGE))
    log.frame(3, noise.randbytes(PAGE), 4)
    Path(f"{path}-wal").write_bytes(log.raw)
    found = inspect_log(str(path))
    assert claims(found) == [Claim.ENCRYPTED]
    assert "encrypted: 123 frames in 122 commits pending, contents unreadable" in text(found)
    payload = inspection_payload(found)
    assert (payload["lost"], payload["damaged"], payload["nothing_lost"]) == (None, False, False)


def test_a_page_of_garbage_does_not_make_a_database_encrypted(tmp_path: Path) -> None:
    path = crashed(tmp_path / "a.db", "INSERT INTO t VALUES('plain text')")
    with open(path, "r+b") as file:
        file.write(random.Random(1).randbytes(PAGE))
    assert not inspect_log(path).loss.encrypted


def test_a_newer_log_is_not_called_empty(tmp_path: Path) -> None:
    path = crashed(tmp_path / "a.db")
    log = bytearray(Path(f"{path}-wal").read_bytes())
    log[4:8] = struct.pack(">I", 3008000)
    sums = naive_checksum(bytes(log[:24]), (0, 0), big_endian=bool(log[3] & 1))
    log[24:32] = struct.pack(">2I", *sums)
    Path(f"{path}-wal").write_bytes(log)
    found = inspect_log(path)
    assert claims(found) == [Claim.LOG_NEWER]
    assert "3008000" in text(found)
    assert inspection_payload(found)["lost"] is None
    assert not found.nothing_lost


@pytest.mark.parametrize("damage", [bytes(WAL_HEADER_SIZE), b"\0\0\0\0"])
def test_a_damaged_header_never_loses_nothing(tmp_path: Path, damage: bytes) -> None:
    path = crashed(tmp_path / "a.db")
    with open(f"{path}-wal", "r+b") as file:
        file.write(damage)
    found = inspect_log(path)
    assert claims(found)[0] is Claim.LOG_HEADER_DAMAGED
    assert Claim.RECOVER in claims(found)
    assert NOTHING not in text(found)
    assert inspection_payload(found)["lost"] is None


def test_frames_behind_damage_are_not_called_lost(tmp_path: Path) -> None:
    path = crashed(tmp_path / "a.db")
    with open(f"{path}-wal", "r+b") as file:
        file.seek(WAL_HEADER_SIZE + 100)
        file.write(b"damage")
    found = inspect_log(path)
    assert claims(found)[0] is Claim.LOG_DAMAGED
    assert Claim.RECOVER in claims(found)
    assert NOTHING not in text(found)


def test_rows_behind_damage_make_every_figure_inexact(tmp_path: Path) -> None:
    path = crashed(tmp_path / "a.db", *(f"INSERT INTO t VALUES({n})" for n in range(3)))
    with open(f"{path}-wal", "r+b") as file:
        file.seek(WAL_HEADER_SIZE + 24 + PAGE + 100)
        file.write(b"damage")
    found = inspect_log(path)
    assert claims(found) == [Claim.LOG_DAMAGED, Claim.ROWS_DIFFER, Claim.RECOVER]
    assert "At least 1 row in 1 frame" in text(found)
    payload = inspection_payload(found)
    assert (payload["lost"], payload["exact"], payload["damaged"]) == (1, False, True)


def test_a_log_in_use_is_never_to_be_deleted(tmp_path: Path) -> None:
    path = crashed(tmp_path / "a.db", "INSERT INTO t VALUES(1)", "PRAGMA wal_checkpoint(PASSIVE)")
    Path(f"{path}-shm").touch()
    with holding_index(path):
        assert claims(inspect_log(path)) == [Claim.SAME, Claim.IN_USE]


def test_a_database_of_zeros_whose_log_is_whole(tmp_path: Path) -> None:
    path = crashed(tmp_path / "a.db", "INSERT INTO t VALUES(1)", "PRAGMA user_version = 1")
    os.truncate(path, 0)
    os.truncate(path, 2 * PAGE)
    found = inspect_log(path)
    assert {Claim.LOG_HOLDS_ALL, Claim.RECOVER} <= set(claims(found))
    assert found.loss.lost == 1


def test_rows_of_a_file_without_a_header_are_not_called_only_in_the_log(tmp_path: Path) -> None:
    steps = "INSERT INTO t VALUES(1)", "PRAGMA wal_checkpoint(TRUNCATE)", "CREATE TABLE u(x)"
    path = crashed(tmp_path / "a.db", *steps)
    with open(path, "r+b") as file:
        file.write(b"x" * 16)
    found = inspect_log(path)
    assert claims(found) == [Claim.ROWS_DIFFER, Claim.RECOVER]
    assert "without the WAL the main file is not a database" in text(found)
    assert not found.is_exact


def test_a_lone_log_without_every_page_is_inexact(tmp_path: Path) -> None:
    path = crashed(tmp_path / "a.db")
    os.unlink(path)
    found = inspect_log(path)
    assert Claim.NO_DATABASE in claims(found)
    assert Claim.LOG_HOLDS_ALL not in claims(found)
    assert not found.loss.is_exact


@pytest.mark.parametrize("is_stale", [False, True])
def test_a_hot_journal_is_named_and_a_stale_one_is_not(tmp_path: Path, *, is_stale: bool) -> None:
    # https://www.sqlite.org/fileformat2.html#the_rollback_journal
    path = crashed(tmp_path / "a.db")
    os.unlink(f"{path}-wal")
    magic = bytes.fromhex("d9d505f920a163d7")
    journal = magic + bytes(504)
    if is_stale:
        name = os.fsencode(f"{path}-mj0")
        journal += name + struct.pack(">II", len(name), sum(name)) + magic
    Path(f"{path}-journal").write_bytes(journal)
    found = inspect_log(path)
    assert (Claim.HOT_JOURNAL in claims(found)) == (not is_stale)
    assert found.journal is not None
    assert (found.journal.is_hot, found.journal.is_stale) == (not is_stale, is_stale)


def test_the_manual_knows_every_claim() -> None:
    manual = resources.files("modelstore.topics").joinpath("log.md").read_text(encoding="utf-8")
    missing = [claim.value for claim in Claim if f"`{claim.value}`" not in manual]
    assert not missing
