"""A verification as one HTML file: no script, nothing to load, light and dark, wide and narrow.

The document is built as a tree and written by the standard library, so that no text of others can
become markup; its policy forbids the browser to load or run anything whatever it holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import modelstore
from modelstore.render.html_style import STYLE
from modelstore.render.rows import dump_json
from modelstore.text import human_bytes, human_seconds, plural, visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modelstore.render.findings import CheckpointShape, FindingShape, VerificationShape

_LIMIT = 2000  # characters of one sentence
_FIGURES_LIMIT = 20_000  # characters of one finding's figures
_SHOWN = 200  # findings of one check that are written out
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_TONES = {"pass": "good", "note": "note", "warn": "warn", "fail": "bad"}
_RANK = ("pass", "note", "warn", "fail")
_TITLES = {
    "file": "whether the database file is whole and readable",
    "log": "what the WAL held before anything was folded",
    "integrity": "pages, indexes and references, as SQLite checks them",
    "checkpoint": "folding the WAL into the main file",
    "persistence": "whether the main file alone holds everything",
    "environment": "what the database stands on, and who else uses it",
    "models": "the model files of the catalogue",
    "drill": "tried out on a scratch catalogue",
    "expectations": "what was asked for",
}


def html_report(verification: VerificationShape) -> str:
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
    _tiles(main, verification.findings)
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


def _verdict(main: ET.Element, verification: VerificationShape) -> None:
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


def _tiles(main: ET.Element, findings: Sequence[FindingShape]) -> None:
    row = _add(main, "div", kind="tiles")
    for severity, word in (
        ("fail", "failure"),
        ("warn", "warning"),
        ("note", "note"),
        ("pass", "passed"),
    ):
        count = sum(finding.severity == severity for finding in findings)
        tile = _add(row, "div", kind=f"card tile {_TONES[severity]}{'' if count else ' none'}")
        number = _add(tile, "b", f"{count:,}")
        number.tail = word if count == 1 or severity == "pass" else word + "s"


def _todo(main: ET.Element, findings: Sequence[FindingShape]) -> None:
    """List what to do, failures first, each advice once."""
    advised = {
        finding.advice: finding
        for severity in ("warn", "fail")
        for finding in reversed(findings)
        if finding.advice and finding.severity == severity
    }
    if not advised:
        return
    _add(main, "h2", "What to do")
    todo = _add(main, "ul", kind="card todo")
    for advice, finding in list(reversed(advised.items()))[:_SHOWN]:
        item = _add(todo, "li", advice, _TONES[finding.severity])
        _add(item, "p", f"{finding.check}: {finding.measured}")


def _wal(main: ET.Element, checkpoint: CheckpointShape) -> None:
    """Show how much of the log was folded, and who was in the way."""
    numbers = checkpoint.as_json()

    def number(name: str) -> int:
        value = numbers.get(name)
        return value if isinstance(value, int) else 0

    _add(main, "h2", "The write-ahead log")
    box = _add(main, "div", kind="card wal")
    total = number("checkpointed") + number("left")
    if total:
        bar = _add(box, "div", kind="bar")
        for name in ("checkpointed", "left"):
            ET.SubElement(bar, "i", style=f"width: {number(name) / total:.2%}")
    row = _add(box, "dl", kind="numbers")
    before, after = (human_bytes(number(f"wal_size_{when}")) for when in ("before", "after"))
    for name, value in (
        ("pages in the log", f"{number('log'):,}"),
        ("checkpointed", f"{number('checkpointed'):,}"),
        ("left", f"{number('left'):,}"),
        ("busy", "yes" if numbers.get("busy") else "no"),
        ("-wal file", f"{before}, kept" if before == after else f"{before} → {after}"),
    ):
        pair = _add(row, "div")
        _add(pair, "dt", name)
        _add(pair, "dd", value)
    blockers = numbers.get("blockers")
    for blocker in blockers[:_SHOWN] if isinstance(blockers, list) else ():
        _add(box, "p", f"in the way: pid {blocker['pid'] or 'unknown'} ({blocker['command']})")
    if numbers.get("reason"):
        _add(box, "p", str(numbers["reason"]))


def _checks(main: ET.Element, verification: VerificationShape) -> None:
    checks: dict[str, list[FindingShape]] = {}
    for finding in verification.findings:
        checks.setdefault(finding.check, []).append(finding)
    _add(main, "h2", "Checks")
    for name, findings in checks.items():
        box = _add(main, "section", kind="card check")
        header = _add(box, "header")
        _add(header, "h3", name)
        _add(header, "p", _TITLES.get(name, ""))
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


def _finding(items: ET.Element, finding: FindingShape, database: str) -> None:
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
