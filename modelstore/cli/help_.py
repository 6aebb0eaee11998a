"""``modelstore help``: the help of a command, or a topic of the manual."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer  # noqa: TC002  # Typer reads the annotations

from modelstore.cli.options import argument
from modelstore.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from modelstore.cli.output import Output

EXAMPLES = (
    "modelstore help list",
    "modelstore help vanished     when rows are gone",
    "modelstore help topics       all chapters of the manual",
)


def _complete_topic(incomplete: str) -> list[tuple[str, str]]:
    from modelstore.cli.app import COMMANDS
    from modelstore.topics import topic_titles

    commands = {name: text for name, (_, text) in COMMANDS.items()}
    offered = {**commands, **topic_titles()}
    return [(name, text) for name, text in offered.items() if name.startswith(incomplete)]


def command(
    ctx: typer.Context,
    topic: Annotated[
        str | None, argument("[TOPIC]", "A command, a topic, or topics.", _complete_topic)
    ] = None,
) -> ExitCode:
    """Show the help of a command, or a topic of the manual."""
    from modelstore.cli.app import COMMANDS, help_of, load_command
    from modelstore.cli.output import current
    from modelstore.cli.vendored_click import Context
    from modelstore.topics import topic_titles

    out = current()
    out.page()
    root = ctx.find_root()
    if topic is None:
        out.answer(help_of(root) + "\n" + _topics(out))
    elif topic in COMMANDS:
        inner = Context(load_command(topic), info_name=topic, parent=root)
        out.answer(help_of(inner))
        if topic in topic_titles():
            out.answer("\n" + _topic(out, topic))
    elif topic == "topics":
        out.answer(_topics(out))
    else:
        out.answer(_topic(out, topic))
    return ExitCode.OK


def _topics(out: Output) -> str:
    from modelstore.cli.help_text import definitions
    from modelstore.topics import topic_titles

    rows = list(topic_titles().items())
    lines = [out.style("Topics:", "strong"), *definitions(rows, min(out.width, 100), left=15)]
    return "\n".join(lines) + "\n"


def _topic(out: Output, name: str) -> str:
    """Return a topic: drawn on a terminal, as it is written in a pipe."""
    from modelstore.topics import topic_text, topic_titles

    if name not in topic_titles():
        raise _unknown_topic(name)
    text = topic_text(name)
    if not out.stdout_is_terminal:
        return text
    from modelstore.render.manual import draw_markdown

    return draw_markdown(text, min(out.width, 100), color=out.color)


def _unknown_topic(name: str) -> UsageError:
    from difflib import get_close_matches

    from modelstore.cli.app import COMMANDS, OTHER_NAMES
    from modelstore.text import visible
    from modelstore.topics import topic_titles

    known = (*COMMANDS, *topic_titles())
    meant = OTHER_NAMES.get(name.lower())
    near = [meant] if meant else get_close_matches(name.lower(), known, n=2, cutoff=0.5)
    return UsageError(
        f"there is no command or topic '{visible(name, 60)}'",
        hint=f"did you mean modelstore help {near[0]}?" if near else "see modelstore help topics",
    )
