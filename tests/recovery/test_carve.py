"""Deleted rows come back out of free space; none is made up, and no live row is shown again."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelstore.recovery.carve import CarvedRow, carve
from modelstore.recovery.deleted import deleted_rows
from modelstore.recovery.evidence import gather
from modelstore.recovery.free_space import PageImage
from modelstore.recovery.states import candidate_states
from modelstore.recovery.tables import Column, Table
from tests.recovery.histories import Row
from tests.recovery.victims import content, digests, integrity, recover

MODEL = "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT NOT NULL, size INTEGER, arch TEXT)"
WORDS = "CREATE TABLE t (name TEXT NOT NULL, place TEXT, n INT)"
KEYED = "CREATE TABLE t (k TEXT PRIMARY KEY, v REAL, w TEXT) WITHOUT ROWID"


def model(n: int) -> Row:
    maker = random.Random(n)
    return (n, f"model {n} {maker.getrandbits(32):08x}", maker.getrandbits(33), maker.choice("xyz"))


def words(n: int) -> Row:
    maker = random.Random(n)
    return (f"Ämil {maker.getrandbits(24):x}", "Ort" * maker.randrange(1, 5), 1000 + n)


def keyed(n: int) -> Row:
    maker = random.Random(n)
    return (f"key {n:05}", maker.uniform(-1e9, 1e9), f"w {maker.getrandbits(40):x}")


def database(path: Path, *script: str, rows: Sequence[Row] = (), then: Sequence[str] = ()) -> Path:
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute("PRAGMA secure_delete = OFF")
        conn.execute("PRAGMA synchronous = OFF")  # no power is cut
        for sql in script:
            conn.execute(sql).fetchall()
        if rows:
            marks = ", ".join("?" * len(rows[0]))
            conn.execute("BEGIN")
            conn.executemany(f"INSERT INTO t VALUES ({marks})", rows)
            conn.execute("COMMIT")
        for sql in then:
            conn.execute(sql).fetchall()
    return path


def carved(path: Path) -> list[CarvedRow]:
    with gather(str(path)) as evidence:
        state = candidate_states(evidence.pairs[0], None)[0]
        with closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as conn:
            return list(deleted_rows(state, conn))


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le"])
@pytest.mark.parametrize(("sql", "make"), [(MODEL, model), (WORDS, words), (KEYED, keyed)])
@pytest.mark.parametrize("page_size", [1024, 65536])
def test_scattered_deletes_come_back(
    tmp_path: Path, encoding: str, sql: str, make: Callable[[int], Row], page_size: int
) -> None:
    rows = [make(n) for n in range(200, 500)]
    dead = random.Random(page_size).sample(rows, 90)
    keys = "id" if make is model else "k" if make is keyed else "n"
    place = {"id": 0, "k": 0, "n": 2}[keys]
    path = database(
        tmp_path / "a.db",
        f"PRAGMA page_size = {page_size}", f"PRAGMA encoding = '{encoding}'", sql,
        rows=rows,
        then=[f"DELETE FROM t WHERE {keys} = {row[place]!r}" for row in dead],
    )  # fmt: skip
    found = carved(path)
    text = 1 if make is model else 0  # the column that no other row has
    there = path.read_bytes()
    exist = {row[text] for row in dead if row[text].encode(encoding) in there}
    by_text = {row.values[text]: row for row in found}
    assert by_text.keys() <= {row[text] for row in dead}
    assert len(exist & by_text.keys()) >= 0.95 * len(exist) > 40
    assert all(by_text[row[text]].values[1:] == row[1:] for row in dead if row[text] in by_text)
    assert {row.table.name for row in found} == {"t"}
    assert all(0 < row.confidence < 1 for row in found)


def test_a_rowid_is_told_by_its_neighbours_or_not_at_all(tmp_path: Path) -> None:
    rows = [model(n) for n in range(1, 60)]
    path = database(
        tmp_path / "a.db", MODEL, rows=rows, then=["DELETE FROM t WHERE id IN (1, 20, 21, 40)"]
    )
    found = {row.values[1]: row for row in carved(path)}
    assert {found[row[1]].rowid for row in rows if row[0] in (20, 21, 40)} == {20, 21, 40}
    assert "told from the rows beside it" in found[rows[19][1]].note
    assert found[rows[0][1]].rowid is None
    assert found[rows[0][1]].values[0] is None


def test_rows_of_free_pages_are_whole(tmp_path: Path) -> None:
    rows = [model(n) for n in range(1, 2000)]
    path = database(
        tmp_path / "a.db", MODEL, rows=rows, then=["DELETE FROM t WHERE id BETWEEN 500 AND 1500"]
    )
    found = carved(path)
    assert {row.values for row in found if row.rowid is not None} <= set(rows[499:1500])
    there = path.read_bytes()
    names = {row[1] for row in rows[499:1500] if row[1].encode() in there}
    assert len(names & {row.values[1] for row in found}) >= 0.98 * len(names) > 700


def test_a_dropped_table_comes_back_by_its_deleted_definition(tmp_path: Path) -> None:
    rows = [words(n) for n in range(300)]
    path = database(tmp_path / "a.db", WORDS, rows=rows, then=["DROP TABLE t"])
    found = carved(path)
    assert {row.values for row in found} == set(rows)
    assert {column.name for column in found[0].table.columns} == {"name", "place", "n"}


def test_a_dropped_table_without_a_definition_has_columns_by_number(tmp_path: Path) -> None:
    rows = [words(n) for n in range(800)]
    columns = ", ".join(f"column_{n}" for n in range(300))
    path = database(
        tmp_path / "a.db", WORDS, rows=rows,
        then=["DROP TABLE t", f"CREATE TABLE other ({columns})"],
    )  # fmt: skip
    found = carved(path)
    assert {row.values for row in found} <= set(rows)
    assert len(found) > 600
    assert [column.name for column in found[0].table.columns] == ["c0", "c1", "c2"]


def test_an_overflow_chain_is_followed_through_free_pages_alone(tmp_path: Path) -> None:
    long = [(n, f"long {n} {'text ' * 850}{n}", n * 1000, "x") for n in range(1, 41)]
    path = database(tmp_path / "a.db", MODEL, rows=long, then=["DELETE FROM t WHERE id IN (3, 20)"])
    # The first page that was freed became the trunk of the freelist: that row is not whole.
    assert {row.values[1] for row in carved(path)} == {long[19][1]}
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute("PRAGMA secure_delete = OFF")
        conn.execute("INSERT INTO t VALUES (99, ?, 1, 'y')", ["other " * 1200])
    assert carved(path) == []


def test_a_reused_page_gives_no_row_that_never_was(tmp_path: Path) -> None:
    rows = [words(n) for n in range(400)]
    new = [words(n) for n in range(1000, 1150)]
    path = database(
        tmp_path / "a.db", WORDS, rows=rows,
        then=["DELETE FROM t WHERE n % 3 = 0",
              *(f"INSERT INTO t VALUES ('{a}', '{b}', {c})" for a, b, c in new)],
    )  # fmt: skip
    found = {row.values for row in carved(path)}
    assert found <= set(rows)
    assert found


def test_nothing_is_deleted_so_nothing_is_shown(tmp_path: Path) -> None:
    rows = [model(n) for n in range(1, 1500)]
    path = database(tmp_path / "a.db", MODEL, rows=rows, then=["CREATE INDEX i ON t(name)"])
    assert carved(path) == []


def test_the_command_sets_deleted_rows_aside_with_their_provenance(tmp_path: Path) -> None:
    rows = [model(n) for n in range(1, 100)]
    path = database(tmp_path / "a.db", MODEL, rows=rows, then=["DELETE FROM t WHERE id % 4 = 0"])
    before = digests(tmp_path)
    new = tmp_path / "new.db"
    assert recover(path, "--into", new, "--deleted").code == 0
    assert integrity(new) == "ok"
    assert content(new) == [row for row in rows if row[0] % 4]
    aside = content(new, "SELECT name FROM deleted_t")
    assert {name for (name,) in aside} == {row[1] for row in rows if row[0] % 4 == 0}
    notes = content(
        new, "SELECT file, page, confidence, note FROM modelstore_recovered WHERE table_name = 't'"
    )
    assert len(notes) == len(aside)
    assert all(
        file == "a.db" and page == 2 and 0 < sure < 1 and "deleted" in note
        for file, page, sure, note in notes
    )
    after = digests(tmp_path)
    assert {name: after[name] for name in before} == before
    assert recover(path, "--into", tmp_path / "plain.db").code == 0
    assert (tmp_path / "plain.db").read_bytes() == path.read_bytes()


# -- hostile pages ---------------------------------------------------------------------------------

TABLES = [
    Table("a", 2, (Column("x", "BLOB"), Column("y", "BLOB")), None, has_rowid=True),
    Table("b", 3, (Column("id", "INTEGER"), *(Column(f"c{n}", "TEXT") for n in range(40))), 0,
          has_rowid=True),
    Table("c", 4, (Column("k", "TEXT", not_null=True), Column("v", "REAL")), None,
          has_rowid=False, key_size=1),
]  # fmt: skip
OWNERS = st.sampled_from([None, "a", "b", "c", "other"])


@settings(max_examples=60, deadline=None)
@given(
    page=st.binary(min_size=512, max_size=512),
    head=st.sampled_from([b"\x0d\x00\x10\x00\x04", b"\x0a\x01\x00\x00\xff", b"\x05", b"\x02", b""]),
    repeats=st.integers(1, 8),
    owner=OWNERS,
    is_free=st.booleans(),
    encoding=st.sampled_from([1, 2, 3]),
)
def test_any_page_is_read_to_its_end(
    page: bytes, head: bytes, repeats: int, owner: str | None, is_free: bool, encoding: int
) -> None:
    data = (head + page[: 512 // repeats - len(head)] * repeats * 2)[:512].ljust(512, b"\x02")
    images = [PageImage(n, data, "", 480, owner=owner, is_free=is_free) for n in (1, 2)]
    for row in carve(images, TABLES, encoding, lambda _: data):
        assert 0 <= row.offset < 480
        assert len(row.values) == len(row.table.columns)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_damaged_pages_of_a_real_table_are_read_to_their_end(data: st.DataObject) -> None:
    page = bytearray(_leaf())
    for _ in range(data.draw(st.integers(1, 12))):
        page[data.draw(st.integers(0, len(page) - 1))] = data.draw(st.integers(0, 255))
    image = PageImage(2, bytes(page), "", len(page), owner=data.draw(OWNERS))
    for row in carve([image], TABLES, 1, lambda _: bytes(page)):
        assert len(row.values) == len(row.table.columns)


def _leaf() -> bytes:
    """Return a leaf of table ``a`` with freeblocks."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as conn:
        conn.execute("PRAGMA page_size = 1024")
        conn.execute("PRAGMA secure_delete = OFF")
        conn.execute("CREATE TABLE a (x, y)")
        conn.executemany(
            "INSERT INTO a VALUES (?, ?)", [(n * 999, "é" * (n % 9)) for n in range(30)]
        )
        conn.execute("DELETE FROM a WHERE rowid % 3 = 0")
        return bytes(conn.serialize()[1024:2048])
