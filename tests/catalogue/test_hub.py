"""A reference to the hub, and the model in a cache that it means, are one row in any order."""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING

import pytest

from modelstore.catalogue.identity import join_models
from modelstore.catalogue.merge import count_present, merge
from modelstore.found import Found, Place
from modelstore.locator import choose_hub_file, hub_locator, model_id
from modelstore.model import Model
from tests.catalogue.making import (
    LATER,
    Opened,
    catalogue,
    counts,
    found,
    new_staging,
    table,
    take,
    take_rows,
)

if TYPE_CHECKING:
    from pathlib import Path

REPO = "org/Tiny-GGUF"
FILES = ("Tiny-Q4_K_M.gguf", "UD/Tiny-UD-Q8_0-00001-of-00002.gguf", "mmproj-Tiny-F16.gguf")


@pytest.mark.parametrize(
    ("part", "chosen"),
    [
        ("q4_k_m", FILES[0]),
        ("Q8_0", FILES[1]),
        ("UD-Q8_0", FILES[1]),
        ("F16", None),  # a companion is no model
        ("Q4_K", None),  # no part of another tag
        (".*", None),
        (FILES[1], FILES[1]),
        ("absent.gguf", None),
        (None, FILES[0]),
    ],
)
def test_llama_cpp_s_choice_of_a_file(part: str | None, chosen: str | None) -> None:
    assert choose_hub_file(FILES, part) == chosen


def test_without_a_tag_the_only_file_is_meant() -> None:
    assert choose_hub_file(["a-Q2_K.gguf", "mtp-a.gguf"], None) == "a-Q2_K.gguf"
    assert choose_hub_file(["a-Q8_0.gguf", "a-Q2_K.gguf"], None) == "a-Q8_0.gguf"
    assert choose_hub_file(["a-IQ2_M.gguf", "a-Q2_K.gguf"], None) is None


def cached(inside: str, *, repo: str = REPO, **values: object) -> Found:
    """A model in the hub's cache: a file of a repository, or all of it."""
    path = f"/hub/{repo}/{inside or 'model.safetensors'}"
    item = found(path, "/hub", **({"source": "huggingface"} | values))
    return Found(
        item.model, item.files, Place("/hub", path, "huggingface", f"{repo}/{inside}".rstrip("/"))
    )


def reference(part: str | None, *, repo: str = REPO, **values: object) -> Found:
    """An entry of a presets file."""
    locator = hub_locator(repo, file=part)
    given = {"name": f"my {part}", "source": "preset", "status": "remote", "host": "box"} | values
    item = Model(id=model_id(locator), locator=locator, **given)  # type: ignore[arg-type]
    return Found(item, (), Place("/p.ini", f"/p.ini#{part}", item.source, item.name))


def run(opened: Opened, *items: Found) -> tuple[int, int, int]:
    """Import one source, as `Importer` does."""
    with new_staging() as staging:
        for item in items:
            assert staging.add(item) is None
        result = merge(opened, staging, now=LATER)
        staging.joined(join_models(opened, now=LATER))
        assert count_present(opened.db, staging) == staging.expected()
    return counts(result)


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_a_preset_a_server_and_a_cache_show_one_model(tmp_path: Path, order: tuple[int]) -> None:
    opened = catalogue(tmp_path)
    sources = [
        [cached(name, capabilities=("tools",)) for name in FILES[:2]],
        [reference("Q8_0", tags=("mine",)), reference("Q2_K")],
        [
            reference(FILES[1], source="llama-server", capabilities=("vision",)),
            reference(None, source="llama-server", context_length=99),
        ],
    ]
    for number in order:
        run(opened, *sources[number])
    expected = [
        ("Tiny-Q4_K_M.gguf", "huggingface", "available", "[]", '["tools"]', 99),
        (FILES[1][3:], "huggingface", "available", '["mine"]', '["tools","vision"]', None),
        ("my Q2_K", "preset", "remote", "[]", None, None),
    ]
    columns = "name, source, status, tags, capabilities, context_length"
    assert table(opened, columns) == sorted(expected, key=repr)
    assert len(table(opened, name="model_places")) == 6
    ids = table(opened, "id")
    for number in order:
        assert run(opened, *sources[number]) == (0, 0, 2)
    assert table(opened, "id") == ids


def test_the_row_that_was_first_keeps_its_id(tmp_path: Path) -> None:
    for name, order in (("a", (0, 1)), ("b", (1, 0))):
        (tmp_path / name).mkdir()
        opened = catalogue(tmp_path / name)
        items = [cached(FILES[0]), reference("Q4_K_M")]
        for number in order:
            run(opened, items[number])
        assert table(opened, "id, path") == [(items[order[0]].model.id, items[0].model.path)]


def test_a_repository_of_safetensors_is_meant_as_a_whole(tmp_path: Path) -> None:
    opened = catalogue(tmp_path)
    run(opened, reference(None, repo="org/Safe"), reference("Q8_0", repo="org/Safe", name="not"))
    run(opened, cached("", repo="org/Safe", name="org/Safe"))
    assert table(opened, "name") == [("not",), ("org/Safe",)]


def test_references_of_another_machine_and_records_stay_apart(tmp_path: Path) -> None:
    opened = catalogue(tmp_path)
    run(opened, cached(FILES[0]))
    far = reference("Q4_K_M", host="far", source="llama-server")
    run(opened, far)
    assert table(opened, "host") == [("box",), ("far",)]
    run(opened, reference("Q4_K_M"))  # of this machine, by the same locator
    assert table(opened, "host, source") == [("box", "huggingface"), ("far", "llama-server")]
    record = reference("q4_k_m").model
    assert counts(take_rows(opened, [record])) == (1, 0, 0)
    assert join_models(opened, now=LATER) == {}
    assert take(opened, reference(FILES[0]), told=True).added == 1


def test_a_file_in_a_cache_that_was_not_imported_is_meant_as_well(tmp_path: Path) -> None:
    opened = catalogue(tmp_path)
    path = f"/home/me/hub/models--org--Tiny-GGUF/snapshots/{'a' * 40}/{FILES[1]}"
    by_server = found(path, "http://127.0.0.1:8080", source="llama-server")
    for order in ((by_server, reference("Q8_0")), (reference("UD-Q8_0"), by_server)):
        for item in order:
            run(opened, item)
        assert table(opened, "path, status") == [(path, "available")]


def test_a_download_that_has_not_ended_is_meant_as_well(tmp_path: Path) -> None:
    opened = catalogue(tmp_path)
    run(opened, reference("Q4_K_M"))
    run(opened, cached(FILES[0] + ".incomplete", status="incomplete"))
    assert table(opened, "status") == [("incomplete",)]
