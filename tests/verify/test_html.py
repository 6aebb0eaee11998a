"""The HTML report: one file that loads nothing, and in which no text of others is markup."""

from __future__ import annotations

import re

import pytest
from hypothesis import given

from modelstore.finding import Verification
from modelstore.render.github import job_summary
from modelstore.render.html import html_report
from modelstore.text import visible
from tests.render.pages import ATTACKS, Page, read_page
from tests.render.samples import HOSTILE, TEXTS
from tests.verify.samples import BAD, GOOD, WARNED, finding, hostile, verification

_ALL = HOSTILE | ATTACKS


def page_of(result: Verification) -> Page:
    return read_page(html_report(result))


@pytest.mark.parametrize("result", [GOOD, WARNED, BAD], ids=["good", "warned", "bad"])
def test_the_file_loads_nothing_and_runs_nothing(result: Verification) -> None:
    page_of(result)
    assert not re.search(r"https?:|//|url\(|@import|src=|href=|<script|<link", html_report(result))


def test_a_phone_and_a_dark_room_are_thought_of() -> None:
    text = html_report(GOOD)
    assert "width=device-width" in text
    assert "prefers-color-scheme: dark" in text
    assert "max-width: 34rem" in text


def test_it_says_what_the_run_says() -> None:
    page = page_of(BAD)
    assert page.texts("h1") == ["FAIL"]
    assert page.texts("small") == ["3 failures, 1 warning"]
    assert page.texts("database") == ["/srv/models.db"]
    assert page.texts("h3") == ["log", "checkpoint", "persistence"]
    assert page.texts("badge") == ["warn", "fail", "fail", "fail"]
    assert "in the way: pid 4121 (python <app>)" in page.texts("p")
    assert page.texts("dd") == ["377", "127", "250", "yes", "1.5 MiB, kept"]


def test_what_to_do_comes_first_and_once_failures_before_warnings() -> None:
    page = page_of(BAD)
    assert page.texts("bad") == ["end it", "do not copy"]
    assert page.texts("warn") == ["fold it"]
    order = [text for _, text in page.words]
    assert order.index("end it") < order.index("fold it") < order.index("Checks")


def test_a_sound_database_has_nothing_to_do() -> None:
    page = page_of(GOOD)
    assert page.texts("h1") == ["PASS"]
    assert "What to do" not in page.texts("h2")
    assert page.texts("where") == []
    assert page.texts("pre") == ['{\n  "pages": 120\n}']


@pytest.mark.parametrize("text", _ALL.values(), ids=_ALL.keys())
def test_no_text_of_others_is_markup(text: str) -> None:
    harmless, page = page_of(hostile("harmless")), page_of(hostile(text))
    if text:
        assert page.shape == harmless.shape
        assert page.texts("database") == [visible(text)]
        assert visible(text) in page.texts("where")


@given(TEXTS)
def test_no_text_at_all_is_markup(text: str) -> None:
    assert page_of(hostile(f"x{text}<b>")).texts("database") == [visible(f"x{text}<b>")]


def test_ten_thousand_findings_stay_a_page_that_can_be_read() -> None:
    many = [
        finding(
            "models", "fail", "gone " + "x" * 5000, advice=str(n), data={"names": ["y" * 99] * 99}
        )
        for n in range(10_000)
    ]
    text = html_report(verification(*many))
    assert len(text) < 8_000_000
    assert "9,800 more findings" in text


def test_a_command_in_advice_is_code_and_a_lone_backtick_itself() -> None:
    advice = ("run `modelstore checkpoint <db>`, then `list`", "a ` alone")
    found = [finding("log", "fail", "x", advice=words) for words in advice]
    code = "run <code>modelstore checkpoint &lt;db&gt;</code>, then <code>list</code>"
    page, summary = html_report(verification(*found)), job_summary(verification(*found))
    assert page.count(code) == 2
    assert page.count(">a ` alone<") == 2
    assert f"<b>To do:</b> {code}" in summary


def test_failures_that_share_advice_are_all_listed_and_come_first() -> None:
    todo = html_report(BAD).partition("What to do")[2].partition("</ul>")[0]
    order = [todo.index(text) for text in ("250 left", "18 rows are lost", "2 rows are old")]
    assert all(at >= 0 for at in order)
    assert max(order) < todo.index("18 rows were only in the WAL")
    assert todo.count("do not copy") == 1
