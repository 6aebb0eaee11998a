"""What was read waits in a scratch database until one short transaction takes it over.

Nothing is read from a source while the catalogue is locked.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

from modelstore.store.models import MODEL_COLUMNS, Model, ModelFile, Place
from modelstore.store.scratch import BATCH_TABLES, BINDING_ERRORS, open_scratch, tells_trouble
from modelstore.store.storable import MAX_INTEGER, signed, storable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType

_ROW_WIDTH = len(MODEL_COLUMNS)
_INSERT_ROW = f"INSERT INTO rows VALUES ({'?, ' * _ROW_WIDTH}%d)"
_INSERT_ITEM = f"INSERT OR REPLACE INTO items VALUES ({'?, ' * _ROW_WIDTH}?, ?)"


class FoundModel(Protocol):
    """A model that a source read, with its files and the place it was seen in."""

    @property
    def model(self) -> Model:
        """The model."""
        ...

    @property
    def files(self) -> tuple[ModelFile, ...]:
        """Every file of it; none where it is known without its files."""
        ...

    @property
    def place(self) -> Place | None:
        """Where it was seen."""
        ...


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that the catalogue cannot hold, and why. Both are outside text: not escaped."""

    what: str
    reason: str


def tags_json(tags: Iterable[str]) -> str:
    """Return tags as the catalogue keeps them: a JSON array, sorted, each once."""
    return json.dumps(sorted(set(tags)), ensure_ascii=False, separators=(",", ":"))


def model_row(model: Model) -> tuple[object, ...]:
    """Return a model in the order of ``MODEL_COLUMNS``, `tags` as JSON text."""
    return tuple(
        tags_json(model.tags) if column == "tags" else getattr(model, column)
        for column in MODEL_COLUMNS
    )


class Staging:
    """What was read and is not yet in the catalogue. Used by one thread; a context manager.

    `directory` is where the scratch file goes (default: the system's place for such files).
    """

    def __init__(self, directory: str | None = None) -> None:
        self.path, self._conn = open_scratch(directory)
        self._conn.execute("BEGIN")
        self.pending = 0
        """Things added since the last `clear`: what a caller bounds a batch by."""
        self.whole: int | None = None
        """Where the catalogue was empty, and all of it now is this one batch: its models."""
        self._is_merged = False
        self._is_over = False  # cleared, but for what the proof may need
        self.has_last_rows = False
        """Whether the last of the rows with one locator is known."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @tells_trouble
    def add(self, found: FoundModel, *, told: bool = False) -> Rejected | None:
        """Stage a model with its files and place. The last of one locator wins.

        With `told` it is what a person says: it overrides what was read from files before.
        """
        self._begin()
        model = found.model
        weights = weights_file(model, found.files)
        files = found.files
        if not files and weights is not None:
            files = (weights,)
        try:
            row = (*model_row(model), int(told), None if weights is None else weights.path)
            locator = storable(model.locator)
            self._conn.execute(_INSERT_ITEM, _storable_row(row))
            self._conn.execute("DELETE FROM item_files WHERE item = ?", (locator,))
            self._conn.executemany(
                "INSERT OR REPLACE INTO item_files VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [_storable_row((locator, *_file_row(file))) for file in files],
            )
            self._add_place("item_places", locator, found.place)
        except BINDING_ERRORS as error:
            return Rejected(model.path or model.name, _reason(error))
        self.pending += 1
        return None

    @tells_trouble
    def add_rows(self, rows: Sequence[tuple[object, ...]], *, fill: bool = False) -> list[Rejected]:
        """Stage many models: tuples in the order of ``MODEL_COLUMNS``, `tags` as JSON text.

        The last of one locator wins. With `fill` they only fill what is unknown; else what they
        carry overrides. Returns the rows that the catalogue cannot hold; the others are staged.
        """
        self._begin()
        insert = _INSERT_ROW % fill
        rejected = []
        (before,) = self._conn.execute("SELECT ifnull(max(rowid), 0) FROM rows").fetchone()
        try:
            self._conn.executemany(insert, rows)
        except BINDING_ERRORS:
            # Rare: find the row. Those before it are staged already.
            self._conn.execute("DELETE FROM rows WHERE rowid > ?", (before,))
            for row in rows:
                try:
                    self._conn.execute(insert, _storable_row(row))
                except BINDING_ERRORS as error:
                    rejected.append(Rejected(_name_of(row), _reason(error)))
        self.pending += len(rows) - len(rejected)
        return rejected

    @tells_trouble
    def add_seen(self, locator: str, place: Place | None) -> None:
        """Stage a model that is as the catalogue knows it."""
        self._begin()
        if place is None:
            place = Place("", "", "", "")  # a mark that the merge passes over
        self._add_place("seen", storable(locator), place)
        self.pending += 1

    def _add_place(self, table: str, locator: str, place: Place | None) -> None:
        if place is None:
            return
        row = _storable_row((place.root, place.locator, place.source, place.name, place.state))
        self._conn.execute(
            f"INSERT OR REPLACE INTO {table} VALUES (?, ?, ?, ?, ?, ?)", (locator, *row)
        )
        if place.root:
            self._conn.execute("INSERT OR IGNORE INTO seen_places VALUES (?, ?)", row[:2])

    @tells_trouble
    def seal(self, tags: Iterable[str] = ()) -> None:
        """End what was added, add `tags` to each model, and let another connection read it."""
        added = tags_json(storable(tag) for tag in tags)
        if added != "[]":
            for table in ("rows", "items"):
                self._conn.execute(
                    f"UPDATE {table} SET tags = {union_of_tags('tags', '?')}", (added,)
                )
        if self._conn.in_transaction:
            self._conn.execute("COMMIT")

    @tells_trouble
    def find_last_rows(self) -> None:
        """Work out which of the rows with one locator is the last, the one that counts."""
        if not self.has_last_rows:
            self._open()
            self._conn.execute("INSERT OR REPLACE INTO last_rows SELECT locator, rowid FROM rows")
            self.has_last_rows = True
        self.seal()

    @tells_trouble
    def merged(self, models: Iterable[tuple[str, str]], whole: int | None) -> None:
        """Note that the batch is in the catalogue, and its models (id, locator) but for rows."""
        self._open()
        self._conn.executemany("INSERT OR IGNORE INTO landed VALUES (?, ?)", models)
        self.whole = whole
        self._is_merged = True

    @tells_trouble
    def expected(self) -> int:
        """Return how many different models were merged since the beginning."""
        if self.whole is not None:
            return self.whole
        self.find_last_rows()
        (total,) = self._conn.execute(
            "SELECT (SELECT count(*) FROM last_rows) + (SELECT count(*) FROM landed WHERE "
            "NOT EXISTS (SELECT 1 FROM last_rows WHERE model = landed.locator))"
        ).fetchone()
        return int(total)

    @tells_trouble
    def clear(self) -> None:
        """Forget the batch; what was seen and landed stays noted.

        The rows of one that is merged go when the next batch begins: the proof looks at the last
        batch, and to note a million rows that nobody asks for takes seconds.
        """
        self._is_over = True
        self.pending = 0
        if not self._is_merged:
            self._begin()

    def _begin(self) -> None:
        """Before something is added: end the batch before."""
        self._open()
        self.has_last_rows = False
        if not self._is_over:
            return
        if self._is_merged:
            self._conn.execute("INSERT OR IGNORE INTO landed SELECT id, locator FROM rows")
        for table in BATCH_TABLES:
            self._conn.execute(f"DELETE FROM {table}")
        self.whole = None
        self._is_merged = self._is_over = False

    def _open(self) -> None:
        if not self._conn.in_transaction:
            self._conn.execute("BEGIN")

    def close(self) -> None:
        """Close and remove the scratch file; harmless when done twice."""
        self._conn.close()
        with suppress(OSError):
            os.unlink(self.path)


def weights_file(model: Model, files: Sequence[ModelFile]) -> ModelFile | None:
    """Return the file that tells whether two places show one model: the (first) weights.

    Companions (projector, draft, configuration) are shared between models and tell nothing. A
    model that a server names by its path has that file, unread.
    """
    for file in files:
        if file.role == "model":
            return file
    shards = [file for file in files if file.role == "shard"]
    if shards:
        return min(shards, key=lambda file: file.path)
    for file in files:
        if file.path == model.path:
            return file
    if not files and model.path and not model.locator.startswith("file://"):
        return ModelFile(model.path, "model", sha256=model.sha256)
    return None


def union_of_tags(first: str, second: str) -> str:
    """Return the SQL of the union of two JSON arrays of texts, sorted, each once."""
    return (
        "(SELECT json_group_array(value) FROM (SELECT value FROM json_each("
        f"{first}) UNION SELECT value FROM json_each({second}) ORDER BY value))"
    )


def _file_row(file: ModelFile) -> tuple[object, ...]:
    identity = (signed(file.device), signed(file.inode))
    return (file.path, file.role, file.size, file.mtime_ns, file.sha256, *identity)


def _storable_row(row: tuple[object, ...]) -> tuple[object, ...]:
    for cell in row:
        if isinstance(cell, int) and not -MAX_INTEGER - 1 <= cell <= MAX_INTEGER:
            raise OverflowError
    return tuple(storable(cell) if isinstance(cell, str) else cell for cell in row)


def _name_of(row: tuple[object, ...]) -> str:
    for at in (1, 3):  # name, locator
        if len(row) > at and isinstance(row[at], str) and row[at]:
            return str(row[at])
    return "a record"


def _reason(error: Exception) -> str:
    if isinstance(error, OverflowError):
        return "a number in it is 2^63 or more"
    return f"the catalogue cannot hold it: {error}"
