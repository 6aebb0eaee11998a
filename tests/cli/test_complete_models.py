from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.program import modelstore, python
from tests.cli.shelf import KILLED_WRITER, NAMES, fill
from tests.render.samples import HOSTILE


def offered(*words: str | Path) -> list[str]:
    """Return what bash is offered for the last word."""
    typed = " ".join(["modelstore", *map(str, words)])
    result = modelstore(env={"_MODELSTORE_COMPLETE": "bash", "_MODELSTORE_LINE": typed})
    assert result.err == ""
    return result.out.splitlines()[1:]


def test_names_ids_columns_and_tags(filled: Path) -> None:
    assert sorted(offered("show", "--db", filled, "Qwen3-30")) == sorted(
        name for name in NAMES if name.startswith("Qwen3-30")
    )
    first = modelstore("list", "-q", "--limit", "1", "--db", filled).out.strip()
    assert offered("show", "--db", filled, first[:6]) == [first]
    assert offered("list", "--columns", "a") == ["all", "architecture", "accessed_at"]
    assert offered("list", "--columns", "id,na") == ["id,name"]
    assert offered("list", "--sort", "name,file_s") == ["name,file_size"]
    assert offered("list", "--db", filled, "--tag", "fav") == ["favorite"]
    assert offered("list", "--db", filled, "--arch", "q") == ["qwen3moe"]


@pytest.mark.parametrize("path", ["nowhere.db", "/dev/null", ""])
def test_without_a_database_nothing_is_offered_and_nothing_said(path: str) -> None:
    assert offered("show", "--db", path or "''", "Q") == []


def test_nothing_is_offered_that_a_shell_would_act_on(tmp_path: Path) -> None:
    names = [*HOSTILE.values(), "x;rm", "$(id)", "`id`", "a b", "a|b", "a&b", "~", "!!", "plain"]
    models = [
        {"name": n, "locator": f"name:{i}"} for i, n in enumerate(names) if n and "\0" not in n
    ]
    db = fill(tmp_path / "m.db", models)
    assert offered("forget", "--db", db, "") == ["plain"]


def test_completion_folds_nothing(shelf: Path) -> None:
    with python(KILLED_WRITER, shelf) as process:
        process.wait(30)
    wal = shelf.with_name(shelf.name + "-wal")
    before = shelf.read_bytes(), wal.read_bytes()
    assert offered("show", "--db", shelf, "Qwen3-1B-")
    assert (shelf.read_bytes(), wal.read_bytes()) == before
