"""Models written as a bill of materials: CycloneDX 1.6 in JSON, with a model card for each.

One model at a time is in memory. The same rows give the same text: the serial number comes from the
content, and the time is that of the row that changed last.
https://cyclonedx.org/docs/1.6/json/ and https://cyclonedx.org/capabilities/mlbom/
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import uuid
from contextlib import closing
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from modelstore.catalogue.lookup import companions
from modelstore.catalogue.query import Query, select
from modelstore.locator import is_repository, parse_hub_locator
from modelstore.render.rows import dump_json
from modelstore.text import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from modelstore.database.handle import Database
    from modelstore.found import ModelFile
    from modelstore.render.rows import Write

Json = dict[str, Any]

_COLUMNS = (
    *("id", "name", "source", "locator", "path", "architecture", "type", "status", "license"),
    *("parameter_count", "size_label", "quantization", "context_length", "file_size", "sha256"),
    *("capabilities", "revision", "host", "parameters", "source_id", "updated_at"),
)
_PROPERTIES = (
    *("quantization", "parameter_count", "size_label", "context_length", "file_size"),
    *("capabilities", "status", "host", "source"),
)
_DATA = frozenset(("imatrix", "vocab"))  # types that compute nothing
_TASKS = {
    "model": "text-generation",
    "embedding": "feature-extraction",
    "reranker": "text-ranking",
    "classifier": "text-classification",
    "speech": "automatic-speech-recognition",
    "diffusion": "text-to-image",
    "vocoder": "text-to-speech",
}
"""The hub's names of tasks: https://huggingface.co/tasks"""

# Licences that models are published under (https://huggingface.co/docs/hub/repositories-licenses),
# by their SPDX identifiers (https://spdx.org/licenses/); any other licence goes by its name.
_SPDX = """
AFL-3.0 AGPL-3.0 Apache-2.0 Artistic-2.0 BSD-2-Clause BSD-3-Clause BSD-3-Clause-Clear BSL-1.0
C-UDA-1.0 CC-BY-2.0 CC-BY-2.5 CC-BY-3.0 CC-BY-4.0 CC-BY-NC-2.0 CC-BY-NC-3.0 CC-BY-NC-4.0
CC-BY-NC-ND-3.0 CC-BY-NC-ND-4.0 CC-BY-NC-SA-2.0 CC-BY-NC-SA-3.0 CC-BY-NC-SA-4.0 CC-BY-ND-4.0
CC-BY-SA-3.0 CC-BY-SA-4.0 CC0-1.0 CDLA-Permissive-1.0 CDLA-Permissive-2.0 CDLA-Sharing-1.0 ECL-2.0
EPL-1.0 EPL-2.0 EUPL-1.1 EUPL-1.2 GPL-2.0 GPL-3.0 ISC LGPL-2.1 LGPL-3.0 LPPL-1.3c MIT MPL-2.0 MS-PL
NCSA OFL-1.1 OSL-3.0 PostgreSQL Unlicense WTFPL Zlib
AGPL-3.0-only AGPL-3.0-or-later GPL-2.0-only GPL-2.0-or-later GPL-3.0-only GPL-3.0-or-later
LGPL-2.1-only LGPL-2.1-or-later LGPL-3.0-only LGPL-3.0-or-later
"""
SPDX = {name.lower(): name for name in _SPDX.split()} | {
    "c-uda": "C-UDA-1.0",
    "etalab-2.0": "etalab-2.0",
    "lgpl-lr": "LGPLLR",
    "odbl": "ODbL-1.0",
    "odc-by": "ODC-By-1.0",
    "pddl": "PDDL-1.0",
}

_HUB_NAME = re.compile(r"(?:hf\.co|huggingface\.co)/([^/:]+/[^/:]+)(?::.*)?")
_MOST_FILES = 1000  # of one model
_MOST_ANCESTORS = 10


def export_models(db: Database, query: Query, write: Write, note: Callable[[str], None]) -> None:
    """Write the models of `query`. Every model has a place in it, so nothing is noted."""
    del note
    digest = hashlib.sha256()
    latest = ""

    def put(text: str) -> None:
        digest.update(text.encode())
        write(text)

    put('{"bomFormat": "CycloneDX",\n "specVersion": "1.6",\n "version": 1,\n "components": [')
    with closing(select(db, query._replace(columns=_COLUMNS))) as rows:
        for number, row in enumerate(rows):
            values = dict(zip(_COLUMNS, row, strict=True))
            latest = max(latest, str(values["updated_at"] or ""))
            files = companions(db, str(values["id"])).files
            put((",\n  " if number else "\n  ") + dump_json(component(values, files)))
    put("],\n " + f'"metadata": {dump_json(_metadata(latest))}')
    serial = uuid.uuid5(uuid.NAMESPACE_URL, digest.hexdigest())
    write(f',\n "serialNumber": "urn:uuid:{serial}"}}\n')


def _metadata(latest: str) -> Json:
    from modelstore import __version__

    tool = {"type": "application", "name": "modelstore", "version": __version__}
    time = {"timestamp": latest} if latest else {}
    return {**time, "lifecycles": [{"phase": "operations"}], "tools": {"components": [tool]}}


def component(values: Mapping[str, object], files: Sequence[ModelFile] = ()) -> Json:
    """Return the component of one model; `values` has the columns of a listing."""
    facts = _object(values["parameters"])
    repository = _repository(values, facts)
    kind = values["type"]
    ref = f"model-{values['id']}"
    parts: Json = {
        "type": "data" if kind in _DATA else "machine-learning-model",
        "bom-ref": ref,
        "name": str(values["name"]),
        "version": values["revision"],
        "hashes": _hashes(values["sha256"]),
        "licenses": _licenses(values["license"]),
        "purl": _purl(repository, values["revision"]) if repository else None,
        "pedigree": _pedigree(facts),
        "externalReferences": list(_references(values, repository)),
        "components": list(_files(files, ref)) if len(files) > 1 else None,
        "evidence": _evidence(values["path"]),
        "modelCard": None if kind in _DATA else _model_card(values, facts),
        "properties": list(_properties(values)),
    }
    return {key: value for key, value in parts.items() if value}


def _object(text: object) -> Json:
    try:
        value = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _array(text: object) -> list[str]:
    try:
        value = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return []
    return [str(item) for item in value] if isinstance(value, list) else []


def _repository(values: Mapping[str, object], facts: Json) -> str | None:
    """Return the hub's repository that a model comes from, where a source said so."""
    reference = parse_hub_locator(str(values["locator"]))
    by_name = _HUB_NAME.fullmatch(str(values["source_id"] or ""))
    named = facts.get("hf_repo") or (reference[0] if reference else by_name and by_name[1])
    return named if isinstance(named, str) and is_repository(named) else None


def _hashes(sha256: object) -> list[Json]:
    is_hash = isinstance(sha256, str) and re.fullmatch(r"[0-9a-f]{64}", sha256)
    return [{"alg": "SHA-256", "content": sha256}] if is_hash else []


def _licenses(license_name: object) -> list[Json]:
    if not isinstance(license_name, str):
        return []
    known = SPDX.get(license_name.lower())
    return [{"license": {"id": known} if known else {"name": license_name}}]


def _purl(repository: str, revision: object) -> str:
    """Return the package URL of a repository.

    https://github.com/package-url/purl-spec, ``types-doc/huggingface-definition.md``
    """
    name = "/".join(quote(part, safe="") for part in repository.split("/"))
    version = f"@{quote(revision.lower(), safe='')}" if isinstance(revision, str) else ""
    return f"pkg:huggingface/{name}{version}"


def _references(values: Mapping[str, object], repository: str | None) -> Iterator[Json]:
    if repository:
        page = f"https://huggingface.co/{quote(repository)}"
        revision = values["revision"]
        tree = f"/tree/{quote(revision, safe='')}" if isinstance(revision, str) else ""
        yield {"type": "model-card", "url": page}
        yield {"type": "distribution", "url": page + tree}
    elif values["source"] == "ollama" and values["source_id"]:
        name = quote(str(values["source_id"]), safe="/:.-_", errors="replace")
        yield {
            "type": "distribution",
            "url": f"https://ollama.com/{name if '/' in name else f'library/{name}'}",
        }


def _pedigree(facts: Json) -> Json | None:
    """Return the models that this one was made from, as a GGUF header names them."""
    ancestors = []
    for number in range(_MOST_ANCESTORS):
        name, url = (
            facts.get(f"general.base_model.{number}.{key}") for key in ("name", "repo_url")
        )
        if isinstance(name, str) and name:
            ancestor: Json = {"type": "machine-learning-model", "name": name}
            if isinstance(url, str) and re.fullmatch(r"https://[\w./-]+", url, re.ASCII):
                ancestor["externalReferences"] = [{"type": "website", "url": url}]
            ancestors.append(ancestor)
    return {"ancestors": ancestors} if ancestors else None


def _files(files: Sequence[ModelFile], ref: str) -> Iterator[Json]:
    """Yield the files of a model, each content once."""
    seen = set()
    for file in files[:_MOST_FILES]:
        name = visible(os.path.basename(file.path))
        if (name, file.sha256) not in seen:
            seen.add((name, file.sha256))
            told = {"type": "file", "bom-ref": f"{ref}-{len(seen)}", "name": name}
            hashes = _hashes(file.sha256)
            yield {**told, "hashes": hashes} if hashes else told


def _evidence(path: object) -> Json | None:
    if not isinstance(path, str):
        return None
    return {"occurrences": [{"location": visible(path)}]}


def _model_card(values: Mapping[str, object], facts: Json) -> Json | None:
    able = _array(values["capabilities"])
    kind = str(values["type"])
    task = "image-text-to-text" if kind == "model" and "vision" in able else _TASKS.get(kind)
    classes = facts.get("architectures")
    senses = ["text", *(["image"] if "vision" in able else []), *(a for a in able if a == "audio")]
    parameters = {
        "task": task,
        "architectureFamily": values["architecture"],
        "modelArchitecture": classes[0] if isinstance(classes, list) and classes else None,
        "inputs": [{"format": sense} for sense in senses] if kind == "model" else None,
        "outputs": [{"format": "text"}] if kind == "model" else None,
    }
    known = {key: value for key, value in parameters.items() if value}
    if not isinstance(known.get("modelArchitecture", ""), str):
        del known["modelArchitecture"]
    return {"modelParameters": known} if known else None


def _properties(values: Mapping[str, object]) -> Iterator[Json]:
    """Yield the facts that the format has no place for, under our own names."""
    for name in _PROPERTIES:
        value = values[name]
        if value not in (None, "[]"):
            yield {"name": f"modelstore:{name}", "value": str(value)}
