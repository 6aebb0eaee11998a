"""Models from comma- or tab-separated values with a header (RFC 4180)."""

from __future__ import annotations

import csv
import re
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from modelstore.errors import SourceError
from modelstore.found import Skipped
from modelstore.model import ARRAY_COLUMNS, INTEGER_COLUMNS, MODEL_COLUMNS
from modelstore.sources.base import BATCH, Rows
from modelstore.sources.records.fields import BadRecordError, column_of, read_array
from modelstore.sources.records.reader import RecordReader
from modelstore.sources.text_input import (
    MAX_RECORD,
    base_directory,
    line_blocks,
    opened,
    target_name,
    tell_read,
)
from modelstore.text import visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from modelstore.sources.base import Context, Item, Source, Target
    from modelstore.sources.records.reader import Row
    from modelstore.sources.text_input import Block

_MAX_COLUMNS = 2000
_MAX_CELL_LINES = 1000  # of a record in quotes: beyond, a quote was left open
_MAX_REREAD = 100_000  # lines read again after such quotes, in one file
_NAMING = frozenset(("name", "model", "path", "locator", "id", "hf_repo"))
_DELIMITERS = {"csv": ",", "tsv": "\t"}
_ESCAPE = re.compile(r"\\([tnr\\]|x[0-9a-f]{2}|u[0-9a-f]{4}|U00(?:0[0-9a-f]|10)[0-9a-f]{4})")
_SIMPLE = {"t": "\t", "n": "\n", "r": "\r", "\\": "\\"}
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def kind_of_header(header: str, *, is_first: bool) -> str | None:
    """Return the kind of table that has this header line, by what separates its columns.

    Semicolons count only if `is_first`: no comment stands before the header.
    """
    tabs, commas = header.count("\t"), header.count(",")
    if tabs or commas:
        return "tsv" if tabs > commas else "csv"
    return "csv" if ";" in header and is_first else None


class _OpenQuoteError(BadRecordError):
    """A quote that is never closed, so that the record swallowed the lines of others."""


class _Lines:
    """Lines for the csv module; after a bad record, reading resumes at its second line."""

    def __init__(self, blocks: Iterator[Block]) -> None:
        self._blocks = blocks
        self._ready: deque[tuple[int, str, bool]] = deque()
        self._taken: list[tuple[int, str, bool]] = []
        self._reread = 0
        self.first = 1  # the line on which the current record begins
        self.plain = True  # whether its text is UTF-8 without a NUL character
        self._length = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if not self._ready and not self._load():
            raise StopIteration
        entry = number, line, plain = self._ready.popleft()
        if not self._taken:
            self.first, self.plain, self._length = number, True, 0
        self._taken.append(entry)
        self.plain = self.plain and plain
        self._length += len(line)
        if len(self._taken) > _MAX_CELL_LINES or self._length > MAX_RECORD:
            raise _OpenQuoteError("a quote is opened and not closed")
        return line + "\n"

    def delimiter(self, kind: str) -> str:
        """Return the separator; spreadsheets in many countries write semicolons."""
        delimiter = _DELIMITERS[kind]
        if not self._ready and not self._load():
            return delimiter
        header = next((line for _, line, _ in self._ready if line.strip()), "")
        return ";" if ";" in header and delimiter not in header else delimiter

    def begin(self) -> None:
        """Forget the current record: it was read whole."""
        self._taken.clear()

    def again(self) -> None:
        """Go back to the second line of the current record."""
        rest = self._taken[1:]
        self._reread += len(rest)
        if self._reread <= _MAX_REREAD:
            self._ready.extendleft(reversed(rest))
        self._taken.clear()

    def _load(self) -> bool:
        block = next(self._blocks, None)
        if block is None:
            return False
        for number, line in enumerate(block.lines, block.first):
            plain = (block.is_utf8 or line.isascii()) and "\0" not in line
            self._ready.append((number, line, plain))
        return True


def _read(kind: str, target: Target, context: Context) -> Iterator[Item]:
    """Yield the models of a table. Raises `SourceError` if its header names no model."""
    records = RecordReader(kind, context, base_directory(target))
    name = target_name(target)
    count = 0
    csv.field_size_limit(max(csv.field_size_limit(), MAX_RECORD))
    with opened(target) as stream:
        lines = _Lines(line_blocks(target, stream))
        parser = csv.reader(lines, delimiter=lines.delimiter(kind), strict=True)
        header = None
        rows: list[Row] = []
        while True:
            lines.begin()
            try:
                cells = next(parser)
                if header is None and cells:
                    header = _Header(cells, f"'{visible(name, 200)}'", kind)
                    if header.is_escaped:
                        parser = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
                elif header is not None and cells:
                    rows.append(header.row(cells, records, plain=lines.plain))
            except StopIteration:
                break
            except (csv.Error, BadRecordError) as error:
                yield Skipped(f"{name} line {lines.first}", _reason(error))
                if _is_torn(error):
                    lines.again()
            if len(rows) >= BATCH:
                count += len(rows)
                yield Rows(rows)
                rows = []
                tell_read(context, target, stream, count)
    if header is None:
        raise SourceError(
            f"'{visible(name, 200)}' is empty: it has no header",
            hint="the first line names the columns, such as: name,path,size",
        )
    if rows:
        yield Rows(rows)
    yield from records.notes()


def _is_torn(error: Exception) -> bool:
    """Return True for a record that may have swallowed the lines of others."""
    return isinstance(error, csv.Error | _OpenQuoteError)


def _reason(error: Exception) -> str:
    return f"it is not a valid record: {error}" if isinstance(error, csv.Error) else str(error)


class _Header:
    """The columns of a table, and how its cells become fields."""

    def __init__(self, names: list[str], what: str, kind: str) -> None:
        self._names = [name.strip() for name in names[:_MAX_COLUMNS]]
        columns = [column_of(name) for name in self._names]
        if len(names) > _MAX_COLUMNS or not _NAMING.intersection(columns):
            raise SourceError(
                f"the header of {what} has no column that names a model",
                hint="the first line must name the columns, such as: name,path,size",
            )
        twice = {name for name in self._names if name and self._names.count(name) > 1}
        if twice:
            raise SourceError(
                f"the header of {what} has the column '{visible(min(twice), 100)}' twice",
                hint="give each column its own name",
            )
        # `list --format tsv` writes the catalogue's columns, without quotes and with escapes.
        self.is_escaped = kind == "tsv" and "locator" in names and set(names) <= set(MODEL_COLUMNS)
        self._integers = frozenset(
            name
            for name, column in zip(self._names, columns, strict=True)
            if column in INTEGER_COLUMNS
        )
        self._arrays = {
            name: column
            for name, column in zip(self._names, columns, strict=True)
            if column in ARRAY_COLUMNS
        }

    def row(self, cells: list[str], records: RecordReader, *, plain: bool) -> Row:
        """Return the row of one line. Raises `BadRecordError`."""
        if len(cells) != len(self._names):
            raise BadRecordError(f"it has {len(cells)} cells, and the header {len(self._names)}")
        record: dict[str, object] = {}
        for name, cell in zip(self._names, cells, strict=True):
            if cell and name:
                shown = _unescaped(cell) if self.is_escaped and "\\" in cell else cell
                record[name] = self._value(name, shown)
        row = records.quick_row(record) if plain and not self.is_escaped else None
        return row if row is not None else records.row(record)

    def _value(self, name: str, cell: str) -> object:
        if name in self._integers:
            return int(cell) if cell.isdecimal() and len(cell) < 19 else cell
        if name in self._arrays:
            return read_array(self._arrays[name], cell)
        # Our CSV guards a cell that a spreadsheet would run as a formula with a quote: drop it.
        is_guarded = cell[0] == "'" and cell[1:].startswith(_FORMULA) and not self.is_escaped
        return cell[1:] if is_guarded else cell


def _unescaped(cell: str) -> str:
    r"""Undo the escapes of our own TSV: ``\t \n \r \\ \xNN \uNNNN \UNNNNNNNN``."""
    return _ESCAPE.sub(lambda match: _SIMPLE.get(match[1]) or _escaped(match[1]), cell)


def _escaped(written: str) -> str:
    r"""Return the character of ``xNN``, ``uNNNN`` or ``UNNNNNNNN``; also a byte outside UTF-8."""
    code = int(written[1:], 16)
    return chr(0xDC00 + code if written[0] == "x" and code >= 0x80 else code)


@dataclass(frozen=True, slots=True)
class _Kind:
    KIND: str

    def read(self, target: Target, context: Context) -> Iterator[Item]:
        """Yield the models of a table of this kind."""
        return _read(self.KIND, target, context)


SOURCES: Mapping[str, Source] = {kind: cast("Source", _Kind(kind)) for kind in _DELIMITERS}
