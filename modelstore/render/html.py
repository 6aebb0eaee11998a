"""A verification as one HTML file: the verdict, what to do, the log, and every finding."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from modelstore.render.page import (
    Page,
    add,
    add_advice,
    add_facts,
    add_numbers,
    add_tiles,
    add_verdict,
)
from modelstore.render.rows import dump_json
from modelstore.text import human_bytes, human_seconds, plural, process_name, visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modelstore.database.checkpoint import Checkpoint
    from modelstore.finding import Finding, Severity, Verification

_STYLE = """
.todo { list-style: none; padding: 0; overflow: hidden; }
.todo li { padding: .625rem 1.25rem .625rem 1rem; border-left: .25rem solid var(--tone); }
.todo li + li { border-top: 1px solid var(--line); }
.todo p { color: var(--dim); font-size: .875rem; }

.wal { padding: 1rem 1.25rem 1.125rem; }
.bar { display: flex; height: .625rem; border-radius: .3125rem; overflow: hidden; }
.bar { background: var(--note-tint); margin-bottom: .75rem; }
.bar i { background: var(--good); }
.bar i + i { background: var(--warn); }
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

@media (max-width: 34rem) {
  .check, .wal { padding: .875rem 1rem; }
  .check header { flex-wrap: wrap; gap: 0 .625rem; }
  .check header p { order: 3; flex-basis: 100%; }
  .check time { margin-left: auto; }
}
"""

_FIGURES_LIMIT = 20_000  # characters of one finding's figures
_SHOWN = 200  # findings of one check that are written out
_TONES = {"pass": "good", "note": "note", "warn": "warn", "fail": "bad"}
_RANK = ("pass", "note", "warn", "fail")


def html_report(verification: Verification) -> str:
    """Return the whole document; text from outside is escaped in it."""
    page = Page(f"{verification.verdict}: {visible(verification.database, 200)}", _STYLE)
    main = page.main
    _verdict(main, verification)
    _tiles(main, verification)
    _todo(main, verification.findings)
    if verification.checkpoint is not None:
        _wal(main, verification.checkpoint)
    _checks(main, verification)
    return page.text


def _verdict(main: ET.Element, verification: Verification) -> None:
    warned = any(finding.severity == "warn" for finding in verification.findings)
    tone = "bad" if verification.failed else "warn" if warned else "good"
    word, _, rest = verification.verdict.partition(", ")
    box = add_verdict(main, "verify", tone, (word, rest), verification.database)
    facts = (
        f"chosen by {verification.origin}",
        verification.started.replace("T", " ").replace("Z", " UTC"),
        f"took {human_seconds(verification.seconds)}",
        f"exit code {int(verification.exit_code)}",
    )
    add_facts(box, facts)


def _tiles(main: ET.Element, verification: Verification) -> None:
    words: dict[Severity, tuple[str, str]] = {
        "fail": ("failure", "failures"),
        "warn": ("warning", "warnings"),
        "note": ("note", "notes"),
        "pass": ("passed", "passed"),
    }
    counts = [(verification.count(severity), severity) for severity in words]
    tiles = [(n, words[severity][n != 1], _TONES[severity]) for n, severity in counts]
    add_tiles(main, tiles)


def _todo(main: ET.Element, findings: Sequence[Finding]) -> None:
    """List the advice, failures first, each sentence once with all the findings that share it."""
    advised: dict[str, list[Finding]] = {}
    for severity in ("fail", "warn"):
        for finding in findings:
            if finding.advice and finding.severity == severity:
                advised.setdefault(finding.advice, []).append(finding)
    if not advised:
        return
    add(main, "h2", "What to do")
    todo = add(main, "ul", kind="card todo")
    for advice, shared in list(advised.items())[:_SHOWN]:
        item = add_advice(todo, "li", advice, _TONES[shared[0].severity])
        for finding in shared[:_SHOWN]:
            add(item, "p", f"{finding.check}: {finding.measured}")


def _wal(main: ET.Element, checkpoint: Checkpoint) -> None:
    """Show how much of the log was folded, and the processes in the way."""
    add(main, "h2", "The write-ahead log")
    box = add(main, "div", kind="card wal")
    total = checkpoint.checkpointed + checkpoint.left
    if total:
        bar = add(box, "div", kind="bar")
        for part in (checkpoint.checkpointed, checkpoint.left):
            ET.SubElement(bar, "i", style=f"width: {part / total:.2%}")
    before = human_bytes(checkpoint.wal_size_before)
    after = human_bytes(checkpoint.wal_size_after)
    numbers = (
        ("pages in the log", f"{checkpoint.log:,}"),
        ("checkpointed", f"{checkpoint.checkpointed:,}"),
        ("left", f"{checkpoint.left:,}"),
        ("busy", "yes" if checkpoint.busy else "no"),
        ("-wal file", f"{before}, kept" if before == after else f"{before} → {after}"),
    )
    add_numbers(box, numbers)
    for blocker in checkpoint.blockers[:_SHOWN]:
        add(box, "p", f"in the way: {process_name(blocker.pid, blocker.command, *blocker.facts)}")
    if checkpoint.reason:
        add(box, "p", checkpoint.reason)


def _checks(main: ET.Element, verification: Verification) -> None:
    add(main, "h2", "Checks")
    for name, findings in verification.by_check().items():
        box = add(main, "section", kind="card check")
        header = add(box, "header")
        add(header, "h3", name)
        add(header, "p", verification.titles.get(name, ""))
        if name in verification.timings:
            add(header, "time", human_seconds(verification.timings[name]))
        findings.sort(key=lambda finding: -_RANK.index(finding.severity))
        items = add(box, "ul")
        for finding in findings[:_SHOWN]:
            _finding(items, finding, verification.database)
        if len(findings) > _SHOWN:
            more = add(items, "li")
            add(more, "span")
            add(more, "p", plural(len(findings) - _SHOWN, "more finding"))


def _finding(items: ET.Element, finding: Finding, database: str) -> None:
    item = add(items, "li", kind=_TONES[finding.severity])
    add(item, "span", finding.severity, "badge")
    body = add(item, "div")
    add(body, "p", finding.measured)
    if finding.where and not (finding.severity == "pass" and finding.where.endswith(database)):
        add(body, "p", finding.where, "where")
    if finding.advice:
        add_advice(body, "p", finding.advice, "advice")
    if finding.data:
        figures = add(body, "details")
        add(figures, "summary", f"figures ({finding.code})")
        text = dump_json(dict(finding.data), indent=2)
        if len(text) > _FIGURES_LIMIT:
            text = text[:_FIGURES_LIMIT] + "\n…"
        add(figures, "pre").text = text  # made harmless already, and its lines are kept
