"""Models from stores, servers and other machines, through the command line."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from tests.cli.logs import flip_bit, frame_offset, killed_writer, state_of
from tests.cli.program import DATA, Result, modelstore
from tests.sources.servers.fake_server import FakeServer, serving
from tests.sources.stores.making import sha256, write_gguf

SECRET = "sk-very-secret-key-0123456789"


def listed(db: Path, *arguments: str) -> list[dict[str, object]]:
    result = modelstore("list", "--json", "--db", db, *arguments)
    assert result.code == 0, result.err
    rows: list[dict[str, object]] = result.json
    return rows


def ollama_store(root: Path, weights: bytes, *tags: str) -> Path:
    digest = sha256(weights)
    blob = root / "blobs" / f"sha256-{digest}"
    blob.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(weights)
    config = json.dumps({"model_format": "gguf", "model_family": "llama"}).encode()
    (root / "blobs" / f"sha256-{sha256(config)}").write_bytes(config)
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {
            "mediaType": "application/vnd.docker.container.image.v1+json",
            "digest": f"sha256:{sha256(config)}",
            "size": len(config),
        },
        "layers": [
            {
                "mediaType": "application/vnd.ollama.image.model",
                "digest": f"sha256:{digest}",
                "size": len(weights),
            }
        ],
    }
    for tag in tags:
        path = root / "manifests" / "registry.ollama.ai" / "library" / "tiny" / tag
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(manifest))
    return root


def hub_cache(root: Path, weights: bytes) -> Path:
    repo = root / "models--org--tiny-GGUF"
    blob = repo / "blobs" / sha256(weights)
    blob.parent.mkdir(parents=True)
    blob.write_bytes(weights)
    commit = "0123456789abcdef0123456789abcdef01234567"
    snapshot = repo / "snapshots" / commit
    snapshot.mkdir(parents=True)
    os.symlink(f"../../blobs/{blob.name}", snapshot / "tiny-Q8_0.gguf")
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    return root


def test_discovery_shows_every_place_and_imports_what_is_there(tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(DATA, home / "models")
    weights = write_gguf(tmp_path / "w.gguf", name="Shared")
    ollama_store(tmp_path / "ollama", weights, "latest", "8b")
    hub_cache(tmp_path / "hub", weights)
    env = {
        "HOME": str(home),
        "OLLAMA_MODELS": str(tmp_path / "ollama"),
        "HF_HUB_CACHE": str(tmp_path / "hub"),
        "XDG_DATA_HOME": str(tmp_path / "data"),
    }
    plan = modelstore("import", "--discover", "--dry-run", "--json", env=env)
    assert plan.code == 0, plan.err
    places = {place["kind"]: place for place in plan.json["sources"] if place["absent"] is None}
    assert places["ollama"]["found"] == places["huggingface"]["found"] == 1
    assert places["directory"]["found"] == 7
    assert any(place["absent"] for place in plan.json["sources"])
    assert not (tmp_path / "data").exists()

    assert modelstore("import", "--discover", env=env).code == 0
    again = modelstore("import", "--discover", "--json", env=env).json
    assert (again["added"], again["updated"], again["skipped"]) == (0, 0, 0)


def test_discovery_on_a_machine_with_nothing_says_so_in_one_line(tmp_path: Path) -> None:
    env = {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path / "data")}
    for allow, code in (((), 6), (("--allow-empty",), 0)):
        result = modelstore("import", "--discover", *allow, env=env)
        assert result.code == code, result.err
        (line,) = [line for line in result.out.splitlines() if "usual places" in line]
        assert line.strip().startswith("no program keeps models here")
        assert "does not exist" not in result.out


def test_one_model_is_one_row_however_many_places_show_it(tmp_path: Path) -> None:
    db = tmp_path / "m.db"
    weights = write_gguf(tmp_path / "loose" / "tiny-Q8_0.gguf", name="Shared")
    os.link(tmp_path / "loose" / "tiny-Q8_0.gguf", tmp_path / "loose" / "same-file.gguf")
    ollama = ollama_store(tmp_path / "ollama", weights, "latest", "8b")
    hub = hub_cache(tmp_path / "hub", weights)
    assert modelstore("import", hub, ollama, "--db", db).code == 0
    (model,) = listed(db)
    assert model["sha256"] == sha256(weights)
    assert modelstore("import", tmp_path / "loose", "--db", db).code == 0
    shown = modelstore("show", str(model["id"]), "--db", db, "--json").json
    sources = {place["source"] for place in shown["places"]}
    assert {"huggingface", "ollama"} <= sources
    shutil.rmtree(hub / "models--org--tiny-GGUF")
    (hub / "CACHEDIR.TAG").write_text("still mounted")
    result = modelstore("import", hub, "--from", "huggingface", "--db", db, "--allow-empty")
    assert result.code == 0, result.err
    statuses = {row["status"] for row in listed(db)}
    assert statuses == {"available"}


def test_catalogues_of_many_hosts_merge_and_stay_apart(tmp_path: Path) -> None:
    one, two, both = (tmp_path / name for name in ("one.db", "two.db", "both.db"))
    assert modelstore("import", DATA, "--db", one, "--host", "alpha").code == 0
    assert modelstore("import", DATA, "--db", two, "--host", "beta").code == 0
    assert modelstore("import", one, two, "--db", both).code == 0
    assert len(listed(both)) == 14
    assert len(listed(both, "--host", "beta")) == 7
    assert {row["host"] for row in listed(both)} == {"alpha", "beta"}


def test_a_preset_comes_back_as_the_same_rows(tmp_path: Path) -> None:
    db, other = tmp_path / "m.db", tmp_path / "other.db"
    assert modelstore("import", DATA, "--db", db).code == 0
    preset = modelstore("list", "--type", "model", "-f", "preset", "--db", db)
    assert preset.code == 0, preset.err
    assert preset.out.startswith("version = 1")
    (tmp_path / "models.ini").write_text(preset.out)
    result = modelstore("import", tmp_path / "models.ini", "--db", other, "--json")
    assert result.json["sources"][0]["kind"] == "preset"
    known = {row["path"]: row["id"] for row in listed(db)}
    rows = listed(other)
    assert rows
    assert all(known[row["path"]] == row["id"] for row in rows)


def import_server(server: FakeServer, db: Path, **env: str) -> Result:
    return modelstore("import", server.url, "--db", db, "--timeout", "60s", env=env)


def test_a_preset_and_the_hub_s_cache_are_one_row_in_a_dry_run_too(tmp_path: Path) -> None:
    db, presets = tmp_path / "models.db", tmp_path / "p.ini"
    presets.write_text("version = 1\n[mine]\nhf-repo = org/Tiny-GGUF\ntags = fast\n")
    snapshot = tmp_path / "hub" / "models--org--Tiny-GGUF" / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    shutil.copy(next(DATA.rglob("*Q8_0*.gguf")), snapshot / "Tiny-Q8_0.gguf")
    assert modelstore("import", presets, "--db", db).code == 0
    plan = modelstore("import", tmp_path / "hub", "--db", db, "--dry-run", "--json").json
    result = modelstore("import", tmp_path / "hub", "--db", db, "--json").json
    assert plan["changes"] == result["changes"]
    assert [one["change"] for one in result["changes"]] == ["updated"]
    (counts,) = result["sources"]
    assert (counts["found"], counts["added"], counts["updated"]) == (1, 0, 1)
    (row,) = modelstore("list", "--json", "--db", db).json
    assert (row["name"], row["status"], row["tags"]) == ("Tiny-Q8_0", "available", ["fast"])


def test_a_blob_that_no_link_leads_to_is_no_model_that_is_there(tmp_path: Path) -> None:
    db, repository = tmp_path / "models.db", tmp_path / "hub" / "models--org--tiny"
    write_gguf(repository / "blobs" / "b", name="Tiny")
    link = repository / "snapshots" / ("a" * 40) / "tiny-F32.gguf"
    link.parent.mkdir(parents=True)
    for there in (True, False, True):
        if there:
            link.symlink_to("../../blobs/b")
        else:
            link.unlink()
        assert modelstore("import", tmp_path / "hub", "--db", db, "--allow-empty").code == 0
        (row,) = (row for row in listed(db) if row["path"] == str(link))
        assert row["status"] == ("available" if there else "missing")


def test_a_server_and_a_disk_show_one_model(tmp_path: Path) -> None:
    db = tmp_path / "m.db"
    path = tmp_path / "models" / "tiny-Q8_0.gguf"
    write_gguf(path, name="Served")
    assert modelstore("import", tmp_path / "models", "--db", db).code == 0
    entry = {
        "id": "tiny-Q8_0",
        "object": "model",
        "owned_by": "llamacpp",
        "status": {"value": "loaded", "args": ["llama-server", "-m", str(path), "-c", "2048"]},
    }
    listing = {"object": "list", "data": [entry]}
    fake = FakeServer(
        answers={
            "/models": listing,
            "/v1/models": listing,
            "/props": {"role": "router", "model_path": "none"},
        },
        key=SECRET,
    )
    with serving(fake) as server:
        refused = import_server(server, db)
        assert refused.code == 3
        assert "MODELSTORE_API_KEY" in refused.err
        result = import_server(server, db, MODELSTORE_API_KEY=SECRET)
    assert result.code == 0, result.err
    assert SECRET not in result.out + result.err
    (row,) = listed(db)
    shown = modelstore("show", str(row["id"]), "--db", db, "--json").json
    assert "loaded" in {place["state"] for place in shown["places"]}
    assert SECRET.encode() not in db.read_bytes()


def test_servers_that_lie_are_named(tmp_path: Path) -> None:
    answers: dict[str, object] = {"html": b"<!doctype html><p>hello", "error": 500, "number": 7}
    for name, answer in answers.items():
        fake = FakeServer(answers=dict.fromkeys(("/models", "/v1/models", "/props"), answer))
        with serving(fake) as server:
            result = import_server(server, tmp_path / f"{name}.db")
        assert result.code == 3, (name, result)
        assert result.out == ""
        assert "Traceback" not in result.err
        assert server.url in result.err


def test_a_configuration_names_a_blob_and_its_name_finds_the_model(tmp_path: Path) -> None:
    db = tmp_path / "m.db"
    weights = write_gguf(tmp_path / "w.gguf", name="Blob")
    ollama = ollama_store(tmp_path / "ollama", weights, "latest")
    blob = ollama / "blobs" / f"sha256-{sha256(weights)}"
    preset = tmp_path / "models.ini"
    preset.write_text(f"version = 1\n\n[my own name]\nmodel = {blob}\n")
    assert modelstore("import", preset, "--db", db).code == 0
    (row,) = listed(db)
    assert row["name"] == "my own name"
    assert modelstore("import", ollama, "--db", db).code == 0
    assert [found["id"] for found in listed(db)] == [row["id"]]
    for name in ("my own name", "tiny:latest"):
        shown = modelstore("show", name, "--field", "id", "--db", db)
        assert (shown.code, shown.out.strip()) == (0, row["id"]), (name, shown)


def test_a_database_whose_log_is_damaged_is_imported_without_it_and_that_is_a_skip(
    tmp_path: Path,
) -> None:
    app = tmp_path / "app.db"
    killed_writer(app, 6)
    wal = Path(f"{app}-wal")
    flip_bit(wal, frame_offset(wal, 4) + 100)  # commits follow that SQLite would drop
    before = state_of(app)
    result = modelstore("import", app, "--db", tmp_path / "m.db", "--json")
    assert result.code == 6, result.err
    (source,) = result.json["sources"]
    (skip,) = source["skips"]
    assert skip["what"] == str(wal)
    assert "frame 4 of the log is damaged" in skip["reason"]
    assert (source["found"], source["skipped"]) == (3, 1)
    listed = modelstore("list", "--count", "--db", app)
    assert (listed.code, listed.out) == (0, "3\n")
    assert "nothing is folded, and a copy is read" in listed.err
    assert state_of(app) == before
