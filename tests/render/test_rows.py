from __future__ import annotations

import csv
import io
import json
import re
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.render.rows import (
    dump_json,
    harmless_json,
    write_cell_blocks,
    write_json,
    write_rows,
    write_separated_blocks,
)
from modelstore.text import visible
from tests.render.samples import HOSTILE, TEXTS, VALUES, unsafe_characters

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


ROWS = st.integers(min_value=1, max_value=5).flatmap(
    lambda width: st.lists(st.tuples(*[VALUES] * width), min_size=1, max_size=8)
)
FORMATS = ("json", "jsonl", "csv", "tsv")


def written(
    form: str,
    rows: Iterable[Sequence[object]],
    columns: Sequence[str] = ("a", "b"),
    **options: bool,
) -> str:
    parts: list[str] = []
    write_rows(parts.append, form, columns, rows, **options)
    return "".join(parts)


def names(rows: list[tuple[object, ...]]) -> list[str]:
    return [f"c{number}" for number in range(len(rows[0]))]


@given(ROWS)
def test_json_reads_back_exactly(rows: list[tuple[object, ...]]) -> None:
    text = written("json", rows, names(rows))
    assert [tuple(record.values()) for record in json.loads(text)] == rows
    assert not unsafe_characters(text)


@given(ROWS)
def test_json_lines_read_back_exactly_one_line_a_row(rows: list[tuple[object, ...]]) -> None:
    text = written("jsonl", rows, names(rows))
    lines = text.split("\n")
    assert lines.pop() == ""
    assert [tuple(json.loads(line).values()) for line in lines] == rows
    assert not unsafe_characters(text)


@given(ROWS)
def test_tsv_reads_back_exactly_one_line_a_row(rows: list[tuple[object, ...]]) -> None:
    text = written("tsv", rows, names(rows), header=False)
    lines = text.split("\n")
    assert lines.pop() == ""
    cells = [[unescaped(cell) for cell in line.split("\t")] for line in lines]
    assert cells == [["" if value is None else str(value) for value in row] for row in rows]
    assert not unsafe_characters(text, allowed="\n\t")


def unescaped(cell: str) -> str:
    """Undo the escapes of TSV with Python's own reader of the same escapes, but for raw bytes."""
    ascii_only = "".join(char if char.isascii() else f"\\U{ord(char):08x}" for char in cell)
    ascii_only = re.sub(r"(\\\\)|\\x([89a-f].)", lambda m: m[1] or f"\\udc{m[2]}", ascii_only)
    return ascii_only.encode("ascii").decode("unicode_escape")


def test_a_byte_that_is_no_text_is_spelled_as_everywhere() -> None:
    row = ("/m/\udcff.gguf", "a\xa0\x9b")
    for form, separator in (("tsv", "\t"), ("csv", ",")):
        text = written(form, [row], ("a", "b"), header=False)
        assert text == separator.join(map(visible, row)) + "\n"
        assert text == f"/m/\\xff.gguf{separator}a\\u00a0\\u009b\n"


@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_json_holds_no_command_of_a_runner(form: str) -> None:
    text = written(form, [("##[error]x", "###[group]")])
    assert "##[" not in text
    rows = json.loads(text) if form == "json" else [json.loads(text)]
    assert rows == [{"a": "##[error]x", "b": "###[group]"}]


def cells_written(rows: Sequence[Sequence[object]], **options: bool) -> str:
    """Return the CSV of rows as SQLite gives them: JSON, its controls escaped."""
    texts = [
        json.dumps(
            ["" if value is None else value for value in row],
            ensure_ascii=False,
            separators=(",", ":"),
        )
        for row in rows
    ]
    parts: list[str] = []
    columns = names([tuple(row) for row in rows])
    write_cell_blocks(parts.append, columns, [",\n".join(texts)], **options)
    return "".join(parts)


def separated_written(rows: Sequence[Sequence[object]], *, header: bool = True) -> str:
    """Return the TSV of rows as SQLite gives them: text where no cell holds a separator."""
    texts = [["" if value is None else str(value) for value in row] for row in rows]
    whole = "".join(text for row in texts for text in row)
    separated = "\x1e".join(map("\x1f".join, texts))
    parts: list[str] = []
    block = rows if "\x1e" in whole or "\x1f" in whole else separated
    columns = names([tuple(row) for row in rows])
    write_separated_blocks(parts.append, columns, [block], header=header)
    return "".join(parts)


@given(ROWS, st.booleans(), st.booleans())
def test_rows_as_one_text_give_the_same_cells(
    rows: list[tuple[object, ...]], formulas: bool, header: bool
) -> None:
    expected = written("csv", rows, names(rows), header=header, formulas=formulas)
    assert cells_written(rows, header=header, formulas=formulas) == expected
    assert separated_written(rows, header=header) == written(
        "tsv", rows, names(rows), header=header
    )


@pytest.mark.parametrize(
    "text", [*HOSTILE.values(), "],[", "null", "a,b", '""', "],\n[", "-7", "a-b=c", "##[group]"]
)
def test_a_cell_that_needs_a_look_gets_one(text: str) -> None:
    for rows in ([("plain", 7, None), (text, -1, "x")], [(text,), ("",)], [("x", text)]):
        assert cells_written(rows) == written("csv", rows, names([*rows]))
        assert separated_written(rows) == written("tsv", rows, names([*rows]))


@given(ROWS, st.booleans())
def test_csv_reads_back_but_for_its_guards(rows: list[tuple[object, ...]], formulas: bool) -> None:
    text = written("csv", rows, names(rows), header=False, formulas=formulas)
    assert not unsafe_characters(text, allowed="\n\t")
    cells = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    assert [len(row) for row in cells] == [len(row) for row in rows]
    assert text.count("\n") == len(rows)
    for row, read in zip(rows, cells, strict=True):
        for value, cell in zip(row, read, strict=True):
            if not isinstance(value, str):
                assert cell == ("" if value is None else str(value))
            elif value.isprintable() and not unsafe_characters(value):
                guarded = value[:1] in set("=+-@") and not formulas
                assert cell == ("'" + value if guarded else value)
            if isinstance(value, str) and not formulas:
                assert cell[:1] not in set("=+-@\t\r")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_csv_guards_texts_that_a_spreadsheet_would_run_but_no_numbers(start: str) -> None:
    text = start + "1+1"
    (row,) = csv.reader(written("csv", [(text, -5)], header=False).splitlines())
    assert row[0].startswith("'")
    assert row[1] == "-5"
    (first, second) = csv.reader(written("csv", [("x", "y"), ("x", text)]).splitlines()[1:])
    assert first == ["x", "y"]
    assert second[1].startswith("'")


def test_csv_leaves_formulas_when_asked() -> None:
    assert written("csv", [("=1+1", "-x")], header=False, formulas=True) == "=1+1,-x\n"
    assert written("csv", [("=1,1", "-x")], header=False, formulas=True) == '"=1,1",-x\n'


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_hostile_is_written(form: str, name: str) -> None:
    text = written(form, [(HOSTILE[name], 1), ("plain", None)])
    assert not unsafe_characters(text, allowed="\n\t" if form in ("tsv", "csv") else "\n")
    assert text.count("\n") == {"json": 4, "jsonl": 2}.get(form, 3)


@pytest.mark.parametrize("form", FORMATS)
def test_a_name_of_a_million_characters_is_written_whole(form: str) -> None:
    name = "x\u202e" * 500_000
    text = written(form, [(name, 1)])
    assert text.count("\\u202e") == 500_000


@pytest.mark.parametrize(
    ("form", "expected"),
    [("json", "[]\n"), ("jsonl", ""), ("csv", "a,b\n"), ("tsv", "a\tb\n")],
)
def test_no_rows(form: str, expected: str) -> None:
    assert written(form, []) == expected


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("json", '[\n{"a": "é", "b": null},\n{"a": "y", "b": 1.5}\n]\n'),
        ("jsonl", '{"a": "é", "b": null}\n{"a": "y", "b": 1.5}\n'),
        ("csv", "a,b\né,\ny,1.5\n"),
        ("tsv", "a\tb\né\t\ny\t1.5\n"),
    ],
)
def test_the_plain_case(form: str, expected: str) -> None:
    assert written(form, [("é", None), ("y", 1.5)]) == expected
    if form in {"csv", "tsv"}:
        headless = expected.partition("\n")[2]
        assert written(form, [("é", None), ("y", 1.5)], header=False) == headless


@pytest.mark.parametrize("count", [127, 128, 129, 257])
def test_chunks_meet_without_a_seam(count: int) -> None:
    rows = [(str(number), number) for number in range(count)]
    assert json.loads(written("json", rows)) == [{"a": a, "b": b} for a, b in rows]
    assert len(written("jsonl", rows).splitlines()) == count
    assert len(written("tsv", rows).splitlines()) == count + 1
    assert len(list(csv.reader(written("csv", rows).splitlines()))) == count + 1


@pytest.mark.parametrize("form", FORMATS)
def test_rows_are_not_held(form: str) -> None:
    rows = ((f"{number:016x}", "name " * 10) for number in range(15_000))
    sizes: list[int] = []
    tracemalloc.start()
    try:
        write_rows(lambda text: sizes.append(len(text)), form, ("a", "b"), rows)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sum(sizes) > 1_000_000
    assert peak < 500_000


@pytest.mark.parametrize("form", FORMATS)
def test_rows_are_written_as_they_come(form: str) -> None:
    written_at: list[int] = []
    taken = 0

    def rows() -> Iterable[tuple[object, ...]]:
        nonlocal taken
        for number in range(5_000):
            taken = number
            yield (number, "x")

    write_rows(lambda _: written_at.append(taken), form, ("a", "b"), rows())
    assert written_at[0] < 1_000


@given(
    st.recursive(
        VALUES | st.booleans(),
        lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
        max_leaves=8,
    )
)
def test_any_json_stays_what_it_was(value: Any) -> None:
    for text in (dump_json(value), dump_json(value, indent=2)):
        assert json.loads(text) == value
        assert not unsafe_characters(text)
    raw = json.dumps(value, ensure_ascii=False)
    assert json.loads(harmless_json(raw)) == value


def test_numbers_that_json_has_not_become_null() -> None:
    assert (
        dump_json({"a": [float("nan"), 1.5], "b": float("inf")}) == '{"a": [null, 1.5], "b": null}'
    )


def test_ready_json_texts_are_made_harmless() -> None:
    parts: list[str] = []
    line = '{"a": "\x7f\u202e\x9b名é"}'
    write_json(parts.append, "json", [line, line])
    text = "".join(parts)
    assert not unsafe_characters(text)
    assert json.loads(text) == [json.loads(line)] * 2


def test_csv_tells_a_tab_from_a_backslash_and_a_t() -> None:
    text = written("csv", [("a\tb", 1), ("a\\tb", 2)])
    assert text == "a,b\na\tb,1\na\\tb,2\n"
