from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.render.grid import (
    Cell,
    Grid,
    Heading,
    facts,
    fit,
    fitted_widths,
    plain_lines,
    shown,
    text_width,
)
from tests.render.samples import HOSTILE, TEXTS, unsafe_characters

HEADINGS = (
    Heading("ID", least=7, shrink="end"),
    Heading("NAME", least=14, shrink="middle"),
    Heading("SIZE", right=True),
)
SHRINKS = st.sampled_from(("never", "middle", "end", "wrap"))


@given(TEXTS, st.integers(1, 40), st.sampled_from(("middle", "end")))
def test_what_is_cut_fits_and_keeps_its_ends(text: str, width: int, shrink: str) -> None:
    safe = shown(text)
    cut = fit(safe, width, shrink)  # type: ignore[arg-type]
    assert text_width(cut) <= width
    if text_width(safe) <= width:
        assert cut == safe
    else:
        head, dots, tail = cut.rpartition("…") if safe.count("…") == 0 else (cut, "…", "")
        assert dots
        if "…" not in safe:
            assert safe.startswith(head)
            assert safe.endswith(tail)


def test_a_name_is_cut_in_the_middle_a_hash_at_the_end() -> None:
    assert fit("Qwen3-30B-A3B-Instruct-UD-Q4_K_XL", 21, "middle") == "Qwen3-30B-…UD-Q4_K_XL"
    assert fit("0123456789", 5, "end") == "0123…"
    assert fit("名前名前名前", 7, "middle") == "名…前"
    assert fit("0123456789", 5, "never") == "0123456789"


@given(
    st.lists(st.tuples(st.integers(0, 200), SHRINKS, st.integers(0, 30)), min_size=1, max_size=12),
    st.integers(0, 250),
)
def test_widths_fit_the_room_or_there_are_none(
    columns: list[tuple[int, str, int]], room: int
) -> None:
    headings = [Heading("", shrink=shrink, least=least) for _, shrink, least in columns]  # type: ignore[arg-type]
    natural = [width for width, _, _ in columns]
    floors = [w if s == "never" else min(w, least) for w, s, least in columns]
    widths = fitted_widths(headings, natural, room)
    if not widths:
        assert sum(floors) > room
        return
    assert sum(widths) <= room
    assert all(f <= w <= n for f, w, n in zip(floors, widths, natural, strict=True))
    if sum(natural) <= room:
        assert widths == natural
    else:  # no room is given away but what a column worth two cannot share out
        slack = room - sum(widths)
        assert slack <= len(columns)


def test_a_million_characters_are_looked_at_only_at_their_ends() -> None:
    text = shown("a" * 600_000 + "\x1b" * 600_000)
    assert len(text) < 20_000
    assert text.startswith("aaa")
    assert text.endswith("\\x1b")


def test_plain_lines_are_aligned_and_uncut() -> None:
    rows: list[list[str | Cell]] = [["c02b7de", "名前", Cell("9 B")], ["abc", "x" * 60, "16.5 GiB"]]
    assert list(plain_lines(HEADINGS, rows)) == [
        " ID       NAME" + " " * 62 + "SIZE",
        " c02b7de  名前" + " " * 56 + "       9 B",
        " abc      " + "x" * 60 + "  16.5 GiB",
    ]


def test_plain_lines_without_rows_are_the_header() -> None:
    assert list(plain_lines(HEADINGS, [])) == [" ID  NAME  SIZE"]
    assert list(plain_lines(HEADINGS, [], header=False)) == []


def test_plain_lines_of_many_rows_are_all_there_and_never_narrower() -> None:
    rows = [["1", "x" * (number // 100), "2"] for number in range(2_000)]
    lines = list(plain_lines(HEADINGS, rows))
    assert len(lines) == 2_001
    assert [line.split()[-1] for line in lines[1:]] == ["2"] * 2_000


@pytest.mark.parametrize("name", HOSTILE)
def test_plain_lines_are_safe(name: str) -> None:
    lines = list(plain_lines(HEADINGS, [[HOSTILE[name], Cell(HOSTILE[name], "bad"), "1"]]))
    assert len(lines) == 2
    assert not unsafe_characters("".join(lines), allowed="")


def test_facts_have_no_header() -> None:
    grid = facts([("name", "Qwen"), ("path", "/srv")])
    assert isinstance(grid, Grid)
    assert not grid.has_header
    lines = list(plain_lines(grid.headings, grid.rows, header=grid.has_header))
    assert lines == [" name  Qwen", " path  /srv"]
