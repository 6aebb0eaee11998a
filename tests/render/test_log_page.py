"""The page of a log: it loads nothing, no text of others is markup, and its size is bounded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings

from modelstore.render.log_page import log_page
from modelstore.text import visible
from modelstore.wal.inspection import Inspection, inspect_log
from modelstore.wal.locks import Blocker
from tests.cli.logs import killed_writer
from tests.render.logs import NAMES, inspected
from tests.render.pages import ATTACKS, Page, read_page
from tests.render.samples import HOSTILE, TEXTS


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Inspection:
    return inspected(tmp_path_factory.mktemp("page"), commits=60)


def text_of(found: Inspection) -> str:
    return log_page(found, origin="--db", seconds=1.8e9, on_exit="3 checkpointed, 0 left")


def page_of(found: Inspection) -> Page:
    return read_page(text_of(found), svg=True)


def reader_at(frame: int, command: str = "python app.py") -> Blocker:
    return Blocker(4000 + frame, command, "READ1", 1, frame, ("backfill", "reset", "truncate"))


def test_it_shows_tables_commits_and_the_rows_at_risk(found: Inspection) -> None:
    page = page_of(found)
    loss = found.loss
    assert page.texts("h1") == [f"{loss.lost + loss.reverted + loss.returning} rows"]
    assert page.texts("h2") == ["The map of the log", "Without the log", "Figures"]
    rows = page.texts("b")
    assert rows[4:6] == ["main file", "commits"]  # after the four tiles
    assert rows[6] == "sqlite_schema"
    for table in loss.tables:
        if table.lost.count:
            assert f"{table.lost.count} " in page.texts("lost")


def test_an_unknown_number_of_rows_at_risk_is_no_zero(found: Inspection) -> None:
    assert page_of(found).texts("b")[3].isdigit()
    raced = replace(found, loss=replace(found.loss, raced=True))
    assert page_of(raced).texts("b")[3] == "?"


def test_every_frame_of_a_small_log_is_drawn(tmp_path: Path) -> None:
    killed_writer(tmp_path / "app.db", 9)
    page = page_of(inspect_log(str(tmp_path / "app.db"), names=("models", "name")))
    titles = page.texts("title")
    for number in range(1, 10):
        assert f"frame {number}: 1 frame of models" in titles
        assert f"commit {number}: frame {number}" in titles
    assert "Model-0, Model-1, Model-2, Model-3, Model-4, Model-5, Model-6, Model-7, Model-8" in (
        page.texts("names")
    )


def test_readers_have_pins_where_they_stop(found: Inspection) -> None:
    page = page_of(replace(found, blockers=(reader_at(20), reader_at(5), reader_at(5, "other"))))
    assert page.texts("pin") == ["1", "2", "1", "1", "1", "2"]  # the map, its key, the list
    assert "pid 4005 (other)" in page.texts("p")
    assert "holds READ1, sees the log up to frame 20; blocks backfill, reset, truncate" in (
        page.texts("small")
    )


def test_damage_is_on_the_map(tmp_path: Path) -> None:
    page = page_of(inspected(tmp_path, flip=30))
    assert page.texts("h1") == ["Damaged"]
    assert {"damaged", "ignored"} <= set(page.texts("b"))


def test_a_log_that_holds_nothing_has_no_map(tmp_path: Path) -> None:
    path = tmp_path / "empty.db"
    path.write_bytes(b"")
    page = page_of(inspect_log(str(path)))
    assert "The map of the log" not in page.texts("h2")


@pytest.mark.parametrize("text", (HOSTILE | ATTACKS).values(), ids=(HOSTILE | ATTACKS).keys())
def test_no_text_of_others_is_markup(found: Inspection, text: str) -> None:
    def page(name: str) -> Page:
        return page_of(replace(found, database=name, blockers=(reader_at(7, name),)))

    assert page(text).texts("database") == ([visible(text)] if text else [])
    assert page(text).shape == page("harmless").shape


@settings(max_examples=25, deadline=None)
@given(TEXTS)
def test_no_text_at_all_is_markup(found: Inspection, text: str) -> None:
    page = page_of(replace(found, database=f"x{text}<b>"))
    assert page.texts("database") == [visible(f"x{text}<b>")]


def test_names_of_tables_are_shown_escaped(found: Inspection) -> None:
    shown = set(page_of(found).texts("b"))
    assert shown & {visible(name, 60) for name in NAMES if visible(name) != name}


def test_a_large_log_is_a_small_page(tmp_path: Path, found: Inspection) -> None:
    large = inspected(tmp_path, commits=300)
    readers = tuple(reader_at(frame) for frame in range(1, 500))
    text = text_of(replace(large, blockers=readers))
    assert large.scan.max_frame > 4 * found.scan.max_frame
    assert len(text) < 400_000
    assert "475 more" in text
