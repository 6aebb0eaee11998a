"""A damaged database keeps its newer rows beside an older copy, and a log those that it deleted."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from modelstore.errors import RefusedError
from modelstore.recovery.recover import Request
from modelstore.recovery.recover import recover as recover_here
from modelstore.recovery.result import Recovery
from modelstore.render.recovery import recovery_body
from tests.recovery.victims import (
    INSERT,
    TABLE,
    WAL,
    content,
    digests,
    make,
    names,
    recover,
    rows,
    writer,
)

MARKED = "SELECT row_key FROM modelstore_recovered WHERE into_table = 't' ORDER BY id"


def run(
    path: Path,
    *,
    into: Path | None = None,
    logs: tuple[str, ...] = (),
    copies: tuple[str, ...] = (),
) -> Recovery:
    return recover_here(Request(str(path), None if into is None else str(into), logs, copies))


def with_older_copy(tmp_path: Path) -> tuple[Path, Path]:
    """Make a database whose older copy lacks rows, has others that were deleted or changed."""
    path = make(tmp_path / "app.db", TABLE, (INSERT, rows(1, 600)))
    copy = Path(shutil.copy(path, tmp_path / "older.db"))
    changes = ("DELETE FROM t WHERE id <= 5", "UPDATE t SET name = 'new' WHERE id = 600")
    make(path, *changes, (INSERT, rows(601, 400)))
    return path, copy


def zero_page(path: Path, number: int) -> None:
    with path.open("r+b") as file:
        file.seek((number - 1) * 4096)
        file.write(bytes(4096))


@pytest.mark.parametrize("page", [1, 6])
def test_an_older_copy_hides_no_newer_row(tmp_path: Path, page: int) -> None:
    path, copy = with_older_copy(tmp_path)
    truth = content(path)
    zero_page(path, page)
    done = run(path, into=tmp_path / "new.db", copies=(str(copy),))
    assert content(tmp_path / "new.db") == truth
    marked = {int(key) for (key,) in content(tmp_path / "new.db", MARKED)} if page > 1 else set()
    assert done.tables[0].fitted_from == ({"older.db": len(marked)} if marked else {})
    assert marked <= set(range(6, 600))  # they alone came out of the copy
    aside = content(tmp_path / "new.db", "SELECT id, name, size FROM lost_and_found_t ORDER BY id")
    assert aside == rows(1, 5) + rows(600, 1)


def test_a_copy_alone_is_taken_as_it_is(tmp_path: Path) -> None:
    copy = make(tmp_path / "older.db", TABLE, (INSERT, rows(1, 60)))
    (tmp_path / "app.db").write_bytes(os.urandom(20_000))
    done = run(tmp_path / "app.db", into=tmp_path / "new.db", copies=(str(copy),))
    assert (done.how, done.main) == ("pages", "older.db")
    assert content(tmp_path / "new.db") == rows(1, 60)


@pytest.mark.parametrize("change", ["DELETE FROM t WHERE id > 20", "DROP TABLE t"])
def test_rows_that_only_the_log_has_deleted_are_set_aside(tmp_path: Path, change: str) -> None:
    path = tmp_path / "app.db"
    folded = (INSERT, rows(1, 300)), "PRAGMA wal_checkpoint(TRUNCATE)"
    make(path, *WAL, TABLE, *folded, change, crash=True)
    before = digests(tmp_path)
    run(path, into=tmp_path / "new.db")
    kept = 20 if "t" in names(tmp_path / "new.db") else 0
    aside = content(tmp_path / "new.db", "SELECT id, name, size FROM lost_and_found_t ORDER BY id")
    assert aside == rows(1 + kept, 300 - kept)
    after = digests(tmp_path)
    assert {name: after[name] for name in before} == before


def test_rows_that_the_log_has_moved_are_no_other_versions(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    folded = (
        (INSERT, rows(1, 300)),
        "DELETE FROM t WHERE id < 90",
        "PRAGMA wal_checkpoint(TRUNCATE)",
    )
    make(path, *WAL, TABLE, *folded, "VACUUM", crash=True)
    done = run(path, into=tmp_path / "new.db")
    assert (done.rows, done.set_aside) == (211, 0)
    assert names(tmp_path / "new.db") == {"t"}


def test_a_log_that_is_gone_is_named_by_what_the_index_counts(tmp_path: Path) -> None:
    path = make(tmp_path / "app.db", *WAL, TABLE, (INSERT, rows(1, 9)), crash=True)
    os.unlink(f"{path}-wal")
    note = run(path).notes[0]  # more follow where processes hide their files
    assert note.startswith("app.db-shm counts 3 frames that are not here")


def test_a_log_moved_away_under_a_living_application_is_found(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    (tmp_path / "trash").mkdir()
    with writer(path, "python") as application:
        application.write(5)
        moved = Path(f"{path}-wal").rename(tmp_path / "trash" / "app.db-wal")
        application.write(5)
        done = run(path)
        (held,) = done.held
    assert done.rows == 10
    assert held.startswith(f"pid {application.process.pid} (")
    assert f" that is now {moved}: " in held


def test_the_last_line_says_what_to_do(tmp_path: Path) -> None:
    path = make(tmp_path / "app.db", TABLE, (INSERT, rows(1, 9)))
    for into, wanted in ((None, "--into NEW.db"), (tmp_path / "new.db", "in the place of app.db")):
        last = str(recovery_body(run(path, into=into))[-1])
        assert "To do: " in last
        assert wanted in last


def test_the_new_file_belongs_to_the_owner_of_the_old_one(tmp_path: Path) -> None:
    path = make(tmp_path / "app.db", TABLE, (INSERT, rows(1, 9)))
    if os.geteuid() == 0:
        os.chown(path, 65534, 65534)
    path.chmod(0o640)
    run(path, into=tmp_path / "new.db")
    old, new = path.stat(), (tmp_path / "new.db").stat()
    assert (new.st_uid, new.st_gid, new.st_mode) == (old.st_uid, old.st_gid, old.st_mode)


def test_confused_options_are_refused(tmp_path: Path) -> None:
    path = make(tmp_path / "app.db", *WAL, TABLE, (INSERT, rows(1, 9)), crash=True)
    with pytest.raises(RefusedError, match="is a database, not a log"):
        run(path, logs=(str(path),))
    with pytest.raises(RefusedError, match="is a log, not a database"):
        run(path, copies=(f"{path}-wal",))
    with pytest.raises(RefusedError, match="names no file"):
        recover_here(Request(str(path), f"{tmp_path}/out/"))
    assert recover(path, "--into", "").code == 2


def test_rows_beside_a_lost_sector_of_the_log_come_back(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    created = TABLE, "CREATE TABLE u (a)", "PRAGMA wal_checkpoint(TRUNCATE)"
    later = ("INSERT INTO u VALUES (?)", [(1,)])
    make(path, *WAL, *created, (INSERT, rows(1, 45)), later, crash=True)
    with open(f"{path}-wal", "r+b") as log:
        log.seek(5 * 512)
        assert any(log.read(512))
        log.seek(5 * 512)
        log.write(bytes(512))
    done = run(path, into=tmp_path / "new.db")
    kept = content(tmp_path / "new.db")
    assert 30 <= len(kept) < 45
    assert set(kept) < set(rows(1, 45))
    assert done.lost_frames == (1,)
    marked = content(tmp_path / "new.db", "SELECT DISTINCT confidence FROM modelstore_recovered")
    assert (0.8,) in marked
