"""Live servers, over real HTTP, in the shapes that the programs answer in."""

from __future__ import annotations

import json
import os
import socket
import sys
from typing import TYPE_CHECKING

import pytest

from modelstore.errors import SourceError
from modelstore.found import Found, Skipped
from modelstore.sources import kinds
from modelstore.sources.address import Address
from modelstore.sources.base import Note, Target, Unchanged
from modelstore.sources.servers import live
from modelstore.sources.servers.http import Client
from modelstore.sources.servers.listener import working_directory
from modelstore.sources.stores import huggingface
from tests.sources.servers.fake_server import FakeServer, raw, serving, status
from tests.sources.stores.making import (
    context,
    found,
    knowing,
    opened_while,
    read_all,
    sha256,
    skipped,
    write_gguf,
    write_projector,
)
from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from modelstore.sources.base import Context, Item

KINDS = ["llama-server", "ollama-server", "lmstudio-server", "openai-server"]
SECRET = "sk-do-not-tell-0123456789"
NOT_FOUND = {"error": {"code": 404, "message": "File Not Found", "type": "not_found_error"}}


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with serving(FakeServer()) as running:
        yield running


def read(server: FakeServer, ctx: Context | None = None, kind: str = "server") -> list[Item]:
    return list(kinds.load(kind).read(Target(server.url), ctx or context()))


def models(items: list[Item]) -> dict[str, Found]:
    return {item.place.name: item for item in found(items) if item.place}


# --- llama-server ------------------------------------------------------------------------------


def router_model(name: str, value: str, *args: str, **more: object) -> dict[str, object]:
    return {
        "id": name,
        "aliases": [],
        "tags": [],
        "object": "model",
        "owned_by": "llamacpp",
        "created": 1763840100,
        "status": {"value": value, "args": ["llama-server", *args], "preset": f"[{name}]\n"},
        "architecture": {"input_modalities": ["text"], "output_modalities": ["text"]},
        "source": "models_dir",
        "can_remove": False,
        **more,
    }


META = {
    "vocab_type": 2,
    "n_vocab": 128256,
    "n_ctx_train": 131072,
    "n_embd": 4096,
    "n_params": 8030261312,
    "size": 4912898304,
}


def make_router(server: FakeServer, *entries: dict[str, object]) -> None:
    listing = {"object": "list", "data": list(entries)}
    server.answers.update(
        {
            "/models": listing,
            "/v1/models": listing,
            "/props": {
                "default_generation_settings": {"params": {}, "n_ctx": 0},
                "role": "router",
                "model_path": "none",
                "max_instances": 4,
            },
        }
    )


def make_single(server: FakeServer, model_path: str, meta: object = META) -> None:
    listing = {
        "models": [{"name": model_path, "model": model_path, "type": "model"}],
        "object": "list",
        "data": [
            {
                "id": model_path,
                "object": "model",
                "created": 1763840100,
                "owned_by": "llamacpp",
                "meta": meta,
            }
        ],
    }
    server.answers.update(
        {
            "/models": listing,
            "/v1/models": listing,
            "/props": {
                "default_generation_settings": {"id": 0, "n_ctx": 8192},
                "total_slots": 1,
                "model_path": model_path,
                "chat_template": "{{ messages }}",
                "modalities": {"vision": True, "audio": False},
                "build_info": "b6900",
                "is_sleeping": False,
            },
        }
    )


def test_router(server: FakeServer) -> None:
    make_router(
        server,
        router_model("big", "loaded", "-m", "/models/big.gguf", "-c", "32768", meta=META),
        router_model("small", "unloaded", "--model", "/models/small.gguf", "--embeddings"),
        router_model("hub", "downloading", "--hf-repo", "org/repo:Q4_K_M", source="cache"),
        {
            **router_model("broken", "unloaded"),
            "status": {"value": "unloaded", "failed": True, "exit_code": 1},
        },
    )
    items = models(read(server))
    assert set(items) == {"big", "small", "hub", "broken"}
    big, small, hub = items["big"].model, items["small"].model, items["hub"].model
    assert [big.source, big.status, big.source_id] == ["llama-server", "remote", "big"]
    assert big.locator == f"{server.url.replace('127.0.0.1', 'box')}#big"
    assert (big.context_length, big.embedding_length, big.vocab_size) == (131072, 4096, 128256)
    assert (big.parameter_count, big.file_size) == (8030261312, None)
    assert big.modified_at is None  # `created` is the time of the answer
    assert big.path is None
    assert json.loads(big.parameters or "") == {
        "ctx_size": 32768,
        "input_modalities": ["text"],
        "model_path": "/models/big.gguf",
        "tensor_bytes": 4912898304,
    }
    assert small.type == "embedding"
    assert small.context_length is None
    assert json.loads(hub.parameters or "")["hf_repo"] == "org/repo:Q4_K_M"
    assert hub.locator == "hf:org/repo:Q4_K_M"  # as in a presets file
    states = {name: item.place.state for name, item in items.items() if item.place}
    assert states == {
        "big": "loaded",
        "small": "unloaded",
        "hub": "downloading",
        "broken": "unloaded (failed)",
    }
    assert items["big"].place is not None
    assert items["big"].place.root == server.url
    assert items["big"].place.locator == f"{server.url}#big"


def test_empty_router_is_no_model(server: FakeServer) -> None:
    make_router(server)
    assert read(server) == []
    assert read(server, kind="llama-server") == []


def test_router_arguments_hold_secrets_that_are_not_kept(server: FakeServer) -> None:
    make_router(
        server,
        router_model(
            "x",
            "loaded",
            "--api-key",
            SECRET,
            "--hf-token",
            SECRET,
            "-m",
            "/x.gguf",
            "--foo",
            SECRET,
        ),
    )
    assert SECRET not in repr(read(server, context(api_key=SECRET)))


def test_single(server: FakeServer) -> None:
    make_single(server, "/gone/Llama-3.1-8B-Q4_K_M.gguf")
    [item] = found(read(server))
    assert item.model.name == "/gone/Llama-3.1-8B-Q4_K_M.gguf"
    assert item.model.status == "remote"
    assert item.model.parameter_count == 8030261312
    assert json.loads(item.model.parameters or "")["ctx_size"] == 8192
    assert json.loads(item.model.parameters or "")["input_modalities"] == ["text", "vision"]
    assert item.place is not None
    assert item.place.state == "loaded"


def test_single_while_loading_and_asleep(server: FakeServer) -> None:
    make_single(server, "/gone/x.gguf", meta=None)
    [item] = found(read(server))
    assert item.place is not None
    assert item.place.state == "loading"
    make_single(server, "/gone/x.gguf")
    server.answers["/props"] = {"model_path": "/gone/x.gguf", "is_sleeping": True}
    [item] = found(read(server))
    assert item.place is not None
    assert item.place.state == "sleeping"


def test_older_server_without_models_at_the_root(server: FakeServer) -> None:
    make_single(server, "/gone/x.gguf")
    del server.answers["/models"]
    assert len(found(read(server))) == 1


def test_key_for_the_props_but_not_for_the_list(server: FakeServer) -> None:
    make_single(server, "/gone/x.gguf")
    server.key, server.public = SECRET, ("/models", "/v1/models", "/health")
    [item] = found(read(server))
    assert item.model.context_length == 131072
    [item] = found(read(server, context(api_key=SECRET)))
    assert json.loads(item.model.parameters or "")["ctx_size"] == 8192


def test_model_seen_on_disk_and_through_the_server_is_one(
    server: FakeServer, tmp_path: Path
) -> None:
    from modelstore.sources.files import directory

    path = tmp_path / "sub" / "Tiny-F32.gguf"
    write_gguf(path)
    write_projector(tmp_path / "sub" / "mmproj-Tiny-F16.gguf")
    (tmp_path / "alias.gguf").symlink_to(path)
    make_router(
        server,
        router_model("tiny", "loaded", "-m", str(path)),
        router_model("tiny-long", "unloaded", "-m", str(path), "-c", "99"),
        router_model("linked", "unloaded", "-m", str(tmp_path / "alias.gguf")),
    )
    [on_disk] = [
        one
        for one in found(read_all(directory.SOURCES["directory"].read, tmp_path / "sub"))
        if one.model.type != "projector"
    ]
    served = models(read(server))
    assert {item.model.locator for item in served.values()} == {on_disk.model.locator}
    assert served["tiny"].files == on_disk.files  # the same companions too
    assert served["tiny"].model.source == "gguf"
    assert served["tiny"].model.status == "available"
    assert served["tiny"].model.architecture == "llama"

    # And when the catalogue knows it, no model is opened.
    known = knowing([on_disk])
    items: list[Item] = []
    opened = opened_while(lambda: items.extend(read(server, known)))
    assert [type(item) for item in items] == [Unchanged] * 3
    assert {item.locator for item in items if isinstance(item, Unchanged)} == {
        on_disk.model.locator
    }
    assert not [name for name in opened if name.endswith(".gguf")]


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_relative_path_starts_where_the_server_runs(
    server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server of this test is this process."""
    write_gguf(tmp_path / "models" / "Tiny-F32.gguf")
    monkeypatch.chdir(tmp_path)
    make_router(
        server,
        router_model("tiny", "unloaded", "-m", "models/Tiny-F32.gguf"),
        router_model("gone", "unloaded", "-m", "models/gone.gguf"),
    )
    served = models(read(server))
    path = tmp_path / "models" / "Tiny-F32.gguf"
    assert served["tiny"].model.locator == f"file://box{path}"
    assert served["gone"].model.status == "remote"


def test_nobody_listens_at_a_port_that_is_free() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but not listening
        assert working_directory(taken.getsockname()[1]) is None


@pytest.mark.skipif(os.name == "nt", reason="the cache has links elsewhere")
def test_cached_models_are_those_of_the_hub_s_cache(server: FakeServer, tmp_path: Path) -> None:
    repo = tmp_path / "hub" / "models--org--Tiny-GGUF"
    commit = "a" * 40
    for name in ("Tiny-Q4_K_M", "Tiny-UD-Q8_0", "mmproj-Tiny-F16"):
        content = write_gguf(tmp_path / "made.gguf", name=name)
        blob = repo / "blobs" / sha256(content)
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content)
        link = repo / "snapshots" / commit / f"{name}.gguf"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(f"../../blobs/{blob.name}")
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    ctx = context(environ={"HF_HUB_CACHE": str(tmp_path / "hub")})
    on_disk = found(read_all(huggingface.read, tmp_path / "hub", ctx))
    locators = {item.model.name: item.model.locator for item in on_disk}
    make_router(
        server,
        router_model("org/Tiny-GGUF:Q4_K_M", "unloaded", source="cache"),
        router_model("by option", "unloaded", "-hf", "org/Tiny-GGUF:Q8_0"),
        router_model("by file", "unloaded", "-hf", "org/Tiny-GGUF", "-hff", "Tiny-Q4_K_M.gguf"),
        router_model("org/Tiny-GGUF:Q2_K", "unloaded", source="cache"),
        router_model("org/Tiny-GGUF", "unloaded", source="cache"),
        router_model("../evil:Q4_K_M", "unloaded", source="cache"),
    )
    served = {name: item.model for name, item in models(read(server, ctx)).items()}
    assert served["org/Tiny-GGUF:Q4_K_M"].locator == locators["Tiny-Q4_K_M"]
    assert served["by file"].locator == locators["Tiny-Q4_K_M"]
    hashes = {item.model.name: item.model.sha256 for item in on_disk}
    assert served["org/Tiny-GGUF:Q4_K_M"].sha256 == hashes["Tiny-Q4_K_M"] is not None
    assert served["by option"].locator == locators["Tiny-UD-Q8_0"]
    assert served["org/Tiny-GGUF"].locator == locators["Tiny-Q4_K_M"]  # llama.cpp's default
    unclear = ("org/Tiny-GGUF:Q2_K", "../evil:Q4_K_M")
    assert {served[name].status for name in unclear} == {"remote"}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("Q4_K - Medium", "Q4_K_M"),
        ("Q3_K - Large", "Q3_K_L"),
        ("Q8_0", "Q8_0"),
        ("IQ2_XXS - 2.0625 bpw", "IQ2_XXS"),
        ("BF16", "BF16"),
        ("unknown, may not work", None),
    ],
)
def test_what_the_server_knows_is_kept(
    server: FakeServer, words: str, expected: str | None
) -> None:
    make_single(server, "/gone/x.gguf", {**META, "ftype": words})
    server.answers["/props"] = {"chat_template_caps": {"supports_tools": True}}
    [item] = found(read(server))
    assert (item.model.quantization, item.model.file_size) == (expected, None)
    facts = json.loads(item.model.parameters or "")
    assert (facts["ftype"], facts["tensor_bytes"]) == (words, META["size"])
    assert facts["chat_template_caps"] == {"supports_tools": True}


def test_shards_are_one_model(server: FakeServer, tmp_path: Path) -> None:
    for number in (1, 2):
        write_gguf(tmp_path / f"Tiny-0000{number}-of-00002.gguf")
    make_router(
        server, router_model("t", "loaded", "-m", str(tmp_path / "Tiny-00001-of-00002.gguf"))
    )
    [item] = found(read(server))
    assert [file.role for file in item.files] == ["shard", "shard"]


def test_paths_that_lead_nowhere_are_the_server_s_own(server: FakeServer, tmp_path: Path) -> None:
    (tmp_path / "text.gguf").write_text("not a model")
    (tmp_path / "loop.gguf").symlink_to("loop.gguf")
    os.mkfifo(tmp_path / "pipe.gguf")
    paths = ["text.gguf", "loop.gguf", "pipe.gguf", "missing.gguf", ".", "nul\0.gguf", "x" * 5000]
    make_router(
        server,
        *(
            router_model(f"model {number}", "loaded", "-m", str(tmp_path / path))
            for number, path in enumerate(paths)
        ),
        router_model("relative", "loaded", "-m", "Tiny.gguf"),
        router_model("odd", "loaded", path=["/etc/passwd"]),
    )
    items = read(server)
    assert {type(item) for item in items} == {Found}
    assert {item.model.status for item in found(items)} == {"remote"}
    assert len(items) == len(paths) + 2


# --- Ollama --------------------------------------------------------------------------------------


def ollama_tag(name: str, **more: object) -> dict[str, object]:
    return {
        "name": name,
        "model": name,
        "modified_at": "2026-05-10T08:06:48.639712648-07:00",
        "size": 2019393189,
        "digest": "a80c4f17acd55265feec403c7aef86be0c25983ab279d83f3bcd3abbcb5b8b72",
        "details": {
            "parent_model": "",
            "format": "gguf",
            "family": "llama",
            "families": ["llama"],
            "parameter_size": "3.2B",
            "quantization_level": "Q4_K_M",
        },
        **more,
    }


def ollama_show(modelfile: str) -> dict[str, object]:
    return {
        "modelfile": modelfile,
        "parameters": 'stop "<|eot_id|>"',
        "template": "{{ .Prompt }}",
        "details": ollama_tag("")["details"],
        "model_info": {
            "general.architecture": "llama",
            "general.file_type": 15,
            "general.parameter_count": 3212749888,
            "llama.attention.head_count": 24,
            "llama.attention.head_count_kv": 8,
            "llama.block_count": 28,
            "llama.context_length": 131072,
            "llama.embedding_length": 3072,
            "llama.feed_forward_length": 8192,
            "llama.vocab_size": 128256,
            "tokenizer.ggml.tokens": None,
        },
        "capabilities": ["completion", "tools"],
    }


HEX = "dde5aa3fc5ffc17176b5e8bdc82f587b24b2678c6c66101bf7da77af9f7ccdff"
MODELFILE = f"""# Modelfile generated by "ollama show"
# To build a new Modelfile based on this, replace FROM with:
# FROM llama3.2:latest

FROM /usr/share/nowhere/.ollama/models/blobs/sha256-{HEX}
TEMPLATE \"\"\"{{{{ .Prompt }}}}\"\"\"
"""


def make_ollama(server: FakeServer, *tags: dict[str, object], modelfile: str = MODELFILE) -> None:
    server.answers.update(
        {
            "/v1/models": {
                "object": "list",
                "data": [
                    {"id": tag["name"], "object": "model", "created": 1, "owned_by": "library"}
                    for tag in tags
                ],
            },
            "/api/tags": {"models": list(tags)},
            "/api/show": ollama_show(modelfile),
            "/api/ps": {"models": [{"name": "llama3.2:latest", "model": "llama3.2:latest"}]},
        }
    )


def test_ollama(server: FakeServer) -> None:
    make_ollama(server, ollama_tag("llama3.2:latest"), ollama_tag("other:7b"))
    items = models(read(server))
    model = items["llama3.2:latest"].model
    assert [model.source, model.status] == ["ollama-server", "remote"]
    assert model.locator == f"{server.url.replace('127.0.0.1', 'box')}#llama3.2:latest"
    assert [model.architecture, model.quantization, model.size_label] == ["llama", "Q4_K_M", "3.2B"]
    assert (model.parameter_count, model.file_type) == (3212749888, 15)
    assert (model.context_length, model.embedding_length) == (131072, 3072)
    assert (model.head_count, model.head_count_kv, model.block_count) == (24, 8, 28)
    assert (model.feed_forward_length, model.vocab_size) == (8192, 128256)
    assert model.file_size == 2019393189
    assert model.sha256 == HEX  # of the weights, not of the manifest
    assert model.modified_at == "2026-05-10T15:06:48Z"
    assert model.capabilities == ("tools",)
    states = {name: item.place.state for name, item in items.items() if item.place}
    assert states == {"llama3.2:latest": "loaded", "other:7b": "unloaded"}


def test_ollama_model_whose_blob_is_on_this_machine(server: FakeServer, tmp_path: Path) -> None:
    content = write_gguf(tmp_path / "made")
    digest = sha256(content)
    blob = tmp_path / "blobs" / f"sha256-{digest}"
    blob.parent.mkdir()
    blob.write_bytes(content)
    make_ollama(server, ollama_tag("tiny:latest"), modelfile=f"FROM {blob}\n")
    [item] = found(read(server))
    assert item.model.locator == f"file://box{os.path.realpath(blob)}"
    assert item.model.sha256 == digest
    assert item.model.source == "ollama"
    assert item.model.name == "tiny:latest"
    assert item.model.status == "available"
    assert [type(one) for one in read(server, knowing([item]))] == [Unchanged]


def test_ollama_cloud_model(server: FakeServer) -> None:
    cloud = ollama_tag(
        "gpt-oss:120b-cloud",
        remote_host="https://ollama.com:443",
        remote_model="gpt-oss:120b",
        size=384,
    )
    make_ollama(server, cloud, modelfile="FROM gpt-oss:120b-cloud\n")
    [item] = found(read(server))
    assert item.model.status == "remote"
    assert item.model.locator == "https://ollama.com#gpt-oss:120b"
    assert item.model.file_size is None  # what Ollama says is the size of a manifest
    assert item.model.sha256 is None


def test_ollama_without_models_and_without_details(server: FakeServer) -> None:
    make_ollama(server)
    server.answers["/api/tags"] = {"models": None}
    assert read(server) == []
    make_ollama(server, ollama_tag("llama3.2:latest"))
    server.answers["/api/show"] = 500
    del server.answers["/api/ps"]
    [item] = found(read(server))
    assert (item.model.architecture, item.model.size_label) == ("llama", "3.2B")
    assert item.place is not None
    assert item.place.state is None


def test_details_are_asked_for_only_while_the_server_answers(server: FakeServer) -> None:
    make_ollama(server, *(ollama_tag(f"m{number}:latest") for number in range(20)))
    server.answers["/api/show"] = raw()  # which hangs up
    items = read(server)
    assert len(found(items)) == 20
    assert server.paths().count("/api/show") == 1


# --- LM Studio, OpenAI ---------------------------------------------------------------------------


def lmstudio_model(name: str, **more: object) -> dict[str, object]:
    return {
        "id": name,
        "object": "model",
        "type": "llm",
        "publisher": "lmstudio-community",
        "arch": "llama",
        "compatibility_type": "gguf",
        "quantization": "Q4_K_M",
        "state": "not-loaded",
        "max_context_length": 131072,
        **more,
    }


def test_lmstudio(server: FakeServer) -> None:
    entries = [
        lmstudio_model("meta-llama-3.1-8b-instruct", state="loaded", loaded_context_length=4096),
        lmstudio_model("qwen2-vl-7b", type="vlm", compatibility_type="mlx", quantization="4bit"),
        lmstudio_model("nomic-embed", type="embeddings", arch="nomic-bert"),
    ]
    server.answers["/api/v0/models"] = {"object": "list", "data": entries}
    server.answers["/v1/models"] = {
        "data": [{"id": one["id"], "object": "model", "owned_by": "org"} for one in entries]
    }
    items = models(read(server))
    llama = items["meta-llama-3.1-8b-instruct"]
    assert [llama.model.source, llama.model.type] == ["lmstudio-server", "model"]
    assert [llama.model.architecture, llama.model.quantization] == ["llama", "Q4_K_M"]
    assert llama.model.context_length == 131072
    assert json.loads(llama.model.parameters or "") == {
        "publisher": "lmstudio-community",
        "format": "gguf",
        "ctx_size": 4096,
    }
    assert llama.place is not None
    assert llama.place.state == "loaded"
    assert items["nomic-embed"].model.type == "embedding"
    assert json.loads(items["qwen2-vl-7b"].model.parameters or "")["format"] == "mlx"


def test_openai(server: FakeServer) -> None:
    server.answers["/v1/models"] = {
        "object": "list",
        "data": [
            {"id": "base", "object": "model", "created": 1, "owned_by": "vllm", "root": "org/base",
             "parent": None, "max_model_len": 32768},
            {"id": "lora", "object": "model", "created": 1, "owned_by": "vllm", "parent": "base"},
        ],
    }  # fmt: skip
    items = models(read(server))
    base, lora = items["base"].model, items["lora"].model
    assert (base.source, base.status, base.context_length) == ("openai-server", "remote", 32768)
    assert base.modified_at is None
    assert json.loads(base.parameters or "") == {"owned_by": "vllm", "root": "org/base"}
    assert lora.type == "adapter"
    assert base.type is None


def test_address_with_v1_as_openai_clients_want_it(server: FakeServer) -> None:
    server.answers["/v1/models"] = {"data": [{"id": "m"}]}
    [item] = found(list(kinds.load("server").read(Target(f"{server.url}/v1/"), context())))
    assert item.model.locator == f"{server.url.replace('127.0.0.1', 'box')}#m"


def test_same_server_by_every_name_of_this_machine(server: FakeServer) -> None:
    server.answers["/v1/models"] = {"data": [{"id": "m"}]}
    by_name = server.url.replace("127.0.0.1", "localhost")
    [first] = found(read(server))
    [second] = found(list(kinds.load("server").read(Target(by_name), context())))
    assert first.model == second.model
    assert first.model.host == "box"


# --- which kind, and what is no server ---------------------------------------------------------


def test_every_kind_is_told_apart_with_few_requests(server: FakeServer) -> None:
    client = Client(Address.parse(server.url), 5.0)
    makers: dict[str, Callable[[], None]] = {
        "llama-server": lambda: make_router(server, router_model("x", "loaded")),
        "ollama-server": lambda: make_ollama(server, ollama_tag("x")),
        "lmstudio-server": lambda: server.answers.update(
            {
                "/v1/models": {"data": [{"id": "x"}]},
                "/api/v0/models": {"data": [lmstudio_model("x")]},
            }
        ),
        "openai-server": lambda: server.answers.update({"/v1/models": {"data": [{"id": "x"}]}}),
    }
    for kind, make in makers.items():
        server.answers.clear()
        server.asked.clear()
        make()
        assert kind == live.identify(client).KIND
        assert len(server.asked) <= 3
        assert {one.method for one in server.asked} == {"GET"}


def test_lmstudio_answers_what_it_does_not_know_with_200(server: FakeServer) -> None:
    unknown = {"error": "Unexpected endpoint or method. (GET /api/tags)"}
    server.answers.update(dict.fromkeys(("/props", "/models", "/api/tags", "/api/ps"), unknown))
    server.answers["/v1/models"] = {"data": [{"id": "x", "object": "model"}]}
    server.answers["/api/v0/models"] = {"data": [lmstudio_model("x")]}
    assert [item.model.source for item in found(read(server))] == ["lmstudio-server"]


def test_key_is_asked_for(server: FakeServer) -> None:
    server.key = SECRET
    server.answers["/v1/models"] = {"data": [{"id": "m"}]}
    with pytest.raises(SourceError, match="asks for an API key") as caught:
        read(server)
    assert "MODELSTORE_API_KEY" in (caught.value.hint or "")
    with pytest.raises(SourceError, match="refused the API key") as caught:
        read(server, context(api_key="wrong-key"))
    assert "wrong-key" not in caught.value.message
    assert len(found(read(server, context(api_key=SECRET)))) == 1


def test_key_is_told_to_go_unencrypted_over_the_network() -> None:
    source = kinds.load("openai-server")
    reader = source.read(Target("http://192.0.2.1:1"), context(api_key=SECRET, timeout=0.1))
    note = next(reader)
    assert isinstance(note, Note)
    assert "unencrypted" in note.text
    assert SECRET not in note.text


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (500, "with HTTP 500"),
        (404, "lists no models"),
        (status(200, b"<html>", kind="text/html"), "with text/html, not with JSON"),
        ({"data": {"id": "x"}}, "lists no models"),
        ([], "lists no models"),
        (b" " * (17 * 1024 * 1024), "sent more than 16.0 MiB"),
        (raw(b"HTTP/1.1 200 OK\r\n\r\n", again=b"[1,2," * 20_000), "sent more than 16.0 MiB"),
        (status(302, Location="http://127.0.0.2:1/v1/models"), "redirects to another server"),
        (raw(b"HTTP/1.1 200 OK\r\nX: ", again=b"y", pause=0.05), "did not answer"),
        (raw(b"+PONG\r\n"), "is it an HTTP server"),
    ],
)
def test_no_server_of_models(server: FakeServer, answer: object, expected: str) -> None:
    timeout = 0.5 if expected == "did not answer" else PATIENCE
    server.answers["/v1/models"] = answer
    with pytest.raises(SourceError) as caught:
        read(server, context(timeout=timeout, api_key=SECRET))
    assert expected in f"{caught.value.message} {caught.value.hint}"
    assert SECRET not in f"{caught.value!r}"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "listing",
    [{}, [], 1.5, "x", {"data": 7, "models": 7}, {"data": {"a": {}}, "models": "x"}, NOT_FOUND],
    ids=repr,
)
def test_reply_of_another_shape_is_named(server: FakeServer, kind: str, listing: object) -> None:
    for path in ("/models", "/v1/models", "/api/tags", "/api/v0/models"):
        server.answers[path] = listing
    with pytest.raises(SourceError, match="not with a list of models"):
        read(server, kind=kind)


HOSTILE: list[object] = [
    None,
    7,
    "x",
    [],
    {},
    {"id": "", "name": ""},
    {"id": 5, "name": ["x"]},
    {"id": "n" * 5000, "name": "n" * 5000},
    {"id": "twice", "name": "twice"},
    {"id": "twice", "name": "twice"},
    {
        "id": "wrong types",
        "name": "wrong types",
        "status": [],
        "meta": [],
        "architecture": 7,
        "details": 7,
        "owned_by": 7,
        "modified_at": "yesterday",
        "size": -1,
        "state": {},
        "type": ["llm"],
        "max_context_length": 2**70,
        "max_model_len": True,
        "path": 7,
    },
    {
        "id": "\x1b[31mred\u202e",
        "name": "\x1b[31mred\u202e",
        "status": {"value": 7, "args": [None, "-m", ["x"], "-c", {}]},
        "meta": {"n_params": 1e308, "n_ctx_train": "4096", "size": 0},
        "modified_at": "9999-12-31T23:59:59-12:00",
    },
]


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_models_are_skipped_by_name(server: FakeServer, kind: str) -> None:
    for path in ("/models", "/v1/models", "/api/v0/models"):
        server.answers[path] = {"data": HOSTILE}
    server.answers["/api/tags"] = {"models": HOSTILE}
    server.answers["/api/show"] = {"details": [], "model_info": 7, "modelfile": 7}
    items = read(server, kind=kind)
    assert [item.model.name for item in found(items)] == [
        "twice",
        "wrong types",
        "\x1b[31mred\u202e",  # raw: who shows it makes it harmless
    ]
    assert len(items) == len(HOSTILE)
    assert all(isinstance(item, (Found, Skipped)) for item in items)
    assert skipped(items)[f"{server.url}#twice"] == "is listed twice"
    for item in found(items):
        assert item.model.context_length is None
        assert item.model.file_size is None
        assert item.model.parameter_count is None
        json.loads(item.model.parameters or "{}")


@pytest.mark.parametrize("address", ["http://u:p@127.0.0.1/", "http://127.0.0.1/?k=p"])
def test_credentials_in_the_address_are_refused(address: str) -> None:
    with pytest.raises(SourceError, match="user name, a password or a query"):
        list(kinds.load("server").read(Target(address), context()))


# --- usual places --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        (None, "http://127.0.0.1:11434"),
        ("0.0.0.0", "http://0.0.0.0:11434"),
        ("0.0.0.0:8080", "http://0.0.0.0:8080"),
        ("gpu-box", "http://gpu-box:11434"),
        ("https://gpu-box/ollama/", "https://gpu-box/ollama"),
        ("[::1]", "http://[::1]:11434"),
    ],
)
def test_ollama_s_usual_address(setting: str | None, expected: str) -> None:
    environ = {} if setting is None else {"OLLAMA_HOST": setting}
    [place] = kinds.usual_places("ollama-server", context(environ=environ))
    assert Address.parse(place).url == expected


def test_usual_addresses() -> None:
    assert kinds.usual_places("llama-server", context()) == [
        "http://127.0.0.1:9931",
        "http://127.0.0.1:8080",
    ]
    told = context(environ={"LLAMA_ARG_PORT": "7777"})
    assert kinds.usual_places("llama-server", told) == ["http://127.0.0.1:7777"]
    assert kinds.usual_places("lmstudio-server", context()) == ["http://127.0.0.1:1234"]
