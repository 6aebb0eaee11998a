"""The content of a WAL as one JSON object: counts of frames and rows, sizes in bytes, raw text."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from modelstore.render.statements import statements

if TYPE_CHECKING:
    from modelstore.wal.inspection import Inspection
    from modelstore.wal.loss_report import LossReport, RowSet


def inspection_payload(found: Inspection) -> dict[str, object]:
    """Return all results of an inspection."""
    loss = found.loss
    said = tuple(statements(found))
    return {
        "database": found.database if found.has_database else None,
        "wal": found.log,
        "claims": [statement.claim.value for statement in said],
        "state": [statement.text for statement in said],
        "nothing_lost": found.nothing_lost,
        "damaged": _is_damaged(found),
        "raced": loss.raced,
        "exact": found.is_exact,
        "log": _log(found),
        "checkpointed": found.checkpointed,
        "left": found.pending,
        "busy": found.is_busy,
        "index": _index(found),
        "main_file": _main(found),
        "encrypted": loss.encrypted,
        "contradictions": [asdict(contradiction) for contradiction in found.contradictions],
        "hot_journal": found.has_hot_journal,
        "log_holds_all_pages": loss.holds_all_pages,
        "lost": loss.lost if loss.is_known else None,
        "reverted": loss.reverted if loss.is_known else None,
        "returning": loss.returning if loss.is_known else None,
        "objects": _objects(loss),
        "tables": _tables(loss),
        "schema_changes": [
            {"type": c.type, "name": c.name, "fate": c.fate.value} for c in loss.schema_changes
        ],
        "differences": [
            {
                "kind": difference.kind.value,
                "name": difference.name,
                "with_log": difference.with_log,
                "alone": difference.alone,
                "pages": difference.pages,
            }
            for difference in loss.file_differences
        ],
        "unattributed_pages": loss.unattributed,
        "pages_read": loss.pages_read,
        "locks": [
            {
                "lock": held.lock,
                "pid": held.pid,
                "command": held.command,
                "exclusive": held.exclusive,
                "waiting": held.waiting,
                "stopped": held.is_stopped,
                "process_started": held.since,
                "user": held.user,
            }
            for held in found.locks.holders
        ],
        "locks_complete": found.locks.complete,
        "locks_note": found.locks.note,
        "blockers": [asdict(blocker) for blocker in found.blockers],
    }


def _is_damaged(found: Inspection) -> bool:
    is_malformed = any(c.code == "malformed" for c in found.contradictions)
    return found.is_damaged or found.main_problem is not None or is_malformed


def _log(found: Inspection) -> dict[str, object]:
    scan = found.scan
    return {
        "size": scan.size,
        "fault": None if scan.fault is None else scan.fault.value,
        "header": _header(found),
        "frames": scan.written,
        "valid": scan.valid,
        "committed": scan.max_frame,
        "uncommitted": scan.uncommitted,
        "stale": scan.stale,
        "torn": scan.torn,
        "damaged": scan.damaged,
        "ignored_frames": scan.ignored_frames,
        "ignored_commits": scan.ignored_commits,
        "later_commits": scan.later_commits,
        "commits": scan.commit_count,
        "page_count": scan.page_count,
        "tail_bytes": scan.tail_bytes,
        "unexamined": scan.unexamined,
        "stop_reason": scan.stop_reason.value,
    }


def _header(found: Inspection) -> dict[str, object] | None:
    header = found.scan.header
    if header is None:
        return None
    return {
        "page_size": header.page_size,
        "version": header.version,
        "sequence": header.sequence,
        "salt": list(header.salt),
        "big_endian": header.big_endian,
    }


def _index(found: Inspection) -> dict[str, object] | None:
    index = found.index
    if index is None:
        return None
    return {
        "max_frame": index.max_frame,
        "backfill": index.backfill,
        "backfill_attempted": index.backfill_attempted,
        "page_count": index.page_count,
        "salt": list(index.salt),
        "read_marks": [mark.frame for mark in index.read_marks],
    }


def _main(found: Inspection) -> dict[str, object]:
    main, check = found.loss.main, found.main_check
    is_checked = check is not None and check.is_still and not check.unchecked
    return {
        "state": main.state.value,
        "size": main.size,
        "page_count": main.page_count,
        "commit": main.commit,
        "proven_by_index": main.is_proven,
        "held_pages": main.held_pages,
        "readable": main.readable,
        "checked": is_checked,  # pages that are not in the log, too
        "integrity": _integrity(found),
        "unchecked": list(check.unchecked) if check is not None else [],
        "problem": main.problem,
    }


def _integrity(found: Inspection) -> str | None:
    """Return the fault of the main file alone, or "ok"; None if the check does not tell."""
    check = found.main_check
    if check is None or not check.is_still:
        return None
    return check.problem or (None if check.unchecked else "ok")


def _objects(loss: LossReport) -> list[dict[str, object]]:
    return [
        {
            "name": pages.object.name if pages.object else None,
            "type": pages.object.type if pages.object else None,
            "frames": pages.frames,
            "pages": pages.pages,
            "differing": pages.differing,
            "roles": {role.text: count for role, count in pages.roles.items()},
        }
        for pages in loss.objects
    ]


def _tables(loss: LossReport) -> list[dict[str, object]]:
    return [
        {
            "name": table.name,
            "fate": table.fate.value,
            "former_name": table.former_name,
            "lost": _rows(table.lost),
            "reverted": _rows(table.reverted),
            "returning": _rows(table.returning),
            "exact": table.is_exact,
            "new_rowids": table.new_rowids,
            "problem": table.problem,
        }
        for table in loss.tables
    ]


def _rows(rows: RowSet) -> dict[str, object]:
    keys = [key if isinstance(key, (int, str, type(None))) else repr(key) for key in rows.keys]
    return {"count": rows.count, "keys": keys, "names": list(rows.texts)}
