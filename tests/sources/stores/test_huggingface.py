"""Caches here are filled by huggingface_hub itself, from a hub of our own."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING

import huggingface_hub
import pytest
from huggingface_hub import _tree_cache
from huggingface_hub.utils import _shared_blobs

from modelstore.catalogue.merge import merge
from modelstore.catalogue.roots import known_files
from modelstore.catalogue.staging import weights_file
from modelstore.errors import SourceError
from modelstore.found import Found
from modelstore.sources.base import Note, Unchanged
from modelstore.sources.stores import huggingface
from tests.catalogue.making import LATER, catalogue, new_staging, table, take
from tests.sources.stores.fake_hub import FakeHub, etag, serving
from tests.sources.stores.making import (
    context,
    found,
    read_all,
    safetensors_bytes,
    second_import,
    sha256,
    skipped,
    unprivileged,
    write_gguf,
    write_projector,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

A, B = "a" * 40, "b" * 40
REPO = "org/Tiny-GGUF"
needs_links = pytest.mark.skipif(os.name == "nt", reason="the cache has links elsewhere")


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with serving(FakeHub()) as running:
        yield running


@pytest.fixture
def download(hub: FakeHub, tmp_path: Path) -> Callable[..., Path]:
    """Put files of a revision into the cache ``tmp_path/hub`` with the real library."""

    def run(repo: str, commit: str, files: dict[str, bytes], *, revision: str = "main") -> Path:
        hub.repos.setdefault(repo, {})[commit] = files
        hub.main[repo] = commit
        for name in files:
            huggingface_hub.hf_hub_download(
                repo,
                name,
                revision=revision,
                cache_dir=tmp_path / "hub",
                endpoint=hub.url,
            )
        return tmp_path / "hub"

    return run


@needs_links
def test_gguf_repository_with_every_field(download: Callable[..., Path], tmp_path: Path) -> None:
    content = write_gguf(tmp_path / "made.gguf")
    cache = download(REPO, A, {"Tiny-F32.gguf": content, "README.md": b"# Tiny"})
    [item] = found(read_all(huggingface.read, cache))
    snapshot = cache / "models--org--Tiny-GGUF" / "snapshots" / A / "Tiny-F32.gguf"
    model = item.model
    assert model.name == "Tiny-F32"
    assert model.source == "huggingface"
    assert model.locator == f"file://box{os.path.realpath(snapshot)}"
    assert model.path == str(snapshot)
    assert (model.architecture, model.context_length) == ("llama", 4096)
    assert model.sha256 == sha256(content) == item.files[0].sha256
    assert model.file_size == len(content)
    assert model.source_id == f"{REPO}@{A}"
    assert model.host == "box"
    parameters = json.loads(model.parameters or "")
    assert parameters["hf_repo"] == REPO
    assert parameters["hf_file"] == "Tiny-F32.gguf"
    assert parameters["hf_revision"] == A
    assert item.place is not None
    assert item.place.name == f"{REPO}/Tiny-F32.gguf"
    assert item.place.locator == str(snapshot)
    assert item.place.root == os.path.realpath(cache)


@needs_links
def test_the_same_repositories_and_sizes_as_the_real_library(
    download: Callable[..., Path], tmp_path: Path
) -> None:
    one, two = write_gguf(tmp_path / "1", name="one"), write_gguf(tmp_path / "2", name="two!")
    download("org/One-GGUF", A, {"one.gguf": one})
    download("org/One-GGUF", B, {"one.gguf": one, "sub/two.gguf": two})
    cache = download("lab/Two", A, {"model.safetensors": safetensors_bytes(), "config.json": b"{}"})
    ours = {
        (file.path, file.size)
        for item in found(read_all(huggingface.read, cache))
        for file in item.files
    }
    theirs = {
        (os.path.realpath(file.blob_path), file.size_on_disk)
        for repo in huggingface_hub.scan_cache_dir(cache).repos
        for revision in repo.revisions
        for file in revision.files
    }
    assert ours == theirs


@needs_links
def test_revisions_that_share_a_blob_are_places_of_one_model(
    download: Callable[..., Path], tmp_path: Path
) -> None:
    content = write_gguf(tmp_path / "made.gguf")
    download(REPO, B, {"Tiny-F32.gguf": content})
    cache = download(REPO, A, {"Tiny-F32.gguf": content, "README.md": b"new"})
    items = found(read_all(huggingface.read, cache))
    assert len(items) == 2
    assert len({item.model.locator for item in items}) == 1
    assert items[0].model == items[1].model
    assert items[0].model.source_id == f"{REPO}@{A}"  # the one that main stands for
    assert len({item.place.locator for item in items if item.place}) == 2


def config_of(layers: int) -> bytes:
    return json.dumps({"model_type": "llama", "num_hidden_layers": layers}).encode()


def revision_with_another_shard(download: Callable[..., Path]) -> Path:
    """Two revisions of a model of two shards, of which they share the first; main is the second."""
    shards = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    shared = safetensors_bytes(["a"])
    old, new = safetensors_bytes(["b"]), safetensors_bytes(["b", "c"])
    first = {shards[0]: shared, shards[1]: old, "config.json": config_of(1)}
    download("org/Tiny", B, first)
    second = {shards[0]: shared, shards[1]: new, "config.json": config_of(2)}
    return download("org/Tiny", A, second)


@needs_links
def test_revisions_that_share_a_shard_are_two_models(download: Callable[..., Path]) -> None:
    cache = revision_with_another_shard(download)
    items = found(read_all(huggingface.read, cache))
    assert [(item.model.name, item.model.block_count) for item in items] == [
        ("org/Tiny", 2),
        (f"org/Tiny@{B[:7]}", 1),
    ]
    assert [item.model.parameter_count for item in items] == [18, 12]
    assert len({item.model.locator for item in items}) == 2
    weights = [weights_file(item.model, item.files) for item in items]
    assert len({file.path for file in weights if file}) == 2


@needs_links
def test_an_import_of_shared_shards_opens_no_model_again(
    download: Callable[..., Path], tmp_path: Path
) -> None:
    cache = revision_with_another_shard(download)
    opened = catalogue(tmp_path)
    take(opened, *found(read_all(huggingface.read, cache)))
    known = known_files(opened.db, str(cache), "box")
    items = read_all(huggingface.read, cache, context(known=known))
    assert [type(item) for item in items] == [Unchanged, Unchanged]
    names = [item.naming and item.naming.name for item in items if isinstance(item, Unchanged)]
    assert names == ["org/Tiny", f"org/Tiny@{B[:7]}"]


@needs_links
def test_the_revision_of_main_has_the_plain_name(
    download: Callable[..., Path], tmp_path: Path
) -> None:
    """Also where main moves on between two imports."""
    opened = catalogue(tmp_path)
    contents = [write_gguf(tmp_path / "made.gguf", name=name) for name in ("one", "two!")]
    for commit, content in zip((B, A), contents, strict=True):
        cache = download(REPO, commit, {"Tiny-F32.gguf": content})
        known = known_files(opened.db, str(cache), "box")
        with new_staging() as staging:
            for item in read_all(huggingface.read, cache, context(known=known)):
                if isinstance(item, Unchanged):
                    staging.add_seen(item.locator, item.place, item.naming)
                elif isinstance(item, Found):
                    staging.add(item)
            merge(opened, staging, now=LATER)
    assert sorted(table(opened, "name, source_id")) == [
        ("Tiny-F32", f"{REPO}@{A}"),
        (f"Tiny-F32@{B[:7]}", f"{REPO}@{B}"),
    ]


@needs_links
def test_single_files_of_one_repository_have_names_of_their_own(
    download: Callable[..., Path], tmp_path: Path
) -> None:
    files = {
        name: safetensors_bytes([name])
        for name in ("flux-dev.safetensors", "flux-fill.safetensors", "vae/model.safetensors")
    }
    files["model.gguf"] = write_gguf(tmp_path / "made.gguf")
    cache = download("org/Tiny", A, files)
    assert sorted(item.model.name for item in found(read_all(huggingface.read, cache))) == [
        "org/Tiny",
        "org/Tiny/flux-dev",
        "org/Tiny/flux-fill",
        "org/Tiny/vae",
    ]


@needs_links
def test_content_shared_by_repositories_is_not_known_by_its_name(
    download: Callable[..., Path], tmp_path: Path
) -> None:
    """The file in the store that repositories share is named by a hash that is no SHA-256."""
    content = write_gguf(tmp_path / "made.gguf")
    cache = download(REPO, A, {"Tiny-F32.gguf": content})
    blob = cache / "models--org--Tiny-GGUF" / "blobs" / sha256(content)
    other = "9" * 64
    assert _shared_blobs.publish_blob_to_shared_store(
        blob_path=str(blob), xet_hash=other, cache_dir=cache, expected_size=len(content)
    )
    assert blob.is_symlink()
    assert os.path.basename(os.path.realpath(blob)) == other
    items = read_all(huggingface.read, cache)
    assert skipped(items) == {}
    [item] = found(items)
    assert item.model.sha256 == sha256(content)
    assert item.files[0].path == os.path.realpath(blob)


@needs_links
def test_second_import_opens_no_model(download: Callable[..., Path], tmp_path: Path) -> None:
    content = write_gguf(tmp_path / "made.gguf")
    projector = write_projector(tmp_path / "mmproj.gguf")
    weights = safetensors_bytes()
    download(REPO, B, {"Tiny-F32.gguf": content})
    download(REPO, A, {"Tiny-F32.gguf": content, "mmproj-Tiny-F16.gguf": projector})
    download("lab/Other", A, {"model.safetensors": weights, "config.json": b"{}"})
    cache = download("lab/Old", A, {"pytorch_model.bin": b"PK\3\4"})
    second_import(huggingface.read, cache, [content, projector, weights, b"PK\3\4"])


@needs_links
def test_safetensors_repository(download: Callable[..., Path]) -> None:
    config = json.dumps(
        {"model_type": "llama", "hidden_size": 64, "max_position_embeddings": 2048}
    ).encode()
    first, second = safetensors_bytes(["a", "b"]), safetensors_bytes(["c"])
    index = json.dumps(
        {
            "metadata": {"total_size": 72},
            "weight_map": {
                "a": "model-00001-of-00002.safetensors",
                "b": "model-00001-of-00002.safetensors",
                "c": "model-00002-of-00002.safetensors",
            },
        }
    ).encode()
    cache = download(
        "lab/Sharded",
        A,
        {
            "config.json": config,
            "model.safetensors.index.json": index,
            "model-00001-of-00002.safetensors": first,
            "model-00002-of-00002.safetensors": second,
        },
    )
    [item] = found(read_all(huggingface.read, cache))
    assert item.model.name == "lab/Sharded"
    assert item.model.status == "available"
    assert (item.model.architecture, item.model.context_length) == ("llama", 2048)
    assert item.model.parameter_count == 18
    assert item.model.file_size == len(first) + len(second)
    hashes = {file.sha256 for file in item.files}
    assert hashes == {sha256(first), sha256(second), None}  # a git hash is not taken for one


@needs_links
def test_unfinished_downloads_are_flagged(download: Callable[..., Path], tmp_path: Path) -> None:
    content = write_gguf(tmp_path / "made.gguf")
    cache = download(REPO, A, {"Tiny-F32.gguf": content})
    part = cache / "models--org--Tiny-GGUF" / "blobs" / ("c" * 64 + ".1234abcd.incomplete")
    part.write_bytes(content[:100])
    [theirs] = huggingface_hub.scan_cache_dir(cache).incomplete_files
    assert os.path.samefile(theirs.file_path, part)  # a name that the real library gives

    whole, unfinished = found(read_all(huggingface.read, cache))
    assert whole.model.status == "available"
    assert unfinished.model.status == "incomplete"
    assert unfinished.model.name == REPO
    assert unfinished.model.locator == f"hf:{REPO}@{A}"

    # Where the list of the revision's files is cached, it says which one it is.
    _tree_cache.write_tree_cache(
        str(cache / "models--org--Tiny-GGUF"),
        A,
        {
            "Tiny-Q8_0.gguf": _tree_cache.TreeCacheEntry(
                size=9999, blob_id="d" * 40, lfs_sha256="c" * 64, lfs_size=9999
            )
        },
    )
    by_name = {item.model.name: item.model for item in found(read_all(huggingface.read, cache))}
    assert by_name["Tiny-F32"].status == "available"
    assert by_name["Tiny-Q8_0"].status == "incomplete"
    assert len(by_name) == 2


@needs_links
def test_unfinished_shard_makes_its_model_incomplete(download: Callable[..., Path]) -> None:
    cache = download(
        "lab/Half",
        A,
        {"config.json": b"{}", "model-00001-of-00002.safetensors": safetensors_bytes()},
    )
    (cache / "models--lab--Half" / "blobs" / ("c" * 64 + ".incomplete")).write_bytes(b"x")
    [item] = found(read_all(huggingface.read, cache))
    assert item.model.status == "incomplete"


@needs_links
def test_download_that_was_finished_otherwise_is_no_fault(
    download: Callable[..., Path], tmp_path: Path
) -> None:
    content = write_gguf(tmp_path / "made.gguf")
    cache = download(REPO, A, {"Tiny-F32.gguf": content})
    (cache / "models--org--Tiny-GGUF" / "blobs" / f"{sha256(content)}.incomplete").write_bytes(b"x")
    [item] = found(read_all(huggingface.read, cache))
    assert item.model.status == "available"


@needs_links
def test_repository_without_weights_is_remote(download: Callable[..., Path]) -> None:
    cache = download("lab/Config-Only", A, {"config.json": b"{}"})
    [item] = found(read_all(huggingface.read, cache))
    assert item.model.status == "remote"
    assert item.model.locator == f"hf:lab/Config-Only@{A}"
    assert item.model.path is None


@needs_links
def test_weights_of_another_format_are_known_but_not_read(download: Callable[..., Path]) -> None:
    cache = download("lab/Old", A, {"pytorch_model.bin": b"PK\3\4weights"})
    [item] = found(read_all(huggingface.read, cache))
    assert item.model.status == "available"
    assert item.model.file_size == 11
    assert item.model.sha256 == sha256(b"PK\3\4weights")


@needs_links
def test_repository_alone_and_the_directory_above_the_cache(
    download: Callable[..., Path], tmp_path: Path
) -> None:
    cache = download(REPO, A, {"Tiny-F32.gguf": write_gguf(tmp_path / "made.gguf")})
    [alone] = found(read_all(huggingface.read, cache / "models--org--Tiny-GGUF"))
    [above] = found(read_all(huggingface.read, tmp_path))
    [itself] = found(read_all(huggingface.read, cache))
    assert alone.model == above.model == itself.model


def test_cache_without_links(tmp_path: Path) -> None:
    """Windows without the right to make links: real files in the snapshots, no blobs."""
    snapshot = tmp_path / "models--org--Tiny-GGUF" / "snapshots" / A
    content = write_gguf(snapshot / "Tiny-F32.gguf")
    [item] = found(read_all(huggingface.read, tmp_path))
    assert item.files[0].path == os.path.realpath(snapshot / "Tiny-F32.gguf")
    assert item.model.sha256 is None
    second_import(huggingface.read, tmp_path, [content])


def test_name_without_organisation_and_name_with_dashes(tmp_path: Path) -> None:
    for folder in ("models--gpt2", "models--org--a--b", "datasets--org--data", "spaces--x--y"):
        write_gguf(tmp_path / folder / "snapshots" / A / f"{folder}.gguf")
    names = {item.place.name for item in found(read_all(huggingface.read, tmp_path)) if item.place}
    assert names == {"gpt2/models--gpt2.gguf", "org/a--b/models--org--a--b.gguf"}


@needs_links
def test_links_out_of_the_store_are_followed_and_said(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    write_gguf(outside / "secret.gguf")
    cache = tmp_path / "hub"
    snapshot = cache / "models--org--x" / "snapshots" / A
    write_gguf(snapshot / "good.gguf")
    write_gguf(cache / "models--other--y" / "snapshots" / A / "other.gguf")
    (snapshot / "out.gguf").symlink_to(outside / "secret.gguf")
    (snapshot / "neighbour.gguf").symlink_to(
        cache / "models--other--y" / "snapshots" / A / "other.gguf"
    )
    (snapshot / "loop.gguf").symlink_to("loop.gguf")
    (snapshot / "gone.gguf").symlink_to("../../blobs/gone")
    (snapshot / "circle").symlink_to("..")
    (snapshot / "pipe.gguf").symlink_to("../../blobs/pipe")
    (cache / "models--org--x" / "blobs").mkdir()
    os.mkfifo(cache / "models--org--x" / "blobs" / "pipe")
    (cache / "models--org--gone").symlink_to(outside / "gone")
    write_gguf(outside / "repo" / "snapshots" / B / "linked.gguf", name="linked")
    (cache / "models--org--linked").symlink_to(outside / "repo")
    items = read_all(huggingface.read, cache)
    assert {item.model.name for item in found(items)} == {"good", "other", "secret", "linked"}
    (linked,) = (item for item in found(items) if item.model.name == "linked")
    assert linked.model.source_id == f"org/linked@{B}"
    (note,) = (item.text for item in items if isinstance(item, Note))
    assert note.startswith(f"3 links were followed out of {cache}: for example {cache}")
    reasons = {os.path.basename(what): reason for what, reason in skipped(items).items()}
    assert set(reasons) == {
        "loop.gguf",
        "gone.gguf",
        "pipe.gguf",
        "models--org--gone",
    }
    assert "gone" in reasons["gone.gguf"]
    assert "FIFO" in reasons["pipe.gguf"]


@needs_links
def test_hostile_list_of_files(tmp_path: Path) -> None:
    repo = tmp_path / "models--org--x"
    write_gguf(repo / "snapshots" / A / "good.gguf")
    (repo / "trees").mkdir()
    (repo / "blobs").mkdir()
    (repo / "blobs" / ("c" * 64 + ".incomplete")).write_bytes(b"part")
    for tree in (
        b"",
        b"[" * 100_000,
        b'{"files": 7}',
        json.dumps({"files": {"../../../../etc/passwd.gguf": {"lfs_sha256": "c" * 64}}}).encode(),
        json.dumps({"files": {"x.gguf": {"lfs_sha256": ["c" * 64]}, "y.gguf": None}}).encode(),
    ):
        (repo / "trees" / f"{A}.json").write_bytes(tree)
        items = found(read_all(huggingface.read, tmp_path))
        assert [item.model.status for item in items] == ["available", "incomplete"]
        assert items[1].model.locator == f"hf:org/x@{A}"


@needs_links
def test_permission_denied_halfway() -> None:
    with unprivileged() as folder:
        for name in ("a", "b", "c"):
            write_gguf(folder / f"models--org--{name}" / "snapshots" / A / f"{name}.gguf")
        (folder / "models--org--b" / "snapshots").chmod(0)
        items = read_all(huggingface.read, folder)
        (folder / "models--org--b" / "snapshots").chmod(0o700)
    assert [item.model.name for item in found(items)] == ["a", "c"]
    assert list(skipped(items).values()) == ["cannot be read by this user"]


def test_a_file_that_shrinks_is_truncated(tmp_path: Path) -> None:
    path = tmp_path / "models--org--x" / "snapshots" / A / "Tiny-F32.gguf"
    content = write_gguf(path)
    path.write_bytes(content[:-40])
    [item] = found(read_all(huggingface.read, tmp_path))
    assert item.model.status == "truncated"


def test_a_repository_that_vanishes_while_read_is_no_fault(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_gguf(tmp_path / f"models--org--{name}" / "snapshots" / A / f"{name}.gguf")
    reader = huggingface.read_cache(str(tmp_path), context(), "huggingface")
    assert isinstance(next(reader), Found)
    shutil.rmtree(tmp_path / "models--org--b")
    assert list(reader) == []


def test_missing_cache(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="does not exist"):
        read_all(huggingface.read, tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(SourceError, match="not a directory"):
        read_all(huggingface.read, tmp_path / "file")


def test_empty_cache(tmp_path: Path) -> None:
    (tmp_path / "models--org--only-a-failed-lookup" / ".no_exist").mkdir(parents=True)
    assert read_all(huggingface.read, tmp_path) == []


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, "/home/me/.cache/huggingface/hub"),
        ({"XDG_CACHE_HOME": "/xdg"}, "/xdg/huggingface/hub"),
        ({"XDG_CACHE_HOME": "/xdg", "HF_HOME": "~/hf"}, "/home/me/hf/hub"),
        ({"HF_HOME": "/hf", "HUGGINGFACE_HUB_CACHE": "/old"}, "/old"),
        ({"HUGGINGFACE_HUB_CACHE": "/old", "HF_HUB_CACHE": "/new"}, "/new"),
        ({"HF_HUB_CACHE": "", "HF_HOME": "/hf"}, "/hf/hub"),
    ],
)
@needs_links
def test_usual_place_follows_the_variables_in_order(environ: dict[str, str], expected: str) -> None:
    assert huggingface.usual_places(context(environ=environ, home="/home/me")) == [expected]


def test_git_hash_of_the_fake_hub_is_git_s() -> None:
    assert etag("README.md", b"hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a"


@needs_links
def test_the_license_of_the_card_and_the_revision(
    download: Callable[..., Path], tmp_path: Path
) -> None:
    """Also where main moves on to a revision that has the same weights."""
    content = write_gguf(tmp_path / "made.gguf")
    card = b"---\nlicense: apache-2.0\n---\n"
    cache = download(REPO, A, {"Tiny-F32.gguf": content, "README.md": card})
    opened = catalogue(tmp_path)
    take(opened, *found(read_all(huggingface.read, cache)))
    assert table(opened, "license, revision") == [("apache-2.0", A)]
    download(REPO, B, {"Tiny-F32.gguf": content})
    known = known_files(opened.db, str(cache), "box")
    with new_staging() as staging:
        for item in read_all(huggingface.read, cache, context(known=known)):
            assert isinstance(item, Unchanged)
            staging.add_seen(item.locator, item.place, item.naming)
        merge(opened, staging, now=LATER)
    assert table(opened, "license, revision, source_id") == [("apache-2.0", B, f"{REPO}@{B}")]


@needs_links
def test_a_model_of_two_repositories_keeps_its_name(
    download: Callable[..., Path], tmp_path: Path
) -> None:
    content = write_gguf(tmp_path / "made.gguf")
    opened = catalogue(tmp_path)
    download("org/first", A, {"First-F32.gguf": content})
    cache = download("mirror/second", B, {"Second-F32.gguf": content})
    take(opened, *found(read_all(huggingface.read, cache)))
    before = table(opened, "name, source_id, revision")
    known = known_files(opened.db, str(cache), "box")
    with new_staging() as staging:
        for item in read_all(huggingface.read, cache, context(known=known)):
            assert isinstance(item, Unchanged)
            staging.add_seen(item.locator, item.place, item.naming)
        assert merge(opened, staging, now=LATER).updated == 0
    assert table(opened, "name, source_id, revision") == before
