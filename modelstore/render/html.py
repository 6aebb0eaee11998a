"""A verification as one HTML file: no script, nothing to load, light and dark, wide and narrow.

The standard library writes the document from a tree, so that no outside text can become markup.
Its policy forbids the browser to load or run anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import modelstore
from modelstore.render.rows import dump_json
from modelstore.text import human_bytes, human_seconds, plural, process_name, visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modelstore.database.checkpoint import Checkpoint
    from modelstore.finding import Finding, Severity, Verification

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

.todo { list-style: none; padding: 0; overflow: hidden; }
.todo li { padding: .625rem 1.25rem .625rem 1rem; border-left: .25rem solid var(--tone); }
.todo li + li { border-top: 1px solid var(--line); }
.todo p { color: var(--dim); font-size: .875rem; }

.wal { padding: 1rem 1.25rem 1.125rem; }
.bar { display: flex; height: .625rem; border-radius: .3125rem; overflow: hidden; }
.bar { background: var(--note-tint); margin-bottom: .75rem; }
.bar i { background: var(--good); }
.bar i + i { background: var(--warn); }
.numbers { display: flex; flex-wrap: wrap; gap: .5rem 2rem; }
.numbers dt { color: var(--dim); font-size: .8125rem; }
.numbers dd { margin: 0; font-weight: 600; font-variant-numeric: tabular-nums; }
.wal > p { color: var(--dim); font-size: .875rem; margin-top: .75rem; }

.check { margin-bottom: .75rem; padding: 1rem 1.25rem; }
.check header { display: flex; align-items: baseline; gap: .625rem; }
.check h3 { font-size: 1.0625rem; }
.check header p { color: var(--dim); font-size: .875rem; flex: 1; }
.check time { color: var(--dim); font-size: .8125rem; white-space: nowrap; }
.check ul { list-style: none; padding: 0; }
.check li {
  display: grid; grid-template-columns: 3.25rem 1fr; gap: 0 .75rem; align-items: baseline;
  padding-top: .625rem; margin-top: .625rem; border-top: 1px solid var(--line);
}
.badge {
  font-size: .75rem; font-weight: 600; text-align: center; border-radius: .375rem;
  padding: .125rem 0; color: var(--tone); background: var(--tint);
}
.where { font-family: var(--mono); font-size: .8125rem; color: var(--dim); }
.advice { font-size: .9375rem; margin-top: .25rem; padding-left: .75rem; }
.advice { border-left: 2px solid var(--tone); }
details { margin-top: .375rem; font-size: .8125rem; color: var(--dim); }
summary { cursor: pointer; width: max-content; max-width: 100%; }
pre {
  margin-top: .375rem; padding: .75rem; border-radius: .5rem; background: var(--note-tint);
  color: var(--ink); overflow: auto; max-height: 24rem; white-space: pre-wrap;
}
footer { margin-top: 2rem; color: var(--dim); font-size: .8125rem; }

@media (max-width: 34rem) {
  main { padding: .75rem .75rem 2rem; }
  .verdict { padding: 1.125rem 1rem; }
  h1 { font-size: 2rem; }
  .tiles { gap: .5rem; }
  .tile { padding: .5rem .625rem; font-size: .75rem; }
  .tile b { font-size: 1.25rem; }
  .check, .wal { padding: .875rem 1rem; }
  .check header { flex-wrap: wrap; gap: 0 .625rem; }
  .check header p { order: 3; flex-basis: 100%; }
  .check time { margin-left: auto; }
}
@media print {
  body { background: none; font-size: 11pt; }
  .card { break-inside: avoid; }
}
"""

_LIMIT = 2000  # characters of one sentence
_FIGURES_LIMIT = 20_000  # characters of one finding's figures
_SHOWN = 200  # findings of one check that are written out
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_TONES = {"pass": "good", "note": "note", "warn": "warn", "fail": "bad"}
_RANK = ("pass", "note", "warn", "fail")


def html_report(verification: Verification) -> str:
    """Return the whole document; text from outside is escaped in it."""
    page = ET.Element("html", lang="en")
    head = ET.SubElement(page, "head")
    ET.SubElement(head, "meta", charset="utf-8")
    ET.SubElement(head, "meta", {"http-equiv": "Content-Security-Policy", "content": _POLICY})
    viewport = "width=device-width, initial-scale=1"
    ET.SubElement(head, "meta", name="viewport", content=viewport)
    ET.SubElement(head, "meta", name="color-scheme", content="light dark")
    ET.SubElement(head, "meta", name="referrer", content="no-referrer")
    verdict = verification.verdict
    _add(head, "title", f"{verdict}: {visible(verification.database, 200)}")
    ET.SubElement(head, "style").text = STYLE
    main = ET.SubElement(ET.SubElement(page, "body"), "main")
    _verdict(main, verification)
    _tiles(main, verification)
    _todo(main, verification.findings)
    if verification.checkpoint is not None:
        _wal(main, verification.checkpoint)
    _checks(main, verification)
    _add(main, "footer", f"modelstore {modelstore.__version__}")
    return f"<!doctype html>\n{ET.tostring(page, encoding='unicode', method='html')}\n"


def _add(parent: ET.Element, tag: str, text: str = "", kind: str = "") -> ET.Element:
    """Append an element with a text, made safe to show, and a class."""
    child = ET.SubElement(parent, tag, {"class": kind} if kind else {})
    child.text = visible(text, _LIMIT)
    return child


def _verdict(main: ET.Element, verification: Verification) -> None:
    warned = any(finding.severity == "warn" for finding in verification.findings)
    tone = "bad" if verification.failed else "warn" if warned else "good"
    box = _add(main, "header", kind=f"card verdict {tone}")
    _add(box, "p", "modelstore verify", "brand")
    word, _, rest = verification.verdict.partition(", ")
    heading = _add(box, "h1", word)
    if rest:
        _add(heading, "small", rest)
    _add(box, "p", verification.database, "database")
    facts = _add(box, "p", kind="facts")
    for fact in (
        f"chosen by {verification.origin}",
        verification.started.replace("T", " ").replace("Z", " UTC"),
        f"took {human_seconds(verification.seconds)}",
        f"exit code {int(verification.exit_code)}",
    ):
        _add(facts, "span", fact)


def _tiles(main: ET.Element, verification: Verification) -> None:
    row = _add(main, "div", kind="tiles")
    words: dict[Severity, str] = {
        "fail": "failure",
        "warn": "warning",
        "note": "note",
        "pass": "passed",
    }
    for severity, word in words.items():
        count = verification.count(severity)
        tile = _add(row, "div", kind=f"card tile {_TONES[severity]}{'' if count else ' none'}")
        number = _add(tile, "b", f"{count:,}")
        number.tail = word if count == 1 or severity == "pass" else word + "s"


def _todo(main: ET.Element, findings: Sequence[Finding]) -> None:
    """List the advice, failures first, each sentence once with all the findings that share it."""
    advised: dict[str, list[Finding]] = {}
    for severity in ("fail", "warn"):
        for finding in findings:
            if finding.advice and finding.severity == severity:
                advised.setdefault(finding.advice, []).append(finding)
    if not advised:
        return
    _add(main, "h2", "What to do")
    todo = _add(main, "ul", kind="card todo")
    for advice, shared in list(advised.items())[:_SHOWN]:
        item = _add(todo, "li", advice, _TONES[shared[0].severity])
        for finding in shared[:_SHOWN]:
            _add(item, "p", f"{finding.check}: {finding.measured}")


def _wal(main: ET.Element, checkpoint: Checkpoint) -> None:
    """Show how much of the log was folded, and the processes in the way."""
    _add(main, "h2", "The write-ahead log")
    box = _add(main, "div", kind="card wal")
    total = checkpoint.checkpointed + checkpoint.left
    if total:
        bar = _add(box, "div", kind="bar")
        for part in (checkpoint.checkpointed, checkpoint.left):
            ET.SubElement(bar, "i", style=f"width: {part / total:.2%}")
    row = _add(box, "dl", kind="numbers")
    before = human_bytes(checkpoint.wal_size_before)
    after = human_bytes(checkpoint.wal_size_after)
    for name, value in (
        ("pages in the log", f"{checkpoint.log:,}"),
        ("checkpointed", f"{checkpoint.checkpointed:,}"),
        ("left", f"{checkpoint.left:,}"),
        ("busy", "yes" if checkpoint.busy else "no"),
        ("-wal file", f"{before}, kept" if before == after else f"{before} → {after}"),
    ):
        pair = _add(row, "div")
        _add(pair, "dt", name)
        _add(pair, "dd", value)
    for blocker in checkpoint.blockers[:_SHOWN]:
        _add(box, "p", f"in the way: {process_name(blocker.pid, blocker.command, *blocker.facts)}")
    if checkpoint.reason:
        _add(box, "p", checkpoint.reason)


def _checks(main: ET.Element, verification: Verification) -> None:
    _add(main, "h2", "Checks")
    for name, findings in verification.by_check().items():
        box = _add(main, "section", kind="card check")
        header = _add(box, "header")
        _add(header, "h3", name)
        _add(header, "p", verification.titles.get(name, ""))
        if name in verification.timings:
            _add(header, "time", human_seconds(verification.timings[name]))
        findings.sort(key=lambda finding: -_RANK.index(finding.severity))
        items = _add(box, "ul")
        for finding in findings[:_SHOWN]:
            _finding(items, finding, verification.database)
        if len(findings) > _SHOWN:
            more = _add(items, "li")
            _add(more, "span")
            _add(more, "p", plural(len(findings) - _SHOWN, "more finding"))


def _finding(items: ET.Element, finding: Finding, database: str) -> None:
    item = _add(items, "li", kind=_TONES[finding.severity])
    _add(item, "span", finding.severity, "badge")
    body = _add(item, "div")
    _add(body, "p", finding.measured)
    if finding.where and not (finding.severity == "pass" and finding.where.endswith(database)):
        _add(body, "p", finding.where, "where")
    if finding.advice:
        _add(body, "p", finding.advice, "advice")
    if finding.data:
        figures = _add(body, "details")
        _add(figures, "summary", f"figures ({finding.code})")
        text = dump_json(dict(finding.data), indent=2)
        if len(text) > _FIGURES_LIMIT:
            text = text[:_FIGURES_LIMIT] + "\n…"
        _add(figures, "pre").text = text  # made harmless already, and its lines are kept
