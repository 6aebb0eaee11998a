"""The program on a real terminal (a pty), and what a terminal would show of its output."""

from __future__ import annotations

import os
import re
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.program import environment
from tests.waiting import PATIENCE

STYLES = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True, slots=True)
class Screen:
    """The text written to a terminal, and that of `stderr` if it was not the terminal."""

    code: int
    text: str  # raw, with carriage returns taken out
    err: str

    @property
    def plain(self) -> str:
        """The text without colours."""
        return STYLES.sub("", self.text)

    @property
    def lines(self) -> list[str]:
        return self.plain.splitlines()


def on_terminal(
    *arguments: str | Path,
    columns: int = 80,
    env: Mapping[str, str] | None = None,
    answer: str | None = None,
) -> Screen:
    """Run the program with stdout on a pty; with an `answer`, stdin and stderr are on it too."""
    pty = pytest.importorskip("pty", reason="this system has no pseudo-terminals")
    fcntl = pytest.importorskip("fcntl")
    termios = pytest.importorskip("termios")
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "modelstore", *map(str, arguments)],
        stdin=theirs if answer is not None else subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs if answer is not None else subprocess.PIPE,
        env=environment({"TERM": "xterm-256color", **(env or {})}),
    )
    os.close(theirs)
    if answer is not None:
        os.write(ours, answer.encode())
    raw = _drain(ours, process)
    err = process.stderr.read().decode() if process.stderr is not None else ""
    process.wait(PATIENCE)
    os.close(ours)
    return Screen(process.returncode, raw.decode().replace("\r\n", "\n"), err)


@contextmanager
def stderr_on_terminal(
    *arguments: str | Path,
) -> Iterator[tuple[subprocess.Popen[bytes], Callable[[str], bool]]]:
    """Run the program with stderr on a pty, and yield it with what waits until a text is shown."""
    pty = pytest.importorskip("pty", reason="this system has no pseudo-terminals")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "modelstore", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=environment({"TERM": "xterm-256color"}),
    )
    os.close(theirs)
    raw = b""

    def shown(text: str) -> bool:
        nonlocal raw
        deadline = time.monotonic() + PATIENCE
        while text.encode() not in raw and time.monotonic() < deadline:
            if select.select([ours], [], [], 0.2)[0]:
                try:
                    raw += os.read(ours, 65536)
                except OSError:  # Linux: EIO once nobody has the other side open
                    break
        return text.encode() in raw

    try:
        yield process, shown
    finally:
        process.kill()
        process.communicate()
        os.close(ours)


def _drain(descriptor: int, process: subprocess.Popen[bytes]) -> bytes:
    """Read until the terminal's other side is closed by everybody."""
    deadline = time.monotonic() + PATIENCE
    raw = b""
    while time.monotonic() < deadline:
        ready, _, _ = select.select([descriptor], [], [], 0.2)
        if not ready:
            if process.poll() is not None:
                return raw
            continue
        try:
            chunk = os.read(descriptor, 65536)
        except OSError:  # Linux: EIO once nobody has the other side open
            return raw
        if not chunk:
            return raw
        raw += chunk
    process.send_signal(signal.SIGKILL)
    pytest.fail(f"the program did not end; it wrote {raw[-400:]!r}")
