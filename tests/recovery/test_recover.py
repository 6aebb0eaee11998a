"""Rows come back whole, from every kind of evidence, and nothing of the victim changes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.recovery.victims import (
    INSERT,
    TABLE,
    WAL,
    commits,
    content,
    damage_frame,
    digests,
    integrity,
    make,
    names,
    recover,
    rows,
    writer,
)
from tests.torture.applications import has_node


def logged(tmp_path: Path, total: int = 30) -> Path:
    """Make a database whose rows are in its log alone."""
    path = tmp_path / "app.db"
    make(path, *WAL, TABLE, "PRAGMA wal_checkpoint(TRUNCATE)", *commits(total), crash=True)
    return path


def logs(path: Path) -> Path:
    return Path(f"{path}-wal")


def test_a_sound_database_comes_back_byte_for_byte(tmp_path: Path) -> None:
    path = make(tmp_path / "app.db", TABLE, (INSERT, rows(1, 500)))
    before = digests(tmp_path)
    assert recover(path, "--into", tmp_path / "new.db").code == 0
    assert (tmp_path / "new.db").read_bytes() == path.read_bytes()
    after = digests(tmp_path)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"new.db"}


def test_without_into_nothing_is_written(tmp_path: Path) -> None:
    path = logged(tmp_path)
    before = digests(tmp_path)
    done = recover(path)
    assert done.code == 0
    assert "30 of 30 rows of t: 30 from app.db-wal" in done.out
    assert digests(tmp_path) == before


def test_database_and_log_give_the_last_commit_without_changing_a_byte(tmp_path: Path) -> None:
    path = logged(tmp_path)
    before = digests(tmp_path)
    done = recover(path, "--into", tmp_path / "new.db", "--json")
    assert (done.code, done.json["rows"], done.json["how"]) == (0, 30, "pages")
    assert content(tmp_path / "new.db") == rows(1, 30)
    assert integrity(tmp_path / "new.db") == "ok"
    assert names(tmp_path / "new.db") == {"t"}
    after = digests(tmp_path)
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize("kind", ["lone log", "empty database", "page 1 zeroed", "only a name"])
def test_the_log_alone_gives_all_rows(tmp_path: Path, kind: str) -> None:
    path = make(tmp_path / "app.db", *WAL, TABLE, *commits(30), crash=True)
    log = logs(path)
    if kind == "page 1 zeroed":
        path.write_bytes(bytes(4096) + path.read_bytes()[4096:])
    elif kind == "empty database":
        path.write_bytes(b"")
    else:
        path.unlink()
    if kind == "only a name":
        log = log.rename(tmp_path / "found.bin")
    given = log if kind in ("lone log", "only a name") else path
    assert recover(given, "--into", tmp_path / "new.db").code == 0
    assert content(tmp_path / "new.db") == rows(1, 30)


def test_a_damaged_log_header_costs_nothing(tmp_path: Path) -> None:
    path = logged(tmp_path)
    data = bytearray(logs(path).read_bytes())
    data[:32] = os.urandom(32)
    logs(path).write_bytes(data)
    assert recover(path, "--into", tmp_path / "new.db").code == 0
    assert content(tmp_path / "new.db") == rows(1, 30)


@pytest.mark.parametrize("at", [-24, -20, -16, -12, -8, -4, 0, 3, 100, 4092, 4095])
def test_a_frame_with_one_wrong_byte_is_mended_whole(tmp_path: Path, at: int) -> None:
    path = logged(tmp_path)
    damage_frame(logs(path), 6, at)
    done = recover(path, "--into", tmp_path / "new.db", "--json")
    assert (done.code, done.json["is_exact"]) == (0, True)
    assert content(tmp_path / "new.db") == rows(1, 30)
    assert names(tmp_path / "new.db") == {"t"}


def test_rows_behind_damage_come_back_marked(tmp_path: Path) -> None:
    path = logged(tmp_path)
    damage_frame(logs(path), 6, 2000, 200)
    done = recover(path, "--into", tmp_path / "new.db", "--json")
    # The page of the damaged frame comes again in frame 7, so nothing is missing.
    assert content(tmp_path / "new.db") == rows(1, 30)
    marked = content(
        tmp_path / "new.db",
        "SELECT row_key FROM modelstore_recovered WHERE row_key IS NOT NULL AND into_table = 't'",
    )
    assert {int(key) for (key,) in marked} == set(range(6, 31))
    assert done.json["tables"][0]["fitted"] == 25


def test_a_newer_version_behind_damage_never_replaces_a_row(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    changes = [("UPDATE t SET name = ? WHERE id = ?", [(f"new {n}", n)]) for n in range(1, 11)]
    make(path, *WAL, TABLE, *commits(10), "PRAGMA wal_checkpoint(TRUNCATE)", *changes, crash=True)
    damage_frame(logs(path), 4, 2000, 200)
    recover(path, "--into", tmp_path / "new.db")
    kept: dict[int, str] = dict(content(tmp_path / "new.db", "SELECT id, name FROM t"))
    assert [kept[n] for n in range(1, 4)] == ["new 1", "new 2", "new 3"]
    assert all(kept[n].startswith("row") for n in range(4, 11))
    aside = content(tmp_path / "new.db", "SELECT name FROM lost_and_found_t")
    assert {f"new {n}" for n in range(4, 11)} <= {name for (name,) in aside}


def test_a_deleted_row_never_comes_back_into_its_table(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    make(path, *WAL, TABLE, *commits(20), "DELETE FROM t WHERE id > 12", crash=True)
    assert recover(path, "--into", tmp_path / "new.db").code == 0
    assert content(tmp_path / "new.db") == rows(1, 12)
    aside = content(tmp_path / "new.db", "SELECT id, name, size FROM lost_and_found_t ORDER BY id")
    assert aside == rows(13, 8)
    sure = content(
        tmp_path / "new.db",
        "SELECT count(*), min(confidence) FROM lost_and_found_t "
        "JOIN modelstore_recovered ON modelstore_recovered.id = recovered",
    )
    assert sure == [(8, 1.0)]


def test_an_older_generation_behind_a_restarted_log_is_read(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    make(
        path, *WAL, TABLE, (INSERT, rows(1, 900, "old")), "PRAGMA wal_checkpoint(PASSIVE)",
        ("UPDATE t SET name = ? WHERE id = ?", [("new", 900)]), crash=True,
    )  # fmt: skip
    make(path, "PRAGMA wal_autocheckpoint = 0", crash=True)
    before = content(tmp_path / "app.db", "SELECT count(*) FROM t")
    assert before == [(900,)]
    assert recover(path, "--into", tmp_path / "new.db").code == 0
    kept = content(tmp_path / "new.db", "SELECT name FROM t WHERE id = 900")
    assert kept == [("new",)]
    aside = content(tmp_path / "new.db", "SELECT id, name, size FROM lost_and_found_t")
    assert aside == rows(900, 1, "old")


def test_a_log_found_elsewhere_is_named(tmp_path: Path) -> None:
    path = logged(tmp_path)
    moved = logs(path).rename(tmp_path / "saved-log")
    assert content(path) == []
    done = recover(path, "--wal", moved, "--into", tmp_path / "new.db")
    assert done.code == 0
    assert "30 of 30 rows of t: 30 from saved-log" in done.out
    assert content(tmp_path / "new.db") == rows(1, 30)
    assert content(tmp_path / "new.db", "SELECT count(*) FROM modelstore_recovered") == [(2,)]


def test_a_newer_log_and_one_found_elsewhere_both_give_their_rows(tmp_path: Path) -> None:
    path = logged(tmp_path)
    logs(path).rename(tmp_path / "saved-log")
    make(path, (INSERT, rows(100, 3)), crash=True)
    recover(path, "--wal", tmp_path / "saved-log", "--into", tmp_path / "new.db")
    assert content(tmp_path / "new.db") == rows(1, 30) + rows(100, 3)


def test_another_copy_gives_the_rows_that_it_alone_has(tmp_path: Path) -> None:
    path = make(tmp_path / "app.db", TABLE, (INSERT, rows(1, 40)))
    shutil.copy(path, tmp_path / "copy.db")
    make(path, "DELETE FROM t WHERE id > 30")
    done = recover(path, "--also", tmp_path / "copy.db", "--into", tmp_path / "new.db")
    assert done.code == 0
    assert content(tmp_path / "new.db") == rows(1, 30)
    aside = content(tmp_path / "new.db", "SELECT id, name, size FROM lost_and_found_t")
    assert aside == rows(31, 10)


def test_half_a_file_gives_the_rows_of_that_half_and_says_what_is_gone(tmp_path: Path) -> None:
    path = make(tmp_path / "app.db", TABLE, (INSERT, rows(1, 2000)))
    size = path.stat().st_size
    os.truncate(path, size // 2 // 4096 * 4096)
    done = recover(path, "--into", tmp_path / "new.db", "--json")
    kept = content(tmp_path / "new.db")
    assert done.code == 5
    assert kept
    assert set(kept) <= set(rows(1, 2000))
    assert done.json["missing_rows_at_least"] >= 1
    assert integrity(tmp_path / "new.db") == "ok"


def test_without_a_schema_columns_have_numbers(tmp_path: Path) -> None:
    path = make(tmp_path / "app.db", TABLE, (INSERT, rows(1, 800)))
    path.write_bytes(bytes(4096) + path.read_bytes()[4096:])
    recover(path, "--into", tmp_path / "new.db")
    found = content(
        tmp_path / "new.db", "SELECT original_rowid, c1, c2 FROM recovered_1 ORDER BY 1"
    )
    assert found == rows(1, 800)


# -- files that living processes hold --------------------------------------------------------------


@pytest.mark.parametrize("language", ["python", "node", "shell"])
@pytest.mark.parametrize("gone", [("-wal",), ("-wal", "-shm"), ("", "-wal", "-shm")])
def test_files_deleted_under_a_living_application(
    tmp_path: Path, gone: tuple[str, ...], language: str
) -> None:
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("needs /proc")
    if language == "node" and not has_node():
        pytest.skip("needs Node with better-sqlite3, which NODE_PATH finds")
    path = tmp_path / "app.db"
    with writer(path, language) as application:
        application.write(25)
        for suffix in gone:
            os.unlink(f"{path}{suffix}")
        application.write(25)
        done = recover(path, "--into", tmp_path / "new.db", "--json")
        acknowledged = application.rows
        application.write(5)  # it goes on as if nothing had happened
    assert done.code == 0, done.err
    assert acknowledged == 50
    expected = [(n, f"row {n}") for n in range(1, 51)]
    assert content(tmp_path / "new.db") == expected
    assert integrity(tmp_path / "new.db") == "ok"
    assert f"pid {application.process.pid}" in done.json["log"]
    assert len(done.json["saved"]) == 2
    assert not os.path.exists(f"{path}-wal")


# -- refusals --------------------------------------------------------------------------------------


def test_nothing_is_ever_overwritten(tmp_path: Path) -> None:
    path = logged(tmp_path)
    target = tmp_path / "new.db"
    target.write_text("mine")
    done = recover(path, "--into", target)
    assert (done.code, done.out) == (3, "")
    assert target.read_text() == "mine"
    assert recover(path, "--into", path).code == 3


def test_nothing_to_recover_is_said(tmp_path: Path) -> None:
    assert recover(tmp_path / "absent.db").code == 3
    (tmp_path / "noise.db").write_bytes(os.urandom(20_000))
    done = recover(tmp_path / "noise.db", "--into", tmp_path / "new.db")
    assert (done.code, done.out) == (3, "")
    assert not (tmp_path / "new.db").exists()


def test_a_file_named_by_an_option_must_exist(tmp_path: Path) -> None:
    path = logged(tmp_path)
    assert recover(path, "--wal", tmp_path / "absent").code == 3
    assert recover(path, "--also", tmp_path / "absent").code == 3


def test_no_draft_is_left_behind(tmp_path: Path) -> None:
    path = logged(tmp_path)
    (tmp_path / "out").mkdir()
    recover(path, "--into", tmp_path / "out" / "new.db")
    assert os.listdir(tmp_path / "out") == ["new.db"]


# -- what a damaged table still proves -------------------------------------------------------------


def broken_in_the_middle(path: Path, table: str) -> None:
    """Zero the pages of a table that lie in the middle of the file."""
    pages = [
        number
        for (number,) in content(
            path, f"SELECT pageno FROM dbstat WHERE name = '{table}' AND pagetype = 'leaf'"
        )
    ]
    data = bytearray(path.read_bytes())
    for number in pages[len(pages) // 3 : len(pages) // 3 + 2]:
        data[(number - 1) * 4096 : number * 4096] = bytes(4096)
    path.write_bytes(data)


def has_dbstat() -> bool:
    import sqlite3

    return ("ENABLE_DBSTAT_VTAB",) in sqlite3.connect(":memory:").execute("PRAGMA compile_options")


@pytest.mark.skipif(not has_dbstat(), reason="this SQLite has no dbstat")
def test_an_index_gives_the_rows_of_lost_pages_or_their_number(tmp_path: Path) -> None:
    path = make(tmp_path / "app.db", TABLE, (INSERT, rows(1, 900)), "CREATE INDEX i ON t (size)")
    broken_in_the_middle(path, "t")
    done = recover(path, "--into", tmp_path / "new.db", "--json")
    kept = content(tmp_path / "new.db")
    assert done.code == 5
    assert len(kept) < 900
    assert done.json["missing_rows_at_least"] == 900 - len(kept)
    covering = make(
        tmp_path / "b.db", TABLE, (INSERT, rows(1, 900)), "CREATE INDEX i ON t (size, name)"
    )
    broken_in_the_middle(covering, "t")
    recover(covering, "--into", tmp_path / "new2.db")
    assert content(tmp_path / "new2.db") == rows(1, 900)
    assert integrity(tmp_path / "new2.db") == "ok"


def test_a_table_without_rowids_comes_back_in_every_way(tmp_path: Path) -> None:
    table = "CREATE TABLE t (a INT, b TEXT, c INT, PRIMARY KEY (c, a)) WITHOUT ROWID"
    script = [("INSERT INTO t VALUES (?, ?, ?)", [(n, f"b{n}", n % 7)]) for n in range(60)]
    path = make(tmp_path / "app.db", *WAL, table, *script, "DELETE FROM t WHERE a > 50", crash=True)
    expected = sorted((n, f"b{n}", n % 7) for n in range(51))
    assert recover(path, "--into", tmp_path / "new.db").code == 0
    assert content(tmp_path / "new.db", "SELECT * FROM t ORDER BY a") == expected
    aside = content(tmp_path / "new.db", "SELECT a, b, c FROM lost_and_found_t ORDER BY a")
    assert aside == [(n, f"b{n}", n % 7) for n in range(51, 60)]
    whole = make(tmp_path / "b.db", table, *script)
    whole.write_bytes(bytes(4096) + whole.read_bytes()[4096:])
    recover(whole, "--into", tmp_path / "unnamed.db")
    found = content(tmp_path / "unnamed.db", "SELECT c1, c2, c0 FROM recovered_1 ORDER BY c1")
    assert found == [(n, f"b{n}", n % 7) for n in range(60)]


@pytest.mark.parametrize(
    ("size", "encoding"), [(512, "UTF-16le"), (1024, "UTF-16be"), (65536, "UTF-8")]
)
def test_page_size_and_encoding_are_told_without_a_header(
    tmp_path: Path, size: int, encoding: str
) -> None:
    path = make(
        tmp_path / "app.db", f"PRAGMA page_size = {size}", f"PRAGMA encoding = '{encoding}'",
        TABLE, (INSERT, rows(1, 900)),
    )  # fmt: skip
    path.write_bytes(bytes(size) + path.read_bytes()[size:])
    recover(path, "--into", tmp_path / "new.db")
    found = content(tmp_path / "new.db", "SELECT original_rowid, c1, c2 FROM recovered_1")
    assert sorted(found) == rows(1, 900)


def test_a_broken_overflow_chain_is_no_row(tmp_path: Path) -> None:
    table = "CREATE TABLE t (id INTEGER PRIMARY KEY, body TEXT)"
    bodies = [(n, f"{n}" * 9000) for n in range(1, 9)]
    path = make(tmp_path / "app.db", table, ("INSERT INTO t VALUES (?, ?)", bodies))
    data = bytearray(path.read_bytes())
    at = len(data) // 2 // 4096 * 4096
    data[at : at + 4096] = os.urandom(4096)
    path.write_bytes(data)
    done = recover(path, "--into", tmp_path / "new.db")
    kept = content(tmp_path / "new.db")
    assert done.code == 5
    assert len(kept) == 7
    assert set(kept) < set(bodies)


def test_a_relative_path_finds_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "app.db"
    monkeypatch.setenv("PYTHONPATH", os.getcwd())
    with writer(path, "python") as application:
        application.write(10)
        os.unlink(f"{path}-wal")
        monkeypatch.chdir(tmp_path)
        done = recover("app.db", "--into", "new.db", "--json")
        assert f"pid {application.process.pid}" in done.json["log"]
        assert len(done.json["saved"]) == 2
        assert done.json["rows"] == 10


_SPILLING = """
import os, sqlite3, sys
conn = sqlite3.connect(sys.argv[1], isolation_level=None)
conn.execute("PRAGMA cache_size = 5")
conn.execute("BEGIN")
conn.execute("UPDATE t SET name = 'never committed'")
conn.execute("DELETE FROM t WHERE id < 100")
os._exit(0)  # as a crash
"""


def test_an_unfinished_transaction_is_taken_back_in_the_new_file_alone(tmp_path: Path) -> None:
    path = make(tmp_path / "app.db", TABLE, (INSERT, rows(1, 900)))
    subprocess.run([sys.executable, "-c", _SPILLING, str(path)], check=True)
    assert os.path.getsize(f"{path}-journal") > 4096
    assert b"never committed" in path.read_bytes()
    before = digests(tmp_path)
    assert recover(path, "--into", tmp_path / "new.db").code == 0
    assert content(tmp_path / "new.db") == rows(1, 900)
    after = digests(tmp_path)
    assert {name: after[name] for name in before} == before


def test_two_generations_at_one_path_both_give_their_rows(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    with writer(path, "python") as application:
        application.write(20)
        os.unlink(f"{path}-wal")
        os.unlink(f"{path}-shm")
        application.write(10)
        table = "CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, name TEXT)"
        newcomer = [(n, f"newcomer {n}") for n in (29, 30, 31, 32)]
        make(path, *WAL, table, ("INSERT INTO t VALUES (?, ?)", newcomer), crash=True)
        done = recover(path, "--into", tmp_path / "new.db", "--json")
    assert done.code == 0, done.err
    kept = content(tmp_path / "new.db")
    assert kept == [(n, f"row {n}") for n in range(1, 31)] + newcomer[2:]
    aside = content(tmp_path / "new.db", "SELECT id, name FROM lost_and_found_t ORDER BY id")
    assert set(newcomer[:2]) <= set(aside)


def test_a_database_that_was_put_at_the_path_stays_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    with writer(path, "python") as application:
        application.write(20)
        table = "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)"
        restored = [(n, f"restored {n}") for n in range(1, 6)]
        make(tmp_path / "backup.db", table, ("INSERT INTO t VALUES (?, ?)", restored))
        os.replace(tmp_path / "backup.db", path)
        application.write(5)
        done = recover(path, "--into", tmp_path / "new.db", "--json")
    assert done.code == 0, done.err
    kept = content(tmp_path / "new.db")
    assert kept[:5] == restored
    assert kept[5:] == [(n, f"row {n}") for n in range(6, 26)]  # marked
    assert f"pid {application.process.pid}" in "".join(done.json["held"])


def test_an_old_log_beside_a_restored_database_is_kept_apart(tmp_path: Path) -> None:
    path = make(tmp_path / "app.db", *WAL, TABLE, *commits(20), crash=True)
    make(tmp_path / "backup.db", TABLE, (INSERT, rows(1, 5, "restored")))
    os.replace(tmp_path / "backup.db", path)
    done = recover(path, "--into", tmp_path / "new.db", "--json")
    assert content(tmp_path / "new.db") == rows(1, 5, "restored")
    assert any("app.db-wal" in note for note in done.json["notes"])
    aside = content(tmp_path / "new.db", "SELECT id, name, size FROM lost_and_found_t")
    assert set(aside) == set(rows(1, 20))
