"""The columns of a model for a person: heading, human figure, alignment, and shrinking.

Machine formats use none of this: they carry the raw value (`modelstore.render.rows`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from modelstore.model import COMPUTED_COLUMNS, INTEGER_COLUMNS, MODEL_COLUMNS
from modelstore.render.grid import Cell, Heading, shown
from modelstore.text import human_bytes, human_context, human_count

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from modelstore.render.grid import Shrink, Tone

TABLE_COLUMNS = (
    "id",
    "name",
    "architecture",
    "parameter_count",
    "quantization",
    "context_length",
    "file_size",
)
"""The default columns of a table."""

PLAIN_COLUMNS = (*TABLE_COLUMNS, "status", "path")
"""The default columns of CSV and TSV: a script needs the path too."""

UNKNOWN = "-"
_SHORT_ID = 7  # characters; more if two rows would show the same
_STATUS_TONES: dict[str, Tone] = {
    "missing": "bad",
    "incomplete": "warn",
    "truncated": "warn",
    "remote": "dim",
}


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the models for a person."""

    name: str
    header: str
    human: Callable[[Any], str] = str  # of a value that is not None
    right: bool = False
    shrink: Shrink = "never"
    least: int = 0  # characters below which it does not shrink


def human_time(value: str, now: datetime | None = None) -> str:
    """Return an ISO-8601 time as an age: ``just now``, ``5 min ago``, ``2 h ago``, ``3 d ago``.

    From 60 days on and in the future it is the date. Other text stays unchanged.
    """
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return value
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    seconds = ((now or datetime.now(UTC)) - moment).total_seconds()
    if 0 <= seconds < 60:
        return "just now"
    for unit, length, below in (("min", 60, 60), ("h", 3600, 48), ("d", 86400, 60)):
        if 0 <= seconds < length * below:
            return f"{int(seconds // length)} {unit} ago"
    return moment.date().isoformat()


def human_tags(value: str) -> str:
    """Return a JSON array of tags as ``favorite, work``; none as a dash."""
    try:
        tags = json.loads(value)
    except (ValueError, RecursionError):
        return value
    if not isinstance(tags, list):
        return value
    return ", ".join(str(tag) for tag in tags) or UNKNOWN


def _number(human: Callable[[int], str]) -> Callable[[Any], str]:
    """Apply `human` to numbers only: another program's table may hold a text instead."""
    return lambda value: human(value) if isinstance(value, int) else str(value)


def _text(human: Callable[[str], str]) -> Callable[[Any], str]:
    """Apply `human` to texts only."""
    return lambda value: human(value) if isinstance(value, str) else str(value)


def _decimal(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


# A column that is not here is shown under its own name, numbers to the right: `_plain`.
_SPECIAL = (
    Column("id", "ID", shrink="end", least=_SHORT_ID),
    Column("name", "NAME", shrink="middle", least=14),
    Column("locator", "LOCATOR", shrink="middle", least=16),
    Column("path", "PATH", shrink="middle", least=16),
    Column("architecture", "ARCH", shrink="end", least=8),
    Column("parameter_count", "PARAMS", _number(human_count), right=True),
    Column("size_label", "LABEL", shrink="end", least=8),
    Column("quantization", "QUANT", shrink="end", least=9),
    Column("file_type", "FTYPE", right=True),
    Column("context_length", "CTX", _number(human_context), right=True),
    Column("embedding_length", "EMBD", right=True),
    Column("block_count", "BLOCKS", right=True),
    Column("head_count", "HEADS", right=True),
    Column("head_count_kv", "KV HEADS", right=True),
    Column("feed_forward_length", "FFN", right=True),
    Column("vocab_size", "VOCAB", right=True),
    Column("file_size", "SIZE", _number(human_bytes), right=True),
    Column("memory", "MEMORY", _number(human_bytes), right=True),
    Column("sha256", "SHA256", shrink="end", least=12),
    Column("capabilities", "CAPABILITIES", _text(human_tags), shrink="end", least=8),
    Column("revision", "REVISION", shrink="end", least=9),
    Column("tags", "TAGS", _text(human_tags), shrink="end", least=8),
    Column("parameters", "PARAMETERS", shrink="end", least=12),
    Column("source_id", "SOURCE ID", shrink="middle", least=9),
    Column("modified_at", "MODIFIED", _text(human_time)),
    Column("created_at", "CREATED", _text(human_time)),
    Column("updated_at", "UPDATED", _text(human_time)),
    Column("bpw", "BPW", _decimal, right=True),
    Column("accessed_at", "USED", _text(human_time)),
)


def _plain(name: str) -> Column:
    """Return a column with the default look."""
    header = name.replace("_", " ").upper()
    if name in INTEGER_COLUMNS:
        return Column(name, header, right=True)
    return Column(name, header, shrink="end", least=8)


_BY_NAME = {column.name: column for column in _SPECIAL}

COLUMNS: dict[str, Column] = {
    name: _BY_NAME.get(name) or _plain(name) for name in (*MODEL_COLUMNS, *COMPUTED_COLUMNS)
}

HEADED: dict[str, str] = {column.header: column.name for column in COLUMNS.values()}
"""The column of each heading of a table."""


def cell(name: str, value: object) -> str | Cell:
    """Return one value for a table; an unknown value is a dash."""
    if value is None:
        return Cell(UNKNOWN, "dim")
    text = COLUMNS[name].human(value)
    if name == "status" and text in _STATUS_TONES:
        return Cell(text, _STATUS_TONES[text])
    return text


def with_short_ids(
    names: Sequence[str], rows: Sequence[Sequence[str | Cell]]
) -> Sequence[Sequence[str | Cell]]:
    """Return the rows with the shortest ids that differ from each other."""
    if "id" not in names:
        return rows
    place = names.index("id")
    ids = short_ids([shown(row[place]) for row in rows])
    return [[*row[:place], text, *row[place + 1 :]] for row, text in zip(rows, ids, strict=True)]


def headings(names: Sequence[str]) -> tuple[Heading, ...]:
    """Return the heading of each column."""
    return tuple(
        Heading(column.header, right=column.right, shrink=column.shrink, least=column.least)
        for column in (COLUMNS[name] for name in names)
    )


def short_ids(ids: Sequence[str]) -> list[str]:
    """Return the ids cut to the least length, 7 or more, at which all of them differ."""
    distinct = sorted(set(ids))
    length = _SHORT_ID
    for one, other in pairwise(distinct):
        while one[:length] == other[:length]:
            length += 1
    return [text[:length] for text in ids]
