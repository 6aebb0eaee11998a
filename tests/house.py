"""Count how hard the package is to live in: ``python -m tests.house [FOLDER]``.

It counts modules, lines of code, import edges, import lines and cycles, and for ten tasks the files
that know the thing which the task would change. FOLDER is a checkout, by default this one, so that
two states of the code can be compared. A test holds the limits.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

PACKAGE = "modelstore"


@dataclass(frozen=True, slots=True)
class Task:
    """A change that people make, and how the files that know of it are found.

    ``pattern`` is searched in the code without docstrings and comments, in the files below
    ``folders`` (all files where that is empty). ``limit`` counts the files, tests aside.
    """

    name: str
    limit: int
    pattern: str
    folders: tuple[str, ...] = ()


TASKS = (
    Task("add a source on disk", 2, r'"lmstudio"|import lmstudio\b|\.lmstudio import'),
    Task("add a record format", 2, r'"tsv"', ("sources", "catalogue", "importing", "store")),
    Task("add a check", 1, r'"ownership"|import check_ownership|\bownership\b.*import'),
    # `license` is a column without a look of its own; sources and exports know it by themselves.
    Task("add a column", 2, r"\blicense\b", ("catalogue", "store", "cli", "")),
    Task("add an export format", 2, r'"preset"|write_preset', ("render", "cli")),
    Task("add a command", 2, r'"forget"|import forget\b', ("cli",)),
    Task("add an option of list", 2, r'"--print0"', ("cli", "catalogue", "store")),
    Task(
        "change the default timeout",
        1,
        r'DEFAULT_TIMEOUT\b[^=\n]*= *\d|timeout: (float|str)( \| None)? = "?5|timeout=5\.0',
    ),
    Task("change how a blocker is named", 1, r'f"pid \{[^}]*\}( \(|"( if|,))|f"pid \{[^}]*pid\}"'),
    Task("change the version of the JSON", 1, r'"format_version": *\d|FORMAT_VERSION *(:.*)?= *\d'),
)


@dataclass(frozen=True)
class Module:
    """One module of the package: its dotted name, its file, and its code."""

    name: str
    path: Path
    source: str

    @cached_property
    def tree(self) -> ast.Module:
        """The parsed module."""
        return ast.parse(self.source)

    @cached_property
    def code(self) -> str:
        """The module without docstrings, comments and blank lines."""
        bare = ast.parse(self.source)
        for node in ast.walk(bare):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                first = node.body[0] if node.body else None
                if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                    node.body = node.body[1:] or [ast.Pass()]
        return ast.unparse(bare)

    @cached_property
    def code_lines(self) -> int:
        """Lines that hold code: neither blank, nor comment, nor docstring."""
        texts = {
            line
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
        }
        return sum(
            1
            for number, line in enumerate(self.source.splitlines(), 1)
            if line.strip() and not line.lstrip().startswith("#") and number not in texts
        )

    @cached_property
    def imports(self) -> tuple[tuple[str, bool], ...]:
        """Each imported name in full, and whether only the type checker imports it."""
        return tuple(self._imports())

    def _imports(self) -> Iterator[tuple[str, bool]]:
        typing_only = {
            id(inner)
            for node in ast.walk(self.tree)
            if isinstance(node, ast.If)
            and isinstance(node.test, ast.Name)
            and node.test.id == "TYPE_CHECKING"
            for part in node.body
            for inner in ast.walk(part)
        }
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                for name in node.names:
                    yield f"{node.module}.{name.name}", id(node) in typing_only
            elif isinstance(node, ast.Import):
                for name in node.names:
                    yield name.name, id(node) in typing_only


@dataclass(frozen=True)
class House:
    """The modules of a checkout, and what follows from their imports."""

    modules: dict[str, Module]

    @classmethod
    def read(cls, folder: Path) -> House:
        """Parse every module of the package below `folder`."""
        found = {}
        for path in sorted((folder / PACKAGE).rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            name = ".".join(parts).removesuffix(".__init__")
            found[name] = Module(name, path, path.read_text("utf-8"))
        return cls(found)

    def edges(self, *, typing: bool) -> dict[str, set[str]]:
        """Map each module to the modules of the package that it imports, lazily or not."""
        graph: dict[str, set[str]] = {name: set() for name in self.modules}
        for name, module in self.modules.items():
            for target, typing_only in module.imports:
                if typing_only and not typing:
                    continue
                known = target if target in self.modules else target.rpartition(".")[0]
                if known in self.modules and known != name:
                    graph[name].add(known)
        return graph

    @cached_property
    def import_lines(self) -> int:
        """Lines of import statements that name the package."""
        return sum(
            (node.end_lineno or node.lineno) - node.lineno + 1
            for module in self.modules.values()
            for node in ast.walk(module.tree)
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGE)
        )

    @cached_property
    def cycles(self) -> list[list[str]]:
        """The groups of modules that import each other in a circle when they run (Tarjan)."""
        graph = self.edges(typing=False)
        index: dict[str, int] = {}
        low: dict[str, int] = {}
        stack: list[str] = []
        found: list[list[str]] = []

        def visit(name: str) -> None:
            index[name] = low[name] = len(index)
            stack.append(name)
            for target in graph[name]:
                if target not in index:
                    visit(target)
                    low[name] = min(low[name], low[target])
                elif target in stack:
                    low[name] = min(low[name], index[target])
            if low[name] == index[name]:
                group = stack[stack.index(name) :]
                del stack[stack.index(name) :]
                if len(group) > 1:
                    found.append(sorted(group))

        for name in graph:
            if name not in index:
                visit(name)
        return found

    def files_of(self, task: Task) -> list[str]:
        """Return the files that know the thing that `task` would change."""
        pattern = re.compile(task.pattern)
        found = []
        for module in self.modules.values():
            parts = module.name.split(".")
            folder = parts[1] if len(parts) > 2 else ""
            if task.folders and folder not in task.folders:
                continue
            if pattern.search(module.code.replace("'", '"')):
                found.append(
                    module.path.relative_to(module.path.parents[len(parts) - 1]).as_posix()
                )
        return found

    def figures(self) -> dict[str, int]:
        """Return the figures by name."""
        edges = self.edges(typing=True)
        return {
            "modules": len(self.modules),
            "lines of code": sum(module.code_lines for module in self.modules.values()),
            "import edges": sum(map(len, edges.values())),
            "import lines": self.import_lines,
            "cycles": len(self.cycles),
            "longest module": max(module.source.count("\n") for module in self.modules.values()),
        }


def main() -> None:
    """Print the figures of a checkout."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent
    house = House.read(folder)
    for name, figure in house.figures().items():
        print(f"{name:<32}{figure:>8,}")
    for group in house.cycles:
        print("    cycle:", ", ".join(group))
    for task in TASKS:
        files = house.files_of(task)
        print(f"{task.name:<32}{len(files):>8}  of {task.limit}: {', '.join(files)}")


if __name__ == "__main__":
    main()
