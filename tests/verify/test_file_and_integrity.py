"""Damage to the main file is found where it is, and never taken for anything else."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from contextlib import closing
from pathlib import Path

import pytest

from modelstore.catalogue.schema import APPLICATION_ID
from modelstore.database.open import Purpose, open_database
from modelstore.database.sqlite import sqlite3
from modelstore.errors import LockedError, RefusedError
from modelstore.verify.check import VerifyOptions
from modelstore.verify.checks.integrity import check_constraints
from modelstore.verify.subject import look
from tests.cli.program import python
from tests.verify.examining import (
    TABLE,
    codes,
    connect,
    contents,
    crashed,
    examine,
    settled,
    severities,
    the,
)

PAGE = 4096
DAMAGED = {"integrity.damaged", "integrity.malformed"}


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def root_of(path: Path, name: str) -> int:
    conn = connect(path)
    (root,) = conn.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)).fetchone()
    conn.close()
    return int(root)


def test_a_sound_file_says_what_it_is(tmp_path: Path) -> None:
    path = settled(tmp_path / "a.db")
    found = examine(path, "file", "integrity")
    sane = the(found, "file.sane")
    assert sane.data["pages"] == path.stat().st_size // PAGE
    assert "WAL mode" in sane.measured
    assert codes(found, "pass") == {"file.sane", "integrity.ok", "integrity.foreign-keys"}


def test_a_file_that_lost_its_end(tmp_path: Path) -> None:
    path = settled(tmp_path / "a.db")
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 3 * PAGE)
    found = examine(path)
    assert "3 pages are cut off" in the(found, "file.truncated").measured
    assert the(found, "file.truncated").severity == "fail"
    unreadable = the(found, "file.unreadable")
    assert unreadable.severity == "fail"
    assert f"`modelstore recover {path} " in str(unreadable.advice)


def test_bytes_behind_the_last_page_are_not_sqlites(tmp_path: Path) -> None:
    path = settled(tmp_path / "a.db")
    with path.open("ab") as file:
        file.write(b"more")
    assert codes(examine(path)) == {"file.ragged"}


def test_pages_behind_the_last_are_worth_a_note(tmp_path: Path) -> None:
    path = settled(tmp_path / "a.db")
    with path.open("ab") as file:
        file.write(b"\0" * PAGE)
    found = examine(path)
    assert severities(found)["file.long"] == "note"


def test_a_header_that_no_sqlite_writes(tmp_path: Path) -> None:
    path = settled(tmp_path / "a.db")
    overwrite(path, 36, (5000).to_bytes(4, "big"))  # free pages
    assert "file.header" in codes(examine(path), "fail")


def test_an_empty_file_is_a_database_without_tables(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.touch()
    found = examine(path)
    assert not codes(found)
    assert severities(found)["file.empty"] == "note"
    assert path.stat().st_size == 0


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("absent.db", None, "does not exist"),
        (
            "text.db",
            b"just some text that is long enough to be looked at",
            "not an SQLite database",
        ),
        ("model.db", b"GGUF\3\0\0\0" + b"\0" * 200, "GGUF"),
    ],
)
def test_what_is_no_database_is_refused(
    tmp_path: Path, name: str, content: bytes | None, words: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RefusedError, match=words):
        examine(path)
    assert path.exists() == (content is not None)


def test_a_catalogue_of_a_later_schema_is_refused(tmp_path: Path) -> None:
    path = settled(tmp_path / "a.db")
    conn = connect(path)
    conn.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    conn.execute("PRAGMA user_version = 999")
    conn.close()
    with pytest.raises(RefusedError, match="schema 999"):
        examine(path)


def test_a_page_of_garbage(tmp_path: Path) -> None:
    path = settled(tmp_path / "a.db")
    overwrite(path, 5 * PAGE, b"\x55" * PAGE)
    for orders in ({}, {"quick": True}):
        found = examine(path, **orders)
        assert DAMAGED & codes(found, "fail")


def test_an_index_that_lacks_a_row_is_seen_by_the_full_check_alone(tmp_path: Path) -> None:
    path = settled(tmp_path / "a.db")
    raw = path.read_bytes()
    # The last place of a name is in the index: its pages were written after the table's.
    place = max(n for n in range(len(raw)) if raw.startswith(b"name00007", n))
    overwrite(path, place, b"name0000z")
    found = examine(path)
    assert "models_name" in the(found, "integrity.damaged").measured
    assert not examine(path, quick=True).failed


def test_a_damaged_view_is_not_folded_over_what_may_be_whole(tmp_path: Path) -> None:
    path = crashed(
        tmp_path / "a.db",
        ["UPDATE models SET name = name || 'x' WHERE id = 1"],
        before=[
            TABLE,
            "CREATE TABLE other (v)",
            "INSERT INTO models (name) VALUES ('a')",
            "INSERT INTO other VALUES (zeroblob(20000))",
        ],
    )
    root = root_of_raw(path, "other")
    overwrite(path, (root - 1) * PAGE, b"\x55" * PAGE)
    before = contents(path)
    found = examine(path)
    assert contents(path) == before
    assert DAMAGED & codes(found, "fail")
    assert {"checkpoint.refused", "persistence.not-checked"} <= codes(found, "note")


def root_of_raw(path: Path, name: str) -> int:
    conn = sqlite3.connect(f"file:{path}?immutable=1", uri=True)
    (root,) = conn.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)).fetchone()
    conn.close()
    return int(root)


def test_references_to_rows_that_do_not_exist(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    conn = connect(path)
    conn.execute("CREATE TABLE parents (id INTEGER PRIMARY KEY)")
    conn.execute("CREATE TABLE children (parent REFERENCES parents (id))")
    conn.execute("INSERT INTO children VALUES (1), (2), (NULL)")
    conn.close()
    found = examine(path)
    broken = the(found, "integrity.foreign-key")
    assert broken.severity == "fail"
    assert "2 rows of children refer to rows of parents" in broken.measured
    assert codes(found) == {"integrity.foreign-key"}


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_rows_that_break_a_constraint(tmp_path: Path, mode: str) -> None:
    """SQLite's own check passes them over on a connection that is read-only."""
    path = tmp_path / "a.db"
    conn = connect(path, mode)
    conn.execute('CREATE TABLE "it\'s" (v CHECK (v > 0))')
    conn.execute("CREATE TABLE kept (v CHECK (v > 0))")
    conn.create_function("its_own", 1, bool, deterministic=True)
    conn.execute("CREATE TABLE unknown (v CHECK (its_own(v)))")
    conn.execute("INSERT INTO kept VALUES (1)")
    conn.execute("PRAGMA ignore_check_constraints = on")
    conn.execute('INSERT INTO "it\'s" VALUES (0), (1)')
    conn.close()
    found = examine(path)
    assert codes(found, "fail") == {"integrity.constraint"}
    assert the(found, "integrity.constraint").where == "it's"
    assert the(found, "integrity.constraints-unchecked").data["tables"] == ["unknown"]
    found = examine(path, fold=False)
    unchecked = the(found, "integrity.constraints-unchecked").data["tables"]
    if mode == "wal":
        assert not codes(found, "fail")
        assert unchecked == ["it's", "kept", "unknown"]
    else:  # small, and without a log: a copy is checked
        assert codes(found, "fail") == {"integrity.constraint"}
        assert unchecked == ["unknown"]


@pytest.mark.parametrize("value", [0, 1])
def test_a_null_that_must_not_be_is_no_broken_check_and_hides_none(
    tmp_path: Path, value: int
) -> None:
    path = tmp_path / "a.db"
    conn = connect(path)
    conn.execute("CREATE TABLE t (n, v CHECK (v > 0))")
    conn.execute("PRAGMA ignore_check_constraints = on")
    conn.execute("INSERT INTO t VALUES (NULL, ?)", (value,))
    conn.execute("PRAGMA writable_schema = ON")
    conn.execute("UPDATE sqlite_master SET sql = replace(sql, '(n,', '(n NOT NULL,')")
    conn.close()
    with open_database(str(path), purpose=Purpose.READ) as opened:
        assert opened.access == "rw"
        found = [finding.code for finding in check_constraints(opened, VerifyOptions())]
        assert found == (["integrity.constraint"] if value == 0 else [])
        assert opened.conn.execute("PRAGMA ignore_check_constraints").fetchone() == (0,)


def test_a_schema_that_cannot_be_read(tmp_path: Path) -> None:
    path = settled(tmp_path / "a.db")
    conn = connect(path)
    conn.execute("PRAGMA writable_schema = ON")
    conn.execute("UPDATE sqlite_master SET sql = 'CREATE TABLE models (' WHERE name = 'models'")
    conn.close()
    found = examine(path, expected=None)
    assert found.failed
    assert "file.unreadable" in codes(found) or "integrity.malformed" in codes(found)


def test_a_killed_transaction_is_taken_back_and_told(tmp_path: Path) -> None:
    path = settled(tmp_path / "a.db")
    connect(path, "delete").close()
    killed_in_transaction(path)
    found = examine(path, fold=False)
    assert codes(found) == {"environment.hot-journal", "persistence.hot-journal"}
    assert found.failed
    assert Path(f"{path}-journal").stat().st_size
    assert examine(path).failed
    assert Path(f"{path}-journal").stat().st_size
    taken_back(path)
    assert not codes(examine(path))


def taken_back(path: Path) -> None:
    """Let SQLite play the journal back, as the next program that opens the database does."""
    with closing(connect(path, "delete")) as conn:
        conn.execute("SELECT count(*) FROM sqlite_schema").fetchall()
    assert not Path(f"{path}-journal").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limits of that kind")
def test_a_killed_transaction_that_was_to_grow_the_file_is_no_truncation(tmp_path: Path) -> None:
    path = settled(tmp_path / "a.db")
    connect(path, "delete").close()
    code = """
        import os, resource, signal, sqlite3, sys
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # killed where the file reaches its limit
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        room = os.path.getsize(sys.argv[1]) + 3 * 4096
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
        conn = sqlite3.connect(sys.argv[1], isolation_level=None)
        conn.execute("CREATE TABLE more AS SELECT randomblob(200000) AS v")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code), path], check=False)
    assert done.returncode == -signal.SIGXFSZ
    found = examine(path, fold=False)
    assert the(found, "file.short").severity == "warn"
    assert "file.truncated" not in codes(found)
    taken_back(path)
    assert not codes(examine(path))


def killed_in_transaction(path: Path) -> None:
    """Leave a hot journal: a program that was killed after it had begun to write the file."""
    code = """
        import sqlite3, sys
        conn = sqlite3.connect(sys.argv[1], isolation_level=None)
        conn.execute("PRAGMA cache_size = 1")
        conn.execute("PRAGMA cache_spill = 1")
        conn.execute("BEGIN IMMEDIATE")
        conn.execute("UPDATE models SET note = note || 'changed'")
        print("ready", flush=True)
        sys.stdin.readline()
    """
    with python(code, path) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        journal = look(str(path)).journal
        assert journal is not None
        assert not journal.is_hot  # its owner is at work


def test_a_journal_beside_a_database_in_wal_mode_keeps_it_from_being_opened(tmp_path: Path) -> None:
    other = settled(tmp_path / "other.db")
    connect(other, "delete").close()
    killed_in_transaction(other)
    path = settled(tmp_path / "a.db")
    Path(f"{other}-journal").rename(f"{path}-journal")
    before = contents(path)
    found = examine(path)
    assert contents(path) == before
    assert Path(f"{path}-journal").exists()
    assert the(found, "environment.hot-journal").severity == "fail"
    advice = the(found, "persistence.hot-journal").advice
    assert advice is not None
    assert f"{path}-journal" in advice  # it is to be moved away, not to be used up
    assert "integrity.not-checked" in codes(found, "note")


def test_a_lock_that_outlasts_patience_ends_the_run(tmp_path: Path) -> None:
    path = settled(tmp_path / "a.db")
    connect(path, "delete").close()
    code = """
        import sqlite3, sys
        conn = sqlite3.connect(sys.argv[1], isolation_level=None)
        conn.execute("BEGIN EXCLUSIVE")
        print("ready", flush=True)
        sys.stdin.readline()
    """
    with python(code, path) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        with pytest.raises(LockedError):
            examine(path, timeout=0.05)
