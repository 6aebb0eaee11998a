from __future__ import annotations

import errno
import os
import shutil
import socket
import struct
from pathlib import Path

import pytest

from modelstore.database.evidence import LOG_REPLACED, OVERWRITTEN, codes
from modelstore.database.holders import HolderProblem
from modelstore.database.probe import probe
from modelstore.errors import ExitCode, ModelstoreError, RefusedError
from modelstore.wal import scan
from modelstore.wal.frames import WalScan
from modelstore.wal.scan import scan_wal
from tests.database.outside import (
    NOBODY,
    STRANGER_WITHOUT_PATIENCE,
    child,
    contents,
    crashed,
    flip,
    reader,
    run,
    run_as_nobody,
)
from tests.wal.logfiles import naive_checksum


def refusal(path: Path, *, create: bool = False) -> ModelstoreError:
    """Probe, which must refuse, and check that nothing was touched."""
    before = contents(path)
    with pytest.raises(ModelstoreError) as caught:
        probe(str(path), create=create)
    assert contents(path) == before
    assert str(path) in caught.value.message or path.name in caught.value.message
    assert caught.value.hint
    return caught.value


def test_a_missing_database_is_refused_and_not_created(tmp_path: Path) -> None:
    error = refusal(tmp_path / "typo.db")
    assert error.exit_code is ExitCode.REFUSED
    assert "does not exist" in error.message
    assert list(tmp_path.iterdir()) == []


def test_a_missing_database_may_be_created_later(tmp_path: Path) -> None:
    assert not probe(str(tmp_path / "new.db"), create=True).exists
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("create", [False, True])
def test_a_log_without_its_database_is_refused(tmp_path: Path, create: bool) -> None:
    path = crashed(tmp_path / "app.db")
    path.unlink()
    assert "its log" in refusal(path, create=create).message


def test_what_is_no_regular_file_is_refused_without_being_opened(tmp_path: Path) -> None:
    (tmp_path / "folder.db").mkdir()
    os.mkfifo(tmp_path / "pipe.db")  # opening it would wait for a writer for ever
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket.db"))
        for name, what in (
            ("folder.db", "a directory"),
            ("pipe.db", "a named pipe"),
            ("socket.db", "a socket"),
        ):
            with pytest.raises(RefusedError, match=what):
                probe(str(tmp_path / name))
    with pytest.raises(RefusedError, match="a device"):
        probe(os.devnull)


def test_a_path_with_a_zero_byte_is_refused() -> None:
    with pytest.raises(RefusedError):
        probe("models\0.db")


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"GGUF\x03\0\0\0" + bytes(92), "a GGUF model"),
        (b"\x1f\x8b\x08" + bytes(97), "gzip"),
        (b"PK\x03\x04" + bytes(96), "a ZIP archive"),
        (b"\x28\xb5\x2f\xfd" + bytes(96), "zstd"),
        (struct.pack(">II", 0x377F0682, 3007000) + bytes(92), "the -wal of a database"),
        (struct.pack("=II", 3007000, 0) + bytes(128), "the -shm of a database"),
        (struct.pack("<Q", 50) + b'{"__metadata__"' + bytes(77), "a safetensors model"),
        (b"** This file contains an SQLite 2.1 database **" + bytes(60), "an SQLite 2 database"),
        (b'{"name": "x"}\n', "JSON"),
        (b"name,path\nx,y\n", "text"),
        (bytes(4096), "zeros"),
        (bytes(range(200, 256)) * 4, "of no known kind, or encrypted"),
    ],
)
def test_what_is_no_database_is_named(tmp_path: Path, head: bytes, words: str) -> None:
    path = tmp_path / "models.db"
    path.write_bytes(head)
    error = refusal_with_any_hint(path)
    assert "is not an SQLite database" in error.message
    assert words in error.message


def refusal_with_any_hint(path: Path) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        probe(str(path))
    return caught.value


def test_what_cannot_even_be_looked_at_is_refused_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=os.strerror(errno.ENAMETOOLONG)) as caught:
        probe(str(tmp_path / ("x" * 300)))
    assert caught.value.hint


def test_an_empty_database_beside_a_log_is_refused(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db")
    path.write_bytes(b"")
    assert "SQLite would delete the log" in refusal(path).message


def test_an_empty_file_alone_is_an_empty_database(tmp_path: Path) -> None:
    path = tmp_path / "empty.db"
    path.touch()
    found = probe(str(path))
    assert found.header is None
    assert not found.is_wal


def test_a_log_of_another_page_size_is_refused(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db")
    other = tmp_path / "other.db"
    run("conn = connect(); conn.execute('pragma page_size = 8192');" + _CRASH_WITH_LOG, other)
    shutil.copyfile(f"{other}-wal", f"{path}-wal")
    error = refusal(path)
    assert "8192" in error.message
    assert "4096" in error.message
    assert "overwrite" in error.message


_CRASH_WITH_LOG = """
conn.execute('pragma journal_mode = wal')
conn.execute('create table other (v)')
conn.execute('insert into other values (1)')
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_log_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db")
    wal = Path(f"{path}-wal")
    raw = bytearray(wal.read_bytes())
    raw[4:8] = struct.pack(">I", 3008000)
    big_endian = bool(raw[3] & 1)
    raw[24:32] = struct.pack(">2I", *naive_checksum(bytes(raw[:24]), (0, 0), big_endian=big_endian))
    wal.write_bytes(raw)
    assert "newer SQLite" in refusal(path).message


@pytest.mark.parametrize(("offset", "value"), [(18, 3), (19, 3), (47, 5)])
def test_a_newer_file_format_is_refused(tmp_path: Path, offset: int, value: int) -> None:
    path = crashed(tmp_path / "app.db")
    raw = bytearray(path.read_bytes())
    raw[offset] = value
    path.write_bytes(raw)
    assert "newer SQLite" in refusal(path).message


def test_an_impossible_header_is_refused(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db")
    raw = bytearray(path.read_bytes())
    raw[16:18] = struct.pack(">H", 1000)
    path.write_bytes(raw)
    assert "page size" in refusal(path).message


def test_a_directory_in_the_place_of_the_log_is_refused(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db")
    Path(f"{path}-wal").unlink()
    Path(f"{path}-wal").mkdir()
    refused = refusal(path)
    assert f"{path}-wal is a directory" in refused.message
    assert "move it out of the way" in str(refused.hint)


@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
def test_a_pipe_beside_the_database_is_refused_and_never_opened(
    tmp_path: Path, suffix: str
) -> None:
    path = crashed(tmp_path / "app.db")
    beside = Path(f"{path}{suffix}")
    beside.unlink(missing_ok=True)
    os.mkfifo(beside)
    refused = refusal(path)
    assert f"{beside} is a named pipe" in refused.message
    assert "move it out of the way" in str(refused.hint)


def test_an_unreadable_log_is_named(open_dir: Path) -> None:
    path = crashed(open_dir / "app.db")
    os.chmod(open_dir, 0o777)
    os.chmod(path, 0o666)
    for suffix in ("-wal", "-shm"):
        for name in ("-wal", "-shm"):
            os.chmod(f"{path}{name}", 0o000 if name == suffix else 0o666)
        code = """
try:
    open_database(path, purpose=Purpose.READ)
except ModelstoreError as error:
    say(int(error.exit_code), error.message)
"""
        ((exit_code, message),) = run_as_nobody(code, path)
        assert exit_code == ExitCode.REFUSED
        assert f"{path}{suffix}" in message


def test_a_log_deleted_while_in_use_is_no_place_to_go_on(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db")
    with reader(path):
        Path(f"{path}-wal").unlink()
        assert codes(probe(str(path)).reasons) == {HolderProblem.OTHER_LOG}


def test_a_log_overwritten_by_an_older_copy_while_in_use_is_no_place_to_go_on(
    tmp_path: Path,
) -> None:
    """The salts are the same; the last frame that the index counts is not there."""
    path = crashed(tmp_path / "app.db")
    with child(STRANGER_WITHOUT_PATIENCE, path) as writer:
        writer.hear()
        older = Path(f"{path}-wal").read_bytes()
        writer.tell()
        writer.hear()
        assert not probe(str(path)).reasons
        newer = Path(f"{path}-wal").read_bytes()
        Path(f"{path}-wal").write_bytes(older)
        assert codes(probe(str(path)).reasons) == {LOG_REPLACED}
        # The application goes on behind the gap: its next frame is right again.
        frame = 24 + 4096
        Path(f"{path}-wal").write_bytes(newer[: -2 * frame] + bytes(frame) + newer[-frame:])
        assert codes(probe(str(path)).reasons) == {LOG_REPLACED}
        Path(f"{path}-wal").write_bytes(newer)
        assert not probe(str(path)).reasons


def test_the_next_commit_clears_a_database_of_which_only_the_time_was_set(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db")
    run("connect().execute('create table x (v)')", path)  # the last to close folds
    with child(STRANGER_WITHOUT_PATIENCE, path) as writer:
        writer.hear()
        log = os.stat(f"{path}-wal").st_mtime_ns
        os.utime(f"{path}-wal", ns=(log, log - 10**9))
        os.utime(path, ns=(log, log - 10**6))
        assert codes(probe(str(path)).reasons) == {OVERWRITTEN}
        writer.tell()
        writer.hear()
        assert not probe(str(path)).reasons


FOLD_AND_COMMIT = """
conn = connect()
conn.execute('create table y (v)')
conn.execute('pragma wal_checkpoint(truncate)')
connect().execute('create table z (v)')
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("times", [1, 100])
def test_files_that_move_during_a_look_are_looked_at_again(
    times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program folds the log after we read the header: its next log begins too late for that."""
    path = crashed(tmp_path / "app.db")
    looks = []

    def scan_late(wal: int) -> WalScan:
        looks.append(wal)
        if len(looks) == 1:
            run(FOLD_AND_COMMIT, path)
        elif len(looks) <= times:
            os.utime(path)
        return scan_wal(wal)

    monkeypatch.setattr(scan, "scan_wal", scan_late)
    found = probe(str(path))
    assert len(looks) > 1
    assert not found.reasons
    monkeypatch.undo()
    assert not probe(str(path)).reasons


def test_a_log_replaced_while_in_use_is_no_place_to_go_on(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db")
    other = crashed(tmp_path / "other.db")
    with reader(path):
        os.replace(f"{other}-wal", f"{path}-wal")
        assert codes(probe(str(path)).reasons) == {HolderProblem.OTHER_LOG}


def test_a_log_in_use_is_no_damage(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db")
    with reader(path):
        found = probe(str(path))
        assert found.attached is True
        assert found.log is None  # nobody would recover it: it need not be read
    truncated = "c = connect(); c.execute('pragma wal_checkpoint(truncate)'); say(1); hear()"
    with child(truncated, path) as process:
        process.hear()
        assert probe(str(path)).wal_size == 0


def test_what_was_lost_with_a_deleted_log_is_said(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db", rows=7)
    Path(f"{path}-wal").unlink()
    (warning,) = probe(str(path)).warnings
    assert "counts 7 frames" in warning
    assert "lost" in warning


def test_a_folded_log_that_is_gone_is_no_loss(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db")
    run(
        "c = connect(); c.execute('select 1 from t'); "
        "c.execute('pragma wal_checkpoint(passive)'); os.kill(os.getpid(), signal.SIGKILL)",
        path,
    )
    Path(f"{path}-wal").unlink()
    assert probe(str(path)).warnings == ()


def test_a_sound_log_is_found_sound_and_left_alone(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db", rows=9)
    before = contents(path)
    found = probe(str(path))
    assert contents(path) == before
    assert found.log is not None
    assert found.log.max_frame == 9
    assert found.why_not_fold is None
    assert found.attached is False


def test_a_flipped_bit_before_other_commits_is_damage(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db", rows=30)
    flip(path, 6)
    found = probe(str(path))
    assert found.damaged
    assert found.log is not None
    assert (found.log.max_frame, found.log.later_commits) == (5, 24)  # and the flipped one


def test_a_damaged_last_frame_is_what_any_crash_leaves(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db", rows=30)
    flip(path, 30)
    assert not probe(str(path)).damaged


def test_a_stale_tail_is_normal(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db", rows=30)
    restart = """
conn = connect()
conn.execute('pragma wal_checkpoint(restart)')
conn.execute("insert into t (v) values ('x')")
os.kill(os.getpid(), signal.SIGKILL)
"""
    run(restart, path)
    found = probe(str(path))
    assert found.log is not None
    assert (found.log.max_frame, found.log.stale) == (1, 29)
    assert found.why_not_fold is None


def test_a_broken_header_before_commits_is_damage(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db", rows=3)
    wal = Path(f"{path}-wal")
    raw = bytearray(wal.read_bytes())
    raw[0] ^= 1
    wal.write_bytes(raw)
    assert probe(str(path)).damaged


def test_files_of_another_owner_or_mode_are_warned_of(open_dir: Path) -> None:
    path = crashed(open_dir / "app.db")
    os.chmod(f"{path}-wal", 0o600)
    (warning,) = probe(str(path)).warnings
    assert f"{path}-wal is of mode 0600, the database of mode 0644" in warning
    os.chmod(f"{path}-wal", 0o644)
    assert probe(str(path)).warnings == ()
    if os.geteuid() == 0:
        os.chown(f"{path}-shm", NOBODY, NOBODY)
        (warning,) = probe(str(path)).warnings
        assert f"-shm is owned by uid {NOBODY}, the database by uid 0" in warning


def test_a_symbolic_link_leads_to_the_log_of_the_file_itself(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db")
    link = tmp_path / "link.db"
    link.symlink_to(path)
    found = probe(str(link))
    assert found.path == str(path)
    assert found.log is not None
