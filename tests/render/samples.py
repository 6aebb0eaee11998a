"""Rows and texts that the tests of the renderer share."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from modelstore.render.columns import cell, headings, with_short_ids
from modelstore.render.grid import Grid

if TYPE_CHECKING:
    from collections.abc import Sequence

HOSTILE = {
    "sgr": "\x1b[31mred\x1b[0m",
    "clear": "\x1b[2J\x1b[H",
    "title": "\x1b]0;owned\x07",
    "clipboard": "\x1b]52;c;ZXZpbA==\x1b\\",
    "link": "\x1b]8;;http://evil.example\x1b\\click\x1b]8;;\x1b\\",
    "c1": "\x9b31mred\x9b0m\x85",
    "markup": "[red]x[/red] [/] [link=http://evil.example]y[/link] \\[z]",
    "lines": "one\ntwo\r\nthree\rfour\x0bfive\x0csix\u2028seven\u2029eight",
    "tabs": "a\tb\\t\\n\\",
    "nul": "a\x00b\x7f\x08\x08c",
    "bidi": "abc\u202egp.exe\u2066\u2069\u200f",
    "invisible": "a\u200bb\u200dc\ufeffd\u00ade\u3164",
    "marks": "Z" + "\u0335" * 60 + "o",
    "surrogate": "caf\udce9.gguf \ud800 \udfff",
    "formula": "=HYPERLINK('http://evil.example')",
    "at": "@SUM(A1)",
    "quote": "a\"b,c'd;e|f",
    "option": "-rf",
    "emoji": "🦙 llama 名前 é",
    "empty": "",
}

TEXTS = st.text(
    st.characters(exclude_categories=()) | st.sampled_from('\t\n\r\\",;=+-@[]\x1b\x9b\u202e'),
    max_size=30,
)
VALUES = st.none() | TEXTS | st.integers(min_value=-(2**63), max_value=2**63 - 1)


def unsafe_characters(text: str, allowed: str = "\n") -> list[str]:
    """Return what in `text` a terminal would act on, by categories alone: another opinion."""
    found: list[str] = []
    marks = 0
    for char in text:
        category = unicodedata.category(char)
        marks = marks + 1 if category in {"Mn", "Me"} else 0
        bad = category in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"} or marks > 4
        bad = bad or unicodedata.name(char, "").startswith(("HANGUL FILLER", "HALFWIDTH HANGUL F"))
        if bad and char not in allowed:
            found.append(char)
    return found


def model_grid(names: Sequence[str], rows: Sequence[Sequence[object]]) -> Grid:
    """Return raw rows as a listing shows them."""
    cells = [[cell(name, value) for name, value in zip(names, row, strict=True)] for row in rows]
    return Grid(headings(names), with_short_ids(names, cells))
