"""Reading a ``-wal``: what SQLite's recovery would make of it, and what it would not tell.

The file is read from front to back in pieces of bounded size. Writers may be at work: what a look
found is looked at again where it does not hold together, and `changed_while_reading` says so where
it never does.
"""

from __future__ import annotations

import os
from dataclasses import replace

from modelstore.wal.chunk import Geometry, examine
from modelstore.wal.files import open_regular, read_at, require_regular
from modelstore.wal.frames import Frame, FrameState, StopReason, Transaction, WalScan
from modelstore.wal.gather import Examine, gather
from modelstore.wal.guess import guess_geometry
from modelstore.wal.header import WalFault, WalHeader, WalHeaderError
from modelstore.wal.layout import WAL_HEADER_SIZE, frame_size

__all__ = [
    "Frame",
    "FrameState",
    "StopReason",
    "Transaction",
    "WalFault",
    "WalHeader",
    "WalHeaderError",
    "WalScan",
    "scan",
]

_PLAIN_LIMIT = 2 << 20  # bytes that plain Python checks in less time than numpy takes to load
_CHUNK_SIZE = 2 << 20  # larger ones leave the processor's cache, smaller ones cost more calls
_ATTEMPTS = 10


def scan(source: str | int) -> WalScan:
    """Return what the ``-wal`` at a path, or open at a descriptor, holds.

    Takes a few megabytes and 9 bytes a frame of memory. Reads again while the file changes under
    it, and believes in damage only when two looks agree, as a writer that takes back a transaction
    overwrites frames in place. Raises `RefusedError` for what is no regular file or cannot be
    read; a missing file is an answer: `WalFault.ABSENT`.
    """
    evidence: object = None
    attempt = 0
    while True:
        attempt += 1
        found = _look(source)
        before, evidence = evidence, (found.header, found.valid, found.later_commits)
        is_doubtful = found.is_damaged or (found.fault is not None and found.fault.is_damage)
        if not found.changed_while_reading and (not is_doubtful or evidence == before):
            return found
        if attempt == _ATTEMPTS:
            return replace(found, changed_while_reading=True)
        del found  # so that a million frames are not held twice


def _look(source: str | int) -> WalScan:
    """Read the log once, noting whether it changed meanwhile."""
    if isinstance(source, int):
        require_regular(source, "the -wal file")
        return _read(source)
    try:
        fd = open_regular(source)
    except FileNotFoundError:
        return WalScan(size=0, fault=WalFault.ABSENT)
    try:
        found = _read(fd)
        if not _is_still(source, fd):
            return replace(found, changed_while_reading=True)
        return found
    finally:
        os.close(fd)


def _is_still(path: str, fd: int) -> bool:
    """Return whether `path` still names the file open at `fd`."""
    try:
        return os.path.samestat(os.lstat(path), os.fstat(fd))
    except OSError:
        return False


def _read(fd: int) -> WalScan:
    size = os.fstat(fd).st_size
    raw = read_at(fd, WAL_HEADER_SIZE, 0)
    try:
        header = WalHeader.unpack(raw)
    except WalHeaderError as error:
        return WalScan(size=size, fault=error.fault, changed_while_reading=len(raw) != size)
    geometry = Geometry(header.page_size, header.big_endian, header.salt)
    start = header.checksum
    if header.fault is not None:
        guessed = guess_geometry(fd, header) if header.fault.is_damage else None
        if guessed is None:
            return WalScan(size=size, fault=header.fault, header=header)
        geometry, start = guessed
    slots, tail = divmod(max(0, size - WAL_HEADER_SIZE), frame_size(geometry.page_size))
    columns = gather(fd, geometry, slots, start, _CHUNK_SIZE, _examiner(size))
    found = columns.judge(is_header_sound=header.fault is None)
    changed = read_at(fd, WAL_HEADER_SIZE, 0) != raw or os.fstat(fd).st_size < size
    return replace(
        found,
        size=size,
        fault=header.fault,
        header=header,
        frame_slots=slots,
        tail_bytes=tail,
        changed_while_reading=changed or columns.was_cut,
    )


def _examiner(size: int) -> Examine:
    """Return the function that checks frames of a log of `size` bytes in the least time."""
    if size <= _PLAIN_LIMIT:
        return examine
    from modelstore.wal import vector

    return vector.examine
