"""List the buckets of a NATS server that hold replicas, and what is newest in each.

A bucket of JetStream's object store is a stream, ``OBJ_BUCKET``; the subjects of its metadata hold
the objects' names. The client protocol is lines of text, and a question has one answer.
https://docs.nats.io/reference/reference-protocols/nats-protocol
https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-20.md
"""

from __future__ import annotations

import base64
import binascii
import json
import socket
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from modelstore.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedRWPair

    from modelstore.replica.name import ReplicaName

_PORT = 4222
_MAX_LINE = 1 << 16  # bytes
_MAX_ANSWER = 64 << 20  # bytes
_PAGES = 1000
_INBOX = "_INBOX.modelstore"
_HINT = "check the URL: nats://HOST:PORT/BUCKET, where a machine's bucket is BUCKET-NAME"


def stored_objects(
    fleet: ReplicaName, *, timeout: float
) -> Iterator[tuple[str, str, float | None]]:
    """Yield machine, object and time for each object in the buckets ``BUCKET-MACHINE``.

    The time is that of the bucket's last change, in seconds since the epoch. Raises `SourceError`
    where the server does not tell.
    """
    parts = urlsplit(fleet.url or "")
    start = f"{parts.path.strip('/')}-"
    with _connected(fleet, timeout) as client:
        for bucket in client.buckets():
            if bucket.startswith(start):
                for name, at in client.objects(bucket):
                    yield bucket[len(start) :], name.rpartition("/")[2], at


@contextmanager
def _connected(fleet: ReplicaName, timeout: float) -> Iterator[_Client]:
    parts = urlsplit(fleet.url or "")
    try:
        address = (parts.hostname or "", parts.port or _PORT)
        with (
            socket.create_connection(address, timeout) as connection,
            connection.makefile("rwb") as stream,
        ):
            yield _Client(stream, fleet.shown)
    except (OSError, ValueError):
        raise SourceError(f"{fleet.shown} cannot be reached", hint=_HINT) from None


class _Client:
    """One connection, which asks one question at a time."""

    def __init__(self, stream: BufferedRWPair, shown: str) -> None:
        self._stream = stream
        self._shown = shown
        if not self._line().startswith(b"INFO "):
            raise self._trouble("is no NATS server")
        self._send(b'CONNECT {"verbose":false,"pedantic":false,"lang":"python"}\r\n')
        self._send(f"SUB {_INBOX} 1\r\n".encode())

    def buckets(self) -> Iterator[str]:
        """Yield the names of all buckets."""
        seen = 0
        for _ in range(_PAGES):
            answer = self._ask("STREAM.NAMES", {"offset": seen, "subject": "$O.>"})
            names = [name for name in answer.get("streams") or () if isinstance(name, str)]
            yield from (name[4:] for name in names if name.startswith("OBJ_"))
            seen += len(names)
            if not names or seen >= _number(answer.get("total")):
                return

    def objects(self, bucket: str) -> Iterator[tuple[str, float | None]]:
        """Yield the name of each object of a bucket, and the bucket's time."""
        seen = 0
        for _ in range(_PAGES):
            asked = {"offset": seen, "subjects_filter": f"$O.{bucket}.M.>"}
            answer = self._ask(f"STREAM.INFO.OBJ_{bucket}", asked)
            state = answer.get("state")
            subjects = state.get("subjects") if isinstance(state, dict) else None
            if not isinstance(state, dict) or not isinstance(subjects, dict):
                return
            at = _time(state.get("last_ts"))
            for subject in subjects:
                yield _decoded(subject.rpartition(".")[2]), at
            seen += len(subjects)
            if not subjects or seen >= _number(answer.get("total")):
                return

    def _ask(self, question: str, body: dict[str, object]) -> dict[str, Any]:
        raw = json.dumps(body).encode()
        self._send(f"PUB $JS.API.{question} {_INBOX} {len(raw)}\r\n".encode() + raw + b"\r\n")
        for _ in range(_PAGES):
            line = self._line()
            if line.startswith(b"PING"):
                self._send(b"PONG\r\n")
            elif line.startswith(b"-ERR"):
                raise self._trouble("refuses to answer")
            elif line.startswith(b"MSG "):
                return self._answer(line)
        raise self._trouble("does not answer")

    def _answer(self, line: bytes) -> dict[str, Any]:
        size = line.split()[-1]
        if not size.isdigit() or int(size) > _MAX_ANSWER:
            raise self._trouble("answers with something else than a listing")
        try:
            value = json.loads(self._stream.read(int(size) + 2))
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict) or "error" in value:
            raise self._trouble("answers with something else than a listing")
        return value

    def _line(self) -> bytes:
        line = self._stream.readline(_MAX_LINE)
        if not line.endswith(b"\n"):
            raise self._trouble("ended the connection")
        return line

    def _send(self, raw: bytes) -> None:
        self._stream.write(raw)
        self._stream.flush()

    def _trouble(self, what: str) -> SourceError:
        return SourceError(f"{self._shown} {what}", hint=_HINT)


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _decoded(text: str) -> str:
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        return ""
    return raw.decode("utf-8", "replace")


def _time(value: object) -> float | None:
    try:
        return datetime.fromisoformat(str(value)[:19] + "Z").timestamp()
    except (ValueError, OverflowError):
        return None
