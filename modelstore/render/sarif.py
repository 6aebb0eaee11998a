"""A verification as SARIF 2.1.0, for code scanning.

https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
"""

from __future__ import annotations

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


def sarif_text(verification: Verification) -> str:
    """Return the document, without the checks that passed."""
    found = [finding for finding in verification.findings if finding.severity in _LEVELS]
    rules = {finding.code: verification.titles.get(finding.check, "") for finding in found}
    driver = {
        "name": "modelstore",
        "version": modelstore.__version__,
        "rules": [
            {"id": code, "shortDescription": {"text": visible(title, _LIMIT) or code}}
            for code, title in rules.items()
        ],
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


def _result(finding: Finding, verification: Verification, rules: list[str]) -> dict[str, object]:
    text = finding.measured + (f". {finding.advice}" if finding.advice else "")
    uri = quote(verification.database.encode("utf-8", "surrogatepass"), safe="/")
    return {
        "ruleId": finding.code,
        "ruleIndex": rules.index(finding.code),
        "level": _LEVELS[finding.severity],
        "message": {"text": visible(text, _LIMIT)},
        "locations": [{"physicalLocation": {"artifactLocation": {"uri": uri}}}],
        "partialFingerprints": {"finding/v1": f"{finding.code}:{visible(finding.where, 200)}"},
    }
