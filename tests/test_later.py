from __future__ import annotations

import sys
from pathlib import Path

import pytest

from modelstore.later import load, put_off


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write a library that asks for two modules, one of which it uses at its import."""
    (tmp_path / "later_used.py").write_text("def add(a, b): return a + b\nclass Kind: ONE = 1\n")
    (tmp_path / "later_needed.py").write_text("VALUE = 7\n")
    (tmp_path / "later_library.py").write_text(
        "import later_used, later_needed\n"
        "from later_used import Kind, add\n"
        "def total(kind: Kind | None, other: 'str | Kind') -> int: return later_used.add(1, 2)\n"
        "VALUE = later_needed.VALUE\n"
        "def is_kind(value): return isinstance(value, (int, Kind)), issubclass(type(value), Kind)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return "later_library"


def test_a_module_that_is_put_off_comes_when_it_is_used(library: str) -> None:
    with put_off({"later_used": ("Kind", "add"), "later_needed": ()}):
        made = __import__(library)
    assert made.VALUE == 7  # it was needed at once
    assert not {"later_used"} & set(sys.modules)
    assert made.is_kind("a text") == (False, False)
    assert not {"later_used"} & set(sys.modules)  # nothing can be of a class that nobody loaded
    assert (made.add(2, 3), made.total(None, ""), made.Kind.ONE) == (5, 3, 1)
    kind = sys.modules["later_used"].Kind
    assert made.is_kind(kind()) == (True, True)
    assert sys.modules["later_needed"].VALUE == 7


def test_what_is_loaded_stays_and_none_fails() -> None:
    with put_off({"sys": (), "later_missing": None}):
        assert sys.modules["sys"] is sys
        with pytest.raises(ImportError):
            __import__("later_missing")
    assert "later_missing" not in sys.modules


def test_a_library_that_needs_a_module_at_once_is_imported_plainly(library: str) -> None:
    """A class cannot have a stand-in as its base: a later version of a library may ask for that."""
    path = Path(sys.path[0])
    (path / "later_stubborn.py").write_text(
        f"import {library}\nfrom later_used import Kind\nclass Own(Kind): pass\n"
    )
    made = load("later_stubborn", {"later_used": ("Kind", "add")})
    assert made.Own.ONE == 1
    assert sys.modules[library].total(None, "") == 3
