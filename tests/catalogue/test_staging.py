from __future__ import annotations

import errno
import os
import stat
import sys
from typing import TYPE_CHECKING

import pytest

from modelstore.catalogue.merge import count_present, merge
from modelstore.catalogue.staging import model_row, weights_file
from modelstore.catalogue.tags import tags_json
from modelstore.database.sqlite import sqlite3
from modelstore.database.sqlite_errors import SQLITE_FULL, primary_code
from modelstore.errors import RefusedError
from modelstore.found import Found, ModelFile
from modelstore.model import MODEL_COLUMNS
from tests.catalogue.making import (
    NOW,
    catalogue,
    counts,
    file,
    found,
    model,
    new_staging,
    served,
    table,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no permission bits")
def test_the_scratch_file_is_private_and_goes_away(tmp_path: Path) -> None:
    with new_staging(str(tmp_path)) as staging:
        assert stat.S_IMODE(os.stat(staging.path).st_mode) == 0o600
        staging.add(found("/m/a.gguf"))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["a'b", "a b", "50%41", "q?mode=rw", "h#x", 'd"q', "é", "a;b"])
def test_the_scratch_file_may_be_anywhere(tmp_path: Path, name: str) -> None:
    directory = tmp_path / name
    try:
        directory.mkdir()
    except OSError:
        pytest.skip("this file system has no such name")
    opened = catalogue(tmp_path)
    with new_staging(str(directory)) as staging:
        staging.add(found("/m/a.gguf"))
        assert merge(opened, staging, now=NOW).added == 1
        assert count_present(opened.db, staging) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="names here are bytes on Linux alone")
def test_the_scratch_file_may_be_where_the_path_is_no_text(tmp_path: Path) -> None:
    directory = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
    os.mkdir(directory)
    opened = catalogue(tmp_path)
    try:
        staging = new_staging(directory).__enter__()
    except (UnicodeError, OSError):
        pytest.skip("this SQLite takes only paths that are text")
    with staging:
        staging.add(found("/m/a.gguf"))
        assert merge(opened, staging, now=NOW).added == 1


def test_the_last_of_one_locator_wins_and_counts_once(tmp_path: Path) -> None:
    opened = catalogue(tmp_path)
    with new_staging() as staging:
        first, last = (model_row(model("/m/a.gguf", license=name)) for name in ("mit", "gpl"))
        staging.add_rows([first, last], is_authoritative=True)
        staging.add(found("/m/b.gguf", license="mit"))
        staging.add(found("/m/b.gguf", license="gpl"))
        assert counts(merge(opened, staging, now=NOW)) == (2, 0, 0)
        assert count_present(opened.db, staging) == staging.expected() == 2
    assert table(opened, "path, license") == [("/m/a.gguf", "gpl"), ("/m/b.gguf", "gpl")]


def test_a_row_that_cannot_be_held_is_named_and_the_others_are_kept(tmp_path: Path) -> None:
    opened = catalogue(tmp_path)
    good = [model_row(model(f"/m/{n}.gguf")) for n in range(5)]
    huge = model_row(model("/m/huge.gguf", parameter_count=2**63))
    label = model_row(model("/m/label.gguf")._replace(parameter_count="7B"))  # type: ignore[arg-type]
    unnamed = tuple(
        None if column == "name" else value
        for column, value in zip(MODEL_COLUMNS, model_row(model("/m/x.gguf")), strict=True)
    )
    with new_staging() as staging:
        rejected = staging.add_rows(
            [*good[:2], huge, label, *good[2:4], unnamed, good[4]], is_authoritative=True
        )
        assert [r.what for r in rejected] == ["huge.gguf", "label.gguf", unnamed[3]]
        assert "2^63" in rejected[0].reason
        assert merge(opened, staging, now=NOW).added == 5


def test_a_model_that_cannot_be_held_is_named(tmp_path: Path) -> None:
    opened = catalogue(tmp_path)
    with new_staging() as staging:
        rejected = staging.add(found("/m/huge.gguf", parameter_count=2**64))
        assert rejected is not None
        assert (rejected.what, "2^63" in rejected.reason) == ("/m/huge.gguf", True)
        assert counts(merge(opened, staging, now=NOW)) == (0, 0, 0)
    assert table(opened, name="model_files") == []


def test_paths_that_are_no_text_are_kept(tmp_path: Path) -> None:
    opened = catalogue(tmp_path)
    path = "/m/\udcff\udc80.gguf"
    with new_staging() as staging:
        assert staging.add_rows([model_row(model(path))], is_authoritative=True) == []
        assert staging.add(found("/m/\udcfe.gguf")) is None
        assert merge(opened, staging, now=NOW).added == 2
        assert count_present(opened.db, staging) == 2


def test_inode_numbers_of_64_bits_are_kept(tmp_path: Path) -> None:
    opened = catalogue(tmp_path)
    with new_staging() as staging:
        assert staging.add(found("/m/a.gguf", file_inode=2**64 - 1, file_device=2**63)) is None
        assert staging.add(found("/m/b.gguf", file_inode=2**64 - 1, file_device=2**63)) is None
        assert counts(merge(opened, staging, now=NOW)) == (1, 0, 0)


def test_batches_are_counted_together_for_the_proof(tmp_path: Path) -> None:
    opened = catalogue(tmp_path)
    with new_staging() as staging:
        for start in (0, 2, 4):
            staging.add_rows(
                [model_row(model(f"/r/{n}.gguf")) for n in (start, start + 1)],
                is_authoritative=True,
            )
            staging.add(found(f"/m/{start}.gguf"))
            merge(opened, staging, now=NOW)
            staging.clear()
            assert staging.pending == 0
        staging.add_rows([model_row(model("/m/0.gguf"))], is_authoritative=True)
        merge(opened, staging, now=NOW)
        assert count_present(opened.db, staging) == staging.expected() == 9
        opened.conn.execute("DELETE FROM models WHERE path IN ('/r/1.gguf', '/m/2.gguf')")
        assert count_present(opened.db, staging) == 7
        assert staging.expected() == 9


def test_tags_are_sorted_and_each_once() -> None:
    assert tags_json(["b", "ä", "a", "b"]) == '["a","b","ä"]'


def test_the_weights_are_told_from_their_companions() -> None:
    weights = file("/m/w.gguf")
    projector = file("/m/mmproj.gguf", role="projector")
    second, first = (file(f"/m/w-0000{n}-of-00002.gguf", role="shard") for n in (2, 1))
    described = model("/m/w.gguf")
    assert weights_file(described, (projector, weights)) == weights
    assert weights_file(described, (projector, second, first)) == first
    assert weights_file(described, (projector,)) is None
    assert weights_file(model("/m/mmproj.gguf"), (projector,)) == projector
    assert weights_file(described, ()) is None
    by_server = served("w", path="/m/w.gguf")
    assert weights_file(by_server.model, ()) == ModelFile("/m/w.gguf", "model")
    assert isinstance(by_server, Found)


def test_a_full_scratch_disk_is_told_and_no_record_is_blamed_for_it(tmp_path: Path) -> None:
    with new_staging(str(tmp_path)) as staging:
        (pages,) = staging._db.execute("PRAGMA page_count").fetchone()
        staging._db.execute(f"PRAGMA max_page_count = {pages}")
        rows = [model_row(model(f"/m/{number}.gguf")) for number in range(1000)]
        with pytest.raises(RefusedError, match="scratch file") as caught:
            staging.add_rows(rows, is_authoritative=True)
    assert isinstance(caught.value.__cause__, sqlite3.Error)
    assert primary_code(caught.value.__cause__) == SQLITE_FULL
    assert os.listdir(tmp_path) == []


def test_a_scratch_file_that_cannot_be_made_is_no_bug(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=f"scratch file .* {os.strerror(errno.ENOENT)}"):
        new_staging(str(tmp_path / "absent")).__enter__()


def test_rows_that_were_joined_count_once(tmp_path: Path) -> None:
    with new_staging(str(tmp_path)) as staging:
        staging.merged([("one", "/m/one"), ("two", "/m/two"), ("three", "/m/three")], None)
        staging.joined({"one": "two", "three": "unseen"})
        assert staging.expected() == 2
        staging.joined({"not there": "two"})
        assert staging.expected() == 2
