"""Whether pages of two databases are told from those of one; SQLite's integrity check judges."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from modelstore.database.foreign_log import BoundedView, misfit
from modelstore.wal.pages import PageVersions
from modelstore.wal.scan import scan_wal

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

        return misfit(open_view, pages), views[0].reads
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
