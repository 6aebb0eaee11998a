"""As much of the Hugging Face hub as its own library needs to fill its cache from."""

from __future__ import annotations

import hashlib
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGE = (".gguf", ".safetensors", ".bin")  # files that are kept by their SHA-256


@dataclass
class FakeHub:
    """Repositories by ``org/name``: revisions by commit, each of files by path."""

    repos: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    main: dict[str, str] = field(default_factory=dict)  # the commit of each repository's branch
    break_off: bool = False  # close each download halfway
    url: str = ""

    def content(self, path: str) -> tuple[str, bytes] | None:
        """The commit and content behind ``/org/name/resolve/revision/path``."""
        parts = path.lstrip("/").split("/")
        if len(parts) < 5 or parts[2] != "resolve":
            return None
        repo = "/".join(parts[:2])
        commit = self.main.get(repo, "") if parts[3] == "main" else parts[3]
        content = self.repos.get(repo, {}).get(commit, {}).get("/".join(parts[4:]))
        return None if content is None else (commit, content)


def etag(path: str, content: bytes) -> str:
    if path.endswith(LARGE):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()  # as git has it


@contextmanager
def serving(hub: FakeHub) -> Iterator[FakeHub]:
    class Handler(BaseHTTPRequestHandler):
        def _answer(self, *, body: bool) -> None:
            answer = hub.content(self.path.partition("?")[0])
            if answer is None:
                self.send_error(404)
                return
            commit, content = answer
            self.send_response(200)
            self.send_header("X-Repo-Commit", commit)
            self.send_header("ETag", f'"{etag(self.path, content)}"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content[: len(content) // 2] if hub.break_off else content)

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def log_message(self, *_arguments: object) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
