"""What an import of a place means for what the catalogue knew of that place.

A model whose file is gone is marked missing; it vanishes only by `forget` or a prune. A root that
is gone, empty or on another device than before is an unmounted disk until shown otherwise: it is
marked offline, and its models stay as they are.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from modelstore.catalogue.merge import attached_staging
from modelstore.catalogue.tags import delete_model
from modelstore.database.sqlite_text import from_sqlite_text, signed, to_sqlite_text
from modelstore.model import KnownFile

if TYPE_CHECKING:
    from modelstore.catalogue.schema import Writable
    from modelstore.catalogue.staging import Staging
    from modelstore.database.sqlite import sqlite3


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


def known_files(conn: sqlite3.Connection, root: str, host: str | None) -> dict[str, KnownFile]:
    """Return the recorded files under a root, by real path: what need not be read again.

    Files of a missing model are left out, so that one that came back is read anew.
    """
    known = {}
    values = subtree(root) | {"host": host}
    for sql in (_KNOWN_BY_PLACE, _KNOWN_UNDER):
        for path, size, mtime_ns, locator, sha256, files in conn.execute(sql, values):
            known[from_sqlite_text(path)] = KnownFile(
                size, mtime_ns, from_sqlite_text(locator), sha256, files
            )
    return known


def subtree(root: str) -> dict[str, str | int | None]:
    """Return the parameters ``:root``, ``:inside`` and ``:beyond`` that `UNDER` compares with."""
    base = to_sqlite_text(root).rstrip(os.sep)
    after = chr(ord(os.sep) + 1)  # what sorts right behind everything below the root
    return {"root": to_sqlite_text(root), "inside": base + os.sep, "beyond": base + after}


@dataclass(frozen=True, slots=True)
class Plan:
    """What a finished import of a root would change, for the caller to show, ask about and do."""

    root: str
    host: str | None
    known: int  # models recorded under the root
    seen: int  # places seen there by this import
    device: int | None = None
    offline: str | None = None  # why the root counts as offline; nothing is changed then
    moved: bool = False  # on another device than before, though with models: nothing is marked
    dropped: tuple[tuple[str, str], ...] = ()  # places: locator, model id
    gone_copies: tuple[tuple[str, str], ...] = ()  # files' records: model id, weights
    paths: tuple[tuple[str, str], ...] = ()  # model id, the path that still holds it
    missing: tuple[tuple[str, str], ...] = ()  # model id, its updated_at
    prunable: tuple[str, ...] = ()  # ids of models that a prune would delete

    @property
    def refusal(self) -> str | None:
        """Why a prune is refused, or None."""
        if self.offline is not None:
            return self.offline
        if self.moved:
            return "it is on another device than before"
        return "it holds no model at all" if not self.seen else None

    @property
    def is_most(self) -> bool:
        """Whether a prune would delete more than half of the models known under the root."""
        return 2 * len(self.prunable) > self.known


@dataclass(slots=True)
class _Draft:
    dropped: list[tuple[str, str]] = field(default_factory=list)
    gone_copies: list[tuple[str, str]] = field(default_factory=list)
    paths: list[tuple[str, str]] = field(default_factory=list)
    missing: list[tuple[str, str]] = field(default_factory=list)
    prunable: list[str] = field(default_factory=list)


def survey_root(
    conn: sqlite3.Connection,
    staging: Staging,
    root: str,
    *,
    host: str | None,
    reached: bool = True,
) -> Plan:
    """Work out what the import of `root` means for the models that were known there.

    Call it after the last batch of the root was merged, outside a transaction. It looks at each
    file that was not seen, and writes nothing. `reached` is False where the source failed as a
    whole. Rows of other hosts are left alone.
    """
    staging.seal()
    with attached_staging(conn, staging):
        values = subtree(root) | {"host": host}
        (seen,) = conn.execute(
            "SELECT count(*) FROM staged.seen_places WHERE root = :root", values
        ).fetchone()
        (known,) = conn.execute(_COUNT_KNOWN, values).fetchone()
        before = conn.execute(_ROOT_DEVICE, values).fetchone()
        offline, device = _look(root, before[0] if before else None, seen=seen, reached=reached)
        moved = bool(before and None not in (before[0], device) and before[0] != device)
        plan = Plan(root, host, known, seen, device, offline, moved)
        if offline is not None or moved:
            return plan
        draft = _Draft()
        for row in conn.execute(_CANDIDATES, values).fetchall():
            _judge(conn, draft, row, values | {"device": device})
    return Plan(
        *(root, host, known, seen, device, None, False),
        *(tuple(draft.dropped), tuple(draft.gone_copies), tuple(draft.paths)),
        *(tuple(draft.missing), tuple(draft.prunable)),
    )


_COUNT_KNOWN = f"""SELECT count(*) FROM (
    SELECT model_id FROM model_places WHERE host = ifnull(:host, '') AND root = :root
    UNION SELECT f.model_id FROM model_files AS f CROSS JOIN models AS m ON m.id = f.model_id
    WHERE {UNDER.format("f.weights")} AND f.path = f.weights AND m.host IS :host)"""

_ROOT_DEVICE = "SELECT device FROM roots WHERE host = ifnull(:host, '') AND root = :root"

_UNSEEN = """host = ifnull(:host, '') AND root = :root AND NOT EXISTS (
    SELECT 1 FROM staged.seen_places AS s
    WHERE s.root = model_places.root AND s.place = model_places.locator)"""

# Models with an unseen place here, and models whose weights are here and that no place of this
# import showed (they came by another root, above or below this one).
_CANDIDATES = f"""SELECT id, path, status, updated_at FROM models WHERE id IN (
    SELECT model_id FROM model_places WHERE {_UNSEEN}
    UNION SELECT f.model_id FROM model_files AS f
    WHERE {UNDER.format("f.weights")} AND f.path = f.weights AND NOT EXISTS (
        SELECT 1 FROM model_places AS p CROSS JOIN staged.seen_places AS s
            ON s.root = p.root AND s.place = p.locator
        WHERE p.model_id = f.model_id AND p.host = ifnull(:host, ''))
) AND host IS :host ORDER BY rowid"""

_COPIES = "SELECT weights, device FROM model_files WHERE model_id = ? AND path = weights"


def _look(
    root: str, device_before: int | None, *, seen: int, reached: bool
) -> tuple[str | None, int | None]:
    """Return why the root counts as offline (None: it does not), and its device."""
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
        return "it is empty", device
    if None not in (device_before, device) and device_before != device:
        return "it is on another device than before", device
    return (None if reached else "it could not be read"), device


def _judge(
    conn: sqlite3.Connection,
    draft: _Draft,
    row: tuple[str, str | None, str, str],
    values: dict[str, str | int | None],
) -> None:
    model, path, status, updated_at = row
    places = conn.execute(
        f"SELECT root, locator, ({_UNSEEN}) FROM model_places WHERE model_id = :model",
        values | {"model": model},
    ).fetchall()
    unseen = [locator for _, locator, gone in places if gone]
    others = [root for root, _, gone in places if not gone]
    copies = conn.execute(_COPIES, (model,)).fetchall()
    gone = [weights for weights, device in copies if _is_gone(weights, device, values, others)]
    alive = [weights for weights, _ in copies if weights not in gone]
    if alive or (not copies and others):
        if gone or not copies:
            draft.dropped += [(locator, model) for locator in unseen]
            draft.gone_copies += [(model, weights) for weights in gone]
            if alive and path in gone:
                draft.paths.append((model, min(alive)))
        return
    if status != "missing":
        draft.missing.append((model, updated_at))
    # With every file gone, places in other directories mean nothing; a server may still have it.
    if not any(root == values["root"] or "://" in root for root in others):
        draft.prunable.append(model)


def _is_gone(
    weights: str,
    device: int | None,
    values: dict[str, str | int | None],
    others: list[str],
) -> bool:
    """Tell whether a file is surely gone, and not merely out of reach."""
    path = from_sqlite_text(weights)
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError:  # out of reach: no proof of anything
        return False
    else:
        return False
    if not _is_below(weights, str(values["root"])) and any(_is_below(weights, o) for o in others):
        return False  # that root's own import judges
    if device is None or device == values["device"]:
        return True
    return device == _device_above(path)  # else the disk that it was on is not mounted there


def _is_below(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip(os.sep) + os.sep)


def _device_above(path: str) -> int | None:
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


@dataclass(frozen=True, slots=True)
class Finished:
    """What finishing a root changed, in models: each is counted once."""

    missing: int  # newly marked so, and still there
    pruned: int


def finish_root(
    opened: Writable, plan: Plan, *, source: str, now: str, prune: bool = False
) -> Finished:
    """Carry out a plan in one short transaction; prune only where the plan does not refuse.

    A model that somebody else changed since the plan was made is left as it is.
    """
    host = plan.host or ""
    prunable = plan.prunable if prune and plan.refusal is None else ()
    with opened.write() as db:
        conn = db.conn
        state = "online" if plan.offline is None else "offline"
        _note_root(conn, plan, source=source, state=state, now=now)
        conn.executemany(
            "DELETE FROM model_places WHERE host = ? AND root = ? AND locator = ? AND model_id = ?",
            ((host, to_sqlite_text(plan.root), *place) for place in plan.dropped),
        )
        conn.executemany(
            "DELETE FROM model_files WHERE model_id = ? AND weights = ?", plan.gone_copies
        )
        conn.executemany(
            "UPDATE models SET path = ?2, updated_at = ?3 WHERE id = ?1",
            ((*change, now) for change in plan.paths),
        )
        missing = {
            change[0]
            for change in plan.missing
            if conn.execute(
                "UPDATE models SET status = 'missing', updated_at = ?3 "
                "WHERE id = ?1 AND updated_at = ?2",
                (*change, now),
            ).rowcount
        }
        pruned = 0
        for model in prunable:
            row = conn.execute("SELECT status FROM models WHERE id = ?", (model,)).fetchone()
            if row is not None and row[0] == "missing":
                pruned += delete_model(conn, model)
                missing.discard(model)
    return Finished(len(missing), pruned)


def _note_root(conn: sqlite3.Connection, plan: Plan, *, source: str, state: str, now: str) -> None:
    """Record the root; one that was never seen online is not recorded as offline."""
    offline = plan.offline is not None
    values = (plan.host or "", to_sqlite_text(plan.root), source, plan.device, state, now)
    if offline:
        conn.execute(
            "UPDATE roots SET status = ?3 WHERE host = ?1 AND root = ?2 AND status <> ?3",
            (*values[:2], state),
        )
        return
    conn.execute(
        "INSERT INTO roots (host, root, source, device, status, imported_at) "
        "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (host, root) DO UPDATE SET "
        "source = excluded.source, device = excluded.device, status = excluded.status, "
        "imported_at = excluded.imported_at",
        values,
    )
