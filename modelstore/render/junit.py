"""A verification as JUnit XML, which every CI system reads.

There is no official schema. The document is valid against both that are in use, Ant's and the
Jenkins xUnit plugin's: https://github.com/windyroad/JUnit-Schema and
https://github.com/jenkinsci/xunit-plugin (junit-10.xsd).
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from modelstore.text import host_name, plural, visible

if TYPE_CHECKING:
    from modelstore.finding import Finding, Verification

_LIMIT = 2000  # characters of one sentence
_LINES = 500  # findings that are written out for one check


def junit_xml(verification: Verification) -> str:
    """Return the document: one test case for each check, so that its history can be followed.

    A check with nothing but notes is skipped. A check that only warns passes, and its warnings are
    in the suite's output. Characters that XML cannot carry become escapes.
    """
    checks = verification.by_check()
    checks |= {name: [] for name in verification.timings if name not in checks}
    bad = {"fail", "warn"} if verification.strict else {"fail"}
    suite = ET.Element("testsuite")
    ET.SubElement(suite, "properties")
    failures = skipped = 0
    for name, findings in checks.items():
        case = ET.SubElement(
            suite,
            "testcase",
            name=name,
            classname="modelstore.verify",
            time=_seconds(verification.timings.get(name, 0.0)),
        )
        wrong = [finding for finding in findings if finding.severity in bad]
        if wrong:
            failures += 1
            _fail(case, wrong)
        elif findings and all(finding.severity == "note" for finding in findings):
            skipped += 1
            ET.SubElement(case, "skipped", message=_text(findings[0].measured))
    ET.SubElement(suite, "system-out").text = _as_words(verification)
    ET.SubElement(suite, "system-err")
    suite.attrib = {
        "name": "modelstore verify",
        "package": "modelstore",
        "id": "0",
        "hostname": _text(host_name()),
        "timestamp": verification.started[:19],
        "tests": str(len(checks)),
        "failures": str(failures),
        "errors": "0",
        "skipped": str(skipped),
        "time": _seconds(verification.seconds),
    }
    _add_properties(suite, verification)
    root = ET.Element("testsuites")
    root.append(suite)
    ET.indent(root)
    text = ET.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _add_properties(suite: ET.Element, verification: Verification) -> None:
    properties = suite[0]
    for name, value in (
        ("database", verification.database),
        ("verdict", verification.verdict),
        ("exit_code", str(int(verification.exit_code))),
    ):
        ET.SubElement(properties, "property", name=name, value=_text(value))


def _fail(case: ET.Element, wrong: list[Finding]) -> None:
    more = f" (and {plural(len(wrong) - 1, 'other')})" if len(wrong) > 1 else ""
    failure = ET.SubElement(
        case, "failure", type=wrong[0].code, message=_text(wrong[0].measured) + more
    )
    lines = [_line(finding) for finding in wrong[:_LINES]]
    if len(wrong) > _LINES:
        lines.append(f"... {plural(len(wrong) - _LINES, 'more finding')}")
    failure.text = "\n".join(lines)


def _as_words(verification: Verification) -> str:
    """Return all findings as words."""
    lines = [_line(finding) for finding in verification.findings[:_LINES]]
    if verification.checkpoint is not None:
        lines.append(verification.checkpoint.wal_line())
    return "\n".join([*lines, verification.verdict])


def _line(finding: Finding) -> str:
    place = f" [{_text(finding.where)}]" if finding.where else ""
    advice = f" -> {_text(finding.advice)}" if finding.advice else ""
    return f"{finding.check}: {finding.severity}: {_text(finding.measured)}{place}{advice}"


def _text(text: str) -> str:
    """Return `text` without what XML 1.0 forbids: control characters, surrogates, non-characters.

    https://www.w3.org/TR/xml/#charsets
    """
    return visible(text, _LIMIT)


def _seconds(seconds: float) -> str:
    return f"{max(0.0, seconds):.3f}"
