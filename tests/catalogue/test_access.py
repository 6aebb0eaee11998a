"""The time of the last use, against what the file system itself records."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from modelstore.catalogue import access
from modelstore.sources.files.gguf_header import read_header
from tests.cli.inside import inside
from tests.sources.stores.making import write_gguf

ON_LINUX = sys.platform.startswith("linux")


def used(path: Path, records: dict[int, bool] | None = None) -> str | None:
    return access.accessed(str(path), {} if records is None else records)


def test_it_is_the_time_of_access(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"x")
    os.utime(path, (1_700_000_000, 1_600_000_000))
    device = path.stat().st_dev
    assert used(path, {device: True}) == ("2023-11-14T22:13:20Z" if ON_LINUX else None)
    assert used(path, {device: False}) is None  # a mount with noatime
    assert used(tmp_path, {device: True}) is None
    assert used(tmp_path / "gone", {device: True}) is None
    assert access.accessed("\0", {}) is None


@pytest.mark.skipif(not hasattr(os, "O_NOATIME"), reason="only Linux lets a reader leave no trace")
def test_our_own_look_at_a_file_is_no_use_of_it(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    write_gguf(path)
    os.utime(path, (1_600_000_000, 1_700_000_000))  # a reader would move an access before a change
    db = tmp_path / "m.db"
    read_header(str(path))
    assert inside("import", path, "--db", db).code == 0
    assert inside("verify", db, "--hash", "--skip", "drill").code == 0
    assert path.stat().st_atime == 1_600_000_000


def test_it_is_listed_sorted_and_compared(tmp_path: Path) -> None:
    for year, name in enumerate(("old", "new")):
        write_gguf(tmp_path / f"{name}.gguf", name=name)
        os.utime(tmp_path / f"{name}.gguf", (1_600_000_000 + year * 40_000_000, 1_500_000_000))
    db = tmp_path / "m.db"
    assert inside("import", tmp_path, "--db", db).code == 0
    listed = inside("list", "-c", "name,used", "--sort", "-used", "--db", db, "-f", "csv").out
    rows = [line.split(",") for line in listed.splitlines()[1:]]
    if any(os.statvfs(tmp_path).f_flag & getattr(os, "ST_NOATIME", 0) for _ in ON_LINUX * [0]):
        assert [row[1] for row in rows] == ["", ""]
        return
    expected = [["new", "2021-12-20T11:33:20Z"], ["old", "2020-09-13T12:26:40Z"]]
    assert rows == (expected if ON_LINUX else [["new", ""], ["old", ""]])
    for condition in (["used<2021"], ["--where", "accessed_at < '2021'"]):
        found = inside("list", *condition, "-c", "name", "--db", db, "-f", "csv").out
        assert found.splitlines()[1:] == (["old"] if ON_LINUX else [])


def test_files_of_another_machine_are_unknown(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf")
    db = tmp_path / "m.db"
    assert inside("import", tmp_path, "--host", "elsewhere", "--db", db).code == 0
    assert inside("list", "-c", "accessed_at", "--db", db, "-f", "jsonl").out == (
        '{"accessed_at":null}\n'
    )
