from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from modelstore.errors import SourceError
from modelstore.sources import detect
from modelstore.sources.base import Target
from modelstore.sources.stores import docker_models
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


class Store:
    """Writes what `docker model pull` leaves behind."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.models: list[dict[str, object]] = []

    def blob(self, content: bytes, folder: str = "blobs") -> str:
        digest = sha256(content)
        path = self.root / folder / "sha256" / digest
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return f"sha256:{digest}"

    def add(self, layers: dict[str, bytes], *tags: str) -> None:
        noted = [
            {
                "mediaType": f"application/vnd.docker.ai.{media}",
                "digest": self.blob(content),
                "size": len(content),
            }
            for media, content in layers.items()
        ]
        key = self.blob(json.dumps({"schemaVersion": 2, "layers": noted}).encode(), "manifests")
        self.models.append({"id": key, "tags": list(tags), "files": []})
        (self.root / "layout.json").write_text('{"version": "1.0.0"}')
        (self.root / "models.json").write_text(json.dumps({"models": self.models}))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "models")
    weights = write_gguf(tmp_path / "w.gguf")
    projector = write_projector(tmp_path / "p.gguf")
    layers = {"gguf.v3": weights, "mmproj": projector, "license": b"free"}
    made.add(layers, "ai/tiny:latest", "ai/tiny:1B-F32")
    return made


def test_a_model_is_named_as_its_tags_are(store: Store) -> None:
    assert detect.detect(Target(str(store.root))) == "docker-models"
    items = found(read_all(docker_models.read, store.root))
    assert [item.place.name for item in items if item.place] == ["ai/tiny:latest", "ai/tiny:1B-F32"]
    model = items[0].model
    assert (model.name, model.source, model.status) == (
        "ai/tiny:latest",
        "docker-models",
        "available",
    )
    assert (model.architecture, model.context_length) == ("llama", 4096)
    assert model.sha256 == os.path.basename(str(model.path))
    assert [file.role for file in items[0].files] == ["model", "projector"]


def test_a_second_import_opens_no_model(store: Store) -> None:
    blobs = (store.root / "blobs" / "sha256").iterdir()
    second_import(docker_models.read, store.root, [path.read_bytes() for path in blobs])


def test_bad_parts_are_named_and_the_rest_is_read(store: Store, tmp_path: Path) -> None:
    store.add({"gguf.v3": write_gguf(tmp_path / "g.gguf", name="gone")}, "ai/gone:latest")
    gone = sha256((tmp_path / "g.gguf").read_bytes())
    (store.root / "blobs" / "sha256" / gone).unlink()
    store.add({"license": b"only"}, "ai/none:latest")
    store.models.append({"id": "../../etc/passwd", "tags": ["ai/evil:latest"]})
    (store.root / "models.json").write_text(json.dumps({"models": [*store.models, 7]}))
    items = read_all(docker_models.read, store.root)
    assert len(found(items)) == 2
    assert skipped(items) == {
        "ai/gone:latest": "does not exist",
        "ai/none:latest": "its manifest names no GGUF weights",
        "ai/evil:latest": "holds a malformed digest",
        "": "holds a malformed digest",
    }


def test_an_index_that_cannot_be_read_is_an_error(store: Store) -> None:
    (store.root / "models.json").write_text("[]")
    with pytest.raises(SourceError, match="no JSON object"):
        read_all(docker_models.read, store.root)


def test_usual_place() -> None:
    assert docker_models.usual_places(context(home="/h")) == ["/h/.docker/models"]
