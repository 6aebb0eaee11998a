"""SHA-256 digests of many files, several at a time, that Ctrl-C stops at once."""

from __future__ import annotations

import hashlib
import os
import threading
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelstore.errors import RefusedError
from modelstore.wal.files import open_or_refuse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from modelstore.progress import Progress

_CHUNK = 1 << 20  # bytes
_LOOK = 0.2  # seconds between two looks at the progress
_WORKERS = 8  # beyond that a disk gains nothing


@dataclass(frozen=True, slots=True)
class Hashed:
    """The SHA-256 of a file in lower-case hex, or the problem; bytes, and ns since the epoch."""

    size: int = 0
    mtime_ns: int = 0
    sha256: str | None = None
    problem: str | None = None


def hash_files(paths: Iterable[str], total: int, tick: Progress) -> dict[str, Hashed]:
    """Return the digest of each file; `total` is the sum of their sizes in bytes, for `tick`.

    A file with two names is read once. Nothing is kept from one run to the next: a bit that flips
    on the disk changes neither size nor time.
    """
    stop = threading.Event()
    done = [0]
    guard = threading.Lock()

    def told(count: int) -> bool:
        with guard:
            done[0] += count
        return not stop.is_set()

    by_identity: dict[object, list[str]] = {}
    for path in paths:
        by_identity.setdefault(_identity(path), []).append(path)
    found: dict[str, Hashed] = {}
    workers = min(_WORKERS, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers, thread_name_prefix="hash") as pool:
        try:
            waiting = {pool.submit(_hash, names[0], told): names for names in by_identity.values()}
            pending = set(waiting)
            while pending:
                finished, pending = wait(pending, timeout=_LOOK, return_when=FIRST_COMPLETED)
                for future in finished:
                    found.update(dict.fromkeys(waiting[future], future.result()))
                tick(f"{len(found):,} files hashed", done[0], total)
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return found


def _identity(path: str) -> object:
    try:
        status = os.stat(path)
    except OSError:
        return path
    return status.st_dev, status.st_ino


def _hash(path: str, told: Callable[[int], bool]) -> Hashed:
    digest = hashlib.sha256()
    buffer = bytearray(_CHUNK)
    view = memoryview(buffer)
    try:
        descriptor = open_or_refuse(path)
    except (OSError, RefusedError) as error:
        return Hashed(problem=str(error))
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        before = os.fstat(descriptor)
        try:
            while count := file.readinto(buffer):
                digest.update(view[:count])
                if not told(count):
                    return Hashed(problem="interrupted")
        except OSError as error:
            return Hashed(problem=f"cannot be read: {error.strerror}")
        after = os.fstat(descriptor)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        return Hashed(problem="it changed while it was read")
    return Hashed(after.st_size, after.st_mtime_ns, digest.hexdigest())
