"""Stores here are written byte for byte as Ollama's manifests and blobs are documented."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import gguf
import numpy as np
import pytest

from modelstore.errors import SourceError
from modelstore.found import Found
from modelstore.sources.base import Note, Unchanged
from modelstore.sources.stores import ollama
from tests.sources.stores.making import (
    context,
    found,
    knowing,
    opened_while,
    read_all,
    second_import,
    sha256,
    skipped,
    unprivileged,
    write_gguf,
    write_projector,
)

if TYPE_CHECKING:
    from pathlib import Path

MEDIA = "application/vnd.ollama.image."
CONFIG = {
    "model_format": "gguf",
    "model_family": "llama",
    "model_families": ["llama"],
    "model_type": "3.2B",
    "file_type": "Q4_K_M",
    "architecture": "amd64",
    "os": "linux",
    "rootfs": {"type": "layers", "diff_ids": []},
}


@dataclass
class Store:
    """Writes what `ollama pull` leaves behind."""

    root: Path
    blob_name: str = "sha256-{}"

    def blob(self, content: bytes) -> str:
        digest = sha256(content)
        (self.root / "blobs").mkdir(parents=True, exist_ok=True)
        (self.root / "blobs" / self.blob_name.format(digest)).write_bytes(content)
        return digest

    def layer(self, media: str, content: bytes) -> dict[str, object]:
        digest = self.blob(content)
        return {"mediaType": MEDIA + media, "digest": f"sha256:{digest}", "size": len(content)}

    def tag(self, name: str, *layers: dict[str, object], config: object = CONFIG) -> Path:
        raw = json.dumps(config).encode()
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": {
                "mediaType": "application/vnd.docker.container.image.v1+json",
                "digest": f"sha256:{self.blob(raw)}",
                "size": len(raw),
            },
            "layers": list(layers),
        }
        path = self.root / "manifests" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(json.dumps(manifest).encode())
        return path

    def reference(self, manifest: Path) -> dict[str, str]:
        return {"digest": f"sha256:{self.blob(manifest.read_bytes())}"}

    def move_to_v2(self, path: Path, *builds: tuple[str, Path | dict[str, str]]) -> Path:
        """Make a link of a manifest, as Ollama 0.40 does; with `builds`, a list of manifests.

        A build is an engine, and a manifest that becomes a blob or a reference to one.
        """
        content = path.read_bytes()
        if builds:
            listed = []
            for engine, build in builds:
                told = build if isinstance(build, dict) else self.reference(build)
                listed.append({"runner": engine, "format": "gguf", **told})
            media = "application/vnd.ollama.manifest.list.v2+json"
            content = json.dumps({"mediaType": media, "manifests": listed}).encode()
        parts = path.relative_to(self.root / "manifests").parts[1:]
        new = self.root.joinpath("manifests-v2", "ollama.com", *parts)
        new.parent.mkdir(parents=True, exist_ok=True)
        blob = self.root / "blobs" / self.blob_name.format(self.blob(content))
        new.symlink_to(os.path.relpath(blob, new.parent))
        return new


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


@pytest.fixture
def weights(tmp_path: Path) -> bytes:
    return write_gguf(tmp_path / "made.gguf")


def test_model_with_every_field(store: Store, weights: bytes) -> None:
    manifest = store.tag(
        "registry.ollama.ai/library/llama3.2/latest",
        store.layer("model", weights),
        store.layer("template", b"{{ .Prompt }}"),
        store.layer("license", b"LLAMA 3.2 COMMUNITY LICENSE AGREEMENT"),
        store.layer("params", b'{"stop":["<|eot_id|>"]}'),
    )
    [item] = found(read_all(ollama.read, store.root))
    blob = store.root / "blobs" / f"sha256-{sha256(weights)}"
    model = item.model
    assert [model.name, model.source, model.status] == ["llama3.2:latest", "ollama", "available"]
    assert model.locator == f"file://box{os.path.realpath(blob)}"
    assert model.path == str(blob)
    assert model.sha256 == sha256(weights)
    assert model.file_size == len(weights)  # the weights alone, not all layers
    assert (model.architecture, model.context_length) == ("llama", 4096)
    assert model.quantization == "F32"  # the header's word against the config's
    assert model.size_label == "3.2B"  # where the header has none
    assert model.source_id == "llama3.2:latest"
    assert item.place is not None
    assert item.place.name == "llama3.2:latest"
    assert item.place.locator == str(manifest)
    assert item.place.root == os.path.realpath(store.root)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("registry.ollama.ai/library/llama3.2/latest", "llama3.2:latest"),
        ("registry.ollama.ai/mistral/small/24b", "mistral/small:24b"),
        ("hf.co/bartowski/X-GGUF/Q4_K_M", "hf.co/bartowski/X-GGUF:Q4_K_M"),
        ("localhost:5000/team/model/v1", "localhost:5000/team/model:v1"),
    ],
)
@pytest.mark.skipif(os.name == "nt", reason="a port has a colon")
def test_every_registry_and_namespace(store: Store, weights: bytes, path: str, name: str) -> None:
    store.tag(path, store.layer("model", weights))
    [item] = found(read_all(ollama.read, store.root))
    assert item.model.name == name


def test_tags_on_one_blob_are_places_of_one_model(store: Store, weights: bytes) -> None:
    for tag in ("3b", "latest"):
        store.tag(f"registry.ollama.ai/library/llama3.2/{tag}", store.layer("model", weights))
    items = found(read_all(ollama.read, store.root))
    assert [item.place.name for item in items if item.place] == ["llama3.2:3b", "llama3.2:latest"]
    assert items[0].model == items[1].model


def test_projector_adapter_and_draft_go_with_the_weights(
    store: Store, weights: bytes, tmp_path: Path
) -> None:
    projector = write_projector(tmp_path / "p.gguf")
    adapter = write_gguf(tmp_path / "a.gguf", name="adapter")
    draft = write_gguf(tmp_path / "d.gguf", name="draft")
    store.tag(
        "registry.ollama.ai/library/gemma3/4b",
        store.layer("model", weights),
        store.layer("projector", projector),
        store.layer("adapter", adapter),
        store.layer("draft", draft),
    )
    store.tag("registry.ollama.ai/me/plain/latest", store.layer("model", weights))
    items = found(read_all(ollama.read, store.root))
    assert len(items) == 2  # two tags
    assert items[0].files == items[1].files
    by_role = {file.role: file.sha256 for file in items[0].files}
    assert by_role == {
        "model": sha256(weights),
        "projector": sha256(projector),
        "adapter": sha256(adapter),
        "draft": sha256(draft),
    }
    assert items[0].model.file_size == len(weights)
    second_import(ollama.read, store.root, [weights, projector, adapter, draft])


def test_second_import_opens_no_model(store: Store, weights: bytes, tmp_path: Path) -> None:
    other = write_gguf(tmp_path / "other.gguf", name="other")
    store.tag("registry.ollama.ai/library/a/latest", store.layer("model", weights))
    store.tag("registry.ollama.ai/library/a/again", store.layer("model", weights))
    store.tag("hf.co/org/repo/Q8_0", store.layer("model", other))
    second_import(ollama.read, store.root, [weights, other])


def test_old_store_with_colons(tmp_path: Path, weights: bytes) -> None:
    if os.name == "nt":
        pytest.skip("a colon is no part of a name")
    store = Store(tmp_path / "models", "sha256:{}")
    store.tag("registry.ollama.ai/library/old/latest", store.layer("model", weights))
    [item] = found(read_all(ollama.read, store.root))
    assert item.model.status == "available"


def test_cloud_model_is_remote_and_the_same_on_every_machine(store: Store) -> None:
    config = {
        **CONFIG,
        "remote_host": "https://ollama.com:443",
        "remote_model": "gpt-oss:120b",
        "model_family": "gptoss",
        "model_type": "116.8B",
        "file_type": "MXFP4",
        "context_length": 131072,
        "embedding_length": 2880,
        "capabilities": ["completion", "tools"],
    }
    store.tag("registry.ollama.ai/library/gpt-oss/120b-cloud", config=config)
    [item] = found(read_all(ollama.read, store.root))
    model = item.model
    assert [model.status, model.locator] == ["remote", "https://ollama.com#gpt-oss:120b"]
    assert [model.architecture, model.size_label, model.quantization] == [
        "gptoss",
        "116.8B",
        "MXFP4",
    ]
    assert (model.context_length, model.embedding_length) == (131072, 2880)
    assert model.path is None
    assert item.files == ()


def test_credentials_of_a_remote_host_are_not_kept(store: Store) -> None:
    config = {"remote_host": "https://user:hunter2@example.org", "remote_model": "m"}
    store.tag("registry.ollama.ai/library/x/cloud", config=config)
    [item] = found(read_all(ollama.read, store.root))
    assert item.model.locator == "ollama:m"
    assert "hunter2" not in repr(item)


def test_weights_in_a_layer_for_each_tensor(store: Store) -> None:
    config = {**CONFIG, "model_format": "safetensors", "file_type": "unknown"}
    layers = [
        {**store.layer("tensor", bytes([number]) * 100), "name": f"blk.{number}.weight"}
        for number in range(3)
    ]
    store.tag("registry.ollama.ai/library/mlx/latest", *layers, config=config)
    [item] = found(read_all(ollama.read, store.root))
    assert [item.model.status, item.model.file_size] == ["available", 300]
    assert item.model.quantization is None
    assert item.model.sha256 is None


@pytest.mark.parametrize(("partial", "status"), [(True, "incomplete"), (False, "missing")])
def test_weights_that_are_not_there(store: Store, *, partial: bool, status: str) -> None:
    layer = {"mediaType": MEDIA + "model", "digest": "sha256:" + "d" * 64, "size": 2019377376}
    store.tag("registry.ollama.ai/library/half/latest", layer)
    if partial:
        (store.root / "blobs" / ("sha256-" + "d" * 64 + "-partial-0")).write_bytes(b"GGUF")
    [item] = found(read_all(ollama.read, store.root))
    assert item.model.status == status
    assert item.model.file_size == 2019377376
    assert [item.model.architecture, item.model.quantization] == ["llama", "Q4_K_M"]


def test_same_model_once_the_download_is_finished(store: Store, weights: bytes) -> None:
    layer = store.layer("model", weights)
    store.tag("registry.ollama.ai/library/x/latest", layer)
    blob = store.root / "blobs" / f"sha256-{sha256(weights)}"
    blob.rename(f"{blob}-partial")
    [before] = found(read_all(ollama.read, store.root))
    blob.with_name(f"{blob.name}-partial").rename(blob)
    [after] = found(read_all(ollama.read, store.root))
    assert before.model.locator == after.model.locator
    assert [before.model.status, after.model.status] == ["incomplete", "available"]


def test_a_blob_that_shrank_is_truncated(store: Store, weights: bytes) -> None:
    store.tag("registry.ollama.ai/library/x/latest", store.layer("model", weights))
    (store.root / "blobs" / f"sha256-{sha256(weights)}").write_bytes(weights[:-40])
    [item] = found(read_all(ollama.read, store.root))
    assert item.model.status == "truncated"


BAD_DIGESTS = [
    "../../../../../../etc/passwd",
    "sha256-../../../../../../etc/passwd",
    "sha256:" + "a" * 63,
    "sha256:" + "A" * 64,
    "sha256:" + "a" * 64 + "/../../../etc/passwd",
    "sha256:" + "a" * 64 + "\n",
    "md5:" + "a" * 64,
    "/etc/passwd",
    "",
    None,
    7,
    ["sha256:" + "a" * 64],
]


@pytest.mark.parametrize("digest", BAD_DIGESTS, ids=repr)
@pytest.mark.parametrize("where", ["model", "projector", "config"])
def test_digest_that_is_none_is_never_made_a_path(
    store: Store, weights: bytes, digest: object, where: str
) -> None:
    layers = [store.layer("model", weights)]
    path = store.tag("registry.ollama.ai/library/bad/latest", *layers)
    manifest = json.loads(path.read_bytes())
    if where == "config":
        manifest["config"]["digest"] = digest
    else:
        manifest["layers"].append({"mediaType": MEDIA + where, "digest": digest, "size": 1})
    path.write_text(json.dumps(manifest))
    items: list[object] = []
    opened = opened_while(lambda: items.extend(read_all(ollama.read, store.root)))
    assert not [name for name in opened if "passwd" in name]
    if where == "config" and not digest:  # there is none: the weights tell all
        assert isinstance(items[0], Found)
    else:
        assert list(skipped(read_all(ollama.read, store.root))) == [str(path)]


MANIFESTS = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"{}",
    b'{"layers": 7, "config": []}',
    b'{"layers": [7, null, []], "config": null}',
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b'"\xff"',
    b"1" * 5000,
    b" " * (5 * 1024 * 1024),
]


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda raw: repr(raw[:20]))
def test_hostile_manifest_is_skipped_by_name(store: Store, weights: bytes, manifest: bytes) -> None:
    store.tag("registry.ollama.ai/library/good/latest", store.layer("model", weights))
    bad = store.root / "manifests" / "registry.ollama.ai" / "library" / "bad" / "latest"
    bad.parent.mkdir()
    bad.write_bytes(manifest)
    items = read_all(ollama.read, store.root)
    assert [item.model.name for item in found(items)] == ["good:latest"]
    assert len(skipped(items)) == 1
    assert "bad" in next(iter(skipped(items)))


@pytest.mark.skipif(os.name == "nt", reason="links and pipes")
def test_links_and_special_files(store: Store, weights: bytes, tmp_path: Path) -> None:
    outside = tmp_path / "outside.gguf"
    outside.write_bytes(weights)
    good = store.layer("model", weights)
    store.tag("registry.ollama.ai/library/good/latest", good)
    library = store.root / "manifests" / "registry.ollama.ai" / "library"
    # A link to a manifest, to a directory of them, to the store itself; a pipe for a manifest.
    (library / "good" / "linked").symlink_to(library / "good" / "latest")
    (library / "circle").symlink_to(store.root / "manifests")
    os.mkfifo(library / "good" / "pipe")
    # A manifest too deep, and one too high.
    (library / "good" / "deep" / "deeper").mkdir(parents=True)
    (library / "good" / "deep" / "deeper" / "x").write_text("{}")
    (library / "readme").write_text("{}")
    # A blob that is a link out of the store; one that is a pipe; one that is a directory.
    for number, name in enumerate(("out", "pipe", "folder")):
        digest = str(number) * 64
        blob = store.root / "blobs" / f"sha256-{digest}"
        if name == "out":
            blob.symlink_to(outside)
        elif name == "pipe":
            os.mkfifo(blob)
        else:
            blob.mkdir()
        layer = {"mediaType": MEDIA + "model", "digest": f"sha256:{digest}", "size": 1}
        store.tag(f"registry.ollama.ai/library/{name}/latest", layer)
    items = read_all(ollama.read, store.root)
    assert [item.model.name for item in found(items)] == ["good:latest", "out:latest"]
    (note,) = (item.text for item in items if isinstance(item, Note))
    assert note.startswith(f"1 link was followed out of {store.root}: ")
    assert len(skipped(items)) == 7


@pytest.mark.skipif(os.name == "nt", reason="links")
def test_blobs_on_another_disk(store: Store, weights: bytes, tmp_path: Path) -> None:
    store.tag("registry.ollama.ai/library/x/latest", store.layer("model", weights))
    (store.root / "blobs").rename(tmp_path / "disk")
    (store.root / "blobs").symlink_to(tmp_path / "disk")
    [item] = found(read_all(ollama.read, store.root))
    assert (item.model.status, item.model.architecture) == ("available", "llama")
    assert item.model.name == "x:latest"


def test_litter_is_passed_over_and_an_empty_manifest_is_named(store: Store, weights: bytes) -> None:
    path = store.tag("registry.ollama.ai/library/x/latest", store.layer("model", weights))
    for folder in (store.root / "manifests", path.parent):
        (folder / ".DS_Store").write_bytes(b"Bud1")
    (path.parent / "zero").write_bytes(b"")
    items = read_all(ollama.read, store.root)
    assert [item.model.name for item in found(items)] == ["x:latest"]
    assert skipped(items) == {str(path.parent / "zero"): "is empty: 0 bytes"}


def test_shards_are_in_the_order_of_their_numbers(store: Store, tmp_path: Path) -> None:
    """Their blobs are named by hashes, which have another order."""
    shards = []
    for number in range(3):
        path = tmp_path / f"{number}.gguf"
        writer = gguf.GGUFWriter(str(path), "llama" if number == 0 else "")
        if number == 0:
            writer.add_context_length(4096)
        writer.add_uint16("split.no", number)
        writer.add_uint16("split.count", 3)
        writer.add_tensor(f"blk.{number}.w", np.zeros((2, 32), dtype=np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        shards.append(path.read_bytes())
    for order in (shards, shards[::-1]):
        store.tag("registry.ollama.ai/library/x/latest", *(store.layer("model", x) for x in order))
        [item] = found(read_all(ollama.read, store.root))
        assert (item.model.status, item.model.context_length) == ("available", 4096)
        assert item.model.parameter_count == 3 * 64
        assert item.model.path == str(store.root / "blobs" / f"sha256-{sha256(shards[0])}")


def test_a_model_of_tensors_with_a_missing_blob_is_incomplete(store: Store) -> None:
    layers = [store.layer("tensor", bytes([number]) * 9) for number in range(3)]
    store.tag("registry.ollama.ai/library/mlx/latest", *layers)
    (store.root / "blobs" / str(layers[1]["digest"]).replace(":", "-")).unlink()
    [item] = found(read_all(ollama.read, store.root))
    assert item.model.status == "incomplete"


@pytest.mark.skipif(os.name == "nt", reason="links")
def test_blob_that_is_a_link_within_the_store(store: Store, weights: bytes) -> None:
    store.tag("registry.ollama.ai/library/x/latest", store.layer("model", weights))
    blob = store.root / "blobs" / f"sha256-{sha256(weights)}"
    moved = store.root / "moved.gguf"
    blob.rename(moved)
    blob.symlink_to(moved)
    [item] = found(read_all(ollama.read, store.root))
    assert item.files[0].path == os.path.realpath(moved)


@pytest.mark.skipif(os.name == "nt", reason="permissions")
def test_permission_denied_halfway(tmp_path: Path) -> None:
    with unprivileged() as folder:
        store = Store(folder / "models")
        for name in ("a", "b", "c"):
            content = write_gguf(folder / f"{name}.gguf", name=name)
            store.tag(f"registry.ollama.ai/library/{name}/latest", store.layer("model", content))
            if name == "b":
                (store.root / "blobs" / f"sha256-{sha256(content)}").chmod(0)
        closed = store.root / "manifests" / "registry.ollama.ai" / "library" / "c"
        closed.chmod(0)
        items = read_all(ollama.read, store.root)
        closed.chmod(0o700)
    assert [item.model.name for item in found(items)] == ["a:latest"]
    assert len(skipped(items)) == 2


def test_the_directory_above_and_no_store_at_all(
    store: Store, weights: bytes, tmp_path: Path
) -> None:
    store.tag("registry.ollama.ai/library/x/latest", store.layer("model", weights))
    [item] = found(read_all(ollama.read, tmp_path))
    assert item.model == found(read_all(ollama.read, store.root))[0].model
    assert item.place is not None
    assert item.place.root == os.path.realpath(tmp_path)  # what was imported
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="no manifests"):
        read_all(ollama.read, tmp_path / "empty")
    with pytest.raises(SourceError, match="does not exist"):
        read_all(ollama.read, tmp_path / "nowhere")


def test_usual_places() -> None:
    assert ollama.usual_places(context(environ={"OLLAMA_MODELS": "~/m"}, home="/home/me")) == [
        "/home/me/m"
    ]
    first = ollama.usual_places(context(home="/home/me"))[0]
    assert first == os.path.join("/home/me", ".ollama", "models")


QWEN = b"{{ if .Tools }}{{ .Tools }}{{ end }}{{ if .Think }}<think>{{ end }}{{ .Suffix }}"


def test_capabilities_template_and_revision(store: Store, weights: bytes) -> None:
    manifest = store.tag(
        "registry.ollama.ai/library/qwen3/8b",
        store.layer("model", weights),
        store.layer("template", QWEN),
    )
    [item] = found(read_all(ollama.read, store.root))
    assert item.model.capabilities == ("insert", "thinking", "tools")
    assert item.model.revision == sha256(manifest.read_bytes())
    assert json.loads(item.model.parameters or "")["template"] == QWEN.decode()


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"parser": "qwen3-coder"}, ("tools",)),
        ({"parser": "harmony"}, ("thinking", "tools")),
        ({"parser": "passthrough"}, ()),
        ({"parser": ["harmony"]}, ()),
        ({"capabilities": ["completion", "vision", 5]}, ("vision",)),
    ],
)
def test_a_config_tells_capabilities(
    store: Store, weights: bytes, config: dict[str, object], expected: tuple[str, ...]
) -> None:
    name = "registry.ollama.ai/library/m/latest"
    store.tag(name, store.layer("model", weights), config={**CONFIG, **config})
    [item] = found(read_all(ollama.read, store.root))
    assert item.model.capabilities == expected


def test_a_projector_gives_vision(store: Store, weights: bytes, tmp_path: Path) -> None:
    projector = write_projector(tmp_path / "mmproj.gguf")
    name = "registry.ollama.ai/library/gemma3/4b"
    store.tag(name, store.layer("model", weights), store.layer("projector", projector))
    [item] = found(read_all(ollama.read, store.root))
    assert item.model.capabilities == ("vision",)


def test_a_pulled_tag_with_the_same_weights_has_the_new_revision(
    store: Store, weights: bytes
) -> None:
    name = "registry.ollama.ai/library/m/latest"
    layer = store.layer("model", weights)
    store.tag(name, layer)
    ctx = knowing(read_all(ollama.read, store.root))
    manifest = store.tag(name, layer, config={**CONFIG, "model_type": "8B"})
    [item] = read_all(ollama.read, store.root, ctx)
    assert isinstance(item, Unchanged)
    assert item.naming is not None
    assert item.naming.revision == sha256(manifest.read_bytes())


LIBRARY = "registry.ollama.ai/library/"
needs_links = pytest.mark.skipif(os.name == "nt", reason="links")


@needs_links
def test_the_names_of_version_0_40_are_links_to_blobs(store: Store, weights: bytes) -> None:
    old = store.tag(LIBRARY + "x/1b", store.layer("model", weights))
    [before] = found(read_all(ollama.read, store.root))
    new = store.move_to_v2(old)
    [both] = found(read_all(ollama.read, store.root))  # the old one is kept for older versions
    assert both.place is not None
    assert both.place.locator == str(new)
    old.unlink()
    (store.root / "manifests").rename(store.root / "old")
    assert ollama.recognises(str(store.root), {"manifests-v2", "blobs"})
    assert ollama.claims(str(store.root), {"manifests-v2", "blobs", "x"}) == {
        "manifests-v2",
        "blobs",
    }
    items = read_all(ollama.read, store.root)
    [after] = found(items)
    assert (after.model, skipped(items)) == (before.model, {})


@needs_links
def test_a_link_that_leads_nowhere_gives_way_to_the_older_name(
    store: Store, weights: bytes
) -> None:
    old = store.tag(LIBRARY + "x/1b", store.layer("model", weights))
    new = store.move_to_v2(old)
    os.unlink(os.path.realpath(new))  # as an older version does when it tidies up
    [item] = found(read_all(ollama.read, store.root))
    assert item.place is not None
    assert item.place.locator == str(old)
    old.unlink()
    (reason,) = skipped(read_all(ollama.read, store.root)).values()
    assert reason == "does not exist"


@needs_links
def test_a_link_out_of_the_store_is_not_followed(
    store: Store, weights: bytes, tmp_path: Path
) -> None:
    old = store.tag(LIBRARY + "x/1b", store.layer("model", weights))
    new = store.move_to_v2(old)
    outside = tmp_path / ("sha256-" + "a" * 64)
    old.rename(outside)
    new.unlink()
    new.symlink_to(outside)
    items = read_all(ollama.read, store.root)
    assert found(items) == []
    assert skipped(items) == {str(new): "is a link, and not to a blob of this store"}


@needs_links
def test_each_build_of_a_list_is_a_model_and_the_pulled_one_has_the_name(
    store: Store, weights: bytes, tmp_path: Path
) -> None:
    pulled = store.tag(LIBRARY + "x/9b", store.layer("model", weights))
    converted = write_gguf(tmp_path / "converted.gguf", name="Converted")
    shadow = store.tag(LIBRARY + "llamacpp/" + "a" * 64, store.layer("model", converted))
    absent = {"digest": "sha256:" + "b" * 64}  # of another machine
    new = store.move_to_v2(pulled, ("mlx", absent), ("llamacpp", shadow), ("ggml", pulled))
    items = read_all(ollama.read, store.root)
    assert skipped(items) == {}
    names = {item.model.name: item.model for item in found(items)}
    assert set(names) == {"x:9b", "x:9b@llamacpp"}
    assert names["x:9b"].sha256 == sha256(weights)
    assert names["x:9b@llamacpp"].sha256 == sha256(converted)
    places = [item.place.locator for item in found(items) if item.place]
    assert places == [str(new), f"{new}#llamacpp"]
    os.unlink(store.root / "blobs" / f"sha256-{sha256(weights)}")  # the conversion is kept alone
    [left] = found(read_all(ollama.read, store.root))
    assert (left.model.name, left.model.sha256) == ("x:9b", sha256(converted))


@needs_links
def test_a_list_without_a_build_here_is_named(store: Store, weights: bytes) -> None:
    old = store.tag(LIBRARY + "x/9b", store.layer("model", weights))
    new = store.move_to_v2(old, ("mlx", {"digest": "sha256:" + "b" * 64}))
    assert skipped(read_all(ollama.read, store.root)) == {str(new): "lists no build that is here"}


@needs_links
@pytest.mark.parametrize(
    ("build", "count", "reason"),
    [
        ({"digest": "sha256:../../../etc/passwd"}, 1, "holds a malformed digest"),
        ({"layers": [{"digest": "sha256:" + "b" * 63}]}, 1, "holds a malformed digest"),
        ({"digest": "sha256:" + "b" * 64}, 1000, "lists more than 32 builds"),
        ({"manifests": []}, 1, "holds a malformed digest"),
    ],
)
def test_hostile_list_is_skipped_by_name(
    store: Store, weights: bytes, build: dict[str, str], count: int, reason: str
) -> None:
    store.tag(LIBRARY + "good/1b", store.layer("model", weights))
    old = store.tag(LIBRARY + "x/9b", store.layer("model", weights))
    new = store.move_to_v2(old, *[("mlx", build)] * count)
    items = read_all(ollama.read, store.root)
    assert [item.model.name for item in found(items)] == ["good:1b"]
    assert skipped(items) == {str(new): reason}
