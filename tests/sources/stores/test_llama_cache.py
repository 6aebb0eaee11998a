from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from modelstore.errors import SourceError
from modelstore.sources.base import Note
from modelstore.sources.stores import llama_cache
from tests.sources.stores.making import (
    context,
    found,
    read_all,
    second_import,
    sha256,
    skipped,
    write_gguf,
    write_projector,
)

if TYPE_CHECKING:
    from pathlib import Path

URL = "https://huggingface.co/{}/resolve/main/{}"


def manifest(gguf: tuple[str, bytes], projector: tuple[str, bytes] | None = None) -> str:
    def file(name: str, content: bytes) -> dict[str, object]:
        digest = sha256(content)
        return {
            "rfilename": name,
            "blobId": "sha256:" + digest,
            "size": len(content),
            "lfs": {"sha256": digest, "size": len(content), "pointerSize": 135},
        }

    parts = {"ggufFile": file(*gguf), **({"mmprojFile": file(*projector)} if projector else {})}
    return json.dumps({"schemaVersion": 2, "layers": [], **parts})


def test_flat_cache_with_its_sidecars(tmp_path: Path) -> None:
    weights = write_gguf(tmp_path / "ggml-org_gemma-3-4b-it-GGUF_gemma-3-4b-it-Q4_K_M.gguf")
    projector = write_projector(tmp_path / "ggml-org_gemma-3-4b-it-GGUF_mmproj-model-f16.gguf")
    (tmp_path / "manifest=ggml-org=gemma-3-4b-it-GGUF=latest.json").write_text(
        manifest(("gemma-3-4b-it-Q4_K_M.gguf", weights), ("mmproj-model-f16.gguf", projector))
    )
    other = write_gguf(tmp_path / "org_with_underscore_sub_other.gguf", name="other")
    (tmp_path / "org_with_underscore_sub_other.gguf.json").write_text(
        json.dumps(
            {
                "etag": '"' + "e" * 64 + '"',
                "lastModified": "Mon, 03 Mar 2026 09:00:00 GMT",
                "url": URL.format("org/with_underscore", "sub/other.gguf") + "?token=secret",
            }
        )
    )
    bare = write_gguf(tmp_path / "someone_something_bare.gguf", name="bare")
    (tmp_path / "someone_something_bare.gguf.etag").write_text('"' + "e" * 64 + '"')
    items = {
        item.place.name: item for item in found(read_all(llama_cache.read, tmp_path)) if item.place
    }
    assert "secret" not in repr(items)
    gemma = items["ggml-org/gemma-3-4b-it-GGUF/gemma-3-4b-it-Q4_K_M.gguf"]
    assert gemma.model.source == "llama-cache"
    assert gemma.model.source_id == "ggml-org/gemma-3-4b-it-GGUF"
    assert gemma.model.sha256 == sha256(weights)
    assert [(file.role, file.sha256) for file in gemma.files] == [
        ("model", sha256(weights)),
        ("projector", sha256(projector)),
    ]
    parameters = json.loads(items["org/with_underscore/sub/other.gguf"].model.parameters or "")
    assert parameters["hf_repo"] == "org/with_underscore"
    assert parameters["hf_file"] == "sub/other.gguf"
    # An entity tag looks like a SHA-256 and is none.
    assert items["org/with_underscore/sub/other.gguf"].model.sha256 is None
    assert items["someone_something_bare.gguf"].model.sha256 is None
    assert len(items) == 3
    second_import(llama_cache.read, tmp_path, [weights, projector, other, bare])


def test_hash_of_another_size_is_not_taken(tmp_path: Path) -> None:
    weights = write_gguf(tmp_path / "org_repo_x.gguf")
    (tmp_path / "manifest=org=repo=latest.json").write_text(manifest(("x.gguf", weights + b"x")))
    [item] = found(read_all(llama_cache.read, tmp_path))
    assert item.model.sha256 is None
    assert item.model.source_id == "org/repo"


def test_projector_of_another_repository_stays_away(tmp_path: Path) -> None:
    write_gguf(tmp_path / "org_text-GGUF_text-Q4_K_M.gguf")
    write_projector(tmp_path / "org_vision-GGUF_mmproj-vision-f16.gguf")
    items = found(read_all(llama_cache.read, tmp_path))
    assert sorted(len(item.files) for item in items) == [1, 1]


@pytest.mark.parametrize("suffix", ["downloadInProgress", "tmp"])
def test_unfinished_download_is_told(tmp_path: Path, suffix: str) -> None:
    """As an incomplete model where the name is known for one, else by being named."""
    weights = write_gguf(tmp_path / "org_repo_x.gguf")
    (tmp_path / f"org_repo_y.gguf.{suffix}").write_bytes(weights[:100])
    items = read_all(llama_cache.read, tmp_path)
    partly = [one for one in found(items) if one.model.status == "incomplete"]
    incomplete = [one.place.name for one in partly if one.place]
    named = [os.path.basename(what) for what in skipped(items)]
    assert incomplete + named == [f"org_repo_y.gguf.{suffix}"]


def test_shards_are_one_model(tmp_path: Path) -> None:
    for number in (1, 2):
        write_gguf(tmp_path / f"org_repo_Big-Q4_K_M-0000{number}-of-00002.gguf")
    [item] = found(read_all(llama_cache.read, tmp_path))
    assert [file.role for file in item.files] == ["shard", "shard"]


def test_cache_of_the_newer_layout_and_a_mixture(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--org--new" / "snapshots" / ("a" * 40)
    new = write_gguf(snapshot / "new.gguf", name="new")
    old = write_gguf(tmp_path / "org_repo_old.gguf", name="old")
    items = found(read_all(llama_cache.read, tmp_path))
    assert {(item.model.name, item.model.source) for item in items} == {
        ("new", "llama-cache"),
        ("org_repo_old", "llama-cache"),
    }
    second_import(llama_cache.read, tmp_path, [new, old])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[" * 99_999,
        b"7",
        b'{"ggufFile": 7, "mmprojFile": []}',
        b'{"ggufFile": {"rfilename": 7, "lfs": 7}}',
        b'{"ggufFile": {"rfilename": "x.gguf", "lfs": {"sha256": "../../etc/passwd", "size": -1}}}',
        b'{"url": 7}',
        b'{"url": "https://evil.example/org/repo/resolve/main/x.gguf"}',
        b" " * (5 * 1024 * 1024),
    ],
    ids=lambda raw: repr(raw[:30]),
)
def test_hostile_sidecar_is_only_no_help(tmp_path: Path, content: bytes) -> None:
    write_gguf(tmp_path / "org_repo_x.gguf")
    (tmp_path / "manifest=org=repo=latest.json").write_bytes(content)
    (tmp_path / "org_repo_x.gguf.json").write_bytes(content)
    [item] = found(read_all(llama_cache.read, tmp_path))
    assert item.model.status == "available"
    assert item.model.sha256 is None
    assert item.model.source_id in (None, "org/repo")


@pytest.mark.skipif(os.name == "nt", reason="links and pipes")
def test_links_out_of_the_store(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    write_gguf(cache / "org_repo_x.gguf")
    write_gguf(tmp_path / "outside.gguf")
    (cache / "org_repo_out.gguf").symlink_to(tmp_path / "outside.gguf")
    (cache / "org_repo_loop.gguf").symlink_to("org_repo_loop.gguf")
    (cache / "manifest=org=repo=latest.json").symlink_to("/dev/zero")
    os.mkfifo(cache / "org_repo_pipe.gguf")
    items = read_all(llama_cache.read, cache)
    assert len(found(items)) == 2
    (note,) = (item.text for item in items if isinstance(item, Note))
    assert note.startswith(f"1 link was followed out of {cache}: ")
    assert {os.path.basename(what) for what in skipped(items)} == {
        "org_repo_loop.gguf",
        "org_repo_pipe.gguf",
    }


def test_missing_cache(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="does not exist"):
        read_all(llama_cache.read, tmp_path / "nowhere")


def test_usual_places(tmp_path: Path) -> None:
    home = str(tmp_path)
    assert llama_cache.usual_places(context(home=home, environ={"LLAMA_CACHE": "~/c"})) == [
        f"{home}/c"
    ]
    assert llama_cache.usual_places(context(home=home)) == [
        os.path.join(home, ".cache", "llama.cpp")
    ]
    (tmp_path / "Library" / "Caches").mkdir(parents=True)
    assert len(llama_cache.usual_places(context(home=home))) == 2
