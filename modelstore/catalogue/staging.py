"""What was read waits in a scratch database until one short transaction takes it over.

Nothing is read from a source while the catalogue is locked.
"""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from functools import wraps
from typing import TYPE_CHECKING, ParamSpec, Self, TypeVar

from modelstore.database.sqlite import sqlite3
from modelstore.database.sqlite_text import MAX_INTEGER, signed, to_sqlite_text
from modelstore.errors import RefusedError
from modelstore.model import (
    MODEL_COLUMNS,
    Found,
    Model,
    ModelFile,
    Place,
    Skipped,
    column_definition,
)
from modelstore.text import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import TracebackType

# Binding None costs 0.8 µs a cell, for the module looks for an adapter of it by way of exceptions;
# a record has many unknown cells. An adapter that gives None back makes staging three times faster.
_as_it_is: Callable[[None], None] = dict[None, None]().get
sqlite3.register_adapter(type(None), _as_it_is)

_CACHE_KIB = 32_000  # the scratch database's page cache: what bounds its memory
_PAGE_SIZE = 16384  # bytes: rows are appended and read in order, with a call a page

_COLUMNS = ", ".join(map(column_definition, MODEL_COLUMNS))
_PLACE = "root TEXT NOT NULL, place TEXT NOT NULL, source TEXT NOT NULL, name TEXT NOT NULL, state"

_TABLES = (
    # Many records at once, as a file of records has them: `fill` rows only fill what is unknown.
    # Nothing but appended to: an index here would cost a third of staging a million rows.
    f"CREATE TABLE rows ({_COLUMNS}, fill INTEGER NOT NULL) STRICT",
    # The last row of each locator, worked out where the catalogue may have some of the models.
    "CREATE TABLE last_rows (model TEXT PRIMARY KEY, last INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    # Models one by one, with files and places: `weights` is the copy's first weights file.
    f"CREATE TABLE items ({_COLUMNS}, told INTEGER NOT NULL, weights TEXT, UNIQUE (locator))"
    " STRICT",
    "CREATE TABLE item_files (item TEXT NOT NULL, path TEXT NOT NULL, role TEXT NOT NULL, "
    "size INTEGER, mtime_ns INTEGER, sha256 TEXT, device INTEGER, inode INTEGER, "
    "PRIMARY KEY (item, path)) STRICT, WITHOUT ROWID",
    f"CREATE TABLE item_places (item TEXT NOT NULL, {_PLACE} TEXT, "
    "PRIMARY KEY (item, root, place)) STRICT, WITHOUT ROWID",
    f"CREATE TABLE seen (locator TEXT NOT NULL, {_PLACE} TEXT, "
    "PRIMARY KEY (locator, root, place)) STRICT, WITHOUT ROWID",
    # These two outlive `clear`: what the whole import saw, and what it wrote or found unchanged.
    "CREATE TABLE seen_places (root TEXT NOT NULL, place TEXT NOT NULL, "
    "PRIMARY KEY (root, place)) STRICT, WITHOUT ROWID",
    "CREATE TABLE landed (id TEXT PRIMARY KEY, locator TEXT NOT NULL) STRICT, WITHOUT ROWID",
)
BATCH_TABLES = ("rows", "last_rows", "items", "item_files", "item_places", "seen")
"""What holds one batch; the other tables grow through a whole import."""


BINDING_ERRORS = (
    UnicodeEncodeError,
    OverflowError,
    TypeError,
    sqlite3.DataError,
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
)
"""What a row that the catalogue cannot hold raises; any other error is the scratch file's."""

_P = ParamSpec("_P")
_R = TypeVar("_R")


def tells_trouble(method: Callable[_P, _R]) -> Callable[_P, _R]:
    """Let a full disk, or trouble of another kind with the scratch file, be told as what it is."""

    @wraps(method)
    def call(*arguments: _P.args, **options: _P.kwargs) -> _R:
        try:
            return method(*arguments, **options)
        except (sqlite3.Error, OSError) as error:
            raise trouble(error) from error

    return call


def trouble(error: sqlite3.Error | OSError) -> RefusedError:
    """Return what an error of the scratch file means."""
    place = visible(tempfile.tempdir or "the temporary directory", 200)
    why = error.strerror if isinstance(error, OSError) else None
    return RefusedError(
        f"a scratch file in {place} cannot be used: {visible(why or str(error), 200)}",
        hint="free some space there, or set TMPDIR to a place with more; "
        "what was committed before is kept",
    )


@tells_trouble
def open_scratch(directory: str | None) -> tuple[str, sqlite3.Connection]:
    """Make a scratch database in `directory` (default: the system's place for such files)."""
    descriptor, path = tempfile.mkstemp(".db", "modelstore-", directory)
    os.close(descriptor)
    try:
        return path, _scratch(path)
    except BaseException:
        os.unlink(path)
        raise


def _scratch(path: str) -> sqlite3.Connection:
    conn = sqlite3.connect(path, isolation_level=None)
    try:
        for pragma in (
            f"page_size={_PAGE_SIZE}",
            "journal_mode=OFF",
            "synchronous=OFF",
            f"cache_size=-{_CACHE_KIB}",
        ):
            conn.execute(f"PRAGMA {pragma}").close()
        for table in _TABLES:
            conn.execute(table)
    except BaseException:
        conn.close()
        raise
    return conn


_ROW_WIDTH = len(MODEL_COLUMNS)
_INSERT_ROW = f"INSERT INTO rows VALUES ({'?, ' * _ROW_WIDTH}%d)"
_INSERT_ITEM = f"INSERT OR REPLACE INTO items VALUES ({'?, ' * _ROW_WIDTH}?, ?)"


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
    def add(self, found: Found, *, told: bool = False) -> Skipped | None:
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
            locator = to_sqlite_text(model.locator)
            self._conn.execute(_INSERT_ITEM, _storable_row(row))
            self._conn.execute("DELETE FROM item_files WHERE item = ?", (locator,))
            self._conn.executemany(
                "INSERT OR REPLACE INTO item_files VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [_storable_row((locator, *_file_row(file))) for file in files],
            )
            self._add_place("item_places", locator, found.place)
        except BINDING_ERRORS as error:
            return Skipped(model.path or model.name, _reason(error))
        self.pending += 1
        return None

    @tells_trouble
    def add_rows(self, rows: Sequence[tuple[object, ...]], *, fill: bool = False) -> list[Skipped]:
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
                    rejected.append(Skipped(_name_of(row), _reason(error)))
        self.pending += len(rows) - len(rejected)
        return rejected

    @tells_trouble
    def add_seen(self, locator: str, place: Place | None) -> None:
        """Stage a model that is as the catalogue knows it."""
        self._begin()
        if place is None:
            place = Place("", "", "", "")  # a mark that the merge passes over
        self._add_place("seen", to_sqlite_text(locator), place)
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
        added = tags_json(to_sqlite_text(tag) for tag in tags)
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
    return tuple(to_sqlite_text(cell) if isinstance(cell, str) else cell for cell in row)


def _name_of(row: tuple[object, ...]) -> str:
    for at in (1, 3):  # name, locator
        if len(row) > at and isinstance(row[at], str) and row[at]:
            return str(row[at])
    return "a record"


def _reason(error: Exception) -> str:
    if isinstance(error, OverflowError):
        return "a number in it is 2^63 or more"
    return f"the catalogue cannot hold it: {error}"
