from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def open_dir() -> Iterator[Path]:
    """Yield a directory that other users can enter; pytest's own are for one user alone."""
    directory = Path(tempfile.mkdtemp(prefix="modelstore-test-"))
    os.chmod(directory, 0o755)
    yield directory
    os.chmod(directory, 0o755)
    shutil.rmtree(directory)
