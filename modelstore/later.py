"""Imports that a library asks for and that are put off until something uses them.

Typer and sqlite-utils import modules that this program seldom or never needs, and every start pays
for them. `put_off` stands in for such a module while the library is imported; `load` is the way to
import one, since a later version of it may need at once what today's does not.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


class _Module(ModuleType):
    """A module that is imported when something asks for a name that it does not hold."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # whatever the module has
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(_import(self), name)


class _Name:
    """A function or class of a module that is put off; a call of it imports the module.

    Nothing is an instance or a subclass of a class whose module nobody has imported, so these two
    questions import nothing.
    """

    def __init__(self, module: _Module, name: str) -> None:
        self._module, self._name = module, name

    def _real(self) -> Any:  # noqa: ANN401  # whatever the name stands for
        return getattr(_import(self._module), self._name)

    def __call__(self, *args: object, **options: object) -> Any:  # noqa: ANN401  # as above
        return self._real()(*args, **options)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # as above
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._real(), name)

    def __instancecheck__(self, value: object) -> bool:
        return self._is_imported() and isinstance(value, self._real())

    def __subclasscheck__(self, kind: type) -> bool:
        return self._is_imported() and issubclass(kind, self._real())

    def __or__(self, _other: object) -> object:
        return object  # an annotation, which nobody evaluates

    __ror__ = __or__

    def _is_imported(self) -> bool:
        return not isinstance(sys.modules.get(self._module.__name__), _Module | None)


def _import(module: _Module) -> ModuleType:
    if sys.modules.get(module.__name__) is module:
        del sys.modules[module.__name__]
    return import_module(module.__name__)


@contextmanager
def put_off(modules: Mapping[str, Sequence[str] | ModuleType | None]) -> Iterator[None]:
    """Put modules off that are imported in the block; those that are loaded already stay.

    A module comes with the names that are imported from it, with a module that takes its place, or
    with None: such an import fails (docs.python.org/3/reference/import.html#the-module-cache).
    """
    replaced: dict[str, ModuleType | None] = {}
    for name, names in modules.items():
        if name in sys.modules:
            continue
        if names is None or isinstance(names, ModuleType):
            replaced[name] = names
            continue
        replaced[name] = module = _Module(name)
        vars(module).update({one: _Name(module, one) for one in names})
    sys.modules.update(replaced)  # type: ignore[arg-type]  # None is documented
    try:
        yield
    finally:
        for name, stand_in in replaced.items():
            if name in sys.modules and sys.modules[name] is stand_in:
                del sys.modules[name]


def load(name: str, modules: Mapping[str, Sequence[str] | ModuleType | None]) -> ModuleType:
    """Import the module `name` with others put off, or plainly if it fails so.

    After a failure Python forgets the modules that failed, and keeps those that came through.
    """
    try:
        with put_off(modules):
            return import_module(name)
    except Exception:  # noqa: BLE001  # whatever a later version does with a stand-in
        return import_module(name)
