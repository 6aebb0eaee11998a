"""The program on a real terminal (a pty), and what a terminal would show of its output."""

from __future__ import annotations

import os
import re
import select
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
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
    from tests.forkserver import fork_server

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    if answer is not None:
        os.write(ours, answer.encode())
    with ThreadPoolExecutor(1) as reader:
        raw = reader.submit(_drain, ours)
        try:
            ran = fork_server().run(
                *arguments,
                env={"TERM": "xterm-256color", **(env or {})},
                cwd=Path.cwd(),
                memory=None,
                terminal=dict.fromkeys((1,) if answer is None else (0, 1, 2), os.ttyname(theirs)),
            )
        finally:
            os.close(theirs)
        text = raw.result(PATIENCE).decode().replace("\r\n", "\n")
    os.close(ours)
    assert not ran.timed_out, f"modelstore {arguments} did not end; it wrote {text[-400:]!r}"
    return Screen(ran.code, text, ran.said)


@contextmanager
def stderr_on_terminal(
    *arguments: str | Path, stdin: Path | None = None
) -> Iterator[tuple[subprocess.Popen[bytes], Callable[[str], bool]]]:
    """Run the program with stderr on a pty, and yield it with what waits until a text is shown.

    `stdin` is a file or a FIFO that it reads; both ends of a FIFO are opened by then.
    """
    pty = pytest.importorskip("pty", reason="this system has no pseudo-terminals")
    ours, theirs = pty.openpty()
    source = os.open(stdin or os.devnull, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(source, True)
    process = subprocess.Popen(
        [sys.executable, "-m", "modelstore", *map(str, arguments)],
        stdin=source,
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
        os.close(source)


def _drain(descriptor: int) -> bytes:
    """Read until the terminal's other side is closed by everybody."""
    raw = b""
    while True:
        try:
            chunk = os.read(descriptor, 65536)
        except OSError:  # Linux: EIO once nobody has the other side open
            return raw
        if not chunk:
            return raw
        raw += chunk


class Watched:
    """The program with stdin and stdout on a pty, in a group of its own so that it can stop.

    `settings` are those of the terminal before it started.
    """

    def __init__(
        self,
        *arguments: str | Path,
        columns: int,
        rows: int,
        env: Mapping[str, str] | None,
        on_stderr: bool,
    ) -> None:
        pty = pytest.importorskip("pty", reason="this system has no pseudo-terminals")
        self._termios = pytest.importorskip("termios")
        self._fcntl = pytest.importorskip("fcntl")
        self._ours, self._theirs = pty.openpty()
        self.resize(columns, rows)
        self.settings = self.current_settings()
        self.raw = b""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "modelstore", *map(str, arguments)],
            stdin=self._theirs,
            stdout=self._theirs,
            stderr=self._theirs if on_stderr else subprocess.PIPE,
            env=environment({"TERM": "xterm-256color", **(env or {})}),
            process_group=0,
        )

    def current_settings(self) -> list[object]:
        return list(self._termios.tcgetattr(self._theirs))

    def resize(self, columns: int, rows: int) -> None:
        """Change the size; the program is told only by its terminal's own session."""
        size = struct.pack("HHHH", rows, columns, 0, 0)
        self._fcntl.ioctl(self._theirs, self._termios.TIOCSWINSZ, size)

    def press(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def read_until(self, found: Callable[[bytes], bool]) -> bytes:
        """Read until `found` is true of all that was written since the last call; return it."""
        deadline = time.monotonic() + PATIENCE
        while not found(self.raw):
            assert time.monotonic() < deadline, self.raw[-2000:]
            if select.select([self._ours], [], [], 0.1)[0]:
                self.raw += os.read(self._ours, 65536)
        read, self.raw = self.raw, b""
        return read

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        os.close(self._ours)
        os.close(self._theirs)


@contextmanager
def watched(
    *arguments: str | Path,
    columns: int = 80,
    rows: int = 24,
    env: Mapping[str, str] | None = None,
    on_stderr: bool = False,
) -> Iterator[Watched]:
    """Run the program on a whole terminal until the block ends; with stderr, or without."""
    terminal = Watched(*arguments, columns=columns, rows=rows, env=env, on_stderr=on_stderr)
    try:
        yield terminal
    finally:
        terminal.close()
