from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# First of all that needs SQLite: a test's own import of sqlite3 must not come before it, or the
# tests run on another SQLite than the program where apsw's library takes the interpreter's place.
import modelstore.database.sqlite  # noqa: F401
from tests.skips import Recorder

# A crowded machine is no fault of what is tested: how long an example takes proves nothing.
settings.register_profile("calm", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("calm")

# A run starts Python a thousand times; without byte code, each start compiles the package anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# A process in the background of a shell, or of nohup, ignores such signals, and so do those that
# it starts. A handler that does nothing is as good here, and is not inherited.
for _name in ("SIGINT", "SIGHUP", "SIGTERM"):
    _number = getattr(signal, _name, None)
    if _number is not None and signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, lambda _number, _frame: None)


def pytest_configure(config: pytest.Config) -> None:
    """Note the skips of this run where it is asked for: in the process that hears of all tests."""
    path = os.environ.get("MODELSTORE_TEST_SKIPS")
    if path and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Recorder(Path(path)))


@pytest.fixture
def open_dir() -> Iterator[Path]:
    """Yield a directory that other users can enter; pytest's own are for one user alone."""
    directory = Path(tempfile.mkdtemp(prefix="modelstore-test-"))
    os.chmod(directory, 0o755)
    yield directory
    os.chmod(directory, 0o755)
    shutil.rmtree(directory)
