"""Roots: what was imported, and the models that are gone from there.

A model whose file is gone is marked missing; its row vanishes only by `forget` or a prune. A root
that is gone, empty or on another device than before may be an unmounted disk: it is marked
offline, and its models stay as they are.

`survey_root` looks at files before the last batch of a root is merged, so that no lock is held
meanwhile; `settle_root` then belongs to the transaction of that batch. Files that it needs to know
about and that nobody looked at count as present, until the next import.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from modelstore.catalogue.merge import attached_staging
from modelstore.catalogue.schema import single_value
from modelstore.catalogue.tags import delete_models
from modelstore.database.sqlite_text import from_sqlite_text, signed, to_sqlite_text
from modelstore.found import KnownFile
from modelstore.locator import file_locator

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from modelstore.catalogue.schema import Writable
    from modelstore.catalogue.staging import Staging
    from modelstore.database.handle import Database

# A condition on a path column, for the values of `_subtree`: the root itself, or below it.
_UNDER = "({0} = :root OR ({0} >= :inside AND {0} < :beyond))"

_KNOWN = """SELECT f.path, f.size, f.mtime_ns, m.locator, f.sha256,
    (SELECT count(*) FROM model_files AS g
     WHERE g.model_id = f.model_id AND g.weights = f.weights) AS model_file_count
FROM model_files AS f CROSS JOIN models AS m ON m.id = f.model_id
WHERE f.size IS NOT NULL AND f.mtime_ns IS NOT NULL AND m.host IS :host
    AND m.status <> 'missing' AND (m.capabilities IS NOT NULL OR m.architecture IS NULL) AND {}
ORDER BY f.path = f.weights"""
_KNOWN_UNDER = _KNOWN.format(_UNDER.format("f.weights"))
# Links lead out of the root: the files of a model that was seen in it count as well.
_KNOWN_BY_PLACE = _KNOWN.format(
    "f.model_id IN (SELECT model_id FROM model_places "
    "WHERE host = ifnull(:host, '') AND root = :root)"
)


def known_files(db: Database, root: str, host: str | None) -> dict[str, KnownFile]:
    """Return the recorded files under a root, by real path: unchanged, they are not read again.

    Files of a missing model are left out, so that one that came back is read anew; and those of a
    model that a program before schema 2 read, which told no capabilities.
    """
    known = {}
    for sql in (_KNOWN_BY_PLACE, _KNOWN_UNDER):
        for row in db.query(sql, _subtree(root, host)):
            path, locator = from_sqlite_text(row.pop("path")), from_sqlite_text(row.pop("locator"))
            known[path] = KnownFile(locator=locator, **row)
    return known


def _subtree(root: str, host: str | None) -> dict[str, Any]:
    """Return the values ``:root``, ``:inside``, ``:beyond`` (for `_UNDER`) and ``:host``."""
    base = to_sqlite_text(root).rstrip(os.sep)
    after = chr(ord(os.sep) + 1)  # sorts right after everything below the root
    return {
        "root": to_sqlite_text(root),
        "inside": base + os.sep,
        "beyond": base + after,
        "host": host,
    }


@dataclass(frozen=True, slots=True)
class Survey:
    """The state of a root's files before the last batch of its import is merged."""

    root: str
    host: str | None
    seen: int  # places seen there by this import
    is_recorded: bool = False
    device: int | None = None
    offline: str | None = None  # why the root counts as offline; nothing changes then
    moved: bool = False  # with models, but on another device than before: nothing is marked
    candidates: Mapping[str, str] = field(default_factory=dict)
    """The models that may be gone: their ids, each with its ``updated_at``."""
    gone_places: frozenset[str] = frozenset()  # unseen, with nothing at their path any more
    gone: Mapping[str, int | None] = field(default_factory=dict)
    """Weights files that are gone, each with the device of the nearest directory above it."""

    @property
    def is_known(self) -> bool:
        """True if the catalogue may have to change for this root, whatever the import found."""
        return self.is_recorded or bool(self.candidates)

    @property
    def refusal(self) -> str | None:
        """The reason to refuse a prune, or None."""
        if self.offline is not None:
            return self.offline
        if self.moved:
            return "it is on another device than before"
        return "it holds no model at all" if not self.seen else None


_UNSEEN = """host = ifnull(:host, '') AND root = :root AND NOT EXISTS (
    SELECT 1 FROM staged.seen_places AS s
    WHERE s.root = model_places.root AND s.place = model_places.locator)"""

# Models with an unseen place here, and models with weights here in no seen place (they came by
# another root, above or below this one). A place may show another model since: it counts if the
# staged model there is this one.
_CANDIDATES = f"""SELECT id, updated_at FROM models WHERE id IN (
    SELECT model_id FROM model_places WHERE {_UNSEEN}
    UNION SELECT f.model_id FROM model_files AS f CROSS JOIN models AS m ON m.id = f.model_id
    WHERE {_UNDER.format("f.weights")} AND f.path = f.weights AND NOT EXISTS (
        SELECT 1 FROM model_places AS p CROSS JOIN staged.seen_places AS s
            ON s.root = p.root AND s.place = p.locator AND s.model = m.locator
        WHERE p.model_id = f.model_id AND p.host = ifnull(:host, ''))
) AND host IS :host ORDER BY rowid"""

_UNSEEN_PLACES = f"SELECT locator FROM model_places WHERE {_UNSEEN}"

_COPIES = "SELECT weights, device FROM model_files WHERE model_id = :model AND path = weights"


def survey_root(
    db: Database, staging: Staging, root: str, *, host: str | None, reached: bool = True
) -> Survey:
    """Look at the root and at the files of each model that this import has not seen there.

    Call it outside a transaction, after the last batch of the root is staged. `reached` is False
    if the source failed as a whole. Models of other hosts are left alone.
    """
    staging.seal()
    values = _subtree(root, host)
    with attached_staging(db, staging):
        seen = single_value(
            db,
            "SELECT count(*) FROM staged.seen_places WHERE root = :root",
            {"root": values["root"]},
        )
        recorded = list(db.table("roots").rows_where(*_key(root, host), select="device"))
        before = recorded[0]["device"] if recorded else None
        offline, device = _look(root, before, seen=seen, reached=reached)
        moved = None not in (before, device) and before != device
        # An empty root on the device that it always was on lost its files: they are missing. It may
        # also be where another part of that device was mounted, so that a prune refuses.
        is_emptied = offline == _EMPTY and None not in (before, device) and before == device
        if (offline is not None and not is_emptied) or moved:
            return Survey(root, host, seen, bool(recorded), device, offline, moved)
        candidates = {row["id"]: row["updated_at"] for row in db.query(_CANDIDATES, values)}
        unseen = [row["locator"] for row in db.query(_UNSEEN_PLACES, values)]
    copies = [copy for model in candidates for copy in db.query(_COPIES, {"model": model})]
    gone = {
        copy["weights"]: None
        if copy["device"] in (None, device)
        else _device_above(copy["weights"])
        for copy in copies
        if _is_gone(copy["weights"])
    }
    return Survey(
        root,
        host,
        seen,
        bool(recorded),
        device,
        offline,
        candidates=candidates,
        gone_places=frozenset(place for place in unseen if "://" not in root and _is_gone(place)),
        gone=gone,
    )


_EMPTY = "it is empty"


def _key(root: str, host: str | None) -> tuple[str, list[str]]:
    return "host = ? AND root = ?", [host or "", to_sqlite_text(root)]


def _look(
    root: str, device_before: int | None, *, seen: int, reached: bool
) -> tuple[str | None, int | None]:
    """Return why the root counts as offline, or None; and its device."""
    if "://" in root:
        return (None if reached else "it did not answer"), None
    try:
        status = os.stat(root)
        empty = not seen and os.path.isdir(root) and not os.listdir(root)
    except OSError:
        return "it is gone or cannot be read", None
    device = signed(status.st_dev)
    if seen:
        return None, device
    if empty:
        return _EMPTY, device
    if None not in (device_before, device) and device_before != device:
        return "it is on another device than before", device
    return (None if reached else "it could not be read"), device


def _is_gone(weights: str) -> bool:
    try:
        os.stat(from_sqlite_text(weights))
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:  # out of reach, which proves nothing
        return False
    return False


def _device_above(weights: str) -> int | None:
    path = from_sqlite_text(weights)
    while True:
        above = os.path.dirname(path)
        if above == path:
            return None
        path = above
        try:
            return signed(os.stat(path).st_dev)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            return None


class Settled(NamedTuple):
    """The models of a root that are gone, by their ids."""

    missing: frozenset[str] = frozenset()  # newly marked so
    prunable: tuple[str, ...] = ()  # missing now or before: a prune may delete them


def settle_root(
    db: Database, survey: Survey, *, source: str, now: str, holds_models: bool
) -> Settled:
    """Record a root, and mark its models that are gone; part of the transaction of its last batch.

    A root in which this import found no model is not recorded, unless it was before.
    """
    _record_root(db, survey, source=source, now=now, holds_models=holds_models)
    draft = _Draft(to_sqlite_text(survey.root))
    sql = """SELECT id, name, path, status, updated_at FROM models
        WHERE id IN (SELECT value FROM json_each(:ids)) AND host IS :host ORDER BY rowid"""
    candidates = {"ids": json.dumps(list(survey.candidates)), "host": survey.host}
    for model in list(db.query(sql, candidates)):
        # A model that somebody else changed since the survey stays as it is.
        if model["updated_at"] in (survey.candidates[model["id"]], now):
            draft.judge(model, _traces(db, survey, model["id"]))
    draft.write(db, survey, now)
    return Settled(frozenset(draft.missing), tuple(draft.prunable))


def _record_root(
    db: Database, survey: Survey, *, source: str, now: str, holds_models: bool
) -> None:
    table = db.table("roots")
    where, key = _key(survey.root, survey.host)
    if survey.offline is not None:
        if table.count_where(f"{where} AND status <> 'offline'", key):
            table.update(key, {"status": "offline"})
    elif holds_models or table.count_where(where, key):
        host, root = key
        row = {"host": host, "root": root, "source": source, "device": survey.device}
        table.upsert(row | {"status": "online", "imported_at": now}, pk=("host", "root"))


class _Traces(NamedTuple):
    """The places and weights files of a model that may be gone."""

    unseen: list[str]  # places in this root that the import did not see
    vanished: list[tuple[str, str]]  # those of them that are gone, with their names
    others: list[str]  # the roots of its other places
    gone: list[str]  # weights files
    left: list[str]  # weights files
    is_nameless: bool  # all its places are gone: a file that is left is a blob without a name


_PLACES = f"""SELECT root, locator, name, ({_UNSEEN}) AS unseen
FROM model_places WHERE model_id = :model"""


def _traces(db: Database, survey: Survey, model: str) -> _Traces:
    values = _subtree(survey.root, survey.host) | {"model": model}
    places = list(db.query(_PLACES, values))
    others = [place["root"] for place in places if not place["unseen"]]
    gone: list[str] = []
    left: list[str] = []
    for copy in db.query(_COPIES, {"model": model}):
        is_gone = _surely_gone(survey, copy["weights"], copy["device"], others)
        (gone if is_gone else left).append(copy["weights"])
    unseen = [(place["locator"], place["name"]) for place in places if place["unseen"]]
    vanished = [place for place in unseen if place[0] in survey.gone_places]
    out_of_reach = any(weights in survey.gone for weights in left)
    is_nameless = bool(unseen) and vanished == unseen and not others and not out_of_reach
    return _Traces([locator for locator, _ in unseen], vanished, others, gone, left, is_nameless)


def _surely_gone(survey: Survey, weights: str, device: int | None, others: list[str]) -> bool:
    """Tell whether a file is gone, and not merely out of reach."""
    if weights not in survey.gone:
        return False
    root = to_sqlite_text(survey.root)
    if not _is_below(weights, root) and any(_is_below(weights, other) for other in others):
        return False  # the import of that root judges
    # On any other device, the disk that it was on may not be mounted now.
    return device is None or device in (survey.device, survey.gone[weights])


def _is_below(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip(os.sep) + os.sep)


@dataclass(slots=True)
class _Draft:
    """The changes to the models of a root, to be written at once."""

    root: str
    dropped: list[tuple[str, str]] = field(default_factory=list)  # places: locator, model id
    gone: list[tuple[str, str]] = field(default_factory=list)  # copies: model id, weights
    paths: list[tuple[str, str]] = field(default_factory=list)  # another copy's path, model id
    renamed: list[tuple[str, str]] = field(default_factory=list)  # a name that is gone, model id
    missing: list[str] = field(default_factory=list)
    prunable: list[str] = field(default_factory=list)

    def judge(self, model: Mapping[str, Any], traces: _Traces) -> None:
        """Decide about one model."""
        key = model["id"]
        has_files = bool(traces.gone or traces.left)
        if (traces.left and not traces.is_nameless) or (not has_files and traces.others):
            if traces.gone or not has_files:
                self.dropped += [(locator, key) for locator in traces.unseen]
                self.gone += [(key, weights) for weights in traces.gone]
            else:
                self.dropped += [(locator, key) for locator, _ in traces.vanished]
            self.renamed += [(model["name"], key) for _, name in traces.vanished[:1]]
            if traces.left and model["path"] in traces.gone:
                self.paths.append((min(traces.left), key))
            return
        if model["status"] != "missing":
            self.missing.append(key)
        # With every file gone, places in directories mean nothing; a server may still have it.
        if not any(root == self.root or "://" in root for root in traces.others):
            self.prunable.append(key)

    def write(self, db: Database, survey: Survey, now: str) -> None:
        """Write the changes."""
        _, key = _key(survey.root, survey.host)
        # plain SQL: the write lock is held, and delete_where takes 37 µs a row instead of 6
        db.conn.executemany(
            "DELETE FROM model_places WHERE host = ? AND root = ? AND locator = ? AND model_id = ?",
            ((*key, *place) for place in self.dropped),
        )
        db.conn.executemany("DELETE FROM model_files WHERE model_id = ? AND weights = ?", self.gone)
        prefix = file_locator(survey.host or "", "/")[:-1]
        db.conn.executemany(
            _NEW_PATH,
            (
                {"path": path, "model": model, "now": now, "prefix": prefix}
                for path, model in self.paths
            ),
        )
        db.conn.executemany(
            _NEW_NAME, ({"name": name, "model": model, "now": now} for name, model in self.renamed)
        )
        db.conn.executemany(
            "UPDATE models SET status = 'missing', updated_at = ? WHERE id = ?",
            ((now, model) for model in self.missing),
        )


# The locator follows, so that another file at the old path is another model.
_NEW_PATH = """UPDATE OR IGNORE models SET path = :path, updated_at = :now,
    locator = iif(locator GLOB 'file://*', :prefix || :path, locator) WHERE id = :model"""

# The name was that of a place that is gone: a tag of Ollama that was removed.
_NEW_NAME = """UPDATE models SET name = p.name, updated_at = :now,
    source_id = iif(source_id = :name, p.name, source_id)
FROM (SELECT q.name, q.source FROM model_places AS q WHERE q.model_id = :model
    ORDER BY q.root, q.locator LIMIT 1) AS p
WHERE id = :model AND models.name = :name AND models.source = p.source
    AND NOT EXISTS (SELECT 1 FROM model_places WHERE model_id = :model AND name = :name)"""

_COUNT_KNOWN = f"""SELECT count(*) FROM (
    SELECT model_id FROM model_places WHERE host = ifnull(:host, '') AND root = :root
    UNION SELECT f.model_id FROM model_files AS f CROSS JOIN models AS m ON m.id = f.model_id
    WHERE {_UNDER.format("f.weights")} AND f.path = f.weights AND m.host IS :host)"""


def count_known(db: Database, root: str, host: str | None) -> int:
    """Return the number of models that the catalogue knows under a root."""
    return int(single_value(db, _COUNT_KNOWN, _subtree(root, host)))


class Prune(NamedTuple):
    """A prune that the caller may ask a person about."""

    root: str
    known: int  # models under the root
    models: tuple[str, ...]  # ids of those that the prune deletes

    @property
    def is_most(self) -> bool:
        """True if it deletes more than half of the models known under the root."""
        return 2 * len(self.models) > self.known


def prune_models(opened: Writable, models: Sequence[str]) -> tuple[str, ...]:
    """Delete those of these models that are still missing; return their ids."""
    with opened.write() as db:
        missing = db.table("models").rows_where(
            "status = 'missing' AND id IN (SELECT value FROM json_each(?))",
            [json.dumps(list(models))],
            select="id",
        )
        pruned = tuple(row["id"] for row in missing)
        delete_models(db, pruned)
    return pruned
