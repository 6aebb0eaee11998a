"""A main file beside its log: the cells that differ, and the rows that older pages alone have."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from modelstore.recovery import checks
from modelstore.recovery.comparison import differing_cells
from modelstore.recovery.recover import Request, recover
from modelstore.recovery.result import Recovery
from modelstore.wal.files import read_at
from modelstore.wal.pages import TABLE_LEAF, BtreePage, DatabaseView
from tests.recovery.victims import INSERT, TABLE, WAL, Row, content, integrity, make, rows

ASIDE = "SELECT id, name, size FROM lost_and_found_t ORDER BY id"
KEEP = "PRAGMA secure_delete = OFF"  # as SQLite is built unless somebody asks: pages stay
FOLD = "PRAGMA wal_checkpoint(TRUNCATE)"


def run(path: Path) -> Recovery:
    return recover(Request(str(path), str(path.with_name("new.db"))))


def change(conn: sqlite3.Connection, chance: random.Random) -> None:
    """Insert, update or delete a few rows, short ones and long ones."""
    for _ in range(chance.randrange(1, 30)):
        number = chance.randrange(1, 400)
        text = chance.choice("xyz") * chance.choice((3, 80, 80, 300, 9000))
        sql, values = chance.choice(
            (
                ("INSERT OR REPLACE INTO t VALUES (?, ?, 0)", (number, text)),
                ("UPDATE t SET name = ? WHERE id = ?", (text, number)),
                ("UPDATE t SET name = name || '.' WHERE id = ?", (number,)),
                ("DELETE FROM t WHERE id BETWEEN ? AND ?", (number, number + chance.randrange(9))),
            )
        )
        conn.execute(sql, values)
    conn.commit()


def leaves(path: Path, fd: int) -> tuple[DatabaseView, dict[int, BtreePage]]:
    with closing(sqlite3.connect(path)) as conn:
        numbers = conn.execute("SELECT pageno FROM dbstat WHERE name = 't' AND pagetype = 'leaf'")
        found = [int(row[0]) for row in numbers]
    view = DatabaseView(fd, 512, int.from_bytes(read_at(fd, 4, 28), "big"))
    return view, {number: view.btree_page(number) for number in found}


@pytest.mark.parametrize("seed", range(8))
def test_the_cells_that_differ_are_the_rows_that_differ(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    old, new = tmp_path / "old.db", tmp_path / "new.db"
    with closing(sqlite3.connect(old)) as conn:
        conn.execute("PRAGMA page_size = 512")
        conn.execute(TABLE)
        conn.executemany(INSERT, rows(1, 300))
        change(conn, chance)
    shutil.copy(old, new)
    with closing(sqlite3.connect(new)) as conn:
        change(conn, chance)
    before, after = ({row[0]: row for row in content(path)} for path in (old, new))
    with old.open("rb") as mine, new.open("rb") as theirs:
        view, pages = leaves(old, mine.fileno())
        other, others = leaves(new, theirs.fileno())
        for number in pages.keys() & others.keys():
            page, now = pages[number], others[number]
            assert (page.kind, now.kind) == (TABLE_LEAF, TABLE_LEAF)
            gone, added = differing_cells(view, page, now)
            both = range(len(page.cells)), range(len(now.cells))
            kept = {view.rowid(page, index) for index in both[0] if index not in gone}
            assert kept == {other.rowid(now, index) for index in both[1] if index not in added}
            assert all(before[rowid] == after[rowid] for rowid in kept)
            twice = {view.rowid(page, index) for index in gone}
            twice &= {other.rowid(now, index) for index in added}
            moved = {n for n in twice if before[n] == after[n] and len(before[n][1]) <= 300}
            assert (
                len(moved) <= 2
            )  # cells without overflow pages, with other free bytes behind them


@pytest.mark.parametrize("is_folded", [True, False])
@pytest.mark.parametrize("end", ["DELETE FROM t", "DROP TABLE t"])
def test_rows_of_pages_that_are_free_now_are_set_aside(
    tmp_path: Path, end: str, *, is_folded: bool
) -> None:
    path = tmp_path / "app.db"
    fill: tuple[str, list[Row]] = (INSERT, rows(1, 300))
    start = (KEEP, *WAL, "CREATE TABLE u (x)", TABLE)
    make(path, *start, fill, *([FOLD] if is_folded else []), end, crash=True)
    done = run(path)
    assert content(tmp_path / "new.db", ASIDE) == rows(1, 300)
    assert done.rows == 0
    assert done.exit_code == 0


def test_a_row_that_was_deleted_with_its_page_stays_deleted(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    steps = (TABLE, (INSERT, rows(1, 300)), "DELETE FROM t", (INSERT, rows(400, 3)))
    make(path, KEEP, *WAL, *steps, (INSERT, rows(500, 3)), crash=True)
    log = bytearray(Path(f"{path}-wal").read_bytes())
    frame = len(log) - 2 * (24 + 4096)
    log[frame + 3000 : frame + 3100] = bytes(range(100))  # the state is that of the DELETE
    Path(f"{path}-wal").write_bytes(log)
    run(path)
    assert [row[0] for row in content(tmp_path / "new.db")] == [400, 401, 402, 500, 501, 502]
    assert content(tmp_path / "new.db", ASIDE) == rows(1, 300)


def test_a_long_row_that_changed_in_its_overflow_pages_alone_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    long = [(1, "a" * 9000 + "old", 0.0), (2, "short", 0.0)]
    changed = "UPDATE t SET name = substr(name, 1, 9000) || 'new' WHERE id = 1"
    other = "UPDATE t SET name = 'other' WHERE id = 2"  # in the same leaf: the log has it
    make(path, *WAL, TABLE, (INSERT, long), FOLD, changed, other, crash=True)
    run(path)
    assert content(tmp_path / "new.db", ASIDE) == long


def test_rows_that_only_the_log_has_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    fill: tuple[str, list[Row]] = (INSERT, rows(1, 300))
    update = "UPDATE t SET name = 'new' WHERE id % 9 = 0"
    make(path, *WAL, TABLE, fill, FOLD, update, crash=True)
    assert run(path).tables[0].only_in_log == 0
    os.unlink(tmp_path / "new.db")
    make(path, "DELETE FROM t WHERE id > 290", (INSERT, rows(400, 25)), crash=True)
    done = run(path)
    assert (done.tables[0].rows, done.tables[0].only_in_log) == (315, 25)


@pytest.mark.parametrize("is_damaged", [False, True])
def test_a_check_in_a_thread_finds_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_damaged: bool
) -> None:
    path = tmp_path / "app.db"
    update = "UPDATE t SET name = 'new' WHERE id % 9 = 0"
    make(path, *WAL, TABLE, (INSERT, rows(1, 600)), FOLD, update, crash=True)
    if is_damaged:
        data = bytearray(path.read_bytes())
        data[4096 * 3 : 4096 * 4] = bytes(4096)
        path.write_bytes(data)
    alone = run(path)
    (tmp_path / "new.db").rename(tmp_path / "first.db")
    monkeypatch.setattr(checks, "_THREAD_LIMIT", 0)
    assert run(path) == alone
    assert integrity(tmp_path / "new.db") == "ok"
    assert (tmp_path / "new.db").read_bytes() == (tmp_path / "first.db").read_bytes()
