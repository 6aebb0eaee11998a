"""Stage models in a scratch database until one short transaction merges them.

So nothing is read from a source while the catalogue is locked.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, closing, suppress
from functools import wraps
from typing import TYPE_CHECKING, ParamSpec, Self, TypeVar

from modelstore.catalogue.schema import single_value
from modelstore.catalogue.tags import tags_json, union_of_tags
from modelstore.database.handle import Database
from modelstore.database.sqlite import sqlite3
from modelstore.database.sqlite_text import MAX_INTEGER, signed, to_sqlite_text
from modelstore.errors import RefusedError
from modelstore.found import Found, ModelFile, Naming, Place, Skipped
from modelstore.later import put_off
from modelstore.model import MODEL_COLUMNS, Model, column_definition
from modelstore.text import visible

with put_off({"shutil": ("rmtree",)}):  # for trees of files
    import tempfile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import TracebackType

# Binding None costs 0.8 µs a cell: the module looks for an adapter of it and raises exceptions. A
# record has many such cells, so an adapter that returns None makes staging three times as fast.
_as_it_is: Callable[[None], None] = dict[None, None]().get
sqlite3.register_adapter(type(None), _as_it_is)

_PRAGMAS = (
    "PRAGMA page_size = 16384",  # bytes: rows are appended and read in order, one call a page
    "PRAGMA journal_mode = OFF",
    "PRAGMA synchronous = OFF",
    "PRAGMA cache_size = -32000",  # KiB: the bound of its memory
)
_COLUMNS = ", ".join(map(column_definition, MODEL_COLUMNS))
_PLACE = "root TEXT NOT NULL, place TEXT NOT NULL, source TEXT NOT NULL, name TEXT NOT NULL, state"

_TABLES = (
    # The rank of each kind of source.
    "CREATE TABLE kinds (kind TEXT PRIMARY KEY, rank INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    # Many records at once, as a file of records has them. Rows are only appended: an index here
    # would cost a third of staging a million rows.
    f"CREATE TABLE rows ({_COLUMNS}, authoritative INTEGER NOT NULL) STRICT",
    # The last row of each locator, found only if the catalogue may have some of the models.
    "CREATE TABLE last_rows (model TEXT PRIMARY KEY, last INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    # Models one by one, with files and places: `weights` is the copy's first weights file.
    f"CREATE TABLE items ({_COLUMNS}, authoritative INTEGER NOT NULL, weights TEXT, "
    "UNIQUE (locator)) STRICT",
    "CREATE TABLE item_files (item TEXT NOT NULL, path TEXT NOT NULL, role TEXT NOT NULL, "
    "size INTEGER, mtime_ns INTEGER, sha256 TEXT, device INTEGER, inode INTEGER, "
    "PRIMARY KEY (item, path)) STRICT, WITHOUT ROWID",
    f"CREATE TABLE item_places (item TEXT NOT NULL, {_PLACE} TEXT, "
    "PRIMARY KEY (item, root, place)) STRICT, WITHOUT ROWID",
    "CREATE TABLE seen_names (locator TEXT PRIMARY KEY, name TEXT, source TEXT NOT NULL, "
    "source_id TEXT, revision TEXT) STRICT, WITHOUT ROWID",
    f"CREATE TABLE seen (locator TEXT NOT NULL, {_PLACE} TEXT, "
    "PRIMARY KEY (locator, root, place)) STRICT, WITHOUT ROWID",
    # These two outlive `clear`: the places that the whole import saw, with the locator of the
    # model there, and the models that it wrote or found unchanged.
    "CREATE TABLE seen_places (root TEXT NOT NULL, place TEXT NOT NULL, model TEXT NOT NULL, "
    "PRIMARY KEY (root, place)) STRICT, WITHOUT ROWID",
    "CREATE TABLE landed (id TEXT PRIMARY KEY, locator TEXT NOT NULL) STRICT, WITHOUT ROWID",
)
_BATCH_TABLES = ("rows", "last_rows", "items", "item_files", "item_places", "seen", "seen_names")
"""The tables of one batch; the other tables grow through a whole import."""

_ITEM_TABLES = {"items": "locator", "item_files": "item", "item_places": "item"}

_BINDING_ERRORS = (
    UnicodeEncodeError,
    OverflowError,
    TypeError,
    sqlite3.DataError,
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
)
"""Errors for a row that the catalogue cannot hold; any other error is the scratch file's."""

_P = ParamSpec("_P")
_R = TypeVar("_R")


def explains_scratch_errors(method: Callable[_P, _R]) -> Callable[_P, _R]:
    """Turn an error of the scratch file, such as a full disk, into one sentence."""

    @wraps(method)
    def call(*arguments: _P.args, **options: _P.kwargs) -> _R:
        try:
            return method(*arguments, **options)
        except (sqlite3.Error, OSError) as error:
            raise scratch_error(error) from error

    return call


def scratch_error(error: sqlite3.Error | OSError) -> RefusedError:
    """Return the explanation of an error of the scratch file."""
    place = visible(tempfile.tempdir or "the temporary directory", 200)
    why = error.strerror if isinstance(error, OSError) else None
    return RefusedError(
        f"a scratch file in {place} cannot be used: {visible(why or str(error), 200)}",
        hint="free some space there, or set TMPDIR to a place with more; "
        "what was committed before is kept",
    )


_ROW_WIDTH = len(MODEL_COLUMNS)
_ABLE, _TAGS = map(MODEL_COLUMNS.index, ("capabilities", "tags"))  # in this order
_INSERT_ROW = f"INSERT INTO rows VALUES ({'?, ' * _ROW_WIDTH}%d)"
_INSERT_ITEM = f"INSERT OR REPLACE INTO items VALUES ({'?, ' * _ROW_WIDTH}?, ?)"


def model_row(model: Model) -> tuple[object, ...]:
    """Return a model in the order of ``MODEL_COLUMNS``, arrays as JSON text."""
    able = model.capabilities
    return (
        *model[:_ABLE],
        None if able is None else tags_json(able),
        *model[_ABLE + 1 : _TAGS],
        tags_json(model.tags),
        *model[_TAGS + 1 :],
    )


class Staging:
    """Models that are read and not yet merged, in a scratch file. Used by one thread, in a `with`.

    `ranks` maps each kind of source to how well it knows a model. `directory` is the place of the
    scratch file (default: the system's place for such files).
    """

    def __init__(self, ranks: Mapping[str, int], directory: str | None = None) -> None:
        self._ranks = ranks
        self._directory = directory
        self._scratch = ExitStack()
        self.path = ""
        self.pending = 0
        """Models added since the last `clear`; it limits a batch."""
        self.whole: int | None = None
        """The number of models in the catalogue, if all of them are this batch's rows."""
        self._is_merged = False
        self._is_over = False  # cleared, except for what the proof may need
        self.has_last_rows = False
        """True once `find_last_rows` has found, for each locator, the last of its rows."""

    @explains_scratch_errors
    def __enter__(self) -> Self:
        """Create the scratch file."""
        with ExitStack() as stack:
            descriptor, self.path = tempfile.mkstemp(".db", "modelstore-", self._directory)
            stack.callback(_remove, self.path)
            os.close(descriptor)
            conn = stack.enter_context(closing(sqlite3.connect(self.path, isolation_level=None)))
            self._db = Database(conn, recursive_triggers=False, execute_plugins=False)
            # plain SQL: sqlite-utils sets no such pragma, and makes no table WITHOUT ROWID
            for statement in (*_PRAGMAS, *_TABLES, "BEGIN"):
                self._db.execute(statement)
            conn.executemany("INSERT INTO kinds VALUES (?, ?)", self._ranks.items())
            self._scratch = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the scratch file."""
        self._scratch.close()

    def rank(self, source: str) -> int:
        """Return the rank of a kind of source; one that is unknown describes a model (1)."""
        return self._ranks.get(source, 1)

    @explains_scratch_errors
    def add(self, found: Found, *, is_authoritative: bool = False) -> Skipped | None:
        """Stage a model with its files and place; the last one of a locator wins.

        Values of an authoritative source override those that files gave before. Return the reason
        if the catalogue cannot hold the model.
        """
        self._begin()
        model = found.model
        weights = weights_file(model, found.files)
        files = found.files
        if not files and weights is not None:
            files = (weights,)
        locator = to_sqlite_text(model.locator)
        row = (*model_row(model), int(is_authoritative), weights and weights.path)
        try:
            # plain SQL: staging a model takes 30 µs; db.table("items").insert() alone takes 200 µs
            self._db.execute(_INSERT_ITEM, _storable_row(row))
            self._db.execute("DELETE FROM item_files WHERE item = ?", [locator])
            self._db.conn.executemany(
                "INSERT OR REPLACE INTO item_files VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [_storable_row((locator, *_file_row(file))) for file in files],
            )
            self._add_place("item_places", locator, found.place)
        except _BINDING_ERRORS as error:
            for table, column in _ITEM_TABLES.items():
                self._db.execute(f"DELETE FROM {table} WHERE {column} = ?", [locator])
            return Skipped(model.path or model.name, _reason(error))
        self.pending += 1
        return None

    @explains_scratch_errors
    def add_rows(
        self, rows: Sequence[tuple[object, ...]], *, is_authoritative: bool
    ) -> list[Skipped]:
        """Stage many models: tuples in the order of ``MODEL_COLUMNS``, `tags` as JSON text.

        The last row of a locator wins. Rows of a source that is not authoritative only fill
        unknown values. Return the rows that the catalogue cannot hold; the others are staged.
        """
        self._begin()
        insert = _INSERT_ROW % is_authoritative
        rejected = []
        before = single_value(self._db, "SELECT ifnull(max(rowid), 0) FROM rows")
        try:
            # plain SQL: 7 times as fast as db.table("rows").insert_all()
            self._db.conn.executemany(insert, rows)
        except _BINDING_ERRORS:
            # Rare: find the row. Those before it are staged already.
            self._db.execute("DELETE FROM rows WHERE rowid > ?", [before])
            for row in rows:
                try:
                    self._db.execute(insert, _storable_row(row))
                except _BINDING_ERRORS as error:
                    rejected.append(Skipped(_name_of(row), _reason(error)))
        self.pending += len(rows) - len(rejected)
        return rejected

    @explains_scratch_errors
    def add_seen(self, locator: str, place: Place | None, naming: Naming | None = None) -> None:
        """Stage the place of a model with unchanged files, and its naming if that may differ."""
        self._begin()
        if place is None:
            place = Place("", "", "", "")  # a mark that the merge passes over
        if naming is not None:
            named = (naming.name, place.source, naming.source_id, naming.revision)
            # plain SQL: as in `add`, once for each model of a scan
            self._db.execute(
                "INSERT OR REPLACE INTO seen_names VALUES (?, ?, ?, ?, ?)",
                _storable_row((locator, *named)),
            )
        self._add_place("seen", to_sqlite_text(locator), place)
        self.pending += 1

    def _add_place(self, table: str, locator: str, place: Place | None) -> None:
        if place is None:
            return
        row = _storable_row((place.root, place.locator, place.source, place.name, place.state))
        # plain SQL: as in `add`, once for each model of a scan
        self._db.execute(
            f"INSERT OR REPLACE INTO {table} VALUES (?, ?, ?, ?, ?, ?)", (locator, *row)
        )
        if place.root:
            self._db.execute(
                "INSERT OR REPLACE INTO seen_places VALUES (?, ?, ?)", (*row[:2], locator)
            )

    @explains_scratch_errors
    def seal(self, tags: Iterable[str] = ()) -> None:
        """End the batch, add `tags` to each of its models, and let other connections read it."""
        added = tags_json(map(to_sqlite_text, tags))
        if added != "[]":
            union = union_of_tags("tags", ":tags")
            for table in ("rows", "items"):
                # plain SQL: one statement for a million rows
                self._db.execute(f"UPDATE {table} SET tags = {union}", {"tags": added})
        self._db.commit()

    @explains_scratch_errors
    def find_last_rows(self) -> None:
        """Find, for each locator, the last of its rows: the one that counts."""
        if not self.has_last_rows:
            self._open()
            # plain SQL: one statement for a million rows
            self._db.execute("INSERT OR REPLACE INTO last_rows SELECT locator, rowid FROM rows")
            self.has_last_rows = True
        self.seal()

    @explains_scratch_errors
    def merged(self, models: Iterable[tuple[str, str]], whole: int | None) -> None:
        """Note that the batch is in the catalogue: the (id, locator) of its models except rows."""
        self._open()
        # plain SQL: 7 times as fast as insert_all()
        self._db.conn.executemany("INSERT OR IGNORE INTO landed VALUES (?, ?)", models)
        self.whole = whole
        self._is_merged = True

    @explains_scratch_errors
    def joined(self, models: Mapping[str, str]) -> None:
        """Note that rows were joined: the kept id of each that was dropped."""
        self._open()
        for dropped, kept in models.items():
            # plain SQL: the API's writes begin a transaction, and `_open` has begun one
            row = self._db.execute("SELECT locator FROM landed WHERE id = ?", [dropped]).fetchone()
            if row is not None:
                self._db.execute("DELETE FROM landed WHERE id = ?", [dropped])
                self._db.execute("INSERT OR IGNORE INTO landed VALUES (?, ?)", [kept, row[0]])

    @explains_scratch_errors
    def expected(self) -> int:
        """Return how many different models this import has merged so far."""
        if self.whole is not None:
            return self.whole
        self.find_last_rows()
        sql = """SELECT (SELECT count(*) FROM last_rows) + (SELECT count(*) FROM landed
            WHERE NOT EXISTS (SELECT 1 FROM last_rows WHERE model = landed.locator))"""
        return int(single_value(self._db, sql))

    @explains_scratch_errors
    def clear(self) -> None:
        """Forget the batch; the places that were seen and the merged models stay noted.

        The rows of a merged batch go when the next batch begins: the proof looks at the last
        batch, and noting a million rows that nobody asks for takes seconds.
        """
        self._is_over = True
        self.pending = 0
        if not self._is_merged:
            self._begin()

    def _begin(self) -> None:
        """Prepare for an addition: delete a batch that is over."""
        self._open()
        self.has_last_rows = False
        if not self._is_over:
            return
        if self._is_merged:
            # plain SQL: one statement for a million rows
            self._db.execute("INSERT OR IGNORE INTO landed SELECT id, locator FROM rows")
        for table in _BATCH_TABLES:
            self._db.execute(f"DELETE FROM {table}")  # plain SQL: see _BATCH_TABLES
        self.whole = None
        self._is_merged = self._is_over = False

    def _open(self) -> None:
        if not self._db.conn.in_transaction:
            self._db.begin()


def _remove(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)


def weights_file(model: Model, files: Sequence[ModelFile]) -> ModelFile | None:
    """Return the first weights file of a model: two places that have it show one model.

    Models share companions (projector, draft, configuration), so these are no evidence. A model
    that a server names by its path has that file, unread.
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
