"""The library between the program and libc (`shim.c`): compiled, told what to do, and read."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import mmap
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

_SOURCE = Path(__file__).with_name("shim.c")
_LOG_HEAD = struct.Struct("=IIQQ")
_RECORD = struct.Struct("=IIIIQqqII")
_LOG_SIZE = 1 << 28  # bytes; sparse


class Op(IntEnum):
    """A kind of system call."""

    OPEN = 0
    READ = 1
    WRITE = 2
    SYNC = 3
    TRUNCATE = 4
    MMAP = 5
    UNLINK = 6
    LOCK = 7
    RENAME = 8
    NOTE = 9


class Kind(IntEnum):
    """A kind of file."""

    DB = 0
    WAL = 1
    SHM = 2
    JOURNAL = 3
    DIRECTORY = 4
    SCRATCH = 5


class Action(IntEnum):
    """What happens at the chosen call."""

    NOTHING = 0
    KILL_BEFORE = 1
    KILL_AFTER = 2
    FAIL = 3
    SHORT = 4
    STOP = 5
    TIMER = 6  # SIGKILL, so many nanoseconds after the call
    JUMP = 7  # of the clock, by so many nanoseconds


FILES = frozenset((Kind.DB, Kind.WAL, Kind.SHM, Kind.JOURNAL))
CHANGES = frozenset((Op.WRITE, Op.SYNC, Op.TRUNCATE, Op.UNLINK))


class _Control(ctypes.Structure):
    _fields_ = (
        ("database", ctypes.c_char * 1024),
        ("scratch", ctypes.c_char * 1024),
        ("op_mask", ctypes.c_uint32),
        ("kind_mask", ctypes.c_uint32),
        ("nth", ctypes.c_int64),
        ("action", ctypes.c_uint32),
        ("error", ctypes.c_uint32),
        ("argument", ctypes.c_int64),
        ("persist", ctypes.c_uint32),
        ("pad", ctypes.c_uint32),
        ("seen", ctypes.c_int64),
        ("fired", ctypes.c_int64),
        ("first_ns", ctypes.c_int64),
        ("last_ns", ctypes.c_int64),
        ("wall_jump", ctypes.c_int64),
        ("monotonic_jump", ctypes.c_int64),
        ("hurry", ctypes.c_int64),
        ("counts", ctypes.c_int64 * len(Kind) * len(Op)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Trap:
    """What is to happen at which call: the `nth` of those of `ops` on `kinds`; 0 is none.

    `argument` is nanoseconds; `persist`: and at every one that follows; `hurry`: SQLite's own
    waits, of ten seconds and more where locks fail, are skipped.
    """

    ops: frozenset[Op] = CHANGES
    kinds: frozenset[Kind] = FILES
    nth: int = 0
    action: Action = Action.NOTHING
    error: int = 0
    argument: int = 0
    persist: bool = False
    hurry: bool = False


@dataclass(frozen=True, slots=True)
class Counted:
    """What the shim saw of a run; `span` is the nanoseconds from the first call to the last."""

    seen: int
    fired: int
    span: int
    counts: dict[tuple[Op, Kind], int]


class Control:
    """The memory that the shim and the tester share."""

    def __init__(self, path: Path, database: Path, scratch: Path | None = None) -> None:
        self.path = path
        self._database = os.fsencode(database)
        self._scratch = os.fsencode(scratch) if scratch is not None else b""
        if not path.exists():
            self.set(Trap())

    def set(self, trap: Trap) -> None:
        """Set a trap, and all counts to 0."""
        block = _Control(
            database=self._database,
            scratch=self._scratch,
            op_mask=sum(1 << op for op in trap.ops),
            kind_mask=sum(1 << kind for kind in trap.kinds),
            nth=trap.nth,
            action=trap.action,
            error=trap.error,
            argument=trap.argument,
            persist=trap.persist,
            hurry=trap.hurry,
        )
        self.path.write_bytes(bytes(block))
        self.path.chmod(0o666)  # the program may run as another user

    def read(self) -> Counted:
        """Return what was seen since the trap was set."""
        block = _Control.from_buffer_copy(self.path.read_bytes())
        counts = {
            (op, kind): block.counts[op][kind]
            for op in Op
            for kind in Kind
            if block.counts[op][kind]
        }
        return Counted(block.seen, block.fired, block.last_ns - block.first_ns, counts)


@dataclass(frozen=True, slots=True)
class Record:
    """A call that was made: `error` is its errno, 0 where it was carried out."""

    op: Op
    kind: Kind
    pid: int
    error: int
    inode: int
    offset: int
    length: int
    data: bytes
    created: bool
    emptied: bool


class Log:
    """All calls that change files, of all processes, in their order."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("wb") as file:
            file.truncate(_LOG_SIZE)
        path.chmod(0o666)

    def records(self) -> Iterator[Record]:
        """Yield what was logged."""
        with self.path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as raw:
            _, full, used, _ = _LOG_HEAD.unpack_from(raw)
            assert not full, "the log was too small for the recording"
            at, end = _LOG_HEAD.size, _LOG_HEAD.size + used
            while at < end:
                op, kind, pid, error, inode, offset, length, size, flags = _RECORD.unpack_from(
                    raw, at
                )
                at += _RECORD.size
                yield Record(
                    Op(op),
                    Kind(kind),
                    pid,
                    error,
                    inode,
                    offset,
                    length,
                    raw[at : at + size],
                    bool(flags & 1),
                    bool(flags & 2),
                )
                at += (size + 7) & ~7


def why_not() -> str | None:
    """Return why no shim can be had on this machine; None where it can."""
    if not sys.platform.startswith("linux"):
        return "the shim between program and libc is made for Linux"
    if shutil.which("gcc") is None:
        return "there is no gcc to compile the shim with"
    return None


@functools.cache
def compiled() -> Path:
    """Return the compiled shim; compiled once for each version of its source."""
    digest = hashlib.sha256(_SOURCE.read_bytes()).hexdigest()[:16]
    directory = Path(tempfile.gettempdir()) / f"modelstore-shim-{os.getuid()}"
    directory.mkdir(mode=0o700, exist_ok=True)
    path = directory / f"{digest}.so"
    if not path.exists():
        new = path.with_suffix(f".{os.getpid()}")
        subprocess.run(
            ["gcc", "-O2", "-shared", "-fPIC", "-o", new, _SOURCE, "-ldl", "-lrt"], check=True
        )
        new.rename(path)
    return path


def workplace() -> str | None:
    """Return where the tester's files go: in memory where there is such a place."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def attach(control: str, log: str | None) -> None:
    """Tell the shim, in the process that it is loaded into, what to do."""
    path = log.encode() if log is not None else None
    if ctypes.CDLL(None).shim_attach(control.encode(), path):
        raise RuntimeError("the shim could not map its control block")


def note(what: int, value: int) -> None:
    """Write a mark into the log, from the process that the shim is loaded into."""
    ctypes.CDLL(None).shim_note(ctypes.c_int64(what), ctypes.c_int64(value))
