from __future__ import annotations

import json
import subprocess
import sys

import pytest

from modelstore.render.grid import Cell, Grid, Heading
from modelstore.render.report import MOST_DRAWN, Report, Screen, write_report
from tests.render.samples import HOSTILE, unsafe_characters

CHECKS = Report(
    body=(
        Cell("18 rows are only in the WAL", "warn"),
        Grid(
            (Heading("CHECK"), Heading("RESULT"), Heading("MEASURED", shrink="wrap")),
            [["log", Cell("warn", "warn"), "18 rows " * 12]],
        ),
        "PASS",
    ),
    payload={"passed": True, "checks": [{"check": "log", "rows": 18}], "note": None},
    columns=("check", "rows"),
    rows=(("log", 18),),
)
FOLD = Report(body=("done",), payload={"busy": False, "log": 5, "blockers": []})


def written(report: Report, form: str, screen: Screen | None = None) -> str:
    parts: list[str] = []
    write_report(parts.append, report, form, screen=screen)
    return "".join(parts)


def test_words_without_a_terminal_are_uncut_and_unstyled() -> None:
    assert written(CHECKS, "table") == (
        "18 rows are only in the WAL\n"
        " CHECK  RESULT  MEASURED\n"
        f" log    warn    {'18 rows ' * 12}".rstrip()
        + "\nPASS\n"
    )


def test_words_on_a_terminal_fit_it() -> None:
    text = written(CHECKS, "table", Screen(40, color=False))
    assert all(len(line) <= 40 for line in text.splitlines())
    assert text.split().count("18") == 13
    assert "\x1b[33m" in written(CHECKS, "table", Screen(40, color=True))


def test_a_table_too_long_to_draw_is_written_whole() -> None:
    """Rich takes two minutes for 400,000 rows."""
    rows = [[str(number), "x" * 60] for number in range(MOST_DRAWN + 1)]
    long = Report((Grid((Heading("N"), Heading("TEXT", shrink="end")), rows),), {})
    text = written(long, "table", Screen(40, color=False))
    assert text == written(long, "table")


def test_an_object_for_programs() -> None:
    assert json.loads(written(CHECKS, "json")) == CHECKS.payload
    assert written(CHECKS, "json").startswith('{\n  "passed": true,\n')


def test_records_for_lines_and_cells() -> None:
    assert written(CHECKS, "jsonl") == '{"check": "log", "rows": 18}\n'
    assert written(CHECKS, "csv") == "check,rows\nlog,18\n"
    assert written(CHECKS, "tsv") == "check\trows\nlog\t18\n"


def test_a_report_without_records_is_its_own_record() -> None:
    assert json.loads(written(FOLD, "jsonl")) == FOLD.payload
    assert written(FOLD, "jsonl").count("\n") == 1
    assert written(FOLD, "tsv") == "busy\tlog\nfalse\t5\n"


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("form", ["table", "json", "jsonl", "csv", "tsv"])
def test_no_report_lets_hostile_text_through(form: str, name: str) -> None:
    text = HOSTILE[name]
    report = Report(
        body=(text, Cell(text, "bad"), Grid((Heading("A"),), [[text]])),
        payload={"name": text, text: 1},
        columns=("a", text),
        rows=[(text, 1)],
    )
    assert not unsafe_characters(written(report, form), allowed="\n\t")
    assert not unsafe_characters(written(report, form, Screen(30, color=False)), allowed="\n\t")


def test_rich_is_imported_only_where_a_terminal_is_drawn_on() -> None:
    program = (
        "import sys, modelstore.render.report as r, modelstore.render.columns as c\n"
        "import modelstore.render.preset\n"
        "grid = r.Grid(c.headings(('id', 'name')), [('a', 'b')])\n"
        "report = r.Report(('x', grid), {'a': 1})\n"
        "for form in ('table', 'json', 'jsonl', 'csv', 'tsv'):\n"
        "    r.write_report(lambda text: None, report, form)\n"
        "print('rich' in sys.modules)\n"
        "r.write_report(lambda text: None, report, 'table', screen=r.Screen(80, color=True))\n"
        "print('rich' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "True"]
