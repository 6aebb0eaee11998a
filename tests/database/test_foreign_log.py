"""Logs that belong to another database, and those that do not; SQLite's integrity check judges."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from array import array
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.database.foreign_log import BoundedView, _meeting, misfit
from modelstore.database.probe import probe
from modelstore.wal.pages import PageVersions, Tree
from modelstore.wal.scan import scan_wal
from tests.database.outside import CRASH_WITH_PAGE_1, crashed, run

KILLED = """
import os, random, signal, sqlite3, sys
path, seed, shape = sys.argv[1], int(sys.argv[2]), random.Random(int(sys.argv[3]))
draw = random.Random(seed)
conn = sqlite3.connect(path, isolation_level=None)
conn.execute(f'pragma page_size = {shape.choice((512, 1024, 4096))}')
for pragma in ('journal_mode = wal', 'synchronous = off', 'wal_autocheckpoint = 0'):
    conn.execute(f'pragma {pragma}')
tables = shape.randrange(1, 4)
for table in range(tables):
    conn.execute(f'create table t{table} (id integer primary key, name text, v blob)')
    if shape.random() < .5:
        conn.execute(f'create index i{table} on t{table} (name)')
def work(steps):
    for _ in range(steps):
        table, kind, id = draw.randrange(tables), draw.random(), draw.randrange(1, 500)
        blob = draw.randbytes(draw.randrange(300))
        if kind < .6:
            conn.execute(f'insert into t{table} (name, v) values (?, ?)', (str(kind), blob))
        elif kind < .8:
            conn.execute(f'update t{table} set v = ? where id = ?', (blob, id))
        else:
            conn.execute(f'delete from t{table} where id = ?', (id,))
work(shape.randrange(50, 1500))
conn.execute('pragma wal_checkpoint(truncate)')
work(shape.randrange(5, 200))
os.kill(os.getpid(), signal.SIGKILL)
"""


def killed(path: Path, seed: int, shape: int) -> Path:
    """Return a database whose writer was killed, so that its log was never folded."""
    subprocess.run([sys.executable, "-c", KILLED, path, str(seed), str(shape)], check=False)
    os.unlink(f"{path}-shm")
    return path


def look(path: Path) -> tuple[str | None, int]:
    """Return what does not fit, and how many pages were read to tell."""
    views: list[BoundedView] = []
    main, wal = (os.open(f"{path}{suffix}", os.O_RDONLY) for suffix in ("", "-wal"))
    try:
        log = scan_wal(wal)
        pages = PageVersions(log.page_numbers[: log.max_frame], log.page_size)

        def open_view() -> BoundedView:
            views.append(BoundedView(main, log.page_size, log.page_count, wal, pages))
            return views[0]

        return misfit(open_view, pages)[0], views[0].reads
    finally:
        os.close(main)
        os.close(wal)


def is_sound(path: Path) -> bool:
    """Return what SQLite says of the database with its log."""
    conn = sqlite3.connect(path)
    try:
        said = bool(conn.execute("PRAGMA integrity_check").fetchone() == ("ok",))
    except sqlite3.DatabaseError:
        said = False
    conn.close()
    return said


@pytest.mark.parametrize("shape", range(12))
def test_a_log_over_the_file_of_another_database_does_not_fit(tmp_path: Path, shape: int) -> None:
    one, other = (killed(tmp_path / f"{seed}.db", seed, shape) for seed in (2 * shape, shape + 99))
    for path in (one, other):
        assert look(path)[0] is None
    mixed = shutil.copyfile(one, tmp_path / "mixed.db")
    shutil.copyfile(f"{other}-wal", f"{mixed}-wal")
    found, _ = look(mixed)
    assert (found is None) == is_sound(mixed)


def test_a_look_at_a_large_table_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelstore.database.foreign_log._MAX_READS", 40)
    code = """
import os, signal, sqlite3, sys
conn = sqlite3.connect(sys.argv[1], isolation_level=None)
for pragma in ('page_size = 512', 'journal_mode = wal', 'synchronous = off'):
    conn.execute(f'pragma {pragma}')
conn.execute('create table t (id integer primary key, v)')
conn.execute('with recursive n(i) as (select 1 union all select i + 1 from n where i < 10000)'
    " insert into t (v) select zeroblob(400) from n")
conn.execute('pragma wal_checkpoint(truncate)')
conn.execute('update t set v = 1 where id = 7')
os.kill(os.getpid(), signal.SIGKILL)
"""
    path = tmp_path / "large.db"
    subprocess.run([sys.executable, "-c", code, path], check=False)
    found, reads = look(path)
    assert found is None
    assert reads == 40


# -- the log beside a database, as the probe sees it ----------------------------------------------


def test_a_log_older_than_a_restored_database_is_foreign(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db", rows=3)
    grow = "c = connect(); [c.execute(f'create table n{i} (v)') for i in range(9)]"
    log = Path(f"{path}-wal").read_bytes()
    run("c = connect(); c.execute('create table x (v)')", path)
    run(CRASH_WITH_PAGE_1, path)
    log = Path(f"{path}-wal").read_bytes()
    run(grow, path)  # the last to close folds, and deletes the log
    Path(f"{path}-wal").write_bytes(log)
    found = probe(str(path))
    assert found.foreign is not None
    assert "older than the database" in found.foreign


RESET = """
import apsw, os, signal, sys
conn = apsw.Connection(sys.argv[1])
run = lambda sql: list(conn.execute(sql))
run("pragma journal_mode = wal")
run("create table t (v)")
run("with n(i) as (select 1 union all select i + 1 from n limit 500) "
    "insert into t select hex(zeroblob(200)) from n")
run("pragma wal_checkpoint(truncate)")
conn.config(apsw.SQLITE_DBCONFIG_RESET_DATABASE, 1)
run("vacuum")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("is_later", [False, True])
def test_a_log_that_resets_its_database_is_its_own_unless_the_database_is_newer(
    tmp_path: Path, is_later: bool
) -> None:
    pytest.importorskip("apsw")  # Python's own sqlite3 cannot reset a database before 3.12
    path = tmp_path / "app.db"
    subprocess.run([sys.executable, "-c", RESET, path], check=False)
    if is_later:
        log = os.stat(f"{path}-wal").st_mtime
        os.utime(path, (log + 3600, log + 3600))
    found = probe(str(path))
    assert found.log is not None
    assert found.log.page_count == 1
    assert (found.older is not None) == is_later


RESTORE = """
import os, signal, sqlite3, sys
source = sqlite3.connect(":memory:")
source.execute("create table restored (v)")
conn = sqlite3.connect(sys.argv[1], isolation_level=None)
conn.execute("pragma journal_mode = wal")
conn.execute("create table t (v)")
conn.execute("with n(i) as (select 1 union all select i + 1 from n limit 500) "
             "insert into t select hex(zeroblob(200)) from n")
conn.execute("pragma wal_checkpoint(truncate)")
source.backup(conn)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_log_that_restores_other_content_is_its_own(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    subprocess.run([sys.executable, "-c", RESTORE, path], check=False)
    found = probe(str(path))
    assert found.log is not None
    assert found.log.page_count < found.size // 4096
    assert found.older is None


def test_a_log_that_a_reader_kept_from_being_folded_is_no_older_one(tmp_path: Path) -> None:
    """The main file has grown beyond the first commit, and holds the newest version of no row."""
    path = tmp_path / "app.db"
    code = """
writer, reader = connect(), connect()
writer.execute("pragma page_size = 512")
writer.execute("pragma journal_mode = wal")
writer.execute("pragma wal_autocheckpoint = 0")
writer.execute("create table t (v)")
for n in range(3):
    writer.execute("insert into t values (?)", [n])
    writer.execute(f"create table t{n} (v)")
reader.execute("begin")
reader.execute("select count(*) from t").fetchone()
writer.execute("pragma wal_checkpoint(passive)").fetchall()
writer.execute("insert into t values (100)")
os.kill(os.getpid(), signal.SIGKILL)
"""
    run(code, path)
    found = probe(str(path))
    assert found.log is not None
    assert found.log.commit_sizes[1] < found.size // 512
    assert found.older is None


def test_the_log_of_a_database_of_another_size_is_foreign(tmp_path: Path) -> None:
    path, other = crashed(tmp_path / "app.db", rows=3), tmp_path / "other.db"
    crashed(other, rows=500, width=100)
    run("c = connect(); c.execute('select count(*) from t').fetchone()", other)  # folds
    run(
        "c = connect(); c.execute('update t set v = 1 where id = 400'); "
        "os.kill(os.getpid(), signal.SIGKILL)",
        other,
    )
    shutil.copyfile(f"{other}-wal", f"{path}-wal")
    found = probe(str(path))
    assert found.foreign is not None
    assert "pages" in found.foreign


def test_a_log_newer_than_a_restored_database_is_foreign(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db", rows=3)
    run("c = connect(); c.execute('select 1 from t').fetchall()", path)
    backup = path.read_bytes()
    for number in range(3):
        run(f"c = connect(); c.execute('create table later{number} (v)')", path)
    run(CRASH_WITH_PAGE_1, path)
    path.write_bytes(backup)
    found = probe(str(path))
    assert found.foreign is not None
    assert "the database is older than the log" in found.foreign


def test_a_log_that_makes_a_sound_database_malformed_is_foreign(tmp_path: Path) -> None:
    """Two programs' databases of the same age and size, one's log beside the other."""
    path, other = tmp_path / "app.db", tmp_path / "other.db"
    create = """
conn = connect()
conn.execute('pragma journal_mode = wal')
for sql in sys.argv[2:]:
    conn.execute(sql)
conn.execute('pragma wal_checkpoint(truncate)')
"""
    tables = ["create table a (v)", "create table b (v)"]
    run(create, path, *tables, "create index i on a (v)")
    crash = "conn.execute('delete from b'); conn.execute('insert into b values (1)'); "
    run(
        create + crash + "os.kill(os.getpid(), signal.SIGKILL)",
        other,
        "create table a (v unique)",  # its index is where b is in the other
        "create table b (v)",
    )
    shutil.copyfile(f"{other}-wal", f"{path}-wal")
    found = probe(str(path))
    assert found.foreign is not None
    assert "malformed" in found.foreign


def test_a_log_whose_pages_do_not_fit_those_of_the_file_is_foreign(tmp_path: Path) -> None:
    """Both have the same header fields and sound schemas; only the rows meet out of order."""
    path, other = tmp_path / "app.db", tmp_path / "other.db"
    fill = """
conn = connect()
conn.execute('pragma journal_mode = wal')
conn.execute('pragma wal_autocheckpoint = 0')
for name in sys.argv[3:]:
    conn.execute(f'create table {name} (k integer primary key, name, v)')
    for row in range(int(sys.argv[2])):
        conn.execute(f'insert into {name} (name, v) values (?, ?)', (f'{name}{row}', 'v' * 50))
conn.execute('pragma wal_checkpoint(truncate)')
for name in sys.argv[3:]:
    for row in range(50):
        conn.execute(f'insert into {name} (name, v) values (?, ?)', (f'new{row}', 'v' * 50))
os.kill(os.getpid(), signal.SIGKILL)
"""
    run(fill, path, "300", "users", "orders")
    run(fill, other, "100", "models", "x", "y")
    os.unlink(f"{path}-shm")
    os.replace(f"{other}-wal", f"{path}-wal")
    before = path.read_bytes()
    found = probe(str(path))
    assert found.foreign is not None
    assert "malformed" in found.foreign
    assert path.read_bytes() == before


def test_a_log_beside_a_database_without_wal_is_foreign(tmp_path: Path) -> None:
    path, other = tmp_path / "app.db", crashed(tmp_path / "other.db")
    run("c = connect(); c.execute('create table t (v)')", path)
    shutil.copyfile(f"{other}-wal", f"{path}-wal")
    found = probe(str(path))
    assert found.foreign is not None
    assert "not in WAL mode" in found.foreign


def test_ordinary_logs_are_not_called_foreign(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    code = """
import random
random.seed(int(sys.argv[2]))
first, second = connect(timeout=9), connect(timeout=9)
conn = first
second.execute('pragma synchronous = off')
conn.execute('pragma synchronous = off')
conn.execute('pragma auto_vacuum = incremental')
conn.execute('pragma journal_mode = wal')
for step in range(60):
    conn = random.choice((first, second))
    kind = random.randrange(7)
    if kind == 0: conn.execute(f'create table if not exists t{random.randrange(9)} (v)')
    elif kind == 1: conn.execute(f'drop table if exists t{random.randrange(9)}')
    elif kind == 2: conn.execute('pragma incremental_vacuum')
    elif kind == 3: conn.execute('vacuum')
    elif kind == 4: conn.execute('pragma wal_checkpoint(passive)')
    elif kind == 5: conn.execute(f'pragma user_version = {step}')
    else:
        conn.execute('create table if not exists big (v)')
        conn.execute('insert into big values (randomblob(20000))')
        if random.random() < .3: conn.execute('delete from big where rowid % 2')
os.kill(os.getpid(), signal.SIGKILL)
"""
    logs = 0
    for seed in range(6):
        run(code, path, seed)
        found = probe(str(path))
        assert found.why_not_fold is None, (seed, found.foreign)
        logs += found.log is not None and found.log.max_frame > 0
    assert logs >= 3  # else nothing was tried


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=12))
def test_the_leaves_that_meet_pages_of_another_origin_are_found(
    leaves: list[tuple[bool, bool]],
) -> None:
    """Each leaf is in the log or not, and so is the interior page above it."""
    numbers = range(10, 10 + len(leaves))
    log = [2, *(number for number, (in_log, _) in zip(numbers, leaves, strict=True) if in_log)]
    below = [number for number, (_, is_below) in zip(numbers, leaves, strict=True) if is_below]
    view = SimpleNamespace(btree_page=lambda _number: SimpleNamespace(children=lambda: below))
    tree = Tree(2, True, array("I", [2]), array("I", numbers), array("I", [len(numbers)]))
    found = list(_meeting(view, tree, PageVersions(log, 512)))  # type: ignore[arg-type]
    origins = [in_log for in_log, _ in leaves]
    expected = [
        number
        for place, number in enumerate(numbers)
        if origins[place] != leaves[place][1] or len({*origins[max(0, place - 1) : place + 2]}) > 1
    ]
    assert found == expected
