"""The checks: one module each, named as the check is, with one `Check` called ``CHECK``.

A check may import everything in `modelstore.verify` but `run` and the other checks.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modelstore.verify.check import Check


def check_names() -> tuple[str, ...]:
    """Return the names of all checks, sorted; imports none of them."""
    return tuple(sorted(module.name for module in iter_modules(__path__)))


@cache
def all_checks() -> tuple[Check, ...]:
    """Return all checks in the order of reports."""
    modules = [import_module(f"{__name__}.{name}") for name in check_names()]
    return tuple(sorted((module.CHECK for module in modules), key=lambda check: check.order))
