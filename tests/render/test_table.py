from __future__ import annotations

import re

import pytest
from rich.cells import cell_len

from modelstore.render.columns import TABLE_COLUMNS
from modelstore.render.grid import Cell, Grid, Heading, facts
from modelstore.render.table import draw_grid, draw_line, draw_records
from tests.render.samples import HOSTILE, model_grid, unsafe_characters

ANSI = re.compile(r"\x1b\[[0-9;]*m")
ROW = (
    "c02b7de90a1b2c3d",
    "Qwen3-30B-A3B-Instruct-2507-UD-Q4_K_XL",
    "qwen3moe",
    30_532_122_624,
    "Q4_K_M",
    262_144,
    17_716_740_096,
)
OTHER = ("99e1aa00bb11cc22", "nomic-embed", "nomic-bert-moe", None, None, 2048, 146_000_000)


def lines(text: str) -> list[str]:
    assert text.endswith("\n")
    return text[:-1].split("\n")


@pytest.mark.parametrize("width", [66, 72, 80, 81, 100, 200])
@pytest.mark.parametrize("color", [True, False])
def test_a_table_fits_the_terminal(width: int, color: bool) -> None:
    text = draw_grid(model_grid(TABLE_COLUMNS, [ROW, OTHER]), width, color=color)
    assert ("\x1b" in text) is color
    plain = lines(ANSI.sub("", text))
    assert len(plain) == 3
    assert all(cell_len(line) <= width for line in plain)
    assert plain[0].split() == ["ID", "NAME", "ARCH", "PARAMS", "QUANT", "CTX", "SIZE"]
    assert plain[1].startswith("c02b7de  Qwen3-")
    assert plain[1].split()[-5:] == ["30.5B", "Q4_K_M", "256k", "16.5", "GiB"]
    assert ("…" in plain[1]) is (width < 98)


def test_a_narrow_terminal_gets_a_record_a_model_with_nothing_cut() -> None:
    text = draw_grid(model_grid(TABLE_COLUMNS, [ROW, OTHER]), 40, color=False)
    assert all(cell_len(line) <= 40 for line in lines(text))
    assert "".join(text.split()).count("Qwen3-30B-A3B-Instruct-2507-UD-Q4_K_XL") == 1
    assert "…" not in text
    assert text.count("NAME") == 2


@pytest.mark.parametrize("color", [True, False])
@pytest.mark.parametrize("name", HOSTILE)
def test_only_our_own_styles_reach_the_terminal(name: str, color: bool) -> None:
    text = HOSTILE[name]
    grid = Grid(
        (Heading(text, shrink="wrap"), Heading("B", shrink="middle")),
        [[text, Cell(text, "bad")], [Cell(text, "dim"), "x"]],
    )
    for drawn in (
        draw_grid(Grid((Heading("A", shrink="end"), grid.headings[1]), grid.rows), 40, color=color),
        draw_records(Grid((Heading("A"), Heading("B")), grid.rows), 40, color=color),
        draw_grid(facts([("a", text)]), 30, color=color),
        draw_line(Cell(text, "strong"), 30, color=color),
        draw_line(text, 300, color=color),
    ):
        rest = ANSI.sub("", drawn)
        assert not unsafe_characters(rest)
        if not color:
            assert rest == drawn
        assert set(ANSI.findall(drawn)) <= {"\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[1;31m"}


def test_markup_is_shown_as_it_is() -> None:
    drawn = draw_line("[red]x[/red] [/] :smile:", 80, color=True)
    assert "[red]x[/red] [/] :smile:" in drawn


def test_a_long_line_goes_on_below_at_a_word() -> None:
    drawn = draw_line("word " * 30, 40, color=False)
    assert all(len(line) <= 40 for line in lines(drawn))
    assert drawn.split() == ["word"] * 30


def test_wide_characters_keep_the_columns_straight() -> None:
    rows = [(ROW[0], "名前の長いモデル" * 5, *ROW[2:]), ROW]
    drawn = lines(draw_grid(model_grid(TABLE_COLUMNS, rows), 80, color=False))
    assert cell_len(drawn[1]) == cell_len(drawn[2]) <= 80


def test_the_environment_has_no_say(monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn() -> list[str]:
        return [draw_line(Cell("x", "bad"), 80, color=color) for color in (True, False)]

    expected = ["\x1b[1;31mx\x1b[0m\n", "x\n"]
    assert drawn() == expected
    for name in ("FORCE_COLOR", "GITHUB_ACTIONS", "NO_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "10")
    assert drawn() == expected
