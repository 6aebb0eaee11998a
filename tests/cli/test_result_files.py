from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from modelstore.cli.result_files import ResultFile


@pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX")
@pytest.mark.parametrize(("before", "after"), [(0o600, 0o600), (0o640, 0o640), (None, 0o644)])
def test_a_report_is_no_wider_than_what_it_replaces(
    tmp_path: Path, before: int | None, after: int
) -> None:
    path = tmp_path / "report.html"
    if before is not None:
        path.touch()
        path.chmod(before)
    umask = os.umask(0o022)
    try:
        with ResultFile(str(path), "--report") as file:
            file.write("text")
    finally:
        os.umask(umask)
    assert path.read_text() == "text"
    assert stat.S_IMODE(path.stat().st_mode) == after
    assert os.listdir(tmp_path) == ["report.html"]
