"""The help of a command: a summary, its options in groups, and examples.

The same text everywhere; a terminal gets it in colour. Options that belong together share a row, so
that the help fits a screen; a man page has a row for each. Typer's own help draws boxes that do not
grep, and needs Rich.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from modelstore.cli.output import current

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from modelstore.cli.vendored_click import Command, Context

Rows = list[tuple[str, str]]
Together = Mapping[tuple[str, ...], str]
"""Names of options -> the meaning of the row of the first of them, which names the others."""

_LEFT = 26  # columns of the names of options, their indent included
_NARROW = 20  # columns of a meaning; with fewer it stands below its name
_WIDEST = 100  # columns of a line that reads well


def command_help(ctx: Context, command: Command, *, common: str, together: Together) -> str:
    """Return the help of one command; the options of the group `common` are last."""
    out = current()
    width = min(out.width, _WIDEST)
    usage = " ".join([ctx.command_path, *command.collect_usage_pieces(ctx)]).replace("{", "")
    lines = [*_usage(usage.replace("}", ""), width), "", *_prose(command.help or "", width)]
    arguments, groups = grouped(ctx, command, common, together)
    for title, rows in (("Arguments", arguments), *groups.items()):
        if rows:
            lines += ["", out.style(f"{title}:", "strong"), *definitions(rows, width)]
    if command.epilog:
        lines += ["", out.style("Examples:", "strong")]
        lines += [f"  {line}" for line in command.epilog.splitlines()]
    return "\n".join(lines) + "\n"


def program_help(ctx: Context, sections: Mapping[str, Rows], examples: Sequence[str]) -> str:
    """Return the help of the program: its commands below their headings."""
    out = current()
    width = min(out.width, _WIDEST)
    usage = f"{ctx.command_path} COMMAND [OPTIONS] [ARGS]..."
    lines = [*_usage(usage, width), "", *_prose(ctx.command.help or "", width)]
    for title, rows in sections.items():
        lines += ["", out.style(f"{title}:", "strong"), *definitions(rows, width, left=13)]
    lines += ["", out.style("Examples:", "strong"), *(f"  {line}" for line in examples)]
    options = [(_names(ctx, param), _about(param)) for param in ctx.command.get_params(ctx)]
    lines += ["", out.style("Options:", "strong"), *definitions(options, width, left=30)]
    return "\n".join(lines) + "\n"


def _usage(usage: str, width: int) -> list[str]:
    title, *rest = textwrap.wrap(f"Usage: {usage}", width, subsequent_indent="  ")
    return [title.replace("Usage:", current().style("Usage:", "strong"), 1), *rest]


def _prose(text: str, width: int) -> Iterator[str]:
    for number, paragraph in enumerate(text.split("\n\n")):
        if number:
            yield ""
        yield from textwrap.wrap(" ".join(paragraph.split()), width) or [""]


def grouped(
    ctx: Context, command: Command, common: str, together: Together
) -> tuple[Rows, dict[str, Rows]]:
    """Return the arguments and the options of each group, common options last."""
    meanings = {names[0]: meaning for names, meaning in together.items()}
    named_there = {name for names in together for name in names[1:]}
    arguments: Rows = []
    groups: dict[str, Rows] = {"Options": []}
    for param in command.get_params(ctx):
        if getattr(param, "hidden", False) or named_there.intersection(param.opts):
            continue
        meaning = next((meanings[name] for name in param.opts if name in meanings), _about(param))
        if param.param_type_name == "argument":
            arguments.append((param.make_metavar(ctx).strip("{}"), meaning))
        else:
            group = getattr(param, "rich_help_panel", None) or "Options"
            groups.setdefault(group, []).append((_names(ctx, param), meaning))
    if common in groups:
        groups[common] += [row for row in groups["Options"] if "--help" in row[0]]
        groups["Options"] = [row for row in groups["Options"] if "--help" not in row[0]]
        groups[common] = groups.pop(common)
    return arguments, groups


def _names(ctx: Context, param: Any) -> str:  # noqa: ANN401  # Typer's own
    """Return the names of an option, the short one first, and the word for its value."""
    names = sorted(param.opts, key=lambda name: (name.startswith("--"), len(name)))
    if names[0].startswith("--"):
        names[0] = "    " + names[0]
    text = ", ".join(names)
    return text if param.is_flag or param.count else f"{text} {param.make_metavar(ctx)}"


def _about(param: Any) -> str:  # noqa: ANN401  # Typer's own
    return " ".join((getattr(param, "help", None) or "").split())


def definitions(rows: Rows, width: int, left: int = _LEFT) -> Iterator[str]:
    """Yield the lines of names and their meanings, in two columns."""
    out = current()
    if width - left < _NARROW:
        left = 8
    for name, meaning in rows:
        texts = textwrap.wrap(meaning, max(20, width - left - 2)) or [""]
        shown = "  " + out.style(name, "name")
        if len(name) + 2 > left:
            yield shown
        else:
            yield f"{shown}{' ' * (left - len(name) - 2)}  {texts.pop(0)}".rstrip()
        for text in texts:
            yield " " * (left + 2) + text
