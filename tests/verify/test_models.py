"""Model files that are gone, cut, changed or corrupt are named; digests are kept and compared."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from modelstore.database.sqlite import sqlite3
from modelstore.finding import Verification
from modelstore.progress import unwatched
from modelstore.verify.checks import models
from modelstore.verify.hashing import hash_files
from tests.cli.program import DATA, modelstore
from tests.verify.examining import codes, contents, examine, severities, the

HOST = "box"


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("catalogue")
    shutil.copytree(DATA, home / "models")
    done = modelstore("import", home / "models", "--host", HOST, "--db", home / "m.db")
    assert done.code == 0, done.err
    return home


@pytest.fixture
def home(imported: Path) -> Path:
    """The catalogue and its files; where they are is what it recorded, so they are put back."""
    backup = imported.with_name(f"{imported.name}-backup")
    if not backup.exists():
        shutil.copytree(imported, backup)
    shutil.rmtree(imported)
    shutil.copytree(backup, imported)  # with the times of the files
    return imported


def look(home: Path, **orders: Any) -> Verification:
    return examine(home / "m.db", "models", host=HOST, **orders)


def a_file(home: Path) -> Path:
    return home / "models" / "tiny-bert-embed-F32.gguf"


def rows(home: Path, sql: str) -> list[Any]:
    conn = sqlite3.connect(home / "m.db")
    try:
        return conn.execute(sql).fetchall()
    finally:
        conn.close()


def same_times(path: Path, status: os.stat_result) -> None:
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def flip_a_bit(path: Path) -> None:
    """Flip one bit as a failing disk does: neither size nor time changes."""
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    same_times(path, status)


def test_untouched_files_pass(home: Path) -> None:
    found = look(home)
    assert not codes(found)
    summary = the(found, "models.files")
    assert summary.severity == "pass"
    assert summary.data["files"] == rows(home, "SELECT count(*) FROM model_files")[0][0]


def test_a_file_that_is_gone(home: Path) -> None:
    a_file(home).unlink()
    missing = the(look(home), "models.missing")
    assert missing.severity == "fail"
    assert str(a_file(home)) in missing.measured


def test_a_byte_less_is_found_without_a_hash(home: Path) -> None:
    status = a_file(home).stat()
    with a_file(home).open("r+b") as file:
        file.truncate(status.st_size - 1)
    same_times(a_file(home), status)
    found = the(look(home), "models.size")
    assert found.severity == "fail"
    assert found.data["found"] == status.st_size - 1


def test_a_file_that_was_written_again(home: Path) -> None:
    os.utime(a_file(home))
    assert severities(look(home)).get("models.changed") == "warn"


def test_a_flipped_bit_is_found_by_its_hash_alone(home: Path) -> None:
    first = look(home, hash_files=True)
    assert not codes(first)
    recorded = rows(home, f"SELECT sha256 FROM model_files WHERE path = '{a_file(home)}'")
    assert recorded == [(hashlib.sha256(a_file(home).read_bytes()).hexdigest(),)]
    assert not codes(look(home, hash_files=True))
    flip_a_bit(a_file(home))
    assert not codes(look(home))
    corrupt = the(look(home, hash_files=True), "models.corrupt")
    assert corrupt.severity == "fail"
    assert corrupt.data["expected"] == recorded[0][0]


def test_digests_are_in_the_main_file_alone_and_recorded_once(home: Path) -> None:
    first = the(look(home, hash_files=True), "models.files")
    files = rows(home, "SELECT count(*), count(sha256) FROM model_files")[0]
    assert first.data["first_hashes"] == files[0] == files[1]
    assert not Path(f"{home / 'm.db'}-wal").exists()
    assert the(look(home, hash_files=True), "models.files").data["first_hashes"] == 0


def test_nothing_is_recorded_where_nothing_may_be_changed(home: Path) -> None:
    before = contents(home / "m.db")
    found = look(home, hash_files=True, fold=False)
    assert contents(home / "m.db") == before
    assert the(found, "models.files").data["first_hashes"]


def test_a_recorded_digest_says_nothing_of_a_file_written_since(home: Path) -> None:
    look(home, hash_files=True)
    flip_a_bit(a_file(home))
    os.utime(a_file(home))
    assert codes(look(home, hash_files=True)) == {"models.changed"}


def test_the_digest_in_the_name_of_a_blob_always_counts(home: Path) -> None:
    digest = hashlib.sha256(a_file(home).read_bytes()).hexdigest()
    blob = home / "models" / f"sha256-{digest}"
    shutil.copyfile(a_file(home), blob)
    conn = sqlite3.connect(home / "m.db")
    conn.execute("UPDATE model_files SET path = ? WHERE path = ?", (str(blob), str(a_file(home))))
    conn.commit()
    conn.close()
    assert "models.corrupt" not in codes(look(home, hash_files=True))
    flip_a_bit(blob)
    assert "its name says" in the(look(home, hash_files=True), "models.corrupt").measured


def test_a_shard_that_was_never_there(home: Path) -> None:
    path = a_file(home).with_name("big-00001-of-00003.gguf")
    shutil.copyfile(a_file(home), path)
    conn = sqlite3.connect(home / "m.db")
    conn.execute(
        "UPDATE model_files SET path = ?1, weights = ?1, mtime_ns = NULL WHERE path = ?2",
        (str(path), str(a_file(home))),
    )
    conn.commit()
    conn.close()
    found = the(look(home), "models.shards")
    assert found.severity == "fail"
    assert "2, 3" in found.measured


@pytest.mark.parametrize("status", ["incomplete", "truncated"])
def test_models_known_not_to_be_whole(home: Path, status: str) -> None:
    conn = sqlite3.connect(home / "m.db")
    conn.execute("UPDATE models SET status = ? WHERE path = ?", (status, str(a_file(home))))
    conn.commit()
    conn.close()
    assert severities(look(home)).get(f"models.{status}") == "warn"


def test_a_model_known_to_be_missing(home: Path) -> None:
    a_file(home).unlink()
    conn = sqlite3.connect(home / "m.db")
    conn.execute("UPDATE models SET status = 'missing' WHERE path = ?", (str(a_file(home)),))
    conn.commit()
    conn.close()
    assert severities(look(home)).get("models.known-missing") == "warn"


def test_files_of_other_machines_are_left_alone(home: Path) -> None:
    shutil.rmtree(home / "models")
    found = examine(home / "m.db", "models", host="another")
    assert not codes(found)
    assert the(found, "models.files").data["files"] == 0
    assert the(found, "models.files").data["elsewhere"]


def test_a_thousand_missing_files_do_not_fill_the_screen(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "_TOLD", 2)
    shutil.rmtree(home / "models")
    missing = [found for found in look(home).findings if found.code == "models.missing"]
    assert len(missing) == 3
    assert "more files like these" in missing[-1].measured


def test_a_hash_of_what_is_no_catalogue_is_not_made(tmp_path: Path) -> None:
    conn = sqlite3.connect(tmp_path / "a.db")
    conn.execute("CREATE TABLE t (v)")
    conn.close()
    found = examine(tmp_path / "a.db", hash_files=True)
    assert severities(found)["models.not-checked"] == "note"


def test_hashing_reads_two_names_of_one_file_once_and_survives_what_is_no_file(
    tmp_path: Path,
) -> None:
    content = os.urandom(3_000_000)
    (tmp_path / "a").write_bytes(content)
    os.link(tmp_path / "a", tmp_path / "b")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "empty").touch()
    paths = [str(tmp_path / name) for name in ("a", "b", "fifo", "empty", "absent")]
    with unwatched("MiB") as tick:
        found = hash_files(paths, len(content), tick)
    assert found[paths[0]].sha256 == found[paths[1]].sha256 == hashlib.sha256(content).hexdigest()
    assert found[paths[3]].sha256 == hashlib.sha256(b"").hexdigest()
    assert found[paths[2]].problem
    assert found[paths[4]].problem


def test_an_interruption_ends_all_hashing(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 1000)

    def interrupted(what: str, done: int, total: int | None = None, unit: str = "") -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hash_files([str(tmp_path / "a")], 1000, interrupted)
