"""Models from JSON: an array, one object, a wrapped list, or lines of objects."""

from __future__ import annotations

import codecs
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from modelstore.errors import SourceError
from modelstore.sources.base import Rows, Skipped
from modelstore.sources.blocks import (
    base_directory,
    line_blocks,
    opened,
    raw_blocks,
    target_name,
)
from modelstore.sources.fields import BadRecordError
from modelstore.sources.json_stream import DECODER, Document, MalformedError, scan
from modelstore.sources.records import RecordReader
from modelstore.store.storable import storable
from modelstore.text import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import BinaryIO

    from modelstore.sources.base import Context, Item, Source, Target
    from modelstore.sources.blocks import Block
    from modelstore.sources.records import Row

_BATCH = 4000  # rows


def read_lines(target: Target, context: Context) -> Iterator[Item]:
    """Yield the models of JSON lines; a line that is none is skipped with its number."""
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
            context.progress(target.text, count)
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
                    row = None  # said below
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
    except json.JSONDecodeError as error:  # its own line number would be 1, always
        reason = f"{visible(error.msg, 100)} at character {error.pos + 1:,}"
        raise BadRecordError(f"it is no JSON: {reason}") from None
    except ValueError as error:
        raise BadRecordError(f"it is no JSON: {visible(str(error), 120)}") from None
    return records.row(as_mapping(record))


def as_mapping(record: object) -> Mapping[str, object]:
    """Return a JSON value that is an object. Raises `BadRecordError` for any other."""
    if not isinstance(record, dict):
        kinds = {list: "an array", str: "a text", type(None): "null", bool: "true or false"}
        raise BadRecordError(f"it is {kinds.get(type(record), 'a number')}, not an object")
    return record


def read_document(target: Target, context: Context) -> Iterator[Item]:
    """Yield the models of a JSON document. Raises `SourceError` where it is none at all."""
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
                        f"'{visible(where, 200)}' is no JSON: {visible(str(error), 200)}",
                        hint="for one object a line use --from jsonl",
                    ) from None
                yield Skipped(where, f"the rest is no JSON: {error}")
                break
            if len(rows) >= _BATCH:
                yield Rows(rows)
                rows = []
                context.progress(target.text, count)
    if rows:
        yield Rows(rows)
    yield from records.notes()


def _row_of(record: object, records: RecordReader, *, plain: bool) -> Row:
    mapping = as_mapping(record)
    row = records.quick_row(cast("dict[str, object]", mapping)) if plain else None
    return row if row is not None else records.row(mapping)


def _texts(target: Target, stream: BinaryIO) -> Iterator[tuple[str, bool]]:
    """Yield the document's text in blocks that end between characters."""
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    for data in raw_blocks(target, stream):
        text = decoder.decode(data)
        yield text, text.isascii() or storable(text) is text
    yield decoder.decode(b"", final=True), False


@dataclass(frozen=True, slots=True)
class _Kind:
    KIND: str
    read: Callable[[Target, Context], Iterator[Item]]


SOURCES: Mapping[str, Source] = {
    "json": cast("Source", _Kind("json", read_document)),
    "jsonl": cast("Source", _Kind("jsonl", read_lines)),
}
