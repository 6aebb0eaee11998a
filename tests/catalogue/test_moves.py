"""Identity follows the file: moves, renames, copies, and content that turns out to be the same."""

from __future__ import annotations

import os
import shutil
from itertools import permutations
from typing import TYPE_CHECKING

import pytest

from modelstore.catalogue.identity import join_models
from modelstore.catalogue.merge import count_present, merge
from modelstore.catalogue.roots import settle_root, survey_root
from modelstore.found import Found, Place
from modelstore.locator import file_locator, model_id
from tests.catalogue.making import (
    LATER,
    NOW,
    Opened,
    catalogue,
    file,
    found,
    model,
    new_staging,
    table,
    take,
    take_rows,
)

if TYPE_CHECKING:
    from pathlib import Path

    from modelstore.database.handle import Database


def on_disk(path: Path, root: Path, **values: object) -> Found:
    """The model of a file that is really there."""
    status = path.stat()
    facts = {
        "file_size": status.st_size,
        "file_mtime_ns": status.st_mtime_ns,
        "file_device": status.st_dev,
        "file_inode": status.st_ino,
    }
    return found(str(path), str(root), **(facts | values))


def scan(opened: Opened, root: Path) -> None:
    """Import a directory as `Importer` does."""
    with new_staging() as staging:
        for path in sorted(root.iterdir()):
            assert staging.add(on_disk(path, root)) is None
        survey = survey_root(opened.db, staging, str(root), host="box")

        def settle(db: Database) -> None:
            settle_root(db, survey, source="gguf", now=LATER, holds_models=True)

        merge(opened, staging, now=LATER, then=settle)
        staging.joined(join_models(opened, now=LATER))
        assert count_present(opened.db, staging) == staging.expected()


def put(path: Path, content: str = "weights") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def tag(opened: Opened, path: Path) -> None:
    opened.conn.execute("UPDATE models SET tags = '[\"mine\"]' WHERE path = ?", [str(path)])


def rows(opened: Opened) -> list[tuple[object, ...]]:
    return table(opened, "name, path, status, tags")


def test_a_model_follows_its_file_and_keeps_its_id_and_tags(tmp_path: Path) -> None:
    opened = catalogue(tmp_path)
    old = put(tmp_path / "a" / "old.gguf")
    scan(opened, old.parent)
    tag(opened, old)
    (key,) = table(opened, "id")
    new = tmp_path / "b" / "new.gguf"
    new.parent.mkdir()
    old.rename(new)
    scan(opened, new.parent)
    assert rows(opened) == [("new.gguf", str(new), "available", '["mine"]')]
    assert table(opened, "id, locator") == [(*key, file_locator("box", str(new)))]
    assert table(opened, "path", "model_files") == [(str(new),)]
    assert table(opened, "locator", "model_places") == [(str(new),)]


@pytest.mark.parametrize("order", ["old first", "new first", "new alone"])
def test_a_move_within_one_disk_is_followed_in_any_order(tmp_path: Path, order: str) -> None:
    opened = catalogue(tmp_path)
    old, other = put(tmp_path / "a" / "x.gguf"), put(tmp_path / "a" / "y.gguf", "others")
    scan(opened, old.parent)
    tag(opened, old)
    new = tmp_path / "b" / "x.gguf"
    new.parent.mkdir()
    old.rename(new)
    folders = {"old first": "ab", "new first": "ba", "new alone": "b"}[order]
    for folder in folders:
        scan(opened, tmp_path / folder)
    assert sorted(map(repr, rows(opened))) == sorted(
        map(
            repr,
            [
                ("x.gguf", str(new), "available", '["mine"]'),
                ("y.gguf", str(other), "available", "[]"),
            ],
        )
    )


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_a_move_to_another_disk_is_a_copy_and_is_followed(tmp_path: Path, order: str) -> None:
    opened = catalogue(tmp_path)
    old = put(tmp_path / "a" / "x.gguf")
    put(tmp_path / "a" / "y.gguf", "others")
    scan(opened, old.parent)
    tag(opened, old)
    new = tmp_path / "b" / "x.gguf"
    new.parent.mkdir()
    shutil.copy2(old, new)  # as `mv` between two file systems
    old.unlink()
    for folder in order:
        scan(opened, tmp_path / folder)
    assert min(rows(opened)) == ("x.gguf", str(new), "available", '["mine"]')
    assert len(rows(opened)) == 2
    assert len(table(opened, name="model_files")) == 2


def test_two_candidates_for_a_missing_model_are_left_apart(tmp_path: Path) -> None:
    opened = catalogue(tmp_path)
    old = put(tmp_path / "a" / "x.gguf")
    put(tmp_path / "a" / "y.gguf", "others")
    scan(opened, old.parent)
    for folder in "bc":
        (tmp_path / folder).mkdir()
        shutil.copy2(old, tmp_path / folder)
    old.unlink()
    for folder in "bca":
        scan(opened, tmp_path / folder)
    assert len(rows(opened)) == 4
    assert (str(old), "missing") in table(opened, "path, status")


def test_another_file_at_the_old_path_is_another_model(tmp_path: Path) -> None:
    opened = catalogue(tmp_path)
    old = put(tmp_path / "a" / "x.gguf")
    scan(opened, old.parent)
    new = tmp_path / "b" / "x.gguf"
    new.parent.mkdir()
    old.rename(new)
    scan(opened, new.parent)
    put(old, "other weights")
    scan(opened, old.parent)
    scan(opened, old.parent)
    assert {row[0] for row in table(opened, "path")} == {str(old), str(new)}
    stable = model_id(file_locator("box", str(old)))
    assert (str(new), stable) in table(opened, "path, id")
    records = [model(str(old), source="json", architecture="llama")]
    assert take_rows(opened, records).unchanged == 0
    assert len(rows(opened)) == 2


def test_a_record_of_the_old_path_is_another_model(tmp_path: Path) -> None:
    opened = catalogue(tmp_path)
    old = put(tmp_path / "a" / "x.gguf")
    scan(opened, old.parent)
    old.rename(tmp_path / "y.gguf")
    take(opened, on_disk(tmp_path / "y.gguf", tmp_path))
    records = [model(str(old), source="json"), model("/m/z", source="json")]
    assert take_rows(opened, records).added == 2
    assert len({row[0] for row in table(opened, "id")}) == 3


def test_a_second_copy_takes_over_path_and_locator(tmp_path: Path) -> None:
    opened = catalogue(tmp_path)
    first = put(tmp_path / "a" / "x.gguf")
    second = tmp_path / "a" / "y.gguf"
    os.link(first, second)
    scan(opened, first.parent)
    first.unlink()
    scan(opened, first.parent)
    assert table(opened, "path, locator") == [(str(second), file_locator("box", str(second)))]


def test_a_name_that_is_gone_gives_way_to_one_that_is_there(tmp_path: Path) -> None:
    """Ollama's rename: a new manifest, and the old one removed; the blob stays."""
    opened = catalogue(tmp_path)
    store = tmp_path / "store"
    blob = put(store / "blobs" / "sha256-x")

    def take_tags(*tags: str) -> None:
        with new_staging() as staging:
            for name in tags:
                made = on_disk(blob, store, source="ollama", name=name, source_id=name)
                place = Place(str(store), str(put(store / "manifests" / name)), "ollama", name)
                staging.add(Found(made.model, made.files, place))
            survey = survey_root(opened.db, staging, str(store), host="box")

            def settle(db: Database) -> None:
                settle_root(db, survey, source="ollama", now=LATER, holds_models=True)

            merge(opened, staging, now=LATER, then=settle)

    take_tags("old")
    (store / "manifests" / "old").unlink()
    with new_staging() as staging:  # the blob is unchanged: nothing is read
        locator = str(table(opened, "locator")[0][0])
        path = str(put(store / "manifests" / "new"))
        staging.add_seen(locator, Place(str(store), path, "ollama", "new"))
        survey = survey_root(opened.db, staging, str(store), host="box")

        def settle(db: Database) -> None:
            settle_root(db, survey, source="ollama", now=LATER, holds_models=True)

        merge(opened, staging, now=LATER, then=settle)
    assert table(opened, "name, source_id, status") == [("new", "new", "available")]
    assert table(opened, "name", "model_places") == [("new",)]


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_rows_of_the_same_content_are_joined_in_any_order(
    tmp_path: Path, order: tuple[int, ...]
) -> None:
    opened = catalogue(tmp_path)
    items = [
        found("/a/x", "/a", file_size=7),
        found("/b/x", "/b", file_sha256="c" * 64, source="ollama", architecture="llama"),
        found("/c/x", "/c", file_size=7, source="lmstudio"),
    ]
    for number in order:
        take(opened, items[number], tags=(f"t{number}",))
    assert len(rows(opened)) == 3
    opened.conn.execute("UPDATE model_files SET sha256 = ?", ["c" * 64])  # as verify --hash
    joined = join_models(opened, now=LATER)
    assert len(joined) == 2
    assert table(opened, "path, architecture, tags") == [
        (items[order[0]].model.path, "llama", '["t0","t1","t2"]')
    ]
    assert table(opened, "root", "model_places") == [("/a",), ("/b",), ("/c",)]
    assert len(table(opened, name="model_files")) == 3
    assert join_models(opened, now=LATER) == {}


def test_shards_are_the_same_content_only_if_all_of_them_are(tmp_path: Path) -> None:
    opened = catalogue(tmp_path)

    def sharded(directory: str, second: str) -> Found:
        files = tuple(
            file(f"{directory}/w-0000{number}-of-00002.gguf", role="shard") for number in (1, 2)
        )
        hashes[files[0].path], hashes[files[1].path] = "1" * 64, second * 64
        return Found(model(files[0].path), files)

    hashes: dict[str, str] = {}
    take(opened, sharded("/a", "2"), sharded("/b", "2"), sharded("/c", "3"))
    for path, sha256 in hashes.items():
        opened.conn.execute("UPDATE model_files SET sha256 = ? WHERE path = ?", [sha256, path])
    assert len(join_models(opened, now=NOW)) == 1
    assert len(rows(opened)) == 2


def test_hosts_are_joined_apart(tmp_path: Path) -> None:
    opened = catalogue(tmp_path)
    for host in ("box", "rack"):
        take(opened, found("/m/a", host=host, file_sha256="d" * 64))
    assert join_models(opened, now=NOW) == {}
