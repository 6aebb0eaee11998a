"""Scans of made logs, compared with the recovery of SQLite itself."""

from __future__ import annotations

from pathlib import Path

import pytest

import modelstore.wal.scan as scanning
from modelstore.wal.format import WalFault
from modelstore.wal.frames import (
    FrameState,
    WalScan,
)
from modelstore.wal.scan import scan_wal
from tests.wal.logfiles import (
    PAGE_SIZES,
    LogBuilder,
    Sample,
    make_sample,
    recover,
)

KINDS = ("plain", "stale", "open")
P = 512
FRAME = 24 + P


class Samples:
    """SQLite's own logs by kind and page size; no dict, whose bytes a failure would print."""

    def __init__(self, directory: Path) -> None:
        self._made = {
            (kind, size): make_sample(directory, size, kind)
            for kind in KINDS
            for size in PAGE_SIZES
        }

    def __getitem__(self, key: tuple[str, int]) -> Sample:
        return self._made[key]


def choose(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning, "_PLAIN_LIMIT", 1 << 40 if engine == "plain" else 0)
    monkeypatch.setattr(
        scanning, "_THREAD_LIMIT", 0 if engine == "numpy, reading ahead" else 1 << 40
    )


def look(tmp_path: Path, raw: bytes | bytearray) -> WalScan:
    path = tmp_path / "a.db-wal"
    path.write_bytes(raw)
    return scan_wal(str(path))


def flip(raw: bytes | bytearray, at: int, bits: int = 4) -> bytearray:
    out = bytearray(raw)
    out[at] ^= bits
    return out


def agree_with_sqlite(
    tmp_path: Path, sample: Sample, log: bytes | bytearray, *, is_forged: bool = False
) -> WalScan:
    """Return the scan of `log` after a comparison with SQLite's recovery of it.

    A forged log has right checksums over false content: its commits may differ from `sample`.
    """
    found = look(tmp_path, log)
    recovered = recover(tmp_path / "recovered", sample.database, bytes(log))
    if found.fault is WalFault.NEWER_VERSION:
        assert recovered.max_frame is None
        return found
    assert found.max_frame == recovered.max_frame
    if found.max_frame:
        assert found.page_count == recovered.page_count
    assert not found.changed_while_reading
    states = [frame.state for frame in found.frames()]
    assert states.count(FrameState.COMMITTED) == found.max_frame
    assert states.count(FrameState.UNCOMMITTED) == found.uncommitted
    assert states.count(FrameState.IGNORED) == found.ignored_frames
    assert states.count(FrameState.DAMAGED) == found.damaged
    assert states.count(FrameState.TORN) == found.torn
    assert states.count(FrameState.STALE) == found.stale
    if not found.is_damaged:
        assert (found.damaged, found.ignored_frames, found.ignored_commits) == (0, 0, 0)
    assert len(states) == found.frame_slots - found.blank + states.count(FrameState.BLANK)
    commits = [t for t in found.transactions() if t.state is FrameState.COMMITTED]
    assert len(commits) == found.commit_count
    assert sum(t.frames for t in commits) == found.max_frame
    if recovered.rows is not None and not is_forged:
        assert recovered.rows == sample.rows.get(found.commit_count, recovered.rows)
        on_disk = len(sample.database) // sample.page_size
        assert recovered.counted == (found.page_count if found.max_frame else on_disk)
    return found


def raw_header(*, page_size: int = 4096, version: int = 3007000, big_endian: bool = False) -> bytes:
    return bytes(LogBuilder(page_size, version=version, big_endian=big_endian, sequence=7).raw)
