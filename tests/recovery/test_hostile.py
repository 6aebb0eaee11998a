"""Damaged and hostile input: one sentence at worst, no crash, and never a changed byte."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from modelstore.errors import ModelstoreError
from modelstore.recovery.recover import Request, recover
from tests.recovery.victims import (
    INSERT,
    TABLE,
    WAL,
    commits,
    content,
    digests,
    integrity,
    make,
    rows,
)

_ROUNDS = 10
_NOISE = (bytes(4), b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0\0\0\1", bytes((13,)), bytes((5,)))


def seed_files(tmp_path: Path, kind: str) -> dict[str, bytes]:
    """Return the files of a sound database, with a log or without."""
    path = tmp_path / "seed.db"
    index = "CREATE INDEX i ON t (name)"
    other = "CREATE TABLE w (k TEXT PRIMARY KEY, v BLOB) WITHOUT ROWID"
    long = ("INSERT INTO w VALUES (?, ?)", [(f"k{n}", "v" * (n * 300)) for n in range(30)])
    if kind == "log":
        gone = "DELETE FROM t WHERE id % 5 = 0"
        make(path, *WAL, TABLE, index, other, *commits(20, 10), long, gone, crash=True)
    else:
        make(path, TABLE, index, other, (INSERT, rows(1, 400)), long, "DELETE FROM t WHERE id < 90")
    return {
        suffix: Path(f"{path}{suffix}").read_bytes()
        for suffix in ("", "-wal")
        if os.path.exists(f"{path}{suffix}")
    }


def mutate(data: bytes, dice: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(dice.choice((1, 4, 30))):
        at = dice.choice(
            (
                dice.randrange(len(out)),
                dice.randrange(200),
                dice.randrange(len(out) // 4096) * 4096 + dice.randrange(12),
            )
        )
        way = dice.randrange(5)
        if way == 0:
            out[at] ^= 1 << dice.randrange(8)
        elif way == 1:
            noise = dice.choice(_NOISE)
            out[at : at + len(noise)] = noise
        elif way == 2:
            size = dice.choice((16, 4096))
            out[at : at + size] = bytes(min(size, len(out) - at))
        elif way == 3:
            size = min(dice.choice((8, 100, 4096)), len(out) - at)
            out[at : at + size] = dice.randbytes(size)
        elif len(out) > 8192 and dice.random() < 0.2:
            del out[at // 4096 * 4096 + 4096 :]
    return bytes(out)


@pytest.mark.parametrize("kind", ["log", "alone"])
@pytest.mark.parametrize("seed", range(3))
def test_mutated_files_never_crash_it(tmp_path: Path, kind: str, seed: int) -> None:
    whole = seed_files(tmp_path, kind)
    dice = random.Random(f"{kind} {seed}")
    made = 0
    for number in range(_ROUNDS):
        place = tmp_path / f"{number}"
        place.mkdir()
        for suffix, data in whole.items():
            if dice.random() < 0.9:
                (place / f"app.db{suffix}").write_bytes(mutate(data, dice))
        before = digests(place)
        request = Request(str(place / "app.db"), str(place / "new.db"), deleted=dice.random() < 0.5)
        try:
            recover(request)
        except ModelstoreError:
            assert not (place / "new.db").exists()
        else:
            made += 1
            assert integrity(place / "new.db")
        after = digests(place)
        assert {name: after[name] for name in before} == before
        assert set(after) - set(before) <= {"new.db"}
    assert made > _ROUNDS // 3  # the mutations leave something to recover


def test_a_false_page_count_costs_no_time(tmp_path: Path) -> None:
    path = make(tmp_path / "app.db", TABLE, (INSERT, rows(1, 400)))
    data = bytearray(path.read_bytes())
    data[28:32] = b"\xff\xff\xff\xfe"
    path.write_bytes(data)
    done = recover(Request(str(path), str(tmp_path / "new.db")))
    assert {table.name: table.rows for table in done.tables} == {"t": 400}


def test_names_that_a_schema_may_hold_do_no_harm(tmp_path: Path) -> None:
    name = "a\"]'; DROP TABLE x; --\x1b[31m"
    quoted = '"' + name.replace('"', '""') + '"'
    path = tmp_path / "app.db"
    make(
        path, *WAL, f"CREATE TABLE {quoted} (rowid TEXT, _rowid_ TEXT, recovered TEXT)",
        f"INSERT INTO {quoted} VALUES ('a', 'b', 'c')", f"DELETE FROM {quoted}", crash=True,
    )  # fmt: skip
    done = recover(Request(str(path), str(tmp_path / "new.db")))
    assert [table.set_aside for table in done.tables if table.name == name] == [
        {f"lost_and_found_{name}": 1}
    ]


@pytest.mark.parametrize("into", [True, False])
def test_text_that_is_no_unicode_comes_back_byte_for_byte(tmp_path: Path, into: bool) -> None:
    path = tmp_path / "app.db"
    odd = "UPDATE t SET name = CAST(x'ff61fe' AS TEXT) WHERE id = 3"
    make(path, *WAL, TABLE, *commits(5), odd, "DELETE FROM t WHERE id = 3", crash=True)
    target = tmp_path / "new.db"
    recover(Request(str(path), str(target) if into else None))
    if into:
        found = content(target, "SELECT CAST(name AS BLOB) FROM lost_and_found_t WHERE id = 3")
        assert (b"\xff\x61\xfe",) in found


def test_an_error_message_that_is_no_unicode_is_no_crash(tmp_path: Path) -> None:
    path = make(tmp_path / "app.db", TABLE, (INSERT, rows(1, 40)))
    data = path.read_bytes()
    path.write_bytes(data.replace(b"CREATE TABLE t", b"CREATE TAB\x81\x81\x81t"))
    done = recover(Request(str(path), str(tmp_path / "new.db")))
    assert sum(table.rows for table in done.tables) == 40


def odd_names(tmp_path: Path) -> Path:
    """Return a database with a table whose name, column and view are no UTF-8."""
    path = make(
        tmp_path / "app.db", TABLE, (INSERT, rows(1, 40)),
        "CREATE TABLE naX (id INTEGER PRIMARY KEY, coX TEXT)",
        "CREATE INDEX iX ON naX (coX)", "CREATE VIEW vX AS SELECT coX FROM naX",
        ("INSERT INTO naX VALUES (?, ?)", [(n, f"value {n}") for n in range(300)]),
    )  # fmt: skip
    data = path.read_bytes()
    for name in (b"naX", b"coX", b"iX", b"vX"):
        data = data.replace(name, name[:-1] + b"\xe9")
    path.write_bytes(data)
    return path


def test_rows_of_a_table_that_sql_cannot_name_are_counted(tmp_path: Path) -> None:
    path = odd_names(tmp_path)
    done = recover(Request(str(path), str(tmp_path / "new.db")))
    assert {table.name: table.rows for table in done.tables} == {"t": 40, "na\udce9": 300}
    assert (tmp_path / "new.db").read_bytes() == path.read_bytes()


def test_a_table_that_sql_cannot_name_is_built_anew_in_latin_1(tmp_path: Path) -> None:
    path = odd_names(tmp_path)
    data = bytearray(path.read_bytes())
    data[4096:8192] = bytes(4096)  # the root of t
    path.write_bytes(data)
    target = tmp_path / "new.db"
    recover(Request(str(path), str(target)))
    wanted = [(n, f"value {n}") for n in range(300)]
    assert content(target, "SELECT id, coé FROM naé ORDER BY id") == wanted
    assert content(target, "SELECT coé FROM vé") == [(value,) for _, value in wanted]


def test_two_tables_whose_names_become_alike_both_come_back(tmp_path: Path) -> None:
    path = odd_names(tmp_path)
    make(path, "CREATE TABLE naé (id INTEGER PRIMARY KEY)", "INSERT INTO naé VALUES (7)")
    data = bytearray(path.read_bytes())
    data[4096:8192] = bytes(4096)
    path.write_bytes(data)
    done = recover(Request(str(path), str(tmp_path / "new.db")))
    assert content(tmp_path / "new.db", "SELECT * FROM naé") == [(7,)]
    assert {table.rows for table in done.tables if table.name != "t"} == {1, 300}


def test_a_file_format_that_sqlite_refuses_is_built_anew(tmp_path: Path) -> None:
    path = make(tmp_path / "app.db", TABLE, (INSERT, rows(1, 40)))
    data = bytearray(path.read_bytes())
    data[44:48] = (0x3E8).to_bytes(4, "big")  # the schema format
    path.write_bytes(data)
    done = recover(Request(str(path), str(tmp_path / "new.db")))
    assert {table.name: table.rows for table in done.tables} == {"t": 40}


def test_two_bits_of_the_header_are_the_text_encoding(tmp_path: Path) -> None:
    path = make(tmp_path / "app.db", "PRAGMA encoding = 'UTF-16le'", TABLE, (INSERT, rows(1, 40)))
    data = bytearray(path.read_bytes())
    data[44:48] = (0x3E8).to_bytes(4, "big")  # the schema format: SQLite refuses the file
    data[56:60] = (0x106).to_bytes(4, "big")
    path.write_bytes(data)
    target = tmp_path / "new.db"
    recover(Request(str(path), str(target)))
    assert content(target) == rows(1, 40)
    assert integrity(tmp_path / "new.db") == "ok"
