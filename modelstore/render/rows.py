r"""Rows written as JSON, JSON lines, CSV or TSV: raw values, a chunk at a time, in flat memory.

* JSON round-trips every text exactly. Characters that a terminal acts on (control characters,
  bidi overrides, zero-width characters, line separators, lone surrogates) become ``\uXXXX``
  (RFC 8259, section 7), which every parser reads back.
* TSV is one line a row: tab, newline, carriage return and backslash become ``\t \n \r \\``, and
  the other characters that a terminal acts on become ``\xNN``, ``\uNNNN`` or ``\UNNNNNNNN``. All
  of it is reversible. A ``\xNN`` above 7f is a byte that was no text.
* CSV (RFC 4180, with line feeds) has the same escapes but leaves a backslash alone, so that
  Windows paths stay as they are, and a tab, which is told from ``\t`` so. A text that a
  spreadsheet would run as a formula gets an apostrophe in front
  (owasp.org/www-community/attacks/CSV_Injection).

An unknown value is ``null`` in JSON and an empty cell elsewhere.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from modelstore.text import is_safe, spell_unsafe, visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    Write = Callable[[str], object]
    Row = Sequence[object]

T = TypeVar("T")

BETWEEN: Mapping[str, str] = {"json": ",\n", "jsonl": "\n"}
"""The separator of two rows of JSON."""

# Rows written at once: some 70 KB of JSON. Texts of 300 KB cost 50 % more processor time, most
# of it in the system: malloc maps and unmaps each of them.
_CHUNK = 128
_PLAIN = bytes(range(0x20, 0x7F)) + b"\t\n"
_NOT_PLAIN = re.compile(r"[^\n -~]+")
_FORMULA = re.compile(r"[,\n][=+\-@]")
# Of cells between ASCII's separators: a NUL for all that TSV escapes.
_SEPARATED = bytes(
    {0x1F: 0x09, 0x1E: 0x0A}.get(code, code if 0x20 <= code < 0x7F and code != 0x5C else 0)
    for code in range(256)
)
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_TSV_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def write_rows(
    write: Write,
    form: str,
    columns: Sequence[str],
    rows: Iterable[Row],
    *,
    header: bool = True,
    formulas: bool = False,
) -> None:
    """Write rows of raw values, in the order of `columns`, as they come: json, jsonl, csv or tsv.

    A value is None, a str, an int, a float, or, in JSON, a list or dict of such. `header` is
    for CSV and TSV; `formulas` leaves CSV cells that begin like a formula as they are.
    """
    if form in ("json", "jsonl"):
        objects = (dict(zip(columns, row, strict=True)) for row in rows)
        write_json(write, form, map(_dumps, objects))
        return
    if header:
        rows = _headed(columns, rows)
    text_of = _tsv if form == "tsv" else _csv_with_formulas if formulas else _csv
    for chunk in chunks(rows):
        write(text_of(chunk))


def write_separated_blocks(
    write: Write,
    columns: Sequence[str],
    blocks: Iterable[str | Sequence[Row]],
    *,
    header: bool = True,
) -> None:
    """Write TSV from rows, or from the text of rows, with ASCII's separators of cells and of rows.

    The result is that of `write_rows`, but text is faster: only blocks with a character that needs
    a look are taken apart.
    """
    if header:
        write_rows(write, "tsv", columns, ())
    for block in blocks:
        if not isinstance(block, str):
            write(_tsv(block))
            continue
        plain = block.encode("ascii").translate(_SEPARATED) if block.isascii() else b"\0"
        if b"\0" in plain:
            write(_tsv([row.split("\x1f") for row in block.split("\x1e")]))
        else:
            write(plain.decode("ascii") + "\n")


def write_cell_blocks(
    write: Write,
    columns: Sequence[str],
    blocks: Iterable[str],
    *,
    header: bool = True,
    formulas: bool = False,
) -> None:
    r"""Write CSV from rows as JSON arrays that are joined by ``,\n`` already.

    The result is that of `write_rows`, but faster: only blocks in which JSON escaped something
    are taken apart.
    """
    if header:
        write_rows(write, "csv", columns, (), formulas=formulas)
    text_of = _csv_with_formulas if formulas else _csv
    for block in blocks:
        if _is_simple(block, len(columns)) and (formulas or _is_inert(block)):
            cells = block[1:-1].replace("],\n[", "\n").encode("ascii")
            write(cells.translate(None, b'"').decode("ascii") + "\n")
        else:
            write(text_of(json.loads(f"[{block}]")))


def _is_simple(block: str, columns: int) -> bool:
    """Tell if no cell of rows as JSON holds a separator, a quote or an escape."""
    return (
        "\\" not in block
        and block.isascii()
        and _is_plain_json(block)
        and (columns > 1 or '""' not in block)  # alone in its row, an empty cell is quoted
        and block.count(",") == (block.count("\n") + 1) * columns - 1
    )


def _is_inert(block: str) -> bool:
    """Tell if no cell of rows as JSON begins like a formula."""
    return not any(sign in block and f'"{sign}' in block for sign in "=+-@")


def write_json(write: Write, form: str, lines: Iterable[str]) -> None:
    """Write JSON texts, one line each, as JSON lines or as an array; made harmless here."""
    write_json_blocks(write, form, map(BETWEEN[form].join, chunks(lines)))


def write_json_blocks(write: Write, form: str, blocks: Iterable[str]) -> None:
    """Write JSON texts that are joined already, by the separator of `BETWEEN`."""
    begin, end, none = ("", "\n", "") if form == "jsonl" else ("[\n", "\n]\n", "[]\n")
    before = begin
    for block in blocks:
        write(before + harmless_json(block))
        before = BETWEEN[form]
    write(end if before != begin else none)


def harmless_json(text: str) -> str:
    """Return JSON of the same meaning in which a terminal finds nothing to act on."""
    # GitHub's runner obeys ``##[command]`` anywhere in a line. To find one character is a hundred
    # times faster than to find three.
    if "#" in text and "##[" in text:
        text = text.replace("##[", r"#\u0023[")
    if _is_plain_json(text):
        return text
    return _NOT_PLAIN.sub(lambda match: _harmless_run(match[0]), text)


def dump_json(value: object, *, indent: int | None = None) -> str:
    """Return `value` as harmless JSON; a number that JSON cannot express (NaN) becomes null."""
    return harmless_json(_dumps(value, indent))


def _dumps(value: object, indent: int | None = None) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)
    except ValueError:
        return json.dumps(_finite(value), ensure_ascii=False, indent=indent)


def _is_plain(text: str) -> bool:
    """Tell if a terminal would act on nothing but tabs and newlines: the quickest way."""
    if text.isascii():
        return not text.encode("ascii").translate(None, _PLAIN)
    return is_safe(text.replace("\n", "").replace("\t", ""))


def _is_plain_json(text: str) -> bool:
    """Tell the same of JSON, which escapes all control characters of ASCII but DEL."""
    return "\x7f" not in text if text.isascii() else _is_plain(text)


def _harmless_run(run: str) -> str:
    if is_safe(run):
        return run
    return spell_unsafe(run, _json_escape)


def _json_escape(char: str) -> str:
    return json.dumps(char)[1:-1] if char != "\x7f" else "\\u007f"


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def chunks(items: Iterable[T], size: int = _CHUNK) -> Iterator[list[T]]:
    """Yield the items in lists of `size`, the last one shorter."""
    source = iter(items)
    while chunk := list(islice(source, size)):
        yield chunk


def _headed(columns: Row, rows: Iterable[Row]) -> Iterator[Row]:
    yield columns
    yield from rows


def _joined(chunk: Sequence[Row], separator: str) -> str:
    """Return the cells of each row joined, each row ended by a newline; nothing is escaped."""
    form = separator.join(["%s"] * len(chunk[0])) + "\n"
    return "".join(
        [
            form % tuple(row)
            if None not in row
            else form % tuple(["" if value is None else value for value in row])
            for row in chunk
        ]
    )


def _tsv(chunk: Sequence[Row]) -> str:
    text = _joined(chunk, "\t")
    if (
        "\\" not in text
        and text.count("\n") == len(chunk)
        and text.count("\t") == len(chunk) * (len(chunk[0]) - 1)
        and _is_plain(text)
    ):
        return text
    return "".join(["\t".join(map(_tsv_cell, row)) + "\n" for row in chunk])


def _tsv_cell(value: object) -> str:
    if value is None:
        return ""
    text = str(value)
    if is_safe(text) and "\\" not in text:
        return text
    return visible(text.translate(_TSV_ESCAPES))


def _csv(chunk: Sequence[Row]) -> str:
    text = _joined(chunk, ",")
    if _FORMULA.search("\n" + text):
        return _csv_written(chunk, _guarded_cell)
    return _csv_text(text, chunk, _guarded_cell)


def _csv_with_formulas(chunk: Sequence[Row]) -> str:
    return _csv_text(_joined(chunk, ","), chunk, _visible_cell)


def _csv_text(text: str, chunk: Sequence[Row], safe: Callable[[object], object]) -> str:
    """Return rows as CSV; `text` has their joined cells, and `safe` makes a cell harmless."""
    if "\t" in text or text.count("\n") != len(chunk) or not _is_plain(text):
        return _csv_written(chunk, safe)
    columns = len(chunk[0])
    if '"' in text or columns == 1 or text.count(",") != len(chunk) * (columns - 1):
        return _csv_written(chunk)  # to be quoted; alone in its row, an empty cell too
    return text


def _visible_cell(value: object) -> object:
    if not isinstance(value, str):
        return value
    return "\t".join(map(visible, value.split("\t"))) if "\t" in value else visible(value)


def _guarded_cell(value: object) -> object:
    if isinstance(value, str) and value.startswith(_FORMULA_STARTS):
        return f"'{_visible_cell(value)}"
    return _visible_cell(value)


def _csv_written(chunk: Sequence[Row], safe: Callable[[object], object] | None = None) -> str:
    rows = chunk if safe is None else [[safe(value) for value in row] for row in chunk]
    target = io.StringIO(newline="")
    csv.writer(target, lineterminator="\n").writerows(rows)
    return target.getvalue()
