"""Damaged pages of a database without a log: each row goes to its own table, or is set aside."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from modelstore.recovery import recover as module
from modelstore.recovery.recover import Request, recover
from modelstore.recovery.result import Recovery
from tests.recovery.victims import content, make

SIZE = 4096
Damage = Callable[[bytearray], None]


def rows(count: int, word: str) -> list[tuple[int, str]]:
    return [(n, f"{word} {n} {'x' * 60}") for n in range(1, count + 1)]


def two_tables(path: Path, *, vacuum: str = "NONE", shape: str = "x REAL, y TEXT") -> Path:
    """Make a database of two tables of 300 rows; the second has `shape`."""
    return make(
        path,
        f"PRAGMA auto_vacuum = {vacuum}",
        "CREATE TABLE a (id INTEGER PRIMARY KEY, y TEXT)",
        f"CREATE TABLE b ({shape})",
        ("INSERT INTO a VALUES (?, ?)", rows(300, "first")),
        ("INSERT INTO b VALUES (?, ?)", [(n, text) for n, text in rows(300, "second")]),
    )


def root(path: Path, table: str) -> int:
    with closing(sqlite3.connect(path)) as conn:
        sql = "SELECT rootpage FROM sqlite_schema WHERE name = ?"
        return int(conn.execute(sql, (table,)).fetchone()[0])


def damaged(path: Path, damage: Damage) -> Recovery:
    data = bytearray(path.read_bytes())
    damage(data)
    path.write_bytes(data)
    return recover(Request(str(path), str(path.with_name("new.db"))))


def zero(data: bytearray, number: int) -> None:
    data[(number - 1) * SIZE : number * SIZE] = bytes(SIZE)


def zero_roots(*numbers: int) -> Damage:
    def damage(data: bytearray) -> None:
        for number in numbers:
            zero(data, number)

    return damage


def count(path: Path, table: str) -> int:
    return int(content(path.with_name("new.db"), f'SELECT count(*) FROM "{table}"')[0][0])


def test_leaves_without_a_root_go_to_the_table_that_they_fit(tmp_path: Path) -> None:
    path = two_tables(tmp_path / "app.db", shape="x TEXT, y TEXT")
    done = damaged(path, zero_roots(root(path, "a"), root(path, "b")))
    assert (count(path, "a"), count(path, "b")) == (300, 300)
    assert done.exit_code == 5  # the root may have had more children


def test_the_pointer_map_names_the_table_of_a_leaf(tmp_path: Path) -> None:
    path = two_tables(tmp_path / "app.db", vacuum="FULL", shape="id INTEGER PRIMARY KEY, y TEXT")
    damaged(path, zero_roots(root(path, "a"), root(path, "b")))
    assert (count(path, "a"), count(path, "b")) == (300, 300)
    assert content(path.with_name("new.db"), "SELECT min(y) FROM b") == [("second 1 " + "x" * 60,)]


def test_rows_that_fit_two_tables_are_set_aside(tmp_path: Path) -> None:
    path = two_tables(tmp_path / "app.db", shape="id INTEGER PRIMARY KEY, y TEXT")
    damaged(path, zero_roots(root(path, "a"), root(path, "b")))
    assert (count(path, "a"), count(path, "b")) == (0, 0)
    assert count(path, "lost_and_found_a_or_b") == 600


@pytest.mark.parametrize("kind", [0, 7, 5, 10])
def test_a_wrong_type_costs_nothing(tmp_path: Path, kind: int) -> None:
    path = two_tables(tmp_path / "app.db")

    def damage(data: bytearray) -> None:
        leaf = int.from_bytes(data[(root(path, "a") - 1) * SIZE + 8 :][:4], "big")
        data[(leaf - 1) * SIZE] = kind

    done = damaged(path, damage)
    assert count(path, "a") == 300
    assert (done.missing_rows, done.exit_code) == (0, 0)


def test_a_sector_of_zeros_never_passes_for_a_value(tmp_path: Path) -> None:
    path = make(
        tmp_path / "app.db",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, body TEXT, stars INTEGER, note TEXT)",
        ("INSERT INTO t VALUES (?, ?, ?, ?)", [(n, f"{n} " * 200, n, "end") for n in range(1, 80)]),
        "CREATE TABLE gone (x)",
    )

    def damage(data: bytearray) -> None:
        data[4 * SIZE + 1024 : 4 * SIZE + 1536] = bytes(512)
        zero(data, root(path, "gone"))

    done = damaged(path, damage)
    new = path.with_name("new.db")
    assert not content(new, "SELECT id FROM t WHERE instr(body, char(0))")
    assert all(text == f"{n} " * 200 for n, text in content(new, "SELECT id, body FROM t"))
    aside = content(new, "SELECT t.id, t.body FROM lost_and_found_t AS t JOIN modelstore_recovered"
                    " AS m ON recovered = m.id WHERE confidence <= 0.5")  # fmt: skip
    assert aside
    assert all("\ufffd" in str(body) or body is None for _, body in aside)
    assert done.missing_rows >= 1


@pytest.mark.parametrize("words", [370, 1500])
def test_text_that_lost_bytes_is_marked_where_sqlite_sees_no_damage(
    tmp_path: Path, words: int
) -> None:
    path = make(
        tmp_path / "app.db",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, body TEXT)",
        ("INSERT INTO t VALUES (?, ?)", [(n, "word " * words) for n in range(1, 4)]),
    )

    def damage(data: bytearray) -> None:
        if words < 1000:  # each row lies in its leaf: a sector is lost
            at = data.index(b"word word ") // 512 * 512 + 512
            data[at : at + 512] = bytes(512)
            return
        zero(data, data.index(b"\0\0\0\0d word ") // SIZE + 1)

    done = damaged(path, damage)
    marked = content(path.with_name("new.db"), "SELECT row_key FROM modelstore_recovered"
                     " WHERE confidence = 0.5 AND table_name = 't'")  # fmt: skip
    assert len(marked) == 1
    assert done.notes


def test_zeros_in_free_space_cost_no_look_at_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[object] = []

    def look(*given: object) -> int:
        looks.append(given)
        return 0

    monkeypatch.setattr(module, "mark_doubtful_rows", look)
    path = two_tables(tmp_path / "app.db")  # their last leaves, and the schema, are half empty
    assert bytes(1024) in path.read_bytes()
    assert damaged(path, zero_roots()).how == "pages"
    assert not looks


def test_a_blob_of_zeros_stays_where_it_is(tmp_path: Path) -> None:
    path = make(
        tmp_path / "app.db",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, data BLOB)",
        *(f"INSERT INTO t VALUES ({n}, zeroblob(2000))" for n in range(1, 20)),
        "CREATE TABLE gone (x)",
    )
    damaged(path, lambda data: zero(data, root(path, "gone")))
    assert content(path.with_name("new.db"), "SELECT count(*) FROM t WHERE data = zeroblob(2000)")[
        0
    ] == (19,)


def test_rows_of_a_transaction_that_the_log_cuts_off_are_set_aside(tmp_path: Path) -> None:
    table = "CREATE TABLE t (id INTEGER PRIMARY KEY, y TEXT)"
    one = ("INSERT INTO t VALUES (?, ?)", [(n, "a" * 100) for n in range(20)])
    two = ("INSERT INTO t VALUES (?, ?)", [(n, "b" * 100) for n in range(20, 30)])
    path = tmp_path / "app.db"
    make(path, "PRAGMA journal_mode = WAL", table, one, two, crash=True)
    log = Path(f"{path}-wal")
    log.write_bytes(log.read_bytes()[:-100])
    recover(Request(str(path), str(tmp_path / "new.db")))
    assert count(path, "t") == 20
    assert count(path, "lost_and_found_t") > 0
