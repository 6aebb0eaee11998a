"""YAML from outside, loaded without trusting it: no objects, no bombs, no endless depth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_DEPTH = 64
MAX_NODES = 200_000  # with every alias replaced by what it stands for

_Loader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class YamlError(ValueError):
    """What is wrong with a document, in words that end a sentence; not escaped."""


def load(text: str) -> object:
    """Return the one document in `text`, of plain values only. Raises `YamlError`."""
    try:
        _weigh(yaml.parse(text, Loader=_Loader))
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" on line {mark.line + 1}" if mark else ""
        raise YamlError(f"{error.problem or error.context or 'no YAML'}{where}") from None
    except YamlError:
        raise
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise YamlError(str(error)[:200] or "no YAML") from None


def _weigh(events: Iterator[yaml.Event]) -> None:
    """Count nodes and depth before anything is built, aliases by the weight of their anchors."""
    weights: dict[str, int] = {}
    open_nodes: list[tuple[str | None, int]] = []  # the anchor, and the total when it began
    total = 0
    for event in events:
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in weights:
                raise YamlError(f"the alias '{event.anchor}' is within what it stands for")
            total += weights[event.anchor]
        elif isinstance(event, yaml.ScalarEvent):
            total += 1
            if event.anchor:
                weights[event.anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            weights.pop(event.anchor or "", None)
            open_nodes.append((event.anchor, total))
            total += 1
            if len(open_nodes) > MAX_DEPTH:
                raise YamlError(f"it is nested deeper than {MAX_DEPTH} levels")
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor:
                weights[anchor] = total - before
        if total > MAX_NODES:
            raise YamlError(f"it holds more than {MAX_NODES} values, aliases counted in full")
