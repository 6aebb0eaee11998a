"""A verification as GitHub Actions shows it: annotations in the log, and the job's summary.

The runner obeys lines that begin with ``::`` and lines that contain ``##[``, and reads the summary
as Markdown with HTML. Names from databases and disks are outside text there too.
https://docs.github.com/actions/reference/workflow-commands-for-github-actions and
https://github.com/actions/runner/blob/main/src/Runner.Common/ActionCommand.cs
"""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING

from modelstore.text import human_seconds, plural, split_commands, visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.finding import Finding, Verification

_SHOWN = 10  # annotations of a kind and step; GitHub drops the rest silently
_ROWS = 80  # findings in the summary; GitHub drops a summary above 1 MiB
_MESSAGE, _PROPERTY = 600, 200  # characters; escaping makes at most three of one
_SIGNS = {"pass": "✅", "note": "💬", "warn": "⚠️", "fail": "❌"}

_ACTIVE = re.compile(r"[@#$`*_~\\\[\]]|://|www\.|:[\w+-]+:|[0-9a-f]{7}")
"""Text that GitHub turns into links, names, pictures or formulas outside of ``<code>``."""

_COMMAND = re.compile(r"(?:\A|(?<=[\r\n]))(\s*)::")


def without_commands(text: str, *, begins_line: bool) -> str:
    r"""Return output in which the runner finds no command: ``\x3a:error::``, ``#\x23[error]``.

    `begins_line` tells if `text` begins a line; otherwise it continues one.
    """
    if "##[" in text:
        text = text.replace("##[", r"#\x23[")
    if "::" not in text:
        return text
    begin = "" if begins_line else "-"
    return _COMMAND.sub(r"\1\\x3a:", begin + text).removeprefix(begin)


def annotation_lines(verification: Verification) -> Iterator[str]:
    """Yield one line, a workflow command, for each failure and each warning; without newlines.

    With `strict`, a warning is an error. If there are more than GitHub shows, the last one that it
    shows counts the others.
    """
    severities = {"fail": "error", "warn": "error" if verification.strict else "warning"}
    for level in ("error", "warning"):
        found = [f for f in verification.findings if severities.get(f.severity) == level]
        whole = len(found) <= _SHOWN
        for finding in found if whole else found[: _SHOWN - 1]:
            yield _command(level, f"modelstore verify: {finding.code}", _sentence(finding))
        if not whole:
            rest = len(found) - _SHOWN + 1
            yield _command(level, "modelstore verify", f"{rest:,} more: see the job summary")


def _sentence(finding: Finding) -> str:
    """Return the measurement, its place and the advice on one line."""
    place = f" ({finding.where})" if finding.where and finding.where not in finding.measured else ""
    advice = f": {finding.advice}" if finding.advice else ""
    return f"{finding.measured}{place}{advice}"


def _command(level: str, title: str, message: str) -> str:
    """Return a workflow command whose parts can neither end it nor begin another."""
    title = _percent(visible(title, _PROPERTY), "%\r\n:,")
    message = _percent(visible(message, _MESSAGE), "%\r\n")
    return f"::{level} title={title}::{message}"


def _percent(text: str, signs: str) -> str:
    """Return `text` with each of `signs` as the runner decodes it."""
    return "".join(f"%{ord(char):02X}" if char in signs else char for char in text)


def job_summary(verification: Verification) -> str:
    """Return the text for the file GITHUB_STEP_SUMMARY, in Markdown.

    The table is HTML: nothing in it is Markdown, so a hostile name needs only HTML escapes. If
    there are too many findings, the worst remain.
    """
    findings = verification.findings
    if len(findings) > _ROWS:
        ranks = list(_SIGNS)
        findings = tuple(sorted(findings, key=lambda finding: -ranks.index(finding.severity)))
    rows = "".join(map(_row, findings[:_ROWS]))
    more = len(findings) - _ROWS
    if more > 0:
        rows += f'<tr><td colspan="3">{plural(more, "more finding")}</td></tr>\n'
    sign = _SIGNS["fail" if verification.failed else "pass"]
    lines = [
        f"### {sign} modelstore verify: {verification.verdict}",
        "",
        f"<p>{_inert(verification.database, code=True)}, {verification.started}, "
        f"{human_seconds(verification.seconds)}</p>",
        "",
        "<table>",
        "<tr><th>Check</th><th>Result</th><th>Measured</th></tr>",
        f"{rows}</table>",
        "",
    ]
    if verification.checkpoint is not None:
        lines += [f"<p>{_inert(verification.checkpoint.wal_line())}</p>", ""]
    return "\n".join(lines) + "\n"


def _row(finding: Finding) -> str:
    cell = _inert(finding.measured)
    if finding.severity in ("warn", "fail"):
        if finding.where and finding.where not in finding.measured:
            cell += f"<br>{_inert(finding.where, code=True)}"
        if finding.advice:
            cell += f"<br><b>To do:</b> {_advice(finding.advice)}"
    sign = _SIGNS[finding.severity]
    return f"<tr><td>{finding.check}</td><td>{sign} {finding.severity}</td><td>{cell}</td></tr>\n"


def _advice(text: str) -> str:
    """Return advice as HTML, with the commands between backticks as code."""
    pieces = split_commands(visible(text, _MESSAGE))
    return "".join(_inert(piece, code=n % 2 == 1) for n, piece in enumerate(pieces))


def _inert(text: str, *, code: bool = False) -> str:
    """Return `text` as HTML that GitHub shows letter by letter."""
    shown = visible(text, _MESSAGE)
    safe = escape(shown)
    return f"<code>{safe}</code>" if code or _ACTIVE.search(shown) else safe
