"""Taking what was staged into the catalogue, in one IMMEDIATE transaction.

What is known is never erased by what knows less. For a model that is in the catalogue already:

- **replace**: its weights file is not the file that was read before (other size or time). All
  that was read of the old one is void; the new values stand, unknown ones too.
- **tell**: the same kind of source at the same locator, a better-informed kind (files over
  configuration and records, these over servers), or a person's own record file. Its values
  stand where it has any.
- **fill**: everybody else, such as a server or another store that shows the same weights. Its
  values are taken where nothing was known.
- **last**: of several records of one model in one file, the last counts, as it is.

The user's tags only grow, ``created_at`` stays, and a row that would not differ is not written.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal

from modelstore.catalogue.schema import ownership
from modelstore.catalogue.staging import Staging, tags_json, trouble, union_of_tags
from modelstore.database.sqlite import sqlite3
from modelstore.model import MODEL_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from modelstore.catalogue.schema import Writable


@dataclass(frozen=True, slots=True)
class Match:
    """The catalogue's model that a found one is."""

    id: str
    locator: str
    source: str
    status: str
    changed: int  # 1 where its weights file is there, but is not the one that was read before


_BY_LOCATOR = """SELECT id, locator, source, status,
    EXISTS (
        SELECT 1 FROM model_files AS f JOIN staged.item_files AS s ON s.path = f.path
        WHERE f.model_id = models.id AND f.weights = :weights AND f.path = :weights
            AND s.item = :locator AND s.size IS NOT NULL AND f.size IS NOT NULL
            AND (s.size IS NOT f.size OR s.mtime_ns IS NOT f.mtime_ns)
    )
FROM models WHERE locator = :locator"""

# Of several, the one that was added first.
_BY_WEIGHTS = """SELECT m.id, m.locator, m.source, m.status, 0
FROM staged.item_files AS s CROSS JOIN model_files AS f CROSS JOIN models AS m
WHERE s.item = :locator AND s.path = :weights AND {}
    AND f.path = f.weights AND m.id = f.model_id AND m.host IS :host
ORDER BY m.rowid LIMIT 1"""

_UNCHANGED = "f.size IS s.size AND f.mtime_ns IS s.mtime_ns"
_BY_PATH = _BY_WEIGHTS.format(
    f"f.path = s.path AND (f.size IS NULL OR s.size IS NULL OR {_UNCHANGED})"
)
_BY_INODE = _BY_WEIGHTS.format(f"f.inode = s.inode AND f.device = s.device AND {_UNCHANGED}")
_BY_SHA256 = _BY_WEIGHTS.format("f.sha256 = s.sha256")


def match_staged(
    conn: sqlite3.Connection, locator: str, host: str | None, weights: str | None
) -> Match | None:
    """Return the model that the staged item `locator` is, or None where it is new."""
    values = {"locator": locator, "host": host, "weights": weights}
    by_weights = (_BY_PATH, _BY_INODE, _BY_SHA256) if weights is not None else ()
    for lookup in (_BY_LOCATOR, *by_weights):
        row = conn.execute(lookup, values).fetchone()
        if row is not None:
            return Match(*row)
    return None


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

# The files of a copy are those that it was found with; a copy shows one model at a time. What a
# server says of a path (no size) does not replace what was read there.
_DROP_FILES = """DELETE FROM model_files
WHERE weights = :weights
    AND EXISTS (SELECT 1 FROM models AS m WHERE m.id = model_files.model_id AND m.host IS :host)
    AND (model_id <> :model
        OR path NOT IN (SELECT path FROM staged.item_files WHERE item = :locator))
    AND EXISTS (SELECT 1 FROM staged.item_files WHERE item = :locator AND size IS NOT NULL)"""

# A hash that was computed or told before holds as long as size and time are the same.
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
    conn: sqlite3.Connection, model: str, locator: str, host: str | None, weights: str | None
) -> None:
    """Record the files and places of the staged item `locator` as those of `model`.

    Writes only what differs from what is recorded.
    """
    values = {"model": model, "locator": locator, "host": host, "weights": weights}
    if weights is not None:
        conn.execute(_DROP_FILES, values)
        conn.execute(_LAND_FILES, values)
    conn.execute(_LAND_PLACES, values)


Mode = Literal["replace", "override", "fill_unknown", "last"]

_KEY = ("id", "locator")
_FIXED = (*_KEY, "created_at", "updated_at")
_VALUES = tuple(c for c in MODEL_COLUMNS if c not in (*_FIXED, "tags", "source"))


@dataclass(frozen=True, slots=True)
class Merged:
    """What a merge did, in different models.

    Added, updated (its row in ``models`` changed) or unchanged; seconds that the write lock was
    held.
    """

    added: int
    updated: int
    unchanged: int
    lock_seconds: float

    @property
    def total(self) -> int:
        """Models that the catalogue holds for what was staged."""
        return self.added + self.updated + self.unchanged


def merge(opened: Writable, staging: Staging, *, now: str, tags: Iterable[str] = ()) -> Merged:
    """Take what is staged into the catalogue; `tags` are added to every model of it.

    `now` is ISO-8601 UTC. The caller clears the staging before the next batch.
    """
    tags = tuple(tags)
    staging.seal(tags)
    outcomes: dict[str, Outcome] = {}
    first = _is_empty(opened.conn)
    while True:
        if not first:
            staging.find_last_rows()
        with attached_staging(opened.conn, staging), opened.write() as db:
            conn = db.conn
            begun = time.monotonic()
            first = first and _is_empty(conn)
            if first or staging.has_last_rows:
                bulk, whole = _merge_rows(conn, now, first=first)
                landed = _merge_items(conn, now, outcomes)
                landed += _merge_seen(conn, now, tags_json(tags), outcomes)
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


def count_present(conn: sqlite3.Connection, staging: Staging) -> int:
    """Return how many of the models staged since the beginning `conn` can see.

    Equals ``staging.expected()`` where all are there. `conn` may see the main file alone.
    """
    if ownership(conn) == "empty":  # not even the tables are in the main file yet
        return 0
    if staging.whole is not None:
        (total,) = conn.execute(
            "SELECT count(*) FROM models WHERE rowid <= ?", (staging.whole,)
        ).fetchone()
        return int(total)
    staging.find_last_rows()
    with attached_staging(conn, staging):
        (total,) = conn.execute(
            "SELECT (SELECT count(*) FROM staged.last_rows CROSS JOIN models ON locator = model) "
            "+ (SELECT count(*) FROM staged.landed AS l CROSS JOIN models USING (id) WHERE "
            "NOT EXISTS (SELECT 1 FROM staged.last_rows WHERE model = l.locator))"
        ).fetchone()
    return int(total)


@contextmanager
def attached_staging(conn: sqlite3.Connection, staging: Staging) -> Iterator[None]:
    """Attach the sealed scratch database read-only as ``staged``."""
    from urllib.parse import quote

    uri = f"file:{quote(os.fsencode(os.path.abspath(staging.path)))}?mode=ro"
    try:
        conn.execute("ATTACH DATABASE ? AS staged", (uri,))
    except sqlite3.Error as error:
        raise trouble(error) from error
    try:
        yield
    finally:
        if not conn.in_transaction:
            conn.execute("DETACH DATABASE staged")


@cache
def upsert_sql(mode: Mode, selection: str) -> str:
    """Return the SQL that takes `selection`, in the order of ``MODEL_COLUMNS``, into ``models``.

    It has one parameter of its own, ``:now``. A row that would not differ is not touched.
    """
    if mode == "last":
        new = {column: f"excluded.{column}" for column in MODEL_COLUMNS if column not in _KEY}
        sets = ", ".join(f"{column} = {value}" for column, value in new.items())
        return _upsert(selection, sets)
    new = {column: _new_value(mode, column) for column in _VALUES}
    new["source"] = _new_source(mode)
    new["tags"] = (
        "CASE WHEN excluded.tags IN ('[]', models.tags) THEN models.tags "
        f"ELSE {union_of_tags('models.tags', 'excluded.tags')} END"
    )
    if mode == "replace":
        # Another kind of source names the same file otherwise: the first name stays.
        new["name"] = (
            "CASE WHEN excluded.source = models.source THEN excluded.name ELSE models.name END"
        )
    sets = ", ".join(f"{column} = {value}" for column, value in new.items())
    differs = " OR ".join(f"{value} IS NOT models.{column}" for column, value in new.items())
    return _upsert(selection, f"{sets}, updated_at = :now WHERE {differs}")


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


_FILE_KINDS = ("gguf", "safetensors", "directory", "huggingface", "llama-cache", "ollama")
_RANKS = {
    **dict.fromkeys((*_FILE_KINDS, "lmstudio"), 2),
    **dict.fromkeys(("llama-server", "ollama-server", "lmstudio-server", "openai-server"), 0),
}


def rank(source: str) -> int:
    """Return how well a kind of source knows a model: 2 reads files, 0 asks a server."""
    return _RANKS.get(source, 1)


def _rank_sql(source: str) -> str:
    whens = " ".join(f"WHEN '{kind}' THEN {value}" for kind, value in _RANKS.items())
    return f"(CASE {source} {whens} ELSE 1 END)"


def _new_source(mode: Mode) -> str:
    if mode == "fill_unknown":
        return "models.source"
    return (
        "CASE WHEN excluded.source <> models.source "
        f"AND {_rank_sql('excluded.source')} > {_rank_sql('models.source')} "
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


def _is_empty(conn: sqlite3.Connection) -> bool:
    return bool(conn.execute("SELECT NOT EXISTS (SELECT 1 FROM models)").fetchone()[0])


def _merge_rows(conn: sqlite3.Connection, now: str, *, first: bool) -> tuple[Merged, bool]:
    """Take the rows over; return what that did, and whether they are all that there is.

    The `first` rows of an empty catalogue, where nothing is to be compared, go straight in.
    """
    (staged,) = conn.execute("SELECT count(*) FROM staged.rows").fetchone()
    if not staged:
        return Merged(0, 0, 0, 0.0), False
    if first:
        conn.execute(upsert_sql("last", _selection("rows") + " WHERE true"), {"now": now})
        added, last = conn.execute("SELECT count(*), max(rowid) FROM models").fetchone()
        return Merged(added, 0, 0, 0.0), added == last
    staged, before = conn.execute(
        "SELECT (SELECT count(*) FROM staged.last_rows), (SELECT count(*) FROM models)"
    ).fetchone()
    changed = 0
    modes: tuple[tuple[Mode, int], ...] = (("override", 0), ("fill_unknown", 1))
    for mode, fill in modes:
        # In the order of locators the catalogue's own index grows at its end, page by page.
        selection = _selection("last_rows AS l CROSS JOIN staged.rows AS r ON r.rowid = l.last")
        selection += f" WHERE fill = {fill} ORDER BY l.model"
        changed += conn.execute(upsert_sql(mode, selection), {"now": now}).rowcount
    (after,) = conn.execute("SELECT count(*) FROM models").fetchone()
    added = after - before
    return Merged(added, changed - added, staged - changed, 0.0), False


_ITEM = _selection("items", id=":id", locator=":locator") + " WHERE rowid = :item"


def _merge_items(
    conn: sqlite3.Connection, now: str, outcomes: dict[str, Outcome]
) -> list[tuple[str, str]]:
    """Take over models one by one, in the order in which they were found.

    Each sees those before it, so that how an import is cut into batches makes no difference.
    """
    landed = []
    items = conn.execute(
        "SELECT rowid, id, locator, source, host, told, weights FROM staged.items ORDER BY rowid"
    ).fetchall()
    for item, own_id, own_locator, source, host, told, weights in items:
        match = match_staged(conn, own_locator, host, weights)
        known = match is not None
        model, locator = (match.id, match.locator) if match else (own_id, own_locator)
        mode: Mode = "override"
        if match is not None:
            same = match.locator == own_locator and match.source == source
            better = rank(source) > rank(match.source)
            returns = match.status == "missing" and rank(source) == 2
            if match.changed and rank(source) == 2:
                mode = "replace"
            elif not (told or same or better or returns):
                mode = "fill_unknown"
        parameters = {"now": now, "id": model, "locator": locator, "item": item}
        wrote = conn.execute(upsert_sql(mode, _ITEM), parameters).rowcount > 0
        land_companions(conn, model, own_locator, host, weights)
        outcome: Outcome = "added" if not known else "updated" if wrote else "unchanged"
        if outcomes.get(model, "unchanged") == "unchanged":
            outcomes[model] = outcome
        landed.append((model, locator))
    return landed


_SEEN = "(SELECT locator FROM staged.seen)"


def _merge_seen(
    conn: sqlite3.Connection, now: str, tags: str, outcomes: dict[str, Outcome]
) -> list[tuple[str, str]]:
    """Note the places of models that are as they were; a missing one is back."""
    seen = conn.execute(
        "SELECT DISTINCT m.id, m.locator FROM staged.seen AS s CROSS JOIN models AS m "
        "ON m.locator = s.locator"
    ).fetchall()
    if not seen:
        return []
    changed = conn.execute(
        "UPDATE models SET status = 'available', updated_at = ? "
        f"WHERE status = 'missing' AND locator IN {_SEEN} RETURNING id",
        (now,),
    ).fetchall()
    if tags != "[]":
        union = union_of_tags("tags", "?2")
        changed += conn.execute(
            f"UPDATE models SET tags = {union}, updated_at = ?1 "
            f"WHERE locator IN {_SEEN} AND {union} <> tags RETURNING id",
            (now, tags),
        ).fetchall()
    conn.execute(LAND_SEEN_PLACES)
    for model, *_ in seen:
        outcomes.setdefault(model, "unchanged")
    for (model,) in changed:
        if outcomes[model] == "unchanged":
            outcomes[model] = "updated"
    return seen
