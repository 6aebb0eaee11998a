"""Whether a model that was found is one that the catalogue has; its files and places.

Two places show one model where the locator is the same, or on one host the weights are: by real
path, by device and inode, or by SHA-256. A path or an inode alone proves nothing about a file
that was replaced since (inode numbers are given anew), so these count only while size and time
are as recorded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modelstore.store.sqlite import sqlite3


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


def resolve(
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
