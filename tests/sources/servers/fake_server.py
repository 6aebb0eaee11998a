"""A real HTTP server in a thread, that answers as it is told, and remembers what it was asked."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator


@dataclass
class Asked:
    """One request that arrived."""

    method: str
    path: str
    headers: dict[str, str]  # names in lower case
    body: bytes


@dataclass
class FakeServer:
    """Answers by path: a JSON value, bytes, a status, or a function of the handler."""

    answers: dict[str, object] = field(default_factory=dict)
    key: str | None = None  # asked for on every path but the public ones
    public: tuple[str, ...] = ()
    asked: list[Asked] = field(default_factory=list)
    url: str = ""
    stopping: threading.Event = field(default_factory=threading.Event)

    def paths(self) -> list[str]:
        return [one.path for one in self.asked]


class Handler(BaseHTTPRequestHandler):
    """Looks up the answer. The functions among the answers write to it themselves."""

    fake: FakeServer

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        asked = Asked(
            self.command,
            self.path,
            {name.lower(): value for name, value in self.headers.items()},
            self.rfile.read(length),
        )
        self.fake.asked.append(asked)
        key = self.fake.key if self.path not in self.fake.public else None
        if key and asked.headers.get("authorization") != f"Bearer {key}":
            self.answer(401, b'{"error": {"message": "Invalid API Key", "code": 401}}')
            return
        answer = self.fake.answers.get(self.path, 404)
        with suppress(OSError):  # the client has hung up
            if callable(answer):
                answer(self, asked)
            elif isinstance(answer, int):
                self.answer(answer, b'{"error": {"message": "File Not Found"}}')
            elif isinstance(answer, bytes):
                self.answer(200, answer)
            else:
                self.answer(200, json.dumps(answer).encode())

    do_POST = do_GET  # noqa: N815 - the name that http.server looks for

    def answer(
        self, status: int, body: bytes = b"", kind: str = "application/json", **headers: str
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        return None


@contextmanager
def serving(fake: FakeServer, *, tls: ssl.SSLContext | None = None) -> Iterator[FakeServer]:
    handler = type("BoundHandler", (Handler,), {"fake": fake})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    fake.url = f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}"
    try:
        yield fake
    finally:
        fake.stopping.set()
        server.shutdown()
        server.server_close()


def raw(*parts: bytes, again: bytes = b"", pause: float = 0.0) -> Callable[[Handler, Asked], None]:
    """Answer with these very bytes, then with `again` for ever, `pause` seconds apart."""

    def answer(handler: Handler, _asked: Asked) -> None:
        handler.wfile.write(b"".join(parts))
        handler.wfile.flush()
        while again and not handler.fake.stopping.wait(pause):
            handler.wfile.write(again)
        handler.close_connection = True

    return answer


def status(code: int, body: bytes = b"", **headers: str) -> Callable[[Handler, Asked], None]:
    """Answer with a status, headers and a body."""
    return lambda handler, _asked: handler.answer(code, body, **headers)
