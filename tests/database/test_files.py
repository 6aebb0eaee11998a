from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

CODE = """
import os, sys
from modelstore.database.files import sync_directory
if os.getuid() == 0:
    os.setuid(65534)
synced = []
os.fsync = lambda descriptor: synced.append("directory")
os.sync = lambda: synced.append("everything")
sync_directory(sys.argv[1])
print(*synced)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="modes of POSIX")
@pytest.mark.parametrize(("mode", "synced"), [(0o777, "directory"), (0o333, "everything")])
def test_a_directory_that_cannot_be_opened_is_synced_with_everything(
    mode: int, synced: str
) -> None:
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(mode)
        done = subprocess.run(
            [sys.executable, "-c", CODE, name], capture_output=True, text=True, check=True
        )
        Path(name).chmod(0o700)
    assert done.stdout.split() == [synced]
