from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.model import COMPUTED_COLUMNS, INTEGER_COLUMNS, MODEL_COLUMNS
from modelstore.render.columns import (
    COLUMNS,
    PLAIN_COLUMNS,
    TABLE_COLUMNS,
    cell,
    human_time,
    short_ids,
)
from modelstore.render.grid import Cell
from tests.render.samples import model_grid

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)


def test_every_column_of_a_model_can_be_shown() -> None:
    assert tuple(COLUMNS) == (*MODEL_COLUMNS, *COMPUTED_COLUMNS)
    assert set(TABLE_COLUMNS) <= set(PLAIN_COLUMNS) <= set(MODEL_COLUMNS)
    headers = [column.header for column in COLUMNS.values()]
    assert len(set(headers)) == len(headers)
    assert {name for name, column in COLUMNS.items() if column.right} == {
        *INTEGER_COLUMNS,
        *("bpw", "memory"),
    }


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("value", ["text", 5, -1, 2**63 - 1, "", "\x00", "[1", "{}", 1.5])
def test_no_value_of_another_program_makes_a_column_fail(name: str, value: object) -> None:
    shown = cell(name, value)
    assert isinstance(shown if isinstance(shown, str) else shown.text, str)


def test_unknown_is_a_dash_in_every_column() -> None:
    assert {cell(name, None) for name in MODEL_COLUMNS} == {Cell("-", "dim")}


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("parameter_count", 30_532_122_624, "30.5B"),
        ("context_length", 262_144, "256k"),
        ("file_size", 17_716_740_096, "16.5 GiB"),
        ("file_type", 15, "15"),
        ("tags", '["favorite","work"]', "favorite, work"),
        ("tags", "[]", "-"),
        ("tags", "not json", "not json"),
        ("status", "available", "available"),
        ("status", "missing", Cell("missing", "bad")),
    ],
)
def test_figures_for_people(name: str, value: object, shown: object) -> None:
    assert cell(name, value) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("2026-11-22T11:59:30Z", "just now"),
        ("2026-11-22T11:55:00Z", "5 min ago"),
        ("2026-11-22T09:59:00+00:00", "2 h ago"),
        ("2026-11-22T09:59:00", "2 h ago"),
        ("2026-11-19T09:59:00Z", "3 d ago"),
        ("2026-01-02T09:59:00Z", "2026-01-02"),
        ("2027-01-02T09:59:00Z", "2027-01-02"),
        ("yesterday", "yesterday"),
    ],
)
def test_times_are_ages(text: str, shown: str) -> None:
    assert human_time(text, NOW) == shown


@given(st.lists(st.text("0123456789abcdef", min_size=1, max_size=16), unique=True))
def test_short_ids_stay_distinct_prefixes(ids: list[str]) -> None:
    short = short_ids(ids)
    assert len(set(short)) == len(ids)
    assert all(text.startswith(cut) for text, cut in zip(ids, short, strict=True))
    longest = max(map(len, short), default=0)
    assert longest <= 7 or len({text[: longest - 1] for text in ids}) < len(ids)


def test_a_model_in_a_grid() -> None:
    grid = model_grid(("id", "name", "file_size"), [("c02b7de90a1b2c3d", "Qwen", 1024)])
    assert [heading.text for heading in grid.headings] == ["ID", "NAME", "SIZE"]
    assert list(grid.rows) == [["c02b7de", "Qwen", "1.0 KiB"]]
