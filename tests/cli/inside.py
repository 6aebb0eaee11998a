"""The command line run within the test's own process: for questions of content, by the dozen.

Exit codes and streams are proved from outside (`tests.cli.program`); this costs a tenth.
"""

from __future__ import annotations

import io
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from modelstore.cli import output
from modelstore.cli.main import run
from tests.cli.program import Result

_HANDLED = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]


def run_here(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; signals are handled as before then."""
    handlers = [signal.getsignal(number) for number in _HANDLED]
    try:
        return run(arguments)
    finally:
        for number, handler in zip(_HANDLED, handlers, strict=True):
            signal.signal(number, handler)


def inside(*arguments: str | Path) -> Result:
    """Run one command line and return what it wrote."""
    saved = sys.stdout, sys.stderr
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", newline="") for _ in range(2))
    sys.stdout, sys.stderr = out, err
    output._current = None
    try:
        code = run_here([str(argument) for argument in arguments])
        out.flush()
        err.flush()
    finally:
        sys.stdout, sys.stderr = saved
        output._current = None
    texts = [stream.buffer.getvalue().decode() for stream in (out, err)]
    return Result(code, *texts)
