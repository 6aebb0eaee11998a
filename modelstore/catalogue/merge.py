"""Merge what was staged into the catalogue, in one IMMEDIATE transaction.

Values that are known are never erased by a source that knows less. The mode of a merge says what
happens to a model that is in the catalogue already:

- **replace**: its weights file changed (another size or time) since it was read. The new values
  stand, NULL included: all that was read of the old file is void.
- **override**: the staged model comes from the same kind of source at the same locator, from a
  kind of a higher rank, or from an authoritative kind (a person's own records). Its values stand
  unless they are NULL.
- **fill_unknown**: any other source, such as a server or another store that shows the same
  weights. Its values are taken where the catalogue has NULL.
- **last**: of several records of one model in one file, the last counts, as it is.

Tags are only added, ``created_at`` stays, and a row that would not differ is not written.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from modelstore.catalogue.hub import CACHES, CachedModels
from modelstore.catalogue.identity import Match, follows, free_id, match_staged, move
from modelstore.catalogue.schema import ownership, single_value
from modelstore.catalogue.staging import Staging, scratch_error
from modelstore.catalogue.tags import tags_json, union_of_tags
from modelstore.database.handle import uri
from modelstore.database.sqlite import sqlite3
from modelstore.model import MODEL_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from modelstore.catalogue.schema import Writable
    from modelstore.database.handle import Database

_FILES_RANK = 2
"""The rank of a kind of source that reads the model's files themselves."""


_PLACE_CONFLICT = """ON CONFLICT (host, root, locator) DO UPDATE SET model_id = excluded.model_id,
    source = excluded.source, name = excluded.name, state = excluded.state
WHERE (excluded.model_id, excluded.source, excluded.name, excluded.state)
    IS NOT (model_places.model_id, model_places.source, model_places.name, model_places.state)"""

_LAND_PLACES = f"""INSERT INTO model_places (host, root, locator, model_id, source, name, state)
SELECT ifnull(:host, ''), root, place, :model, source, name, state
FROM staged.item_places WHERE item = :locator {_PLACE_CONFLICT}"""

LAND_SEEN_PLACES = f"""INSERT INTO model_places (host, root, locator, model_id, source, name, state)
SELECT ifnull(m.host, ''), s.root, s.place, m.id, s.source, s.name, s.state
FROM staged.seen AS s CROSS JOIN models AS m ON m.locator = s.locator
WHERE s.root <> '' {_PLACE_CONFLICT}"""

# A copy has the files that it was found with, and shows one model at a time. A path that a server
# names (no size) does not replace what was read there.
_DROP_FILES = """DELETE FROM model_files
WHERE weights = :weights
    AND EXISTS (SELECT 1 FROM models AS m WHERE m.id = model_files.model_id AND m.host IS :host)
    AND (model_id <> :model
        OR path NOT IN (SELECT path FROM staged.item_files WHERE item = :locator))
    AND EXISTS (SELECT 1 FROM staged.item_files WHERE item = :locator AND size IS NOT NULL)"""

# A hash from before holds as long as size and time are the same.
_LAND_FILES = """INSERT INTO model_files
    (model_id, weights, path, role, size, mtime_ns, sha256, device, inode)
SELECT :model, :weights, path, role, size, mtime_ns, sha256, device, inode
FROM staged.item_files WHERE item = :locator
ON CONFLICT (model_id, weights, path) DO UPDATE SET
    role = excluded.role, size = excluded.size, mtime_ns = excluded.mtime_ns,
    device = excluded.device, inode = excluded.inode,
    sha256 = coalesce(excluded.sha256, CASE WHEN excluded.size IS model_files.size
        AND excluded.mtime_ns IS model_files.mtime_ns THEN model_files.sha256 END)
WHERE excluded.size IS NOT NULL AND (
    (excluded.role, excluded.size, excluded.mtime_ns, excluded.device, excluded.inode) IS NOT
    (model_files.role, model_files.size, model_files.mtime_ns, model_files.device,
        model_files.inode)
    OR excluded.sha256 <> model_files.sha256
    OR (model_files.sha256 IS NULL AND excluded.sha256 IS NOT NULL))"""


def land_companions(
    db: Database, model: str, locator: str, host: str | None, weights: str | None
) -> None:
    """Record the files and places of the staged item `locator` for `model`; write only changes."""
    values = {"model": model, "locator": locator, "host": host, "weights": weights}
    if weights is not None:
        db.execute(_DROP_FILES, values)  # plain SQL: from the attached staging, row by row in C
        db.execute(_LAND_FILES, values)
    db.execute(_LAND_PLACES, values)


Mode = Literal["replace", "override", "fill_unknown", "last"]

_KEY = ("id", "locator")
_FIXED = (*_KEY, "created_at", "updated_at")
_VALUES = tuple(c for c in MODEL_COLUMNS if c not in (*_FIXED, "tags", "source"))


class Merged(NamedTuple):
    """The result of a merge, in different models: added, updated (its row changed) or unchanged."""

    added: int
    updated: int
    unchanged: int
    lock_seconds: float = 0.0  # that the write lock was held


def merge(
    opened: Writable,
    staging: Staging,
    *,
    now: str,
    tags: Iterable[str] = (),
    then: Callable[[Database], object] | None = None,
) -> Merged:
    """Merge what is staged; `tags` are added to each of its models.

    `now` is ISO-8601 UTC. `then` is called at the end of the transaction, in which the scratch
    database is attached as ``staged``. The caller clears the staging before the next batch.
    """
    tags = tuple(tags)
    staging.seal(tags)
    outcomes: dict[str, Outcome] = {}
    first = _is_empty(opened.db)
    while True:
        if not first:
            staging.find_last_rows()
        with attached_staging(opened.db, staging), opened.write() as db:
            begun = time.monotonic()
            first = first and _is_empty(db)
            if first or staging.has_last_rows:
                bulk, whole = _merge_rows(db, now, first=first)
                landed = _merge_items(db, staging, now, outcomes)
                landed += _merge_seen(db, now, tags_json(tags), outcomes)
                if then is not None:
                    then(db)
                break
    lock_seconds = time.monotonic() - begun
    staging.merged(landed, None if landed or not whole else bulk.added)
    kinds = list(outcomes.values())
    return Merged(
        bulk.added + kinds.count("added"),
        bulk.updated + kinds.count("updated"),
        bulk.unchanged + kinds.count("unchanged"),
        lock_seconds,
    )


Outcome = Literal["added", "updated", "unchanged"]


_PRESENT = """SELECT
    (SELECT count(*) FROM staged.last_rows CROSS JOIN models ON locator = model) +
    (SELECT count(*) FROM staged.landed AS l CROSS JOIN models USING (id)
     WHERE NOT EXISTS (SELECT 1 FROM staged.last_rows WHERE model = l.locator))"""


def count_present(db: Database, staging: Staging) -> int:
    """Return how many of the models of this import `db`, which may be the main file alone, holds.

    It is ``staging.expected()`` if all are there.
    """
    if ownership(db) == "empty":  # not even the tables are in the main file yet
        return 0
    if staging.whole is not None:
        return db.table("models").count_where("rowid <= ?", [staging.whole])
    staging.find_last_rows()
    with attached_staging(db, staging):
        return int(single_value(db, _PRESENT))


@contextmanager
def attached_staging(db: Database, staging: Staging) -> Iterator[None]:
    """Attach the sealed scratch database read-only as ``staged``."""
    try:
        # plain SQL: db.attach takes a path that is text and no quote, and cannot say read-only
        db.execute("ATTACH DATABASE ? AS staged", [uri(os.path.abspath(staging.path), "ro")])
    except sqlite3.Error as error:
        raise scratch_error(error) from error
    try:
        yield
    finally:
        if not db.conn.in_transaction:
            db.execute("DETACH DATABASE staged")


@cache
def upsert_sql(mode: Mode, selection: str) -> str:
    """Return the SQL that merges `selection`, in the order of ``MODEL_COLUMNS``, into ``models``.

    Its own parameter is ``:now``. A row that would not differ is not touched.
    """
    if mode == "last":
        new = {column: f"excluded.{column}" for column in MODEL_COLUMNS if column not in _KEY}
        sets = ", ".join(f"{column} = {value}" for column, value in new.items())
        return _upsert(selection, sets)
    new = {column: _new_value(mode, column) for column in _VALUES}
    new["source"] = _new_source(mode)
    new["tags"] = _union("tags")
    if mode != "replace":  # a server may know capabilities that the file does not show
        new["capabilities"] = (
            "CASE WHEN models.capabilities IS NULL THEN excluded.capabilities "
            f"WHEN excluded.capabilities IS NULL THEN models.capabilities ELSE "
            f"{_union('capabilities')} END"
        )
    if mode == "replace":
        # Another kind of source has another name for the same file: the first name stays.
        new["name"] = (
            "CASE WHEN excluded.source = models.source THEN excluded.name ELSE models.name END"
        )
    sets = ", ".join(f"{column} = {value}" for column, value in new.items())
    differs = " OR ".join(f"{value} IS NOT models.{column}" for column, value in new.items())
    return _upsert(selection, f"{sets}, updated_at = :now WHERE {differs}")


def _union(column: str) -> str:
    """Return the SQL of the union of two arrays, which costs nothing where it adds nothing."""
    old, new = f"models.{column}", f"excluded.{column}"
    return f"CASE WHEN {new} IN ('[]', {old}) THEN {old} ELSE {union_of_tags(old, new)} END"


def _upsert(selection: str, sets: str) -> str:
    return (
        f"INSERT INTO models ({', '.join(MODEL_COLUMNS)}) {selection} "
        f"ON CONFLICT (locator) DO UPDATE SET {sets}"
    )


def _new_value(mode: Mode, column: str) -> str:
    if mode == "replace":
        return f"excluded.{column}"
    if mode == "override":
        return f"coalesce(excluded.{column}, models.{column})"
    return f"coalesce(models.{column}, excluded.{column})"


# A kind that this program does not know counts as a description of a model.
_RANK = "ifnull((SELECT rank FROM staged.kinds WHERE kind = {}.source), 1)"


def _new_source(mode: Mode) -> str:
    if mode == "fill_unknown":
        return "models.source"
    return (
        "CASE WHEN excluded.source <> models.source "
        f"AND {_RANK.format('excluded')} > {_RANK.format('models')} "
        "THEN excluded.source ELSE models.source END"
    )


def _selection(table: str, **replaced: str) -> str:
    given = {
        "created_at": "coalesce(created_at, :now)",
        "updated_at": "coalesce(updated_at, :now)",
        **replaced,
    }
    columns = ", ".join(given.get(column, column) for column in MODEL_COLUMNS)
    return f"SELECT {columns} FROM staged.{table}"


def _is_empty(db: Database) -> bool:
    return bool(single_value(db, "SELECT NOT EXISTS (SELECT 1 FROM models)"))


def _merge_rows(db: Database, now: str, *, first: bool) -> tuple[Merged, bool]:
    """Merge the rows; return the counts, and True if they are the whole catalogue.

    The `first` rows of an empty catalogue need no comparison and go straight in.
    """
    models = db.table("models")
    if not single_value(db, "SELECT count(*) FROM staged.rows"):
        return Merged(0, 0, 0), False
    if first:
        # plain SQL: one statement, 9 times as fast as db.table("models").upsert_all()
        db.execute(upsert_sql("last", _selection("rows") + " WHERE true"), {"now": now})
        added = models.count
        return Merged(added, 0, 0), added == single_value(db, "SELECT max(rowid) FROM models")
    staged = int(single_value(db, "SELECT count(*) FROM staged.last_rows"))
    before = models.count
    changed = 0
    modes: tuple[tuple[Mode, int], ...] = (("override", 1), ("fill_unknown", 0))
    for mode, authoritative in modes:
        # In the order of locators the catalogue's own index is walked page by page.
        selection = _selection("last_rows AS l CROSS JOIN staged.rows AS r ON r.rowid = l.last")
        selection += f" WHERE authoritative = {authoritative} ORDER BY l.model"
        changed += _upsert_rows(db, mode, selection, now)
    added = models.count - before
    return Merged(added, changed - added, staged - changed), False


_FREE_ID = """CASE WHEN EXISTS (SELECT 1 FROM models AS m WHERE m.id = r.id
    AND m.locator <> r.locator) THEN lower(hex(randomblob(8))) ELSE id END"""


def _upsert_rows(db: Database, mode: Mode, selection: str, now: str) -> int:
    """Merge a selection of rows; return how many were written."""
    try:
        # plain SQL: bulk
        return int(db.execute(upsert_sql(mode, selection), {"now": now}).rowcount)
    except sqlite3.IntegrityError:
        pass  # the statement alone is undone
    # A model that was moved away from one of these locators has the id that it gives.
    selection = selection.replace("SELECT id,", f"SELECT {_FREE_ID},", 1)
    return int(db.execute(upsert_sql(mode, selection), {"now": now}).rowcount)  # plain SQL: bulk


_ITEM = _selection("items", id=":id", locator=":locator") + " WHERE rowid = :item"


_ITEMS = """SELECT rowid AS item, id, locator, source, host, authoritative, weights
FROM staged.items ORDER BY rowid"""


def _merge_items(
    db: Database, staging: Staging, now: str, outcomes: dict[str, Outcome]
) -> list[tuple[str, str]]:
    """Merge models one by one, in the order in which they were found; return (id, locator) of each.

    Each sees those before it, so that the cutting of an import into batches makes no difference.
    """
    landed = []
    cached = CachedModels(db)
    for item in list(db.query(_ITEMS)):
        weights, meant = item["weights"], None
        if weights is None and _is_reference(item):
            meant = cached.find(item["locator"], item["host"])
        match = match_staged(db, item["locator"], item["host"], weights, meant)
        model, locator = (item["id"], item["locator"])
        mode: Mode = "override"
        if match is None:
            model = free_id(db, model, locator)
        else:
            model, locator = match.id, match.locator
            mode = "fill_unknown" if model == meant else _mode(item, match, staging)
            if staging.rank(item["source"]) == _FILES_RANK and follows(item, match):
                move(db, item, match)
                locator, mode = item["locator"], "override"
        values = {"now": now, "id": model, "locator": locator, "item": item["item"]}
        # plain SQL: one statement copies a row from the attached staging
        wrote = db.execute(upsert_sql(mode, _ITEM), values).rowcount > 0
        land_companions(db, model, item["locator"], item["host"], weights)
        if outcomes.get(model, "unchanged") == "unchanged":
            outcomes[model] = "added" if match is None else "updated" if wrote else "unchanged"
        landed.append((model, locator))
    return landed


def _is_reference(item: Mapping[str, Any]) -> bool:
    """Tell whether an item without files is a reference to the hub."""
    return (
        item["locator"].startswith("hf:")
        and not item["authoritative"]
        and item["source"] not in CACHES
    )


def _mode(item: Mapping[str, Any], match: Match, staging: Staging) -> Mode:
    """Return the mode in which a staged item is merged into the model that it is."""
    rank = staging.rank(item["source"])
    if match.changed and rank == _FILES_RANK:
        return "replace"
    is_same = match.locator == item["locator"] and match.source == item["source"]
    is_better = rank > staging.rank(match.source)
    is_back = match.status == "missing" and rank == _FILES_RANK
    return (
        "override" if item["authoritative"] or is_same or is_better or is_back else "fill_unknown"
    )


_RENAME_SEEN = """UPDATE models SET name = ifnull(s.name, models.name),
    source_id = ifnull(s.source_id, models.source_id),
    revision = ifnull(s.revision, models.revision), updated_at = :now
FROM staged.seen_names AS s
WHERE models.locator = s.locator AND models.source = s.source
    AND (models.name <> s.name OR models.source_id IS NOT ifnull(s.source_id, models.source_id)
        OR models.revision IS NOT ifnull(s.revision, models.revision))
RETURNING id"""

_SEEN = "(SELECT locator FROM staged.seen)"


def _merge_seen(
    db: Database, now: str, tags: str, outcomes: dict[str, Outcome]
) -> list[tuple[str, str]]:
    """Record the places of models whose files are unchanged; a missing one is available again."""
    sql = "SELECT DISTINCT m.id, m.locator FROM staged.seen AS s CROSS JOIN models AS m "
    seen = [(row["id"], row["locator"]) for row in db.query(sql + "ON m.locator = s.locator")]
    if not seen:
        return []
    values = {"now": now, "tags": tags}
    sql = "UPDATE models SET status = 'available', updated_at = :now "
    where = f"WHERE status = 'missing' AND locator IN {_SEEN} RETURNING id"
    changed = list(db.query(sql + where, values))
    changed += db.query(_RENAME_SEEN, values)
    if tags != "[]":
        union = union_of_tags("tags", ":tags")
        sql = f"UPDATE models SET tags = {union}, updated_at = :now "
        where = f"WHERE locator IN {_SEEN} AND {union} <> tags RETURNING id"
        changed += db.query(sql + where, values)
    db.execute(LAND_SEEN_PLACES)  # plain SQL: from the attached staging, in one statement
    for model, _ in seen:
        outcomes.setdefault(model, "unchanged")
    for row in changed:
        if outcomes[row["id"]] == "unchanged":
            outcomes[row["id"]] = "updated"
    return seen
