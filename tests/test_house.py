from __future__ import annotations

from pathlib import Path

import pytest

from tests.house import TASKS, House, Task

HOUSE = House.read(Path(__file__).resolve().parent.parent)


def test_no_module_imports_itself_through_others() -> None:
    assert HOUSE.cycles == []


@pytest.mark.parametrize("task", TASKS, ids=[task.name for task in TASKS])
def test_a_change_touches_few_files(task: Task) -> None:
    files = HOUSE.files_of(task)
    assert 1 <= len(files) <= task.limit, files


def test_a_module_holds_one_concept() -> None:
    long = {name for name, module in HOUSE.modules.items() if module.source.count("\n") > 480}
    assert long == set()


def test_a_cycle_is_found(tmp_path: Path) -> None:
    package = tmp_path / "modelstore"
    package.mkdir()
    for name, other in (("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")):
        (package / f"{name}.py").write_text(f"def f():\n    from modelstore.{other} import f\n")
    assert House.read(tmp_path).cycles == [["modelstore.a", "modelstore.b", "modelstore.c"]]
