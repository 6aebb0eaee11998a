"""One request and its reply, bounded in time and size however the server behaves."""

from __future__ import annotations

import socket
import ssl
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from threading import Thread
from time import monotonic
from typing import TYPE_CHECKING

from modelstore.text import human_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from urllib3 import BaseHTTPResponse
    from urllib3.connection import HTTPConnection

    from modelstore.sources.address import Address

MAX_BODY = 16 * 1024 * 1024  # bytes; the longest known list of models is about 2 MB
_CHUNK = 64 * 1024


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server answered."""

    status: int
    headers: Mapping[str, str]  # names are compared without case
    body: bytes


class ReplyFaultError(Exception):
    """A reply that is not taken; its text says what the server did."""

    def __init__(self, what: str, status: int) -> None:
        super().__init__(what)
        self.status = status


class Exchange:
    """A request that ends at its deadline, a moment of the monotonic clock.

    The timeouts of sockets begin anew with each byte, and name look-ups have none: so the
    exchange runs in a thread, which loses its socket when the time is over.
    """

    def __init__(self, address: Address, deadline: float) -> None:
        from urllib3.connection import HTTPConnection, HTTPSConnection

        self.deadline = deadline
        host, port, timeout = address.host, address.port, max(0.001, self._left())
        self.connection: HTTPConnection
        if address.scheme == "http":
            self.connection = HTTPConnection(host, port, timeout=timeout)
        else:
            context = ssl.create_default_context()
            self.connection = HTTPSConnection(host, port, timeout=timeout, ssl_context=context)
        # The connection forgets its socket when the server means to close it after the reply.
        self.socket: socket.socket | None = None

    def run(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | None
    ) -> Reply:
        """Return the reply. Raises `ReplyFaultError`, TimeoutError, and what urllib3 raises."""
        future: Future[Reply] = Future()

        def work() -> None:
            try:
                future.set_result(self._ask(method, target, headers, body))
            except Exception as error:  # noqa: BLE001 - the waiting thread raises it
                future.set_exception(error)
            finally:
                self.connection.close()

        Thread(target=work, name="modelstore-http", daemon=True).start()
        try:
            return future.result(max(0.0, self._left()))
        finally:
            if (sock := self.socket or self.connection.sock) is not None:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def _left(self) -> float:
        return self.deadline - monotonic()

    def _ask(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | None
    ) -> Reply:
        self.connection.connect()
        self.socket = self.connection.sock
        if self._left() <= 0:  # nobody waits any more, and nobody will cut this socket
            raise TimeoutError
        self.connection.request(method, target, body=body, headers=headers, preload_content=False)
        response = self.connection.getresponse()
        try:
            return Reply(response.status, response.headers, self._body(response))
        finally:
            response.close()

    def _body(self, response: BaseHTTPResponse) -> bytes:
        """Read at most `MAX_BODY` bytes, whatever the server says of their number."""
        status = response.status
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise ReplyFaultError("sent a compressed reply, which was not asked for", status)
        chunks: list[bytes] = []
        size = 0
        while chunk := response.read(_CHUNK, decode_content=False):
            chunks.append(chunk)
            size += len(chunk)
            if size > MAX_BODY:
                raise ReplyFaultError(f"sent more than {human_bytes(MAX_BODY)}", status)
        return b"".join(chunks)
