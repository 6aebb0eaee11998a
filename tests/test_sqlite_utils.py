"""sqlite-utils is the way to the database: plain SQL beside it states its reason."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import modelstore
from modelstore.database.handle import Database

PACKAGE = Path(modelstore.__file__).parent
PACKAGES = ("catalogue", "cli", "importing", "render", "sources", "verify")
REASON = "# plain SQL: "
BYPASSES = frozenset(("execute", "executemany", "executescript"))


def unexplained(source: str) -> Iterator[int]:
    """Yield the lines of calls that pass by sqlite-utils, in functions that give no reason."""
    lines = source.splitlines()

    def visit(node: ast.AST, explained: bool) -> Iterator[int]:
        for child in ast.iter_child_nodes(node):
            within = explained
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
                body = lines[child.lineno - 1 : child.end_lineno]
                within = any(REASON in line for line in body)
            call = child.func if isinstance(child, ast.Call) else None
            if isinstance(call, ast.Attribute) and call.attr in BYPASSES and not within:
                yield child.lineno  # type: ignore[attr-defined]  # an ast.Call has it
            yield from visit(child, within)

    yield from visit(ast.parse(source), False)


def modules() -> list[str]:
    return [
        str(path.relative_to(PACKAGE))
        for package in PACKAGES
        for path in sorted((PACKAGE / package).rglob("*.py"))
    ]


@pytest.mark.parametrize("module", modules())
def test_plain_sql_states_its_reason(module: str) -> None:
    source = (PACKAGE / module).read_text(encoding="utf-8")
    assert [f"{module}:{line}" for line in unexplained(source)] == []


def test_a_call_without_a_reason_is_found() -> None:
    bare = "def read(db):\n    return db.execute('SELECT 1')\n"
    assert list(unexplained(bare)) == [2]
    explained = bare.replace("    return", "    # plain SQL: a reason\n    return")
    assert list(unexplained(explained)) == []
    assert list(unexplained(explained + bare.replace("read", "read_on"))) == [5]


def test_sqlite_utils_is_imported_in_one_place() -> None:
    """Elsewhere it would bring numpy, click and dateutil, whichever module comes first."""
    importing = re.compile(r"^(?:from|import) sqlite_utils", re.MULTILINE)
    sources = {
        path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8")
        for path in PACKAGE.rglob("*.py")
    }
    assert [name for name, source in sources.items() if importing.search(source)] == []
    assert "from sqlite_utils import Database" in sources["database/handle.py"]


def test_what_sqlite_utils_compiles_and_imports_late_works() -> None:
    assert re.compile.__module__ == "re"  # put back after the import
    with closing(Database(memory=True, execute_plugins=False)) as db:
        db.execute('CREATE VIRTUAL TABLE "Été" USING fts5(a)')
        assert db.table("Été").virtual_table_using == "FTS5"
        with db.atomic(), db.atomic():  # a savepoint of a random name
            db.table("t").insert({"a": 1}, hash_id="id")
        ((key, _),) = db.execute("SELECT id, a FROM t")
        assert len(key) == 40  # a SHA-1 in hex
