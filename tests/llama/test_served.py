"""A real llama-server over folders, single files and presets: as many rows as models, by name."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from itertools import permutations
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.program import modelstore
from tests.llama.server import Server, ask, find_server, running
from tests.llama.small_models import small_model
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

SERVER = find_server()
pytestmark = pytest.mark.skipif(
    SERVER is None, reason="no llama-server: set LLAMA_SERVER to one, or put it into PATH"
)
AWKWARD = (
    *("plain-Q4_0", "with space-Q8_0", "ünïcode-F16", "br[ack]et-Q4_0", "quo'te-Q4_0", "eq=ual"),
    *("comma,name", "UPPER-q4_k_m", "a:b-q4_0", "a:Q4_0", "default", "per%20cent", "$HOME"),
)


@pytest.fixture(name="models")
def _models(tmp_path: Path) -> Path:
    """A folder of files that can be served, some in folders of their own."""
    folder = tmp_path / "models"
    folder.mkdir()
    llama = small_model(tmp_path, "llama")
    for name in AWKWARD:
        shutil.copy(llama, folder / f"{name}.gguf")
    for number, place in enumerate(("one", "two")):
        (folder / place).mkdir()
        twin = folder / place / "twin-F32.gguf"
        twin.write_bytes(llama.read_bytes() + bytes(32 * number))  # not the same content
    return folder


def rows(db: Path) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = modelstore("list", "--json", "--db", db).json
    return listed


def add(db: Path, *sources: str | Path, hub: Path | None = None) -> None:
    cache = {"HF_HUB_CACHE": str(hub)} if hub else None
    result = modelstore("import", *sources, "--db", db, env=cache)
    assert result.code == 0, result.err


def served(server: Server) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = server.get("/models")["data"]
    return listed


def loads(server: Server, name: str) -> bool:
    """Tell whether a router loads the model of that name."""

    def state() -> dict[str, Any]:
        return next(one["status"] for one in served(server) if one["id"] == name)

    ask(server.address + "/models/load", {"model": name})
    wait_until(lambda: state()["value"] == "loaded" or state().get("failed"))
    loaded = bool(state()["value"] == "loaded")
    ask(server.address + "/models/unload", {"model": name})
    return loaded


@pytest.mark.parametrize("given", ["absolute", "models", "../{name}/models"])
def test_a_router_over_a_folder_is_one_row_a_model(
    given: str, models: Path, tmp_path: Path
) -> None:
    assert SERVER is not None
    folder = str(models) if given == "absolute" else given.format(name=tmp_path.name)
    server_first, folder_first = tmp_path / "a.db", tmp_path / "b.db"
    with running(SERVER, "--models-dir", folder, folder=tmp_path) as server:
        ids = {model["id"] for model in served(server)}
        assert ids == {*AWKWARD, "one", "two"}
        add(server_first, server.address, models)
        add(folder_first, models, server.address)
    for db in (server_first, folder_first):
        paths = {row["path"] for row in rows(db)}
        assert paths == {str(path) for path in models.rglob("*.gguf")}
        assert len(rows(db)) == len(ids)
        assert {row["status"] for row in rows(db)} == {"available"}


@pytest.mark.parametrize("given", ["absolute", "models/plain-Q4_0.gguf"])
@pytest.mark.parametrize("options", [(), ("--alias", "a name of its own")])
def test_a_single_model_is_one_row(
    given: str, options: tuple[str, ...], models: Path, tmp_path: Path
) -> None:
    assert SERVER is not None
    file = models / "plain-Q4_0.gguf"
    model = str(file) if given == "absolute" else given
    db = tmp_path / "m.db"
    with running(SERVER, "-m", model, *options, folder=tmp_path) as server:
        add(db, server.address)
        add(db, file)
    (row,) = rows(db)
    assert (row["path"], row["name"], row["status"]) == (str(file), "plain-Q4_0", "available")


def _cache(hub: Path, repository: str, **files: bytes) -> None:
    """Add a repository to a hub cache, as ``hf download`` does."""
    folder = hub / f"models--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / ("1" * 40)
    for needed in (folder / "blobs", folder / "refs", snapshot):
        needed.mkdir(parents=True)
    (folder / "refs" / "main").write_text("1" * 40, encoding="utf-8")
    for name, content in files.items():
        digest = hashlib.sha256(content).hexdigest()
        (folder / "blobs" / digest).write_bytes(content)
        (snapshot / f"{name}.gguf").symlink_to(f"../../blobs/{digest}")


def test_cached_models_are_one_row_each(models: Path, tmp_path: Path) -> None:
    assert SERVER is not None
    llama = (models / "plain-Q4_0.gguf").read_bytes()
    hub = tmp_path / "hub"
    _cache(hub, "org/Tiny-GGUF", **{"Tiny-Q4_K_M": llama, "Tiny-Q8_0": llama + bytes(32)})
    _cache(hub, "org/Big-GGUF", **{"Big-UD-Q4_K_XL": llama + bytes(64)})
    _cache(hub, "org/Copy-GGUF", **{"Copy-Q8_0": llama + bytes(64)})  # the same bytes: one row
    with running(SERVER, cache=hub) as server:
        assert {model["source"] for model in served(server)} == {"cache"}
        assert len(served(server)) == 4
        add(tmp_path / "a.db", server.address, hub, hub=hub)
        add(tmp_path / "b.db", hub, server.address, hub=hub)
    for name in ("a.db", "b.db"):
        listed = {row["name"] for row in rows(tmp_path / name)}
        assert listed - {"Copy-Q8_0"} == {"Tiny-Q4_K_M", "Tiny-Q8_0", "Big-UD-Q4_K_XL"}
        assert len(rows(tmp_path / name)) == 3


PRESETS = """version = 1
[by tag]
hf-repo = org/Tiny-GGUF:q8_0
[by default]
hf-repo = org/Tiny-GGUF
[by file]
hf-repo = org/Big-GGUF
hf-file = Big-UD-Q4_K_XL.gguf
"""


@pytest.mark.parametrize("known", [True, False], ids=["usual place", "elsewhere"])
def test_presets_of_the_hub_are_one_row_with_its_cache(
    models: Path, tmp_path: Path, *, known: bool
) -> None:
    assert SERVER is not None
    llama = (models / "plain-Q4_0.gguf").read_bytes()
    hub, presets = tmp_path / "hub", tmp_path / "models.ini"
    _cache(hub, "org/Tiny-GGUF", **{"Tiny-Q4_K_M": llama, "Tiny-Q8_0": llama + bytes(32)})
    _cache(hub, "org/Big-GGUF", **{"Big-UD-Q4_K_XL": llama + bytes(64)})
    presets.write_text(PRESETS, encoding="utf-8")
    with running(SERVER, "--models-preset", str(presets), cache=hub) as server:
        assert all(loads(server, name) for name in ("by tag", "by default", "by file"))
        sources: tuple[str | Path, ...] = (server.address, presets, hub)
        for number, order in enumerate(permutations(sources)):
            for source in order:
                add(tmp_path / f"{number}.db", source, hub=hub if known else None)
                assert len(rows(tmp_path / f"{number}.db")) == 3 or not known
    for number in range(6):
        listed = {row["name"]: row["status"] for row in rows(tmp_path / f"{number}.db")}
        names = ("Tiny-Q4_K_M", "Tiny-Q8_0", "Big-UD-Q4_K_XL")
        assert listed == dict.fromkeys(names, "available")


def _ollama(store: Path, name: str, tag: str, content: bytes) -> None:
    """Add a model to a store of Ollama, as ``ollama pull`` does."""
    digest = hashlib.sha256(content).hexdigest()
    (store / "blobs").mkdir(parents=True, exist_ok=True)
    (store / "blobs" / f"sha256-{digest}").write_bytes(content)
    manifest = store / "manifests" / "registry.ollama.ai" / "library" / name / tag
    manifest.parent.mkdir(parents=True, exist_ok=True)
    layer = {
        "mediaType": "application/vnd.ollama.image.model",
        "digest": f"sha256:{digest}",
        "size": len(content),
    }
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    manifest.write_text(json.dumps({"schemaVersion": 2, "mediaType": kind, "layers": [layer]}))


def test_presets_there_and_back(models: Path, tmp_path: Path) -> None:
    assert SERVER is not None
    llama = (models / "plain-Q4_0.gguf").read_bytes()
    store = tmp_path / "store"
    _ollama(store, "tiny", "1b", llama + bytes(64))
    _ollama(store, "tiny", "2b-instruct-q4_K_M", llama + bytes(96))
    small_model(models, "llama embedding").rename(models / "vectors.gguf")
    small_model(models, "llama reranker").rename(models / "ranks.gguf")
    db = tmp_path / "m.db"
    add(db, models, store)
    before = {row["id"]: (row["name"], row["path"], row["type"]) for row in rows(db)}
    assert len(before) == len(AWKWARD) + 2 + 2 + 2

    presets = tmp_path / "models.ini"
    exported = modelstore("list", "-f", "preset", "--db", db)
    presets.write_text(exported.out, encoding="utf-8")
    names = re.findall(r"^\[(.*)\]$", exported.out, re.MULTILINE)
    assert len(names) == len(set(names)) == len(before)
    with running(SERVER, "--models-preset", str(presets), folder=tmp_path) as server:
        assert sorted(model["id"] for model in served(server)) == sorted(names)
        assert [name for name in names if not loads(server, name)] == []
        add(db, server.address)
    after = {row["id"]: (row["name"], row["path"], row["type"]) for row in rows(db)}
    assert after == before
