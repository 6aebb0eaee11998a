from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.errors import UsageError
from modelstore.text import (
    human_bytes,
    human_context,
    human_count,
    human_seconds,
    listed,
    parse_duration,
    parse_size,
    plural,
    process_name,
    visible,
)

FILLERS = "\u115f\u1160\u3164\uffa0"  # of Hangul: letters that nobody sees


@given(st.text())
def test_visible_text_holds_nothing_that_a_terminal_acts_on(text: str) -> None:
    assert visible(text).isprintable()


@given(st.text(), st.integers(1, 50))
def test_visible_text_keeps_to_its_limit(text: str, limit: int) -> None:
    shown = visible(text, limit)
    assert len(shown) <= limit
    assert shown.isprintable()


@given(
    st.text(st.characters(categories=["L", "N", "P", "S"], exclude_characters=FILLERS), max_size=30)
)
def test_printable_text_is_shown_as_it_is(text: str) -> None:
    assert visible(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\u202eevil", "\\u202eevil"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("\udcff", "\\xff"),
        ("\ud800", "\\ud800"),
        ("\x9b31m", "\\u009b31m"),
        ("\xa0\udca0", "\\u00a0\\xa0"),
        ("e\u0301", "e\u0301"),
        ("\U000e0041", "\\U000e0041"),
        (FILLERS, "\\u115f\\u1160\\u3164\\uffa0"),
    ],
)
def test_hostile_text_is_spelled_out(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_a_tower_of_combining_marks_is_cut_short() -> None:
    assert visible("e" + "\u0301" * 50).count("\u0301") == 4


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (168_960, "165 KiB"),
        (4_402_341_478, "4.1 GiB"),
        (1024**4 - 1, "1.0 TiB"),
    ],
)
def test_sizes_are_binary(count: int, shown: str) -> None:
    assert human_bytes(count) == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (999, "999"),
        (8_030_261_248, "8.03B"),
        (30_532_122_624, "30.5B"),
        (494_000_000, "494M"),
        (999_999_999, "1.00B"),
    ],
)
def test_counts_have_three_digits(count: int, shown: str) -> None:
    assert human_count(count) == shown


@pytest.mark.parametrize(
    ("tokens", "shown"),
    [(262_144, "256k"), (4096, "4k"), (1_048_576, "1M"), (40_000, "40000"), (512, "512")],
)
def test_a_context_length_is_never_rounded(tokens: int, shown: str) -> None:
    assert human_context(tokens) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.0, "0.0 ms"),
        (0.012, "12 ms"),
        (5.04, "5.0 s"),
        (59.96, "1 min 0 s"),
        (125, "2 min 5 s"),
        (12_000, "3 h 20 min"),
    ],
)
def test_durations_read_well(seconds: float, shown: str) -> None:
    assert human_seconds(seconds) == shown


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5s", 5.0), ("250ms", 0.25), ("2m", 120.0), ("1.5", 1.5), ("0", 0.0), ("1h", 3600.0)],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5 days", "-1s", "1e9", "nan", "5s5", "9" * 60])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("4GB", 4_000_000_000),
        ("4GiB", 4 * 1024**3),
        ("512k", 512_000),
        ("1.5 MiB", 1_572_864),
        ("77", 77),
        ("77B", 77),
    ],
)
def test_sizes_are_read(text: str, count: int) -> None:
    assert parse_size(text) == count


@pytest.mark.parametrize("text", ["", "GB", "-1", "4 XB", "1e3", "4GiBB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_size(text)


def test_one_row_is_no_rows() -> None:
    assert [plural(n, "row") for n in (0, 1, 2)] == ["0 rows", "1 row", "2 rows"]
    assert plural(1200, "entry", "entries") == "1,200 entries"


def test_a_process_is_named_by_its_pid_and_command() -> None:
    assert process_name(41, "python app", "SQLite 3.45.1") == "pid 41 (python app, SQLite 3.45.1)"
    assert process_name(None, "unknown process") == "unknown process"


def test_a_long_list_ends_with_a_count() -> None:
    assert listed(["a", "b"], 2) == "a, b"
    assert listed(["a", "b", "c"], 1) == "a and 2 more"
    assert listed([], 3) == ""
