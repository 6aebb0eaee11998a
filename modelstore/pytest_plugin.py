"""``pytest --modelstore-verify PATH``: the session fails if its database does not persist.

pytest loads this module by its entry point. It does nothing, and imports nothing of the rest,
unless the option is given.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

_OPTION = "modelstore_verify"
_VERDICTS = {0: "persists", 5: "does not persist"}  # by exit code


def pytest_addoption(parser: Any) -> None:  # noqa: ANN401  # pytest is no dependency
    """Add the option; it may be repeated."""
    parser.getgroup("modelstore").addoption(
        "--modelstore-verify",
        dest=_OPTION,
        metavar="PATH",
        action="append",
        default=[],
        help="check after the session that this SQLite database persists; fold nothing",
    )


def pytest_sessionfinish(session: Any) -> None:  # noqa: ANN401
    """Verify each database, in the controlling process alone."""
    config = session.config
    if hasattr(config, "workerinput"):  # a worker of pytest-xdist
        return
    results = [(path, *_verify(path)) for path in config.getoption(_OPTION)]
    config.stash_modelstore = results
    if any(code for _, code, _ in results) and session.exitstatus == 0:
        session.exitstatus = 1


def _verify(path: str) -> tuple[int, str]:
    """Return the exit code and the words of ``modelstore verify`` in a process of its own.

    The tests may have left connections of this process open: to look at the files here would drop
    the locks of SQLite.
    """
    done = subprocess.run(  # noqa: S603  # our own program
        [sys.executable, "-m", "modelstore", "verify", "--db", path, "--no-checkpoint"],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def pytest_terminal_summary(terminalreporter: Any) -> None:  # noqa: ANN401
    """Show the findings below the summary of the tests."""
    for path, code, said in getattr(terminalreporter.config, "stash_modelstore", ()):
        verdict = _VERDICTS.get(code, "could not be verified")
        terminalreporter.section(f"modelstore verify: {path} {verdict} (exit {code})")
        terminalreporter.write(said)
