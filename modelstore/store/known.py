"""What the catalogue recorded of files, so that one that did not change is never read twice."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from modelstore.store.storable import original, storable

if TYPE_CHECKING:
    from modelstore.store.sqlite import sqlite3


class KnownRow(NamedTuple):
    """What the catalogue recorded of a file when it last read it."""

    size: int  # bytes
    mtime_ns: int
    locator: str  # of the model that it belongs to
    sha256: str | None
    model_file_count: int  # files of that copy of the model


_KNOWN = """SELECT f.path, f.size, f.mtime_ns, m.locator, f.sha256,
    (SELECT count(*) FROM model_files AS g
     WHERE g.model_id = f.model_id AND g.weights = f.weights)
FROM model_files AS f CROSS JOIN models AS m ON m.id = f.model_id
WHERE f.size IS NOT NULL AND f.mtime_ns IS NOT NULL AND m.host IS :host
    AND m.status <> 'missing' AND {} ORDER BY f.path = f.weights"""

# A condition on a path column, for `subtree`: the root itself, or below it.
UNDER = "({0} = :root OR ({0} >= :inside AND {0} < :beyond))"
_KNOWN_UNDER = _KNOWN.format(UNDER.format("f.weights"))
# Links lead out of the root: what was found by a place of it counts as well.
_KNOWN_BY_PLACE = _KNOWN.format(
    "f.model_id IN (SELECT model_id FROM model_places "
    "WHERE host = ifnull(:host, '') AND root = :root)"
)


def known_files(conn: sqlite3.Connection, root: str, host: str | None) -> dict[str, KnownRow]:
    """Return the recorded files under a root, by real path: what need not be read again.

    Files of a missing model are left out, so that one that came back is read anew.
    """
    known = {}
    values = subtree(root) | {"host": host}
    for sql in (_KNOWN_BY_PLACE, _KNOWN_UNDER):
        for path, size, mtime_ns, locator, sha256, files in conn.execute(sql, values):
            known[original(path)] = KnownRow(size, mtime_ns, original(locator), sha256, files)
    return known


def subtree(root: str) -> dict[str, str | int | None]:
    """Return the parameters ``:root``, ``:inside`` and ``:beyond`` that `UNDER` compares with."""
    base = storable(root).rstrip(os.sep)
    after = chr(ord(os.sep) + 1)  # what sorts right behind everything below the root
    return {"root": storable(root), "inside": base + os.sep, "beyond": base + after}
