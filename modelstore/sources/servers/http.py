"""A bounded HTTP client: one address, whole-request deadlines, JSON replies of a known size.

A server is as hostile as a file. Each request ends at its deadline, however slowly the reply
arrives. A reply is bounded in size. Redirects to other servers are not followed, and no proxy is
used. The API key goes to the given address alone: never into a message, a log or a repr.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from threading import Thread
from time import monotonic
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from modelstore.errors import SourceError
from modelstore.sources.address import ADDRESS_HINT, DEFAULT_PORTS, KEY_HINT, Address
from modelstore.sources.values import mapping, parse_json
from modelstore.text import human_bytes, human_seconds, visible

if TYPE_CHECKING:
    from collections.abc import Mapping

    from urllib3 import BaseHTTPResponse
    from urllib3.connection import HTTPConnection

    from modelstore.sources.address import Address

MAX_BODY = 16 * 1024 * 1024  # bytes; the longest known list of models is about 2 MB
_CHUNK = 64 * 1024


@dataclass(frozen=True, slots=True)
class Reply:
    """The reply of a server."""

    status: int
    headers: Mapping[str, str]  # names are compared without case
    body: bytes


class ReplyFaultError(Exception):
    """A reply that is refused. The text says what the server did."""

    def __init__(self, what: str, status: int) -> None:
        super().__init__(what)
        self.status = status


class Exchange:
    """A request that ends at its deadline, a moment of the monotonic clock.

    A socket's timeout starts again with each byte, and a name look-up has none. So the exchange
    runs in a thread, whose socket is shut down at the deadline.
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
        """Return the reply. Raises `ReplyFaultError`, TimeoutError and the errors of urllib3."""
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
        if self._left() <= 0:  # nobody waits any more, so nobody would shut this socket down
            raise TimeoutError
        self.connection.request(method, target, body=body, headers=headers, preload_content=False)
        response = self.connection.getresponse()
        try:
            return Reply(response.status, response.headers, self._body(response))
        finally:
            response.close()

    def _body(self, response: BaseHTTPResponse) -> bytes:
        """Read at most `MAX_BODY` bytes, whatever length the server announces."""
        status = response.status
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise ReplyFaultError("sent a compressed reply that was not requested", status)
        chunks: list[bytes] = []
        size = 0
        while chunk := response.read(_CHUNK, decode_content=False):
            chunks.append(chunk)
            size += len(chunk)
            if size > MAX_BODY:
                raise ReplyFaultError(f"sent more than {human_bytes(MAX_BODY)}", status)
        return b"".join(chunks)


MAX_REDIRECTS = 3
_REDIRECTS = frozenset((301, 302, 303, 307, 308))


class ReplyError(SourceError):
    """A server that does not answer (``status`` is None), or answers with an error."""

    def __init__(self, message: str, *, hint: str | None = None, status: int | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status


@dataclass(frozen=True, slots=True)
class Client:
    """A client that gets JSON from one server. `timeout` limits each request, in seconds."""

    address: Address
    timeout: float
    api_key: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Refuse a key that no header can hold: the HTTP library would print it."""
        if self.api_key is not None and not re.fullmatch(r"[\x21-\x7e]+", self.api_key):
            raise SourceError(
                "the API key is empty or holds a space, a line break or a sign outside ASCII",
                hint="the key is the text alone, on one line",
            )

    def get(self, path: str) -> object:
        """Return the JSON value at `path`. Raises `ReplyError`."""
        return self._json("GET", path, None)

    def optional(self, path: str) -> dict[str, object]:
        """Return the JSON object at `path`; an empty one if the server gives none."""
        try:
            return mapping(self.get(path))
        except ReplyError:
            return {}

    def post(self, path: str, payload: object) -> object:
        """Post `payload` and return the JSON value of the reply. Raises `ReplyError`."""
        return self._json("POST", path, json.dumps(payload).encode())

    def _json(self, method: str, path: str, body: bytes | None) -> object:
        deadline = monotonic() + self.timeout
        target = self.address.path + path
        for _ in range(MAX_REDIRECTS + 1):
            reply = self._exchange(deadline, method, target, body)
            if reply.status not in _REDIRECTS:
                return self._decode(target, reply)
            target = self._redirected(target, reply)
            if reply.status not in (307, 308):
                method, body = "GET", None
        raise self._error(f"redirects more than {MAX_REDIRECTS} times", reply.status)

    def _exchange(self, deadline: float, method: str, target: str, body: bytes | None) -> Reply:
        from urllib3.exceptions import HTTPError

        headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",  # a compressed reply could be a bomb
            "Connection": "close",
            "User-Agent": "modelstore",
        }
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self.api_key is not None:
            headers["Authorization"] = f"Bearer {self.api_key}"
        try:
            return Exchange(self.address, deadline).run(method, target, headers, body)
        except ReplyFaultError as error:
            raise self._error(str(error), error.status) from None
        except (HTTPError, HTTPException, OSError, ValueError) as error:
            raise self._transport_error(error, target) from None

    def _decode(self, target: str, reply: Reply) -> object:
        if reply.status in (401, 403):
            wrong = "refused the API key" if self.api_key else "asks for an API key"
            raise self._error(f"{wrong} (HTTP {reply.status})", reply.status, hint=KEY_HINT)
        if not 200 <= reply.status < 300:
            raise self._error(
                f"answered {visible(target, 200)} with HTTP {reply.status}", reply.status
            )
        try:
            return parse_json(reply.body)
        except ValueError as error:
            kind = reply.headers.get("Content-Type") or "no content type"
            raise self._error(
                f"answered {visible(target, 200)} with {visible(kind, 60)}, not with JSON: {error}",
                reply.status,
                hint="is this the address of the API, and not of a web page?",
            ) from None

    def _redirected(self, target: str, reply: Reply) -> str:
        """Return the path that a redirect names. Raises `ReplyError` for another server."""
        here = self.address.url.removesuffix(self.address.path) + target
        try:
            there = urlsplit(urljoin(here, reply.headers.get("Location", "")))
            port = there.port or DEFAULT_PORTS.get(there.scheme)
        except ValueError:
            there, port = urlsplit(""), None
        if (there.scheme, there.hostname, port) != (
            self.address.scheme,
            self.address.host,
            self.address.port,
        ):
            raise self._error(
                "redirects to another server, which modelstore does not follow",
                reply.status,
                hint="import from that server's own address if you trust it",
            )
        return (there.path or "/") + (f"?{there.query}" if there.query else "")

    def _transport_error(self, error: Exception, target: str) -> ReplyError:
        from urllib3 import exceptions

        if isinstance(error, exceptions.NameResolutionError):
            return self._error("has an unknown host name", hint=ADDRESS_HINT)
        if isinstance(error, exceptions.NewConnectionError):
            return self._error("does not answer", hint="is the server running, and on this port?")
        if isinstance(error, (TimeoutError, exceptions.TimeoutError)):
            return self._error(
                f"did not answer {visible(target, 200)} within {human_seconds(self.timeout)}",
                hint="give it longer with --timeout",
            )
        if isinstance(error, (exceptions.SSLError, ssl.SSLError)):
            return self._error("could not be trusted: its TLS certificate or handshake is bad")
        return self._error(
            f"broke off the reply ({type(error).__name__})", hint="is it an HTTP server?"
        )

    def _error(
        self, what: str, status: int | None = None, *, hint: str | None = None
    ) -> ReplyError:
        if self.api_key:  # a server may echo it, such as in a redirect
            what = what.replace(self.api_key, "***")
        return ReplyError(f"{self.address.url} {what}", hint=hint, status=status)
