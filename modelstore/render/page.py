"""A page for a browser: one file, no script, nothing to load, light and dark, wide and narrow.

The standard library writes the document from a tree, so that no outside text can become markup.
Its policy forbids the browser to load or run anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import modelstore
from modelstore.text import split_commands, visible

if TYPE_CHECKING:
    from collections.abc import Iterable

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f4f5f7; --card: #ffffff; --ink: #1b222c; --dim: #5b6572; --line: #e0e4e9;
  --good: #17733f; --warn: #8a5a00; --bad: #b3261e; --note: #4d5a6b;
  --good-tint: #e3f4ea; --warn-tint: #fdf1d6; --bad-tint: #fce8e6; --note-tint: #eceff3;
  --sans: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
  --mono: ui-monospace, "SF Mono", SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #0e1217; --card: #161c23; --ink: #e4e9ef; --dim: #98a3b0; --line: #28313b;
    --good: #57c98d; --warn: #e3b548; --bad: #ff8a80; --note: #a8b4c2;
    --good-tint: #12291d; --warn-tint: #2c2410; --bad-tint: #331a1a; --note-tint: #1f262f;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 var(--sans); -webkit-text-size-adjust: 100%; overflow-wrap: anywhere;
}
main { max-width: 56rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1, h2, h3, p, ul, ol, dl, pre { margin: 0; }
h2 {
  font-size: .8125rem; font-weight: 600; color: var(--dim); letter-spacing: .06em;
  text-transform: uppercase; margin: 2rem 0 .625rem;
}
code, pre { font-family: var(--mono); font-size: .84em; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .75rem; }
.good { --tone: var(--good); --tint: var(--good-tint); }
.warn { --tone: var(--warn); --tint: var(--warn-tint); }
.bad { --tone: var(--bad); --tint: var(--bad-tint); }
.note { --tone: var(--note); --tint: var(--note-tint); }

.verdict { padding: 1.5rem; border-top: .375rem solid var(--tone); }
.brand { font-family: var(--mono); font-size: .8125rem; color: var(--dim); }
h1 {
  display: flex; flex-wrap: wrap; align-items: baseline; gap: 0 .75rem;
  font-size: 2.5rem; line-height: 1.2; margin: .25rem 0 .5rem; color: var(--tone);
}
h1 small { font-size: 1.125rem; font-weight: 500; color: var(--ink); }
.database { font-family: var(--mono); font-size: .9375rem; }
.facts { color: var(--dim); font-size: .875rem; margin-top: .25rem; }
.facts span:not(:last-child)::after { content: " · "; }

.tiles { display: grid; grid-template-columns: repeat(4, 1fr); gap: .75rem; margin-top: .75rem; }
.tile { padding: .75rem 1rem; font-size: .875rem; color: var(--dim); }
.tile b {
  display: block; font-size: 1.625rem; line-height: 1.2; font-variant-numeric: tabular-nums;
  color: var(--tone);
}
.tile.none b { color: var(--dim); opacity: .55; }

.numbers { display: flex; flex-wrap: wrap; gap: .5rem 2rem; }
.numbers dt { color: var(--dim); font-size: .8125rem; }
.numbers dd { margin: 0; font-weight: 600; font-variant-numeric: tabular-nums; }
footer { margin-top: 2rem; color: var(--dim); font-size: .8125rem; }

@media (max-width: 34rem) {
  main { padding: .75rem .75rem 2rem; }
  .verdict { padding: 1.125rem 1rem; }
  h1 { font-size: 2rem; }
  .tiles { gap: .5rem; }
  .tile { padding: .5rem .625rem; font-size: .75rem; }
  .tile b { font-size: 1.25rem; }
}
@media print {
  body { background: none; font-size: 11pt; }
  .card { break-inside: avoid; }
}
"""

_LIMIT = 2000  # characters of one sentence
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


class Page:
    """A document with an empty `main`, to which sections are added; `text` is the file."""

    def __init__(self, title: str, style: str) -> None:
        self._root = ET.Element("html", lang="en")
        head = ET.SubElement(self._root, "head")
        ET.SubElement(head, "meta", charset="utf-8")
        ET.SubElement(head, "meta", {"http-equiv": "Content-Security-Policy", "content": _POLICY})
        viewport = "width=device-width, initial-scale=1"
        ET.SubElement(head, "meta", name="viewport", content=viewport)
        ET.SubElement(head, "meta", name="color-scheme", content="light dark")
        ET.SubElement(head, "meta", name="referrer", content="no-referrer")
        add(head, "title", title)
        ET.SubElement(head, "style").text = STYLE + style
        self.main = ET.SubElement(ET.SubElement(self._root, "body"), "main")

    @property
    def text(self) -> str:
        """The whole document, with the program's version at its foot."""
        add(self.main, "footer", f"modelstore {modelstore.__version__}")
        return f"<!doctype html>\n{ET.tostring(self._root, encoding='unicode', method='html')}\n"


def add(parent: ET.Element, tag: str, text: str = "", kind: str = "") -> ET.Element:
    """Append an element with a text, made safe to show, and a class."""
    child = ET.SubElement(parent, tag, {"class": kind} if kind else {})
    child.text = visible(text, _LIMIT)
    return child


def add_advice(parent: ET.Element, tag: str, text: str, kind: str = "") -> ET.Element:
    """Append advice of this program: `add`, with the commands between backticks as code."""
    child = add(parent, tag, kind=kind)
    child.text, *pieces = split_commands(visible(text, _LIMIT))
    for command, words in zip(pieces[::2], pieces[1::2], strict=True):
        code = ET.SubElement(child, "code")
        code.text, code.tail = command, words
    return child


def add_verdict(
    main: ET.Element, command: str, tone: str, words: tuple[str, str], database: str
) -> ET.Element:
    """Append the head of the page: command, verdict in large and smaller words, database.

    Returns it; `add_facts` goes on in it.
    """
    box = add(main, "header", kind=f"card verdict {tone}")
    add(box, "p", f"modelstore {command}", "brand")
    heading = add(box, "h1", words[0])
    if words[1]:
        add(heading, "small", words[1])
    add(box, "p", database, "database")
    return box


def add_facts(box: ET.Element, facts: Iterable[str]) -> None:
    """Append a line of short facts."""
    line = add(box, "p", kind="facts")
    for fact in facts:
        add(line, "span", fact)


def add_tiles(main: ET.Element, tiles: Iterable[tuple[int | None, str, str]]) -> None:
    """Append a row of figures: a count, its words, and its tone, which a zero does not get.

    A count of None is unknown.
    """
    row = add(main, "div", kind="tiles")
    for count, words, tone in tiles:
        tile = add(row, "div", kind=f"card tile {tone}{' none' if count == 0 else ''}")
        add(tile, "b", "?" if count is None else f"{count:,}").tail = words


def add_numbers(box: ET.Element, numbers: Iterable[tuple[str, str]]) -> None:
    """Append names with their values."""
    row = add(box, "dl", kind="numbers")
    for name, value in numbers:
        pair = add(row, "div")
        add(pair, "dt", name)
        add(pair, "dd", value)
