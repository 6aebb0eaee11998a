"""A real llama-server on the loopback, its answers, and the buffers that its log names."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import tempfile
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

_MIB = 1024 * 1024
_BUFFER = re.compile(r"\S+ (model|KV|RS|DSV4 \w+ state) buffer size = +([\d.]+) MiB")
_LARGEST_ANSWER = 1 << 24  # bytes
_VERBOSE = ("-lv", "4")  # the buffers are told at this level


def find_server() -> str | None:
    """Return llama-server's path: LLAMA_SERVER, or the one in PATH; None if there is none."""
    return os.environ.get("LLAMA_SERVER") or shutil.which("llama-server")


@dataclass(frozen=True, slots=True)
class Server:
    """A running llama-server: its address, and its log."""

    address: str
    log: Path
    is_ready: bool

    def get(self, path: str) -> Any:
        """Return the JSON of an answer; None if the server does not answer with 200."""
        return ask(self.address + path)


def ask(url: str, body: dict[str, object] | None = None) -> Any:
    """Return the JSON of an answer on the loopback; None if there is none with status 200."""
    import json

    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read(_LARGEST_ANSWER))
    except (OSError, urllib.error.URLError, ValueError):
        return None


@contextmanager
def running(
    server: str, *options: str, folder: Path | None = None, cache: Path | None = None
) -> Iterator[Server]:
    """Run llama-server in `folder` with a hub cache, until it is ready or has ended."""
    with tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch, "log")
        port = _free_port()
        command = [server, "--host", "127.0.0.1", "--port", str(port), "--offline", *options]
        environment = {**os.environ, "HF_HUB_CACHE": str(cache or scratch)}
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, stdout=output, stderr=output, cwd=folder, env=environment
            )
        address = f"http://127.0.0.1:{port}"
        try:
            wait_until(lambda: process.poll() is not None or ask(address + "/health"))
            yield Server(address, log, is_ready=process.poll() is None)
        finally:
            process.terminate()
            process.wait(60)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True, slots=True)
class Buffers:
    """The bytes that a server told; each of its buffers is rounded to 0.01 MiB."""

    weights: float
    kv_cache: float
    recurrent_state: float
    count: int


def buffers(server: str, model: Path, *options: str) -> Buffers | None:
    """Return the buffers of a server that loads a model; None if it refuses model or cache."""
    sizes = {"model": 0.0, "KV": 0.0, "RS": 0.0}
    told = ("--no-warmup", "--fit", "off", *_VERBOSE)
    with running(server, "-m", str(model), *told, *options) as one:
        found = _BUFFER.findall(one.log.read_text("utf-8", "replace"))
        if not one.is_ready and all(name == "model" for name, _ in found):
            return None  # a server that made its caches may still stumble over the zeros
    for name, size in found:
        sizes[name if name in sizes else "RS"] += float(size) * _MIB
    return Buffers(sizes["model"], sizes["KV"], sizes["RS"], len(found))
