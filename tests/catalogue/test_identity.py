from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

import modelstore.catalogue.identity as matching
import modelstore.catalogue.merge as merging
from modelstore.catalogue.merge import attached_staging, count_present, merge
from modelstore.database.sqlite import sqlite3
from modelstore.found import Found
from tests.catalogue.making import (
    LATER,
    catalogue,
    counts,
    file,
    found,
    handle,
    model,
    new_staging,
    served,
    table,
    take,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.catalogue.making import Opened


def paths_of_models(opened: Opened) -> list[object]:
    return [row[0] for row in table(opened, "path")]


def test_hard_links_are_one_model_with_two_places(tmp_path: Path) -> None:
    opened = catalogue(tmp_path)
    one = tmp_path / "one.gguf"
    one.write_bytes(b"weights")
    os.link(one, tmp_path / "two.gguf")
    items = []
    for name in ("one.gguf", "two.gguf"):
        status = os.stat(tmp_path / name)
        items.append(
            found(
                str(tmp_path / name),
                file_size=status.st_size,
                file_mtime_ns=status.st_mtime_ns,
                file_inode=status.st_ino,
                file_device=status.st_dev,
            )
        )
    assert counts(take(opened, *items)) == (1, 0, 0)
    assert counts(take(opened, *items[::-1])) == (0, 0, 1)
    assert paths_of_models(opened) == [str(one)]
    assert len(table(opened, "DISTINCT locator", "model_places")) == 2
    assert len(table(opened, "path", "model_files")) == 2


def test_the_same_content_in_two_stores_is_one_model(tmp_path: Path) -> None:
    opened = catalogue(tmp_path)
    items = [
        found(f"/{kind}/blob", f"/{kind}", source=kind, file_sha256="c" * 64)
        for kind in ("huggingface", "ollama")
    ]
    assert counts(take(opened, items[0])) == (1, 0, 0)
    assert counts(take(opened, items[1])) == (0, 0, 1)
    assert table(opened, "root", "model_places") == [("/huggingface",), ("/ollama",)]


def test_a_server_and_a_disk_show_one_model_whichever_came_first(tmp_path: Path) -> None:
    by_server, on_disk = served("a", path="/m/a.gguf"), found("/m/a.gguf")
    for number, order in enumerate(([by_server, on_disk], [on_disk, by_server])):
        directory = tmp_path / str(number)
        directory.mkdir()
        opened = catalogue(directory)
        take(opened, order[0])
        assert take(opened, order[1]).added == 0
        assert counts(take(opened, *order)) == (0, 0, 1)
        assert len(table(opened)) == 1
        assert table(opened, "name, state", "model_places") == [("a", "loaded"), ("a.gguf", None)]


def test_the_state_of_a_place_follows_the_server(tmp_path: Path) -> None:
    opened = catalogue(tmp_path)
    item = served("a")
    take(opened, item)
    assert item.place is not None
    take(opened, replace(item, place=replace(item.place, state="unloaded")))
    assert table(opened, "state", "model_places") == [("unloaded",)]


def test_an_inode_that_was_given_anew_joins_nothing(tmp_path: Path) -> None:
    opened = catalogue(tmp_path)
    take(opened, found("/m/gone.gguf", file_inode=7, file_device=1))
    other = found("/m/new.gguf", file_inode=7, file_device=1, file_size=200, file_mtime_ns=9)
    assert take(opened, other).added == 1


def test_a_moved_file_keeps_its_row(tmp_path: Path) -> None:
    opened = catalogue(tmp_path)
    take(opened, found("/m/old.gguf", file_inode=7, file_device=1), tags=("mine",))
    assert take(opened, found("/m/new.gguf", file_inode=7, file_device=1)).added == 0
    assert table(opened, "tags") == [('["mine"]',)]


def test_hosts_are_kept_apart(tmp_path: Path) -> None:
    opened = catalogue(tmp_path)
    shared: dict[str, Any] = {"file_inode": 7, "file_device": 1, "file_sha256": "d" * 64}
    for host in ("box", "rack", None):
        assert take(opened, found("/m/a.gguf", host=host or "", **shared)).added == 1
    assert len(table(opened, "host", "model_places")) == 3


def test_a_shared_projector_joins_nothing(tmp_path: Path) -> None:
    opened = catalogue(tmp_path)
    projector = file("/m/mmproj.gguf", role="projector", sha256="e" * 64, inode=9, device=1)
    items = [found(f"/m/{name}.gguf") for name in "ab"]
    items = [replace(item, files=(*item.files, projector)) for item in items]
    loose = Found(model("/m/mmproj.gguf", type="projector"), (projector,))
    assert take(opened, *items, loose).added == 3
    assert counts(take(opened, loose, *items)) == (0, 0, 3)


def test_the_first_shard_tells_which_model_it_is(tmp_path: Path) -> None:
    opened = catalogue(tmp_path)

    def sharded(directory: str) -> Found:
        files = tuple(
            file(f"{directory}/w-0000{n}-of-00002.gguf", role="shard", sha256=f"{n}" * 64)
            for n in (1, 2)
        )
        return Found(model(files[0].path), files)

    assert take(opened, sharded("/a"), sharded("/b")).added == 1
    assert len(table(opened, name="model_files")) == 4


def test_a_copy_that_became_another_model_gets_its_own_row(tmp_path: Path) -> None:
    opened = catalogue(tmp_path)
    first, second = (found(f"/m/{name}.gguf", file_sha256="f" * 64) for name in "ab")
    assert take(opened, first, second).added == 1
    changed = found("/m/b.gguf", architecture="llama", file_size=300, file_sha256="0" * 64)
    assert counts(take(opened, changed)) == (1, 0, 0)
    assert table(opened, "path, architecture") == [("/m/a.gguf", None), ("/m/b.gguf", "llama")]
    for companions in ("model_files", "model_places"):
        owners = opened.conn.execute(
            f"SELECT m.path FROM {companions} JOIN models AS m ON m.id = model_id "
            f"WHERE {companions}.{'path' if 'files' in companions else 'locator'} = '/m/b.gguf'"
        ).fetchall()
        assert owners == [("/m/b.gguf",)]


def test_an_unchanged_model_brings_a_new_place(tmp_path: Path) -> None:
    opened = catalogue(tmp_path)
    item = found("/m/a.gguf")
    take(opened, item)
    assert item.place is not None
    with new_staging() as staging:
        staging.add_seen(item.model.locator, replace(item.place, root="/"))
        staging.add_seen(item.model.locator, None)
        staging.add_seen("file://box/unheard/of", item.place)
        assert counts(merge(opened, staging, now=LATER)) == (0, 0, 1)
    assert table(opened, "root", "model_places") == [("/",), ("/m",)]


@pytest.mark.parametrize(
    "statement",
    [
        *(matching._BY_LOCATOR, matching._BY_PATH, matching._BY_INODE, matching._BY_SHA256),
        *(merging._DROP_FILES, merging._LAND_FILES, merging._LAND_PLACES),
        merging.LAND_SEEN_PLACES,
    ],
)
def test_no_model_costs_a_walk_through_all_the_others(tmp_path: Path, statement: str) -> None:
    opened = catalogue(tmp_path)
    names = ("locator", "host", "weights", "model")
    with new_staging() as staging:
        staging.seal()
        with attached_staging(opened.db, staging):
            plan = opened.conn.execute(
                "EXPLAIN QUERY PLAN " + statement, dict.fromkeys(names, "x")
            ).fetchall()
    steps = [str(row[3]) for row in plan]
    assert any(step.startswith("SEARCH") for step in steps)
    # What was staged is walked through once; `s` is the staged table in each statement.
    assert [step for step in steps if step.startswith("SCAN") and step.split()[1] != "s"] == []


def test_what_an_immutable_connection_sees_is_counted(tmp_path: Path) -> None:
    opened = catalogue(tmp_path)
    with new_staging() as staging:
        staging.add(found("/m/a.gguf"))
        merge(opened, staging, now=LATER)
        assert staging.expected() == 1
        for expected in (0, 1):  # nothing is in the main file before the fold
            main_alone = sqlite3.connect(
                f"file:{opened.path}?immutable=1", uri=True, isolation_level=None
            )
            main_alone.execute("PRAGMA query_only = ON")
            assert count_present(handle(main_alone), staging) == expected
            main_alone.close()
            opened.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
