from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from modelstore.errors import SourceError
from modelstore.sources.base import Note
from modelstore.sources.stores import lmstudio
from tests.sources.stores.making import (
    context,
    found,
    read_all,
    second_import,
    skipped,
    write_gguf,
    write_projector,
)

if TYPE_CHECKING:
    from pathlib import Path


def test_models_at_any_depth(tmp_path: Path) -> None:
    models = tmp_path / ".lmstudio" / "models"
    for path in (
        "bartowski/Tiny-GGUF/Tiny-F32.gguf",
        "shallow.gguf",
        "a/b/c/d/deep.gguf",
    ):
        write_gguf(models / path)
    items = {item.place.name: item for item in found(read_all(lmstudio.read, models)) if item.place}
    assert set(items) == {
        "bartowski/Tiny-GGUF/Tiny-F32.gguf",
        "shallow.gguf",
        "a/b/c/d/deep.gguf",
    }
    tiny = items["bartowski/Tiny-GGUF/Tiny-F32.gguf"]
    path = os.path.realpath(models / "bartowski" / "Tiny-GGUF" / "Tiny-F32.gguf")
    assert tiny.model.source == "lmstudio"
    assert tiny.model.name == "Tiny-F32"
    assert tiny.model.locator == f"file://box{path}"
    assert tiny.place is not None
    assert (tiny.place.root, tiny.place.locator) == (os.path.realpath(models), path)


def test_projector_goes_with_its_model_and_unfinished_is_incomplete(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "org" / "Tiny-GGUF"
    weights = write_gguf(folder / "Tiny-F32.gguf")
    projector = write_projector(folder / "mmproj-Tiny-F16.gguf")
    (folder / "downloading_Other-Q8_0.gguf.part").write_bytes(weights[:50])
    items = {item.model.name: item for item in found(read_all(lmstudio.read, tmp_path / "models"))}
    assert [file.role for file in items["Tiny-F32"].files] == ["model", "projector"]
    assert {item.model.status for item in items.values()} == {"available", "incomplete"}
    (folder / "downloading_Other-Q8_0.gguf.part").unlink()
    second_import(lmstudio.read, tmp_path / "models", [weights, projector])


def test_home_directory_and_its_setting(tmp_path: Path) -> None:
    home = tmp_path / ".lmstudio"
    (home / ".internal").mkdir(parents=True)
    write_gguf(home / "models" / "org" / "repo" / "here.gguf")
    write_gguf(tmp_path / "disk" / "org" / "repo" / "moved.gguf")
    assert [item.model.name for item in found(read_all(lmstudio.read, home))] == ["here"]
    settings = home / "settings.json"
    settings.write_text(json.dumps({"downloadsFolder": str(tmp_path / "disk"), "language": "en"}))
    [item] = found(read_all(lmstudio.read, home))
    assert item.model.name == "moved"
    assert item.place is not None
    assert item.place.root == os.path.realpath(home)  # what was imported
    ctx = context(home=str(tmp_path))
    assert lmstudio.usual_places(ctx)[0] == str(tmp_path / "disk")
    settings.write_text('{"downloadsFolder": "~/disk"}')
    assert lmstudio.usual_places(ctx)[0] == f"{tmp_path}/disk"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"downloadsFolder": 7}',
        b'{"downloadsFolder": "relative"}',
        b"[" * 99_999,
    ],
)
def test_setting_that_is_none_leaves_the_default(tmp_path: Path, content: bytes) -> None:
    home = tmp_path / ".lmstudio"
    write_gguf(home / "models" / "org" / "repo" / "here.gguf")
    (home / "settings.json").write_bytes(content)
    assert [item.model.name for item in found(read_all(lmstudio.read, home))] == ["here"]


def test_setting_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    home = tmp_path / ".lmstudio"
    home.mkdir()
    (home / "settings.json").write_text('{"downloadsFolder": "/no/such/disk"}')
    with pytest.raises(SourceError, match=r"/no/such/disk.*does not exist"):
        read_all(lmstudio.read, home)


def test_usual_places(tmp_path: Path) -> None:
    home = tmp_path / "me"
    assert lmstudio.usual_places(context(home=str(home))) == [
        str(home / ".lmstudio" / "models"),
        str(home / ".cache" / "lm-studio" / "models"),
    ]
    home.mkdir()
    (home / ".lmstudio-home-pointer").write_text(f"{tmp_path}/elsewhere\n")
    assert lmstudio.usual_places(context(home=str(home)))[0] == str(
        tmp_path / "elsewhere" / "models"
    )


@pytest.mark.skipif(os.name == "nt", reason="links and pipes")
def test_links_out_of_the_store_are_followed_and_circles_are_named(tmp_path: Path) -> None:
    models = tmp_path / "models"
    write_gguf(models / "org" / "repo" / "good.gguf")
    write_gguf(tmp_path / "outside" / "secret.gguf")
    (models / "org" / "repo" / "out.gguf").symlink_to(tmp_path / "outside" / "secret.gguf")
    (models / "org" / "repo" / "loop.gguf").symlink_to("loop.gguf")
    (models / "org" / "circle").symlink_to("..")
    (models / "linked").symlink_to(tmp_path / "outside")
    os.mkfifo(models / "org" / "pipe.gguf")
    items = read_all(lmstudio.read, models)
    assert [item.model.name for item in found(items)] == ["good", "secret", "secret"]
    (note,) = (item.text for item in items if isinstance(item, Note))
    assert note.startswith(f"2 links were followed out of {models}: ")
    reasons = {os.path.basename(what): reason for what, reason in skipped(items).items()}
    assert set(reasons) == {"loop.gguf", "circle", "pipe.gguf"}


@pytest.mark.skipif(os.name == "nt", reason="links")
def test_link_within_the_store_is_the_same_model(tmp_path: Path) -> None:
    write_gguf(tmp_path / "org" / "repo" / "one.gguf")
    (tmp_path / "org" / "other").mkdir()
    (tmp_path / "org" / "other" / "two.gguf").symlink_to("../repo/one.gguf")
    items = found(read_all(lmstudio.read, tmp_path))
    assert len(items) == 2
    assert len({item.model.locator for item in items}) == 1
