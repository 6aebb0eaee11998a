"""The installed program as a black box: its streams, its exit code, and who else is around."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from tests.forkserver import ForkServer

ROOT = Path(__file__).resolve().parent.parent.parent
DATA = ROOT / "tests" / "data" / "models"


@dataclass(frozen=True, slots=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the caller's environment without what would change the program's answers."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MODELSTORE_", "HF_", "OLLAMA_", "LLAMA_", "GITHUB_"))
        and name
        not in (
            "PAGER",
            "LESS",
            "FORCE_COLOR",
            "NO_COLOR",
            "CI",
            "COLUMNS",
            "HUGGINGFACE_HUB_CACHE",
        )
    }
    # A pager would wait for a key that nobody presses.
    return {**kept, "PYTHONUTF8": "1", "PAGER": "cat", **(extra or {})}


def modelstore(
    *arguments: str | Path,
    stdin: bytes | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Result:
    """Run the program in a process of its own and return what it said.

    The process is forked from one that has the program loaded, since the start of Python takes ten
    times as long as a run; tests of the start itself begin a new one. A current directory of None
    is the caller's.
    """
    from tests.forkserver import fork_server

    return run_by(fork_server(), *arguments, stdin=stdin, env=env, cwd=cwd)


def run_by(
    server: ForkServer,
    *arguments: str | Path,
    stdin: bytes | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Result:
    """Run the program that a server has loaded, as `modelstore` does."""
    ran = server.run(*arguments, stdin=stdin or b"", env=env, cwd=cwd or Path.cwd(), memory=None)
    assert not ran.timed_out, f"modelstore {arguments} did not end"
    return Result(
        ran.code,
        ran.out.decode("utf-8", "surrogateescape"),
        ran.err.decode("utf-8", "surrogateescape"),
    )


def started(
    *arguments: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Result:
    """Run the program that a new interpreter finds, which `env` may make another one."""
    done = subprocess.run(
        [sys.executable, "-m", "modelstore", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=environment(env),
        cwd=cwd,
        timeout=PATIENCE,
        check=False,
    )
    return Result(done.returncode, done.stdout.decode(), done.stderr.decode())


@contextmanager
def python(
    code: str, *arguments: str | Path, stderr: int | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Run Python `code` in a process of its own until the block ends; it is killed then."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


READER = """
    import sqlite3, sys
    conn = sqlite3.connect(sys.argv[1], isolation_level=None)
    conn.execute("BEGIN")
    print(conn.execute(sys.argv[2]).fetchone(), flush=True)
    sys.stdin.readline()
    conn.execute("COMMIT")
    print("released", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def reader(
    database: Path, query: str = "SELECT count(*) FROM models"
) -> Iterator[subprocess.Popen[str]]:
    """Hold a read transaction in another process; a line on its stdin ends the transaction."""
    with python(READER, database, query) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        yield process


def alone(database: Path, query: str = "SELECT count(*) FROM models") -> list[tuple[Any, ...]]:
    """Return a query's rows from the main file alone, seen by another SQLite in a child process."""
    code = (
        "import sqlite3, sys, json;"
        "conn = sqlite3.connect(f'file:{sys.argv[1]}?immutable=1', uri=True);"
        "print(json.dumps(conn.execute(sys.argv[2]).fetchall()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(database), query],
        capture_output=True,
        text=True,
        check=True,
    )
    return [tuple(row) for row in json.loads(done.stdout)]


def records(count: int, prefix: str = "Model") -> bytes:
    """Return JSON lines of `count` models."""
    lines: Sequence[str] = [
        json.dumps({"name": f"{prefix}-{n}", "architecture": "llama", "parameter_count": n + 1})
        for n in range(count)
    ]
    return "\n".join(lines).encode()
