"""Bills of materials, judged by the official schema as OWASP's own library holds it."""

from __future__ import annotations

import json
import uuid
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelstore.render.cyclonedx import SPDX, component
from tests.cli.inside import inside
from tests.cli.shelf import fill
from tests.sources.files.oracle import TINY
from tests.sources.stores.test_ollama import Store

if TYPE_CHECKING:
    from cyclonedx.validation.json import JsonStrictValidator

ID = "0123456789abcdef"
COMMIT = "A1" * 20
ROW: dict[str, Any] = {
    **dict.fromkeys(
        ("path", "architecture", "type", "license", "parameter_count", "size_label", "quantization")
    ),
    **dict.fromkeys(("context_length", "file_size", "sha256", "capabilities", "revision", "host")),
    **dict.fromkeys(("parameters", "source_id")),
    "id": ID,
    "name": "Tiny",
    "source": "gguf",
    "locator": "file://box/m/tiny.gguf",
    "status": "available",
    "updated_at": "2026-11-22T19:35:00Z",
}


@cache
def validator() -> JsonStrictValidator:
    """The official schema's judge; its import takes seconds, which only these tests shall pay."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    return JsonStrictValidator(SchemaVersion.V1_6)


def validated(text: str) -> dict[str, Any]:
    fault = validator().validate_str(text)
    assert fault is None, fault
    return json.loads(text)  # type: ignore[no-any-return]


def alone(**values: object) -> dict[str, Any]:
    """The component of one model, as a bill that the schema accepts."""
    made = component({**ROW, **values})
    bill = {"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [made]}
    [checked] = validated(json.dumps(bill))["components"]
    return checked  # type: ignore[no-any-return]


def test_a_model_with_every_field() -> None:
    made = alone(
        name="Qwen3-8B",
        source="huggingface",
        path="/hub/q.gguf",
        architecture="qwen3",
        type="model",
        license="apache-2.0",
        parameter_count=8_000_000_000,
        quantization="Q4_K_M",
        sha256="ab" * 32,
        capabilities='["tools","vision"]',
        revision=COMMIT,
        parameters=json.dumps(
            {
                "hf_repo": "org/Qwen3-8B-GGUF",
                "architectures": ["Qwen3ForCausalLM"],
                "general.base_model.0.name": "Qwen3 8B",
                "general.base_model.0.repo_url": "https://huggingface.co/Qwen/Qwen3-8B",
            }
        ),
    )
    assert made["type"] == "machine-learning-model"
    assert made["hashes"] == [{"alg": "SHA-256", "content": "ab" * 32}]
    assert made["licenses"] == [{"license": {"id": "Apache-2.0"}}]
    assert made["purl"] == f"pkg:huggingface/org/Qwen3-8B-GGUF@{COMMIT.lower()}"
    assert made["version"] == COMMIT
    assert made["modelCard"]["modelParameters"] == {
        "task": "image-text-to-text",
        "architectureFamily": "qwen3",
        "modelArchitecture": "Qwen3ForCausalLM",
        "inputs": [{"format": "text"}, {"format": "image"}],
        "outputs": [{"format": "text"}],
    }
    assert made["evidence"] == {"occurrences": [{"location": "/hub/q.gguf"}]}
    assert {"name": "modelstore:quantization", "value": "Q4_K_M"} in made["properties"]
    assert [one["name"] for one in made["pedigree"]["ancestors"]] == ["Qwen3 8B"]
    assert [one["url"] for one in made["externalReferences"]] == [
        "https://huggingface.co/org/Qwen3-8B-GGUF",
        f"https://huggingface.co/org/Qwen3-8B-GGUF/tree/{COMMIT}",
    ]


def test_the_package_url_is_read_back_by_the_specifications_library() -> None:
    from packageurl import PackageURL

    made = alone(locator=f"hf:org/Some.Model_2@{COMMIT}:x.gguf", revision=COMMIT)
    purl = PackageURL.from_string(made["purl"])
    assert (purl.type, purl.namespace, purl.name) == ("huggingface", "org", "Some.Model_2")
    assert (purl.version, purl.to_string()) == (COMMIT.lower(), made["purl"])


@pytest.mark.parametrize(
    ("values", "key", "expected"),
    [
        ({"license": "llama3.1"}, "licenses", [{"license": {"name": "llama3.1"}}]),
        ({"license": "MIT"}, "licenses", [{"license": {"id": "MIT"}}]),
        ({"license": "odc-by"}, "licenses", [{"license": {"id": "ODC-By-1.0"}}]),
        ({"type": "imatrix"}, "type", "data"),
        ({"type": "vocab"}, "modelCard", None),
        ({"sha256": "no hash"}, "hashes", None),
        ({"parameters": "{no json"}, "purl", None),
        ({"parameters": '{"hf_repo": "../etc"}'}, "purl", None),
        ({"source_id": "hf.co/org/X-GGUF:Q4_K_M"}, "purl", "pkg:huggingface/org/X-GGUF"),
        (
            {"source": "ollama", "source_id": "llama3.2:latest"},
            "externalReferences",
            [{"type": "distribution", "url": "https://ollama.com/library/llama3.2:latest"}],
        ),
        ({"capabilities": "[]"}, "modelCard", None),
    ],
)
def test_one_field(values: dict[str, object], key: str, expected: object) -> None:
    assert alone(**values).get(key) == expected


def test_every_identifier_of_a_licence_is_one_of_spdx() -> None:
    made = [component({**ROW, "id": known, "license": known}) for known in SPDX]
    bill = {"bomFormat": "CycloneDX", "specVersion": "1.6", "components": made}
    told = validated(json.dumps(bill))["components"]
    assert [one["licenses"][0]["license"].get("id") for one in told] == [*SPDX.values()]


FREE = (
    *("path", "architecture", "type", "license", "sha256", "revision", "host", "capabilities"),
    *("parameters", "source_id", "quantization"),
)
TEXTS = st.none() | st.text(max_size=40)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.fixed_dictionaries(dict.fromkeys(FREE, TEXTS)),
    st.text(min_size=1, max_size=40),
)
def test_whatever_a_row_holds_the_bill_is_valid(values: dict[str, object], name: str) -> None:
    alone(**values, name=name, locator=f"name:{name}")


def bill(db: Path, *options: str) -> str:
    done = inside("list", "-f", "cyclonedx", *options, "--db", db)
    assert done.code == 0, done.err
    return done.out


def test_a_catalogue_of_files_and_stores(tmp_path: Path) -> None:
    store = Store(tmp_path / "ollama")
    content = (TINY / "tiny-bert-embed-F32.gguf").read_bytes()
    store.tag("registry.ollama.ai/library/tiny/latest", store.layer("model", content))
    db = tmp_path / "m.db"
    assert inside("import", TINY, store.root, "--db", db).code == 0
    text = bill(db)
    told = validated(text)
    names = inside("list", "-c", "name", "--no-header", "--db", db).out.splitlines()
    assert [one["name"] for one in told["components"]] == names
    sharded = next(one for one in told["components"] if "components" in one)
    assert {one["type"] for one in sharded["components"]} == {"file"}
    assert uuid.UUID(told["serialNumber"].removeprefix("urn:uuid:")).version == 5
    changed = inside("list", "-c", "updated_at", "--no-header", "--db", db).out.splitlines()
    assert told["metadata"]["timestamp"] == max(changed)
    assert bill(db) == text  # every time
    assert inside("tag", "tiny-mistral", "--add", "x", "--db", db).code == 0
    few = validated(bill(db, "--type", "embedding"))
    assert few["serialNumber"] != told["serialNumber"]


def test_an_empty_answer_is_a_valid_bill(tmp_path: Path) -> None:
    db = fill(tmp_path / "m.db", [{"name": "x", "locator": "name:x"}])
    assert validated(bill(db, "nothing-like-this"))["components"] == []


def test_hostile_names_do_not_reach_a_terminal(tmp_path: Path) -> None:
    db = fill(tmp_path / "m.db", [{"name": "\x1b[31m\u202e'\"\\", "locator": "name:x"}])
    text = bill(db)
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert validated(text)["components"][0]["name"] == "\x1b[31m\u202e'\"\\"
