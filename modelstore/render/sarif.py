"""A verification as SARIF 2.1.0, for code scanning.

https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html, and the properties of a rule that
https://docs.github.com/en/code-security/reference/code-scanning/sarif-files/sarif-support asks
for. A location without a region is the whole file.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING
from urllib.parse import quote

import modelstore
from modelstore.render.rows import dump_json
from modelstore.text import visible

if TYPE_CHECKING:
    from modelstore.finding import Finding, Verification

_SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
_LEVELS = {"fail": "error", "warn": "warning", "note": "note"}
_LIMIT = 2000  # characters of one sentence
_HELP = "`modelstore help ci` says what verify checks"


def sarif_text(verification: Verification) -> str:
    """Return the document, without the checks that passed."""
    found = [finding for finding in verification.findings if finding.severity in _LEVELS]
    rules: dict[str, dict[str, object]] = {}
    for finding in found:
        rules.setdefault(finding.code, _rule(finding, verification.titles.get(finding.check, "")))
    driver = {
        "name": "modelstore",
        "version": modelstore.__version__,
        "rules": list(rules.values()),
    }
    run = {
        "tool": {"driver": driver},
        "results": [_result(finding, verification, list(rules)) for finding in found],
        "invocations": [
            {
                "executionSuccessful": True,
                "exitCode": int(verification.exit_code),
                "startTimeUtc": verification.started,
            }
        ],
    }
    return dump_json({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _rule(finding: Finding, title: str) -> dict[str, object]:
    about = {"text": visible(title, _LIMIT) or finding.code}
    return {
        "id": finding.code,
        "shortDescription": about,
        "fullDescription": about,
        "help": {"text": visible(finding.advice or _HELP, _LIMIT)},
    }


def _result(finding: Finding, verification: Verification, rules: list[str]) -> dict[str, object]:
    uri = _uri(verification.database)
    text = finding.measured + (f". To do: {finding.advice}" if finding.advice else "")
    return {
        "ruleId": finding.code,
        "ruleIndex": rules.index(finding.code),
        "level": _LEVELS[finding.severity],
        "message": {"text": visible(text, _LIMIT)},
        "locations": [{"physicalLocation": {"artifactLocation": {"uri": uri}}}],
        "partialFingerprints": {"finding/v1": f"{finding.code}:{visible(finding.where, 200)}"},
    }


def _uri(path: str) -> str:
    """Return a reference that is relative to the caller's directory, or an absolute URI."""
    pure = PurePath(path)
    text = pure.as_posix().encode("utf-8", "surrogatepass")
    if not pure.is_absolute():
        return quote(text, safe="/")  # a colon would end a scheme
    drive = "" if text.startswith(b"/") else "/"
    return f"file://{drive}{quote(text, safe='/:')}"
