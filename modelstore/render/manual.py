"""A topic of the manual on a terminal, drawn by Rich."""

from __future__ import annotations

import io

from rich.console import Console
from rich.markdown import Markdown
from rich.theme import Theme

_THEME = Theme({"markdown.code": "bold cyan"})  # Rich's has a black ground, also on white


def draw_markdown(text: str, width: int, *, color: bool) -> str:
    """Return Markdown drawn in `width` columns. `text` is our own, never outside text."""
    target = io.StringIO()
    console = Console(
        file=target,
        width=width,
        theme=_THEME,
        color_system="standard" if color else None,
        force_terminal=color,
        no_color=not color,
        legacy_windows=False,
        _environ={},
    )
    console.print(Markdown(text, code_theme="ansi_light", hyperlinks=False))
    return "\n".join(line.rstrip() for line in target.getvalue().splitlines()) + "\n"
