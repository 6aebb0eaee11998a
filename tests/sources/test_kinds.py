from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

from modelstore.errors import UsageError
from modelstore.sources.kinds import KINDS, kind_info, load, usual_places
from tests.sources.stores.making import context


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_source_that_can_be_read(kind: str) -> None:
    source = load(kind)
    assert kind == source.KIND
    assert list(inspect.signature(source.read).parameters) == ["target", "context"]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if KINDS[kind].has_usual_place])
def test_a_kind_with_a_usual_place_names_it(kind: str) -> None:
    places = usual_places(kind, context(home="/home/ada"))
    assert places
    assert all(place.startswith(("/", "http://")) for place in places)


def test_what_a_person_says_overrides_and_has_no_places() -> None:
    told = {kind for kind, info in KINDS.items() if info.is_authoritative}
    assert told == {"json", "jsonl", "csv", "tsv"}
    assert not any(KINDS[kind].has_places for kind in told)


def test_files_outrank_descriptions_and_these_outrank_servers() -> None:
    assert KINDS["ollama"].rank > KINDS["preset"].rank > KINDS["ollama-server"].rank
    assert all((info.rank == 0) == info.is_server for info in KINDS.values())
    assert all(info.rank == 2 for info in KINDS.values() if info.staged == "batches")


def test_a_kind_without_a_usual_place_has_none() -> None:
    assert usual_places("json", context()) == []


def test_an_unknown_kind_is_a_usage_error_that_names_the_kinds() -> None:
    with pytest.raises(UsageError) as caught:
        kind_info("jsn\x1b[31m")
    assert "\x1b" not in caught.value.message
    assert "jsonl" in str(caught.value.hint)


def test_the_registry_imports_no_source() -> None:
    program = (
        "import sys, modelstore.sources.kinds\n"
        "print(*sorted(m for m in sys.modules if m.startswith('modelstore.sources.')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["modelstore.sources.kinds"]
