"""JUnit XML: what the two schemas in use demand, and what XML can carry."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given

from modelstore.finding import Verification
from modelstore.render.junit import junit_xml
from modelstore.text import visible
from tests.render.samples import HOSTILE, TEXTS
from tests.verify.samples import BAD, GOOD, WARNED, finding, hostile, verification

_NUMBER = re.compile(r"\d+")
_SECONDS = re.compile(r"\d{1,3}(,\d{3})*\.\d+|\d+\.\d+")
_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}")
_TOKEN = re.compile(r"\S.*", re.DOTALL)
_SUITE = {
    "name": _TOKEN,
    "package": _TOKEN,
    "hostname": _TOKEN,
    "id": _NUMBER,
    "tests": _NUMBER,
    "failures": _NUMBER,
    "errors": _NUMBER,
    "skipped": _NUMBER,
    "time": _SECONDS,
    "timestamp": _MOMENT,
}
_CASE = {"name": _TOKEN, "classname": _TOKEN, "time": _SECONDS}
_OUTCOMES = {"failure": {"type", "message"}, "skipped": {"message"}}


def parsed(result: Verification) -> ET.Element:
    """Return the suite, after a look at all that both schemas say of such a document.

    Ant's wants each suite to have properties, cases, system-out and system-err in this order, no
    attribute on the root, one outcome a case; Jenkins' allows no other elements and attributes.
    """
    text = junit_xml(result)
    assert text.startswith('<?xml version="1.0" encoding="UTF-8"?>\n')
    root = ET.fromstring(text.encode())
    assert (root.tag, root.attrib, len(root)) == ("testsuites", {}, 1)
    suite = root[0]
    assert suite.tag == "testsuite"
    _check_attributes(suite, _SUITE)
    tags = [child.tag for child in suite]
    cases = suite.findall("testcase")
    assert tags == ["properties", *["testcase"] * len(cases), "system-out", "system-err"]
    for item in suite[0]:
        assert item.tag == "property"
        assert set(item.attrib) == {"name", "value"}
    for case in cases:
        _check_attributes(case, _CASE)
        assert len(case) <= 1
        for outcome in case:
            assert set(outcome.attrib) == _OUTCOMES[outcome.tag]
            assert len(outcome) == 0
    assert int(suite.attrib["tests"]) == len(cases)
    for name, tag in (("failures", "failure"), ("skipped", "skipped"), ("errors", "error")):
        assert int(suite.attrib[name]) == len(suite.findall(f"testcase/{tag}"))
    assert len({case.attrib["name"] for case in cases}) == len(cases)
    return suite


def _check_attributes(element: ET.Element, wanted: dict[str, re.Pattern[str]]) -> None:
    assert set(element.attrib) == set(wanted)
    for name, pattern in wanted.items():
        assert pattern.fullmatch(element.attrib[name]), (name, element.attrib[name])


def failed(suite: ET.Element) -> list[str]:
    return [
        case.attrib["name"]
        for case in suite.findall("testcase")
        if case.find("failure") is not None
    ]


def test_a_sound_database_has_a_passed_case_for_each_check() -> None:
    suite = parsed(GOOD)
    assert [case.attrib["name"] for case in suite.findall("testcase")] == ["file", "log", "models"]
    assert failed(suite) == []
    assert suite.attrib["timestamp"] == "2026-01-02T03:04:05"
    assert suite.attrib["time"] == "1.250"
    assert "WAL pages: 5 in log, 5 checkpointed, 0 left; busy: no" in suite.findtext(
        "system-out", ""
    )


def test_a_check_of_which_only_notes_are_known_is_skipped() -> None:
    skipped = parsed(GOOD).find("testcase[@name='models']/skipped")
    assert skipped is not None
    assert skipped.attrib["message"] == "not checked: no catalogue"


def test_each_check_that_failed_says_everything_that_it_found() -> None:
    suite = parsed(BAD)
    assert failed(suite) == ["checkpoint", "persistence"]
    failure = suite.find("testcase[@name='persistence']/failure")
    assert failure is not None
    assert failure.attrib["message"] == "18 rows are lost (and 1 other)"
    assert "2 rows are old" in (failure.text or "")
    assert "do not copy" in (failure.text or "")


def test_a_warning_fails_where_it_fails_the_run() -> None:
    assert failed(parsed(WARNED)) == []
    assert "warn: 18 rows were only in the WAL" in parsed(WARNED).findtext("system-out", "")
    strict = verification(*WARNED.findings, strict=True)
    assert failed(parsed(strict)) == ["log"]


def test_a_check_without_a_finding_is_a_case_too() -> None:
    suite = parsed(verification(timings={"integrity": 0.25}))
    assert [case.attrib for case in suite.findall("testcase")] == [
        {"name": "integrity", "classname": "modelstore.verify", "time": "0.250"}
    ]


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_no_text_of_others_breaks_the_document(text: str) -> None:
    suite = parsed(hostile(text))
    failure = suite.find("testcase[@name='models']/failure")
    assert failure is not None
    assert failure.attrib["message"] == visible(text)
    assert suite.findall("properties/property")[0].attrib["value"] == visible(text)


@given(TEXTS)
def test_any_text_comes_out_as_it_is_shown(text: str) -> None:
    failure = parsed(hostile(f"{text}]]><x/>&amp;")).find("testcase[@name='models']/failure")
    assert failure is not None
    assert failure.attrib["message"] == visible(f"{text}]]><x/>&amp;")


def test_a_hundred_thousand_findings_stay_a_small_document() -> None:
    many = [finding("models", "fail", "gone " + "x" * 5000, word=str(n)) for n in range(100_000)]
    text = junit_xml(verification(*many))
    assert len(text) < 4_000_000
    assert "99,500 more findings" in text
