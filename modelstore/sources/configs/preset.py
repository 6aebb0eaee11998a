"""llama-server's presets file (``--models-preset``).

The grammar is that of llama.cpp's own reader, github.com/ggml-org/llama.cpp/blob/master/common/
preset.cpp: lines of ``[section]``, ``name = value``, comments and blank lines. A value ends at the
first ``;`` or ``#`` and cannot be quoted. The last of two sections of one name counts. ``[*]``
holds the options of all models.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from modelstore.catalogue.redact import is_secret_name
from modelstore.found import Skipped
from modelstore.sources.base import Note
from modelstore.sources.configs.command_line import from_options
from modelstore.sources.configs.configured import Configuration, Entry, split_list
from modelstore.sources.text_input import small_text, target_name
from modelstore.text import visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.sources.base import Context, Item, Target

KIND = "preset"

MAX_SIZE = 4 << 20  # bytes
_SHARED = "*"
_DEFAULT = "default"  # the options before the first section
_MAX_SECTIONS = 100_000

_SECTION = re.compile(r"\[([^\]]{1,512})\][ \t]*(?:[;#].*)?")
_OPTION = re.compile(r"([A-Za-z_][\w.-]{0,127})[ \t]*=[ \t]*([^;#]*)(?:[;#].*)?", re.ASCII)

Options = dict[str, str]


def read(target: Target, context: Context) -> Iterator[Item]:
    """Yield the models of a presets file. Raises `SourceError` if it cannot be read."""
    name = target_name(target)
    sections, faults = parse(small_text(target, MAX_SIZE))
    for line, reason in faults:
        yield Skipped(f"{name} line {line}", reason)
    shared = sections.pop(_SHARED, {})
    configuration = Configuration(KIND, target, context)
    secrets = {key for options in (shared, *sections.values()) for key in options}
    for count, (section, options) in enumerate(sections.items(), start=1):
        served = from_options([*shared.items(), *options.items()])
        entry = Entry(
            id=section,
            served=served,
            tags=split_list(served.tags),
            facts={"aliases": list(split_list(served.alias))} if served.alias else {},
        )
        if served.names_model or "/" in section:
            yield configuration.describe(entry)
        elif section != _DEFAULT:
            yield Note(f"[{visible(section, 100)}] in {visible(name, 200)} only sets options")
        context.progress(target.text, count)
    dropped = sorted(filter(is_secret_name, secrets))
    if dropped:
        yield Note(f"options that hold secrets were left out: {', '.join(dropped[:8])}")


def parse(text: str) -> tuple[dict[str, Options], list[tuple[int, str]]]:
    """Return the options of each section, and the bad lines, each with its reason."""
    sections: dict[str, Options] = {_DEFAULT: {}}
    faults: list[tuple[int, str]] = []
    options = sections[_DEFAULT]
    for number, raw in enumerate(re.split(r"\r\n|\n|\r", text), start=1):
        line = raw.strip(" \t")
        if not line or line[0] in ";#":
            continue
        section = _SECTION.fullmatch(line)
        option = _OPTION.fullmatch(line)
        if any(char < " " and char != "\t" for char in line) or "\x7f" in line:
            faults.append((number, "it holds a control character"))
        elif section and len(sections) >= _MAX_SECTIONS:
            faults.append((number, f"more than {_MAX_SECTIONS:,} sections: the rest is not read"))
            break
        elif section:
            options = sections[section[1]] = {}
        elif option:
            options[option[1]] = option[2].rstrip(" \t")
        else:
            faults.append((number, "it is neither a section, an option nor a comment"))
    return sections, faults
