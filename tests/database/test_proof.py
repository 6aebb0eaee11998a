from __future__ import annotations

from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from modelstore.database.handle import Database
from modelstore.database.live_log import DATABASE_REPLACED
from modelstore.database.open import Purpose, open_database
from modelstore.database.proof import Proof, prove
from modelstore.database.sqlite import sqlite3
from modelstore.errors import DamageError, ExitCode
from tests.database.outside import child, crashed, reader, rows_in_main_alone, run
from tests.database.test_connection import insert
from tests.waiting import wait_until

# Commits and folds without a pause: an unguarded look at the main file is often malformed then.
BUSY_CHECKPOINTER = """
conn = connect(timeout=60)
conn.execute('pragma synchronous = off')
conn.execute('create table if not exists churn (id integer primary key, v)')
say('ready')
os.set_blocking(0, False)
while not sys.stdin.buffer.raw.read(1):
    conn.execute('begin immediate')
    conn.execute('insert into churn (v) values (randomblob(9000))')
    conn.execute('delete from churn where id % 3 = 0')
    conn.execute('commit')
    conn.execute('pragma wal_checkpoint(passive)').fetchall()
say('done')
conn.close()
"""


def count(db: Database) -> int:
    return int(db.execute("SELECT count(*) FROM t").fetchone()[0])


def test_rows_are_counted_in_the_main_file_alone(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db")
    with open_database(str(path), purpose=Purpose.WRITE) as opened:
        insert(opened)
        opened.fold_now()
        proof = prove(opened, count, 6, 1.0)
        assert proof == Proof("main file alone", 6, 6)
        assert proof.holds
        assert rows_in_main_alone(path) == 6
    assert opened.checkpoint is not None
    assert opened.checkpoint.wal_size_after == 0


def test_what_the_proof_folds_and_waits_for_is_told_with_the_fold(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db")
    size = path.stat().st_size
    with open_database(str(path), purpose=Purpose.WRITE) as opened:
        opened.conn.execute("CREATE TABLE large AS SELECT zeroblob(99999)")
        prove(opened, count, 5, 1.0)
    assert opened.checkpoint is not None
    assert opened.checkpoint.db_size_before == size < opened.checkpoint.db_size_after
    with reader(path), open_database(str(path), purpose=Purpose.WRITE, timeout=0.2) as opened:
        insert(opened)
        assert prove(opened, count, 6, 0.2).counted is None
    assert opened.checkpoint is not None
    assert opened.checkpoint.seconds >= 0.2


def test_rows_that_are_not_there_are_noticed(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db")
    with open_database(str(path), purpose=Purpose.WRITE) as opened:
        proof = prove(opened, count, 7, 1.0)
    assert (proof.kind, proof.counted) == ("main file alone", 5)
    assert not proof.holds


def test_rows_in_the_log_are_not_counted(tmp_path: Path) -> None:
    """A reader keeps them there: then the main file alone cannot be the proof."""
    path = crashed(tmp_path / "app.db")
    with reader(path), open_database(str(path), purpose=Purpose.WRITE, timeout=0.1) as opened:
        insert(opened)
        proof = prove(opened, count, 6, 0.1)
    assert proof == Proof("checkpoint evidence", None, 6)


def test_one_patience_serves_proof_and_close(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db")
    with reader(path), open_database(str(path), purpose=Purpose.WRITE, timeout=0.3) as opened:
        insert(opened)
        assert not prove(opened, count, 6, 3600.0).counted
        assert opened.patience == 0.0
    assert opened.checkpoint is not None
    assert opened.checkpoint.exit_code("write") is ExitCode.BUSY


def test_rows_that_were_there_already_are_promised_too(tmp_path: Path) -> None:
    """Without the promise a command that only read would say nothing of what is not folded."""
    path = crashed(tmp_path / "app.db")
    with reader(path):
        run("c = connect(); c.execute('insert into t (v) values (1)')", path)
        with open_database(str(path), purpose=Purpose.WRITE, timeout=0.1) as opened:
            prove(opened, count, 6, 0.1)
    assert opened.checkpoint is not None
    assert opened.checkpoint.wal_synced
    assert opened.checkpoint.exit_code("write") is ExitCode.BUSY


def test_the_look_holds_beside_a_busy_checkpointer(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db")
    with child(BUSY_CHECKPOINTER, path) as other:
        other.hear()
        kinds: Counter[str] = Counter()

        def look() -> bool:
            expected = 6 + kinds.total()
            with open_database(str(path), purpose=Purpose.WRITE, timeout=60.0) as opened:
                insert(opened)
                opened.fold_now()
                proof = prove(opened, count, expected, 60.0)
            assert proof.holds
            kinds[proof.kind] += 1
            return kinds["main file alone"] == 20

        wait_until(look, other.process)
        other.tell()
        other.hear()


def test_without_a_log_a_reader_is_enough(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    run("c = connect(); c.execute('create table t (v)')", path)
    with open_database(str(path), purpose=Purpose.WRITE) as opened:
        insert(opened)
        assert prove(opened, count, 1, 1.0) == Proof("main file alone", 1, 1)


def test_damage_in_the_main_file_is_said_to_be_that(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db")

    def malformed(db: Database) -> int:
        db.execute("PRAGMA writable_schema = ON")
        error = sqlite3.DatabaseError("database disk image is malformed")
        error.sqlite_errorcode = 11
        raise error

    with (
        open_database(str(path), purpose=Purpose.WRITE) as opened,
        pytest.raises(DamageError),
    ):
        prove(opened, malformed, 5, 1.0)


def test_where_the_log_is_deleted_before_the_proof_the_fold_saves_the_rows(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db")
    with open_database(str(path), purpose=Purpose.WRITE) as opened:
        insert(opened)
        Path(f"{path}-wal").unlink()
        assert prove(opened, count, 6, 1.0).holds
    assert opened.checkpoint is not None
    assert opened.checkpoint.log_deleted
    assert opened.checkpoint.exit_code("write") is ExitCode.OK
    assert rows_in_main_alone(path) == 6


@pytest.mark.parametrize("replaced", [False, True])
def test_where_the_database_is_gone_before_the_proof_the_close_says_so(
    tmp_path: Path, *, replaced: bool
) -> None:
    path = crashed(tmp_path / "app.db")
    with open_database(str(path), purpose=Purpose.WRITE) as opened:
        insert(opened)
        path.rename(tmp_path / "moved.db")
        if replaced:
            crashed(tmp_path / "other.db").rename(path)
        assert prove(opened, count, 6, 1.0).counted != 6
    assert opened.checkpoint is not None
    assert opened.checkpoint.reason == DATABASE_REPLACED
    assert opened.checkpoint.exit_code("write") is ExitCode.FAILED


def test_what_fails_because_the_log_was_deleted_is_said_to(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db")

    def read_without_the_log() -> None:
        with open_database(str(path), purpose=Purpose.WRITE) as opened:
            insert(opened)
            Path(f"{path}-wal").unlink()
            with closing(opened.connect_again()) as other:
                count(other)

    with pytest.raises(DamageError, match="the log was deleted while in use"):
        read_without_the_log()
