"""Models from JSON: an array, one object, a wrapped list, or lines of objects."""

from __future__ import annotations

import codecs
import json
import re
from json.scanner import make_scanner
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from modelstore.database.sqlite_text import to_sqlite_text
from modelstore.errors import SourceError
from modelstore.found import Skipped
from modelstore.sources.base import BATCH, Rows
from modelstore.sources.records.fields import BadRecordError
from modelstore.sources.records.reader import RecordReader
from modelstore.sources.text_input import (
    MAX_RECORD,
    base_directory,
    line_blocks,
    opened,
    raw_blocks,
    suspects,
    target_name,
    tell_read,
)
from modelstore.text import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import BinaryIO

    from modelstore.sources.base import Context, Item, Source, Target
    from modelstore.sources.records.reader import Row
    from modelstore.sources.text_input import Block

_SPACE = re.compile(r"[ \t\r\n]*")
_OPEN_TEXT = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+\\?\Z', re.DOTALL)
_TOO_LARGE = f"one record is larger than {MAX_RECORD >> 20} MiB"
_WRAPPERS = frozenset(("models", "data"))


def refuse_constant(name: str) -> float:
    """Refuse NaN and Infinity, which are not JSON and which SQLite's JSON cannot hold."""
    raise ValueError(f"{name} is not a JSON number")


DECODER = json.JSONDecoder(parse_constant=refuse_constant)
scan: Callable[[str, int], tuple[object, int]] = make_scanner(cast("Any", DECODER))
"""Reads one value: ``scan(text, start)`` is the value and its end, or raises StopIteration,
ValueError or RecursionError. It is ``json.loads`` without the checks of its argument."""


class MalformedError(ValueError):
    """A document that stops being JSON. The text is the reason, safe to show."""


class Document:
    """A parser that reads the records of a JSON document from blocks of text.

    `plain` is True if the last record needs no careful check.
    """

    def __init__(self, blocks: Iterator[tuple[str, bool]]) -> None:
        """Read `blocks`: each is a text, and True if it was UTF-8."""
        self._blocks = blocks
        self._text = ""
        self._at = 0
        self._lines = 0  # before the text that is held
        self._dropped = 0  # characters, likewise
        self._ended = False
        self._suspects: tuple[str, ...] = ()
        self._is_utf8 = True
        self.plain = True

    @property
    def line(self) -> int:
        """The current line, from 1."""
        return self._lines + self._text.count("\n", 0, self._at) + 1

    def records(self) -> Iterator[object]:
        """Yield each record, a value of any type. Raises `MalformedError`."""
        while self._peek():
            if self._peek() == "[":
                yield from self._elements()
            elif self._peek() == "{":
                yield from self._object()
            else:
                raise MalformedError("it is neither an array nor an object")

    def _fill(self) -> bool:
        """Take one more block and drop the text already read; return False at the end."""
        text, is_utf8 = next(self._blocks, ("", True))
        if not text:
            self._ended = True
            return False
        self._lines += self._text.count("\n", 0, self._at)
        self._dropped += self._at
        self._text = self._text[self._at :] + text
        self._at = 0
        self._is_utf8 = is_utf8 and self._is_utf8
        self._suspects = suspects(self._text)
        return True

    def _peek(self) -> str:
        """Return the next character after white space, or "" at the end."""
        while True:
            match = _SPACE.match(self._text, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if self._ended or not self._fill():
                return ""

    def _expect(self, wanted: str) -> str:
        found = self._peek()
        if not found or found not in wanted:
            names = " or ".join(f"'{sign}'" for sign in wanted)
            what = f"'{visible(found)}'" if found else "the end"
            raise MalformedError(f"{what} stands where {names} should")
        self._at += 1
        return found

    def _value(self) -> object:
        """Read one value, across as many blocks as it spans."""
        self._peek()
        while True:
            try:
                value, end = scan(self._text, self._at)
            except StopIteration as stop:
                needs_more, reason = stop.value >= len(self._text) - 16, "not a JSON value"
            except json.JSONDecodeError as error:
                needs_more = error.pos >= len(self._text) - 16 or self._is_open_text(error.pos)
                reason = error.msg
            except RecursionError:
                raise MalformedError("it is nested too deeply") from None
            except ValueError as error:
                raise MalformedError(str(error)[:200]) from None
            else:
                # A number may go on in the next block: `1`, `1.` and `1e+` are read as 1.
                if self._ended or end + 3 <= len(self._text) or not isinstance(value, int | float):
                    self._note(end)
                    return value
                needs_more, reason = True, ""
            if not needs_more:
                raise MalformedError(reason)
            self._grow(reason)

    def _is_open_text(self, start: int) -> bool:
        """Return True if a JSON string begins at `start` and does not end in the held text."""
        return _OPEN_TEXT.match(self._text, start) is not None

    def _note(self, end: int) -> None:
        """Note whether the value that ends at `end` is plain, and step over it."""
        self.plain = self._is_utf8 and not (
            self._suspects
            and any(self._text.find(mark, self._at, end) >= 0 for mark in self._suspects)
        )
        self._at = end

    def _grow(self, reason: str) -> None:
        """Double the held text of an unfinished value."""
        held = len(self._text) - self._at
        if held > MAX_RECORD:
            raise MalformedError(_TOO_LARGE)
        if self._ended:
            raise MalformedError(f"it ends in the middle of a record ({reason})")
        while len(self._text) - self._at <= 2 * held and self._fill():
            pass

    def _elements(self) -> Iterator[object]:
        self._expect("[")
        if self._peek() == "]":
            self._at += 1
            return
        while True:
            yield self._value()
            if self._expect(",]") == "]":
                return

    def _object(self) -> Iterator[object]:
        """Read a record, or the records in a wrapper."""
        self._expect("{")
        record: dict[str, object] = {}
        wrapped = False
        plain = True
        size = 0
        while self._peek() != "}":
            start = self._dropped + self._at
            key = self._value()
            plain = plain and self.plain
            if not isinstance(key, str):
                raise MalformedError("a field's name is not a text")
            self._expect(":")
            if key in _WRAPPERS and self._peek() == "[" and not record.get("name"):
                wrapped = True
                yield from self._elements()
            else:
                record[key] = self._value()
                plain = plain and self.plain
                size += self._dropped + self._at - start
            if size > MAX_RECORD:
                raise MalformedError(_TOO_LARGE)
            if self._peek() != "}":
                self._expect(",")
                if self._peek() == "}":
                    raise MalformedError("'}' stands where a field should")
        self._at += 1
        if not wrapped:
            self.plain = plain
            yield record


def read_lines(target: Target, context: Context) -> Iterator[Item]:
    """Yield the models of JSON lines. A bad line is skipped and named by its number."""
    records = RecordReader("jsonl", context, base_directory(target))
    name = target_name(target)
    count = 0
    with opened(target) as stream:
        for block in line_blocks(target, stream):
            rows, skipped = _rows_of(block, records, name)
            yield from skipped
            if rows:
                yield Rows(rows)
            count += len(rows)
            tell_read(context, target, stream, count)
    yield from records.notes()


def _rows_of(block: Block, records: RecordReader, name: str) -> tuple[list[Row], list[Skipped]]:
    rows: list[Row] = []
    skipped: list[Skipped] = []
    suspects, quick = block.suspects, records.quick_row
    for number, line in enumerate(block.lines, block.first):
        row = None
        if not suspects or not any(mark in line for mark in suspects):
            try:
                record, end = scan(line, 0)
            except (StopIteration, ValueError, RecursionError):
                end = -1
            if end == len(line) and type(record) is dict and (block.is_utf8 or line.isascii()):
                try:
                    row = quick(record)
                except BadRecordError:
                    row = None  # the careful way reports it
        if row is None and (block.cut or line.strip()):
            try:
                row = _careful_row(line, records, cut=block.cut)
            except BadRecordError as error:
                skipped.append(Skipped(f"{name} line {number}", str(error)))
        if row is not None:
            rows.append(row)
    return rows, skipped


def _careful_row(line: str, records: RecordReader, *, cut: bool) -> Row:
    if cut:
        raise BadRecordError("it is longer than 16 MiB")
    try:
        record = DECODER.decode(line)
    except RecursionError:
        raise BadRecordError("it is nested too deeply") from None
    except json.JSONDecodeError as error:  # its own line number is always 1
        reason = f"{visible(error.msg, 100)} at character {error.pos + 1:,}"
        raise BadRecordError(f"it is not JSON: {reason}") from None
    except ValueError as error:
        raise BadRecordError(f"it is not JSON: {visible(str(error), 120)}") from None
    return records.row(as_mapping(record))


def as_mapping(record: object) -> Mapping[str, object]:
    """Return a JSON object. Raises `BadRecordError` for any other value."""
    if not isinstance(record, dict):
        kinds = {list: "an array", str: "a text", type(None): "null", bool: "true or false"}
        raise BadRecordError(f"it is {kinds.get(type(record), 'a number')}, not an object")
    return record


def read_document(target: Target, context: Context) -> Iterator[Item]:
    """Yield the models of a JSON document. Raises `SourceError` if it is not JSON at all."""
    records = RecordReader("json", context, base_directory(target))
    name = target_name(target)
    rows: list[Row] = []
    count = 0
    with opened(target) as stream:
        document = Document(_texts(target, stream))
        found = document.records()
        while True:
            try:
                record = next(found)
                rows.append(_row_of(record, records, plain=document.plain))
                count += 1
            except StopIteration:
                break
            except BadRecordError as error:
                yield Skipped(f"{name} line {document.line}", str(error))
            except MalformedError as error:
                where = f"{name} line {document.line}"
                if not count:
                    raise SourceError(
                        f"'{visible(where, 200)}' is not JSON: {visible(str(error), 200)}",
                        hint="for one object a line use --from jsonl",
                    ) from None
                yield Skipped(where, f"the rest is not JSON: {error}")
                break
            if len(rows) >= BATCH:
                yield Rows(rows)
                rows = []
                tell_read(context, target, stream, count)
    if rows:
        yield Rows(rows)
    yield from records.notes()


def _row_of(record: object, records: RecordReader, *, plain: bool) -> Row:
    mapping = as_mapping(record)
    row = records.quick_row(cast("dict[str, object]", mapping)) if plain else None
    return row if row is not None else records.row(mapping)


def _texts(target: Target, stream: BinaryIO) -> Iterator[tuple[str, bool]]:
    """Yield the document's text in blocks of whole characters, each with its `is_utf8`."""
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    for data in raw_blocks(target, stream):
        text = decoder.decode(data)
        yield text, text.isascii() or to_sqlite_text(text) is text
    yield decoder.decode(b"", final=True), False


class _Kind(NamedTuple):
    KIND: str
    read: Callable[[Target, Context], Iterator[Item]]


SOURCES: Mapping[str, Source] = {
    "json": cast("Source", _Kind("json", read_document)),
    "jsonl": cast("Source", _Kind("jsonl", read_lines)),
}
