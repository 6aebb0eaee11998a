"""The manual as man pages: section 1 for the commands, section 7 for the topics.

`tests.generate` writes them to ``modelstore/man/``, and a wheel installs them below ``share/man``.
Made of the same help texts and topics that ``modelstore help`` shows (groff_man(7) tells the
macros).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from markdown_it import MarkdownIt
from markdown_it.token import Token

import modelstore
from modelstore.cli import help_text
from modelstore.cli.app import COMMANDS, app, load_command
from modelstore.cli.vendored_click import Context
from modelstore.errors import ExitCode
from modelstore.topics import topic_text, topic_titles

_COMMON = "Every command"


def pages() -> dict[str, str]:
    """Return every page by its file name."""
    made = {"modelstore.1": _program()}
    made |= {f"modelstore-{name}.1": _command(name) for name in COMMANDS}
    made |= {f"modelstore-{name}.7": _topic(name) for name in topic_titles()}
    return made


def _program() -> str:
    commands = [(f"modelstore-{name}", text) for name, (_, text) in COMMANDS.items()]
    lines = [
        *_title("modelstore", 1, modelstore.__doc__ or ""),
        *_heading("synopsis"),
        ".B modelstore",
        _text("COMMAND [OPTIONS] [ARGS]..."),
        *_heading("description"),
        _text(" ".join((app.registered_callback.callback.__doc__ or "").split())),  # type: ignore[union-attr]
        *_heading("commands"),
        *_definitions(commands, " (1)"),
        *_heading("exit codes"),
        *_definitions([(str(code.value), code.text) for code in ExitCode]),
        *_heading("topics"),
        *_definitions(
            [(f"modelstore-{name}", text) for name, text in topic_titles().items()], " (7)"
        ),
    ]
    return "\n".join(lines) + "\n"


def _command(name: str) -> str:
    command = load_command(name)
    context = Context(command, info_name=f"modelstore {name}")
    arguments, groups = help_text.grouped(context, command, _COMMON, {})
    lines = [
        *_title(f"modelstore-{name}", 1, COMMANDS[name][1]),
        *_heading("synopsis"),
        f".B modelstore {_escape(name)}",
        _text(" ".join(command.collect_usage_pieces(context))),
        *_heading("description"),
    ]
    for number, paragraph in enumerate((command.help or "").split("\n\n")):
        lines += [".PP"] * (number > 0) + [_text(" ".join(paragraph.split()))]
    for title, rows in (("Arguments", arguments), *groups.items()):
        if rows:
            lines += _heading("options" if title == _COMMON else title)
            lines += _definitions([(names.strip(), about) for names, about in rows])
    if command.epilog:
        lines += [*_heading("examples"), *_verbatim(command.epilog)]
    return "\n".join([*lines, *_heading("see also"), ".BR modelstore (1)"]) + "\n"


def _topic(name: str) -> str:
    lines = _title(f"modelstore-{name}", 7, topic_titles()[name])
    tokens = MarkdownIt("commonmark").enable("table").parse(topic_text(name))
    lines += [*_heading("description"), *_blocks(tokens[3:])]  # the first heading is the title
    return "\n".join([*lines, *_heading("see also"), ".BR modelstore (1)"]) + "\n"


def _blocks(tokens: Sequence[Token]) -> Iterator[str]:
    """Yield the lines of Markdown's blocks."""
    is_item = False
    row: list[str] = []
    for number, token in enumerate(tokens):
        opened = tokens[number - 1].type if number else ""
        if token.type == "inline" and opened == "heading_open":
            is_large = tokens[number - 1].tag in {"h1", "h2"}
            yield from _heading(token.content) if is_large else (f".SS {_inline(token)}",)
        elif token.type == "inline" and opened in {"th_open", "td_open"}:
            row.append(_inline(token))
        elif token.type == "inline":
            if not is_item:
                yield ".PP"
            is_item = False
            yield _inline(token)
        elif token.type == "list_item_open":
            is_item = True
            mark = f"{token.info}." if token.info else r"\(bu"
            yield f".IP {mark} 4"
        elif token.type == "tr_close":
            is_header = tokens[number - 1].type == "th_close"
            cells = [rf"\fB{cell}\fR" if is_header else cell for cell in row]
            yield from (".TP", cells[0] or r"\&", " | ".join(cells[1:]) or r"\&")
            row = []
        elif token.type in {"fence", "code_block"}:
            yield from _verbatim(token.content)


def _inline(token: Token) -> str:
    """Return a run of text, code and emphasis."""
    marks = {"strong_open": r"\fB", "em_open": r"\fI", "strong_close": r"\fR", "em_close": r"\fR"}
    parts = []
    for child in token.children or ():
        if child.type == "code_inline":
            parts.append(rf"\fB{_escape(child.content)}\fR")
        elif child.type in {"softbreak", "hardbreak"}:
            parts.append(" ")
        else:
            parts.append(marks.get(child.type, "") or _escape(child.content))
    return _guarded("".join(parts))


def _title(name: str, section: int, summary: str) -> list[str]:
    upper = _escape(name.upper())
    about = _escape(summary.strip().partition("\n")[0].rstrip("."))
    return [
        '.\\" Made by python -m tests.generate out of the help texts and topics.',
        f'.TH {upper} {section} "" "modelstore {modelstore.__version__}" "modelstore"',
        *_heading("name"),
        rf"{_escape(name)} \- {about}",
    ]


def _heading(text: str) -> list[str]:
    return [f".SH {_escape(text.upper())}"]


def _definitions(rows: Sequence[tuple[str, str]], section: str = "") -> Iterator[str]:
    for name, meaning in rows:
        yield ".TP"
        yield rf"\fB{_escape(name)}\fR{section.strip()}"
        yield _text(meaning) or r"\&"


def _verbatim(text: str) -> list[str]:
    return [
        ".RS 4",
        ".nf",
        *(_text(line) or ".sp" for line in text.rstrip().split("\n")),
        ".fi",
        ".RE",
    ]


def _text(text: str) -> str:
    return _guarded(_escape(text))


def _escape(text: str) -> str:
    """Return text without what troff reads as its own: backslashes, hyphens that may not be cut."""
    return text.replace("\\", r"\e").replace("-", r"\-")


def _guarded(line: str) -> str:
    """Return a line that does not begin as a request."""
    return rf"\&{line}" if line.startswith((".", "'")) else line
