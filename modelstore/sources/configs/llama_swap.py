"""llama-swap's configuration, and the safe loading of YAML.

github.com/mostlygeek/llama-swap/blob/main/config.example.yaml. Of a command, only the
options in `modelstore.sources.configs.command_line` are kept; ``apiKeys`` and ``env`` are never
read.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import yaml

from modelstore.catalogue.redact import scrub
from modelstore.errors import SourceError
from modelstore.found import Skipped
from modelstore.locator import is_repository
from modelstore.sources.base import Note
from modelstore.sources.configs.command_line import MAX_COMMAND, parse_command
from modelstore.sources.configs.configured import Configuration, Entry
from modelstore.sources.text_input import small_text, target_name
from modelstore.sources.values import array, mapping, text
from modelstore.text import visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from modelstore.sources.base import Context, Item, Target
    from modelstore.sources.configs.command_line import Served

MAX_DEPTH = 64
MAX_NODES = 200_000  # with every alias expanded

_Loader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class YamlError(ValueError):
    """An invalid document. The text is the reason, not escaped."""


def load(text: str) -> object:
    """Return the only document in `text`, made of plain values. Raises `YamlError`."""
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
        raise YamlError(str(error)[:200] or "not YAML") from None


def _weigh(events: Iterator[yaml.Event]) -> None:
    """Check the number of values and the depth before anything is built, aliases expanded."""
    weights: dict[str, int] = {}
    open_nodes: list[tuple[str | None, int]] = []  # the anchor, and the total when it began
    total = 0
    for event in events:
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in weights:
                raise YamlError(f"alias '{event.anchor}' refers to itself")
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
                raise YamlError(f"it nests deeper than {MAX_DEPTH} levels")
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor:
                weights[anchor] = total - before
        if total > MAX_NODES:
            raise YamlError(f"it holds more than {MAX_NODES} values, aliases counted in full")


KIND = "llama-swap"

MAX_SIZE = 4 << 20  # bytes

_ENVIRONMENT = re.compile(r"\$\{env\.([A-Za-z_]\w*)\}", re.ASCII)
_MACRO = re.compile(r"\$\{([\w.-]+)\}", re.ASCII)


def read(target: Target, context: Context) -> Iterator[Item]:
    """Yield the models of a configuration. Raises `SourceError` if it is not one."""
    name = target_name(target)
    try:
        document = load(small_text(target, MAX_SIZE))
    except YamlError as error:
        raise SourceError(
            f"'{visible(name, 200)}' cannot be read as YAML: {visible(str(error), 200)}",
            hint="llama-swap's configuration is a YAML file",
        ) from None
    models = document.get("models") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(models, dict | None):
        raise SourceError(
            f"'{visible(name, 200)}' has no mapping of models",
            hint="llama-swap's configuration names each model under `models:`",
        )
    configuration = Configuration(KIND, target, context)
    macros = mapping(document.get("macros"))
    dropped: set[str] = set()
    for count, (key, settings) in enumerate((models or {}).items(), start=1):
        try:
            entry = _entry(str(key), mapping(settings), macros, context, dropped)
        except ValueError as error:
            yield Skipped(f"{name}: {str(key)[:300]}", str(error))
        else:
            yield configuration.describe(entry)
        context.progress(target.text, count)
    if document.get("apiKeys"):
        dropped.add("apiKeys")
    if dropped:
        yield Note(f"settings that hold secrets were left out: {', '.join(sorted(dropped)[:8])}")


def _entry(
    key: str,
    settings: Mapping[str, object],
    shared: Mapping[str, object],
    context: Context,
    dropped: set[str],
) -> Entry:
    """Return the entry of one model's settings. Raises `ValueError` with the reason."""
    if not key or len(key) > 512:
        raise ValueError("its name is empty or too long")
    macros = {"MODEL_ID": key, **shared, **mapping(settings.get("macros"))}
    command = text(settings.get("cmd"), MAX_COMMAND)
    if command is None:
        raise ValueError("it has no command, or one that is too long")
    command = _expanded(_without_comments(command), macros)
    served = parse_command(_with_environment(command, context))
    for value in (served.model, served.hf_repo, served.hf_file, served.projector, served.draft):
        unknown = _MACRO.search(value or "")
        if unknown:
            raise ValueError(f"its command needs {unknown[0]}, which is unknown")
    title = text(settings.get("name"))
    facts = {
        "aliases": [alias for alias in map(_alias, array(settings.get("aliases"))) if alias],
        "description": text(settings.get("description")),
        "metadata": scrub(mapping(settings.get("metadata")), dropped),
    }
    return Entry(
        id=key,
        served=_completed(served, settings),
        title=_expanded(title, macros) if title else None,
        facts={name: value for name, value in facts.items() if value},
    )


def _completed(served: Served, settings: Mapping[str, object]) -> Served:
    """Add the settings beside the command."""
    upstream = text(settings.get("useModelName"))
    if not served.names_model and upstream and is_repository(upstream):
        served = replace(served, hf_repo=upstream)
    capabilities = mapping(settings.get("capabilities"))
    context = capabilities.get("context")
    if served.context is None and type(context) is int and 0 < context < 2**63:
        served = replace(served, context=context)
    return replace(served, reranking=served.reranking or capabilities.get("reranker") is True)


def _alias(value: object) -> str | None:
    return text(value.get("id")) if isinstance(value, dict) else text(value)


def _without_comments(command: str) -> str:
    """Drop the lines that are comments, and join those that a backslash continues."""
    lines = [line.strip() for line in command.split("\n")]
    return "\n".join(line.removesuffix("\\") for line in lines if not line.startswith("#"))


def _expanded(text: str, macros: Mapping[str, object]) -> str:
    """Expand macros, the last defined first, as llama-swap does: each may use earlier ones.

    Unknown macros stay. Raises `ValueError` if the text grows too long.
    """
    for name, value in reversed(list(macros.items())):
        if isinstance(value, str | int | float):
            shown = str(value).lower() if isinstance(value, bool) else str(value)
            text = _replaced(text, f"${{{name}}}", shown)
    return text


def _with_environment(command: str, context: Context) -> str:
    """Expand ``${env.NAME}``. Only for commands, whose secrets are dropped later."""
    for name in set(_ENVIRONMENT.findall(command)):
        if name in context.environ:
            command = _replaced(command, f"${{env.{name}}}", context.environ[name])
    return command


def _replaced(text: str, old: str, new: str) -> str:
    if len(text) + text.count(old) * len(new) > 2 * MAX_COMMAND:
        raise ValueError("its macros expand to more than a command line can hold")
    return text.replace(old, new)
