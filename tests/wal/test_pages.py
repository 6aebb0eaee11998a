"""B-trees, cells and chains against SQLite's own account of them, and against made faults."""

from __future__ import annotations

import os
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import modelstore.wal.pages as module
from modelstore.wal import page_owners
from modelstore.wal.format import page_offset
from modelstore.wal.freelist import freelist
from modelstore.wal.pages import CorruptPageError, DatabaseView, PageSet, PageVersions
from modelstore.wal.record import RecordError, decode_record
from modelstore.wal.schema import read_schema
from tests.wal.loss_build import NUMBERS
from tests.wal.loss_oracle import dbstat

SETUP = (
    """
    CREATE TABLE rows(id INTEGER PRIMARY KEY, name TEXT, data);
    CREATE INDEX by_name ON rows(name, data);
    CREATE TABLE keyed(k TEXT, n, PRIMARY KEY(n, k)) WITHOUT ROWID;
    """
    + NUMBERS.format(1500)
    + "INSERT INTO rows SELECT i * 7 - 3000, 'name '||i, zeroblob(i % 40 * i % 7000) FROM s;"
    + NUMBERS.format(900)
    + "INSERT INTO keyed SELECT hex(randomblob(i % 300)), i FROM s;"
    + "DELETE FROM rows WHERE id % 5 = 0; DELETE FROM keyed WHERE n % 3 = 0;"
)


def build(path: Path, page_size: int, *pragmas: str) -> bytes:
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        for pragma in (f"page_size = {page_size}", *pragmas):
            conn.execute(f"PRAGMA {pragma}")
        conn.executescript(SETUP)
    return path.read_bytes()


@contextmanager
def opened(path: Path, page_size: int, page_count: int | None = None) -> Iterator[DatabaseView]:
    fd = os.open(path, os.O_RDONLY)
    try:
        yield DatabaseView(fd, page_size, page_count or path.stat().st_size // page_size)
    finally:
        os.close(fd)


@pytest.mark.parametrize("page_size", [512, 4096, 65536])
@pytest.mark.parametrize("vacuum", ["NONE", "INCREMENTAL"])
def test_every_page_and_every_row_is_where_sqlite_has_it(
    tmp_path: Path, page_size: int, vacuum: str
) -> None:
    path = tmp_path / "a.db"
    build(path, page_size, f"auto_vacuum = {vacuum}")
    with closing(sqlite3.connect(path)) as conn:
        stat = set(dbstat(conn))
        ordered = list(conn.execute("SELECT rowid, NULL, name, data FROM rows ORDER BY rowid"))
        by_key = set(conn.execute("SELECT n, k FROM keyed"))
        free = conn.execute("PRAGMA freelist_count").fetchone()[0]
    with opened(path, page_size) as view:
        found: set[tuple[str, int, str]] = set()
        rows: dict[str, list[tuple[object, ...]]] = {}
        seen = PageSet()
        for item in read_schema(view).values():
            tree = view.tree(item.root, seen)
            name = item.name
            found |= {(name, number, "internal") for number in tree.interiors}
            found |= {(name, number, "leaf") for number in tree.leaves}
            for number in (*tree.interiors, *tree.leaves):
                chains = PageSet()
                for cell in view.cells(view.btree_page(number)):
                    found |= {(name, page, "overflow") for page, _ in view.chain(cell, chains)}
                    row = decode_record(view.payload(cell, seen=PageSet()))
                    rows.setdefault(name, []).append((*([cell.rowid] * tree.has_rowids), *row))
        trunks = [(trunk, *leaves) for trunk, leaves in freelist(view)]
    assert found == stat
    assert rows["rows"] == ordered
    assert set(rows["keyed"]) == by_key
    assert len(rows["keyed"]) == len(by_key)
    assert sum(map(len, trunks)) == free


@pytest.mark.parametrize("page_size", [512, 1024])
def test_pointer_maps_agree_with_the_trees(tmp_path: Path, page_size: int) -> None:
    path = tmp_path / "a.db"
    build(path, page_size, "auto_vacuum = FULL")
    with closing(sqlite3.connect(path)) as conn:
        stat = [row for row in dbstat(conn) if row[1] > 1]
    with opened(path, page_size) as view:
        roots = {item.root for item in read_schema(view).values()}
        for _, number, kind in stat:
            entry, _ = page_owners.pointer_map_entry(view, number)
            if kind == "overflow":
                assert entry in (page_owners.FIRST_OVERFLOW, page_owners.LATER_OVERFLOW)
            else:
                assert entry == (page_owners.ROOT if number in roots else page_owners.BTREE)
        known = {number for _, number, _ in stat}
        maps = {
            n for n in range(2, view.page_count + 1) if page_owners.pointer_map_page(view, n) == n
        }
        assert maps
        assert not maps & known


@pytest.mark.parametrize("usable", range(480, 513))
def test_no_pointer_map_is_on_the_lock_page(usable: int) -> None:
    # With most sizes none would be; https://www.sqlite.org/fileformat2.html#the_lock_byte_page
    view = SimpleNamespace(page_size=512, usable=usable, header=SimpleNamespace(largest_root=1))
    lock_page = 0x40000000 // 512 + 1
    maps = [page_owners.pointer_map_page(view, lock_page + n) for n in range(-110, 110)]  # type: ignore[arg-type]
    assert lock_page not in maps
    assert all(here <= there for here, there in pairwise(maps))


FAULTS = {
    "is no b-tree page": (0, b"\x07"),
    "cannot have 65535 cells": (3, b"\xff\xff"),
    "a cell outside of its content": (8, b"\x00\x01"),
    "a cell larger than the database|a cell that is cut off": (None, b"\xff" * 8 + b"\x7f\x05"),
}


@pytest.mark.parametrize("message", FAULTS)
def test_faults_of_a_leaf(tmp_path: Path, message: str) -> None:
    path = tmp_path / "a.db"
    raw = bytearray(build(path, 1024))
    with opened(path, 1024) as view:
        tree = view.tree(read_schema(view)["table", "rows"].root, PageSet())
        leaf = view.btree_page(tree.leaves[3])
    at, value = FAULTS[message]
    place = (leaf.number - 1) * 1024 + (leaf.cells[0] if at is None else at)
    raw[place : place + len(value)] = value
    path.write_bytes(raw)
    with opened(path, 1024) as view:
        with pytest.raises(CorruptPageError, match=message):
            list(view.cells(view.btree_page(leaf.number)))
        assert view.problem


def test_cells_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    raw = bytearray(build(path, 1024))
    for count, cell_size in ((100, 18), (40, 18)):
        page = bytearray(struct.pack(">BHHHB", 13, 0, count, 900, 0).ljust(1024, b"\1"))
        page[8 : 8 + 2 * count] = struct.pack(">H", 900) * count
        page[900:902] = bytes((cell_size - 2, 1))
        raw[1024:2048] = page
        path.write_bytes(raw)
        with opened(path, 1024) as view:
            cells = view.cells(view.btree_page(2))
            if count * cell_size > 1024:
                with pytest.raises(CorruptPageError, match="overlap"):
                    list(cells)
            else:
                assert len(list(cells)) == count


def interior(page_size: int, children: list[int]) -> bytes:
    """Return an interior page of a rowid table."""
    head = struct.pack(">BHHHBI", 5, 0, len(children) - 1, page_size - 100, 0, children[-1])
    cells = [struct.pack(">IB", child, 1) for child in children[:-1]]
    offsets = [page_size - 5 * (n + 1) for n in range(len(cells))]
    page = bytearray(page_size)
    page[: len(head)] = head
    for n, (at, cell) in enumerate(zip(offsets, cells, strict=True)):
        page[12 + 2 * n : 14 + 2 * n] = struct.pack(">H", at)
        page[at : at + 5] = cell
    return bytes(page)


@pytest.mark.parametrize(
    ("children", "message"),
    [
        ([3, 0], "no page of the database"),
        ([3, 2**31], "no page of the database"),
        ([2, 3], "part of a b-tree already"),
        ([3, 3], "part of a b-tree already"),
    ],
)
def test_trees_that_bite_their_tail(tmp_path: Path, children: list[int], message: str) -> None:
    path = tmp_path / "a.db"
    raw = bytearray(build(path, 512))
    raw[512:1024] = interior(512, children)
    path.write_bytes(raw)
    with opened(path, 512) as view, pytest.raises(CorruptPageError, match=message):
        view.tree(2, PageSet())


def test_a_page_beyond_the_file_costs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    build(path, 512)
    with opened(path, 512, page_count=2**32 - 1) as view:
        with pytest.raises(CorruptPageError, match="is missing"):
            view.page(2**31)
        with pytest.raises(CorruptPageError, match="not one of"):
            view.page(0)


def test_a_freelist_that_comes_back_to_itself(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    raw = bytearray(build(path, 512))
    trunk = struct.unpack_from(">I", raw, 32)[0]
    raw[(trunk - 1) * 512 : (trunk - 1) * 512 + 4] = struct.pack(">I", trunk)
    path.write_bytes(raw)
    with opened(path, 512) as view, pytest.raises(CorruptPageError, match="comes back"):
        list(freelist(view))


@pytest.mark.parametrize(
    "payload", [b"", b"\x05\x01", b"\x02\x0a", b"\x02\x01", b"\x02\x81", b"\x02\x07\0"]
)
def test_what_is_no_record(payload: bytes) -> None:
    with pytest.raises(RecordError):
        decode_record(payload)


PAGE_NUMBERS = st.lists(st.one_of(st.integers(1, 40), st.integers(1, 2**32 - 1)), max_size=60)


@given(PAGE_NUMBERS, PAGE_NUMBERS, st.sampled_from((0, 7, module._FEW)))
def test_a_page_set_is_a_set(put: list[int], asked: list[int], few: int) -> None:
    limit = module._FEW
    module._FEW = few
    try:
        pages, model = PageSet(), set[int]()
        assert not pages
        for number in put:
            assert pages.add(number) == (number not in model)
            model.add(number)
        assert all((number in pages) == (number in model) for number in put + asked)
        assert pages.isdisjoint(asked) == model.isdisjoint(asked)
        assert pages.add_all(asked) == (len({*asked} - model) == len(asked))
        assert all(number in pages for number in put + asked)
        assert bool(pages) == bool(put + asked)
    finally:
        module._FEW = limit


@given(PAGE_NUMBERS, st.booleans())
def test_versions_of_pages(page_numbers: list[int], many: bool) -> None:
    limit = module._FEW
    module._FEW = -1 if many else limit
    try:
        pages = PageVersions(page_numbers, 512)
    finally:
        module._FEW = limit
    model: dict[int, list[int]] = {}
    for frame, number in enumerate(page_numbers, 1):
        model.setdefault(number, []).append(frame)
    assert list(pages) == sorted(model)
    assert len(pages) == len(model)
    for index, number in enumerate(pages):
        assert number in pages
        assert pages.index(number) == index
        assert list(pages.frames(index)) == model[number]
        assert pages.frame_count(index) == len(model[number])
        assert pages.last_frame(index) == model[number][-1]
        assert pages.offset(number) == page_offset(model[number][-1], 512)
    assert pages.offset(2**32) is None
