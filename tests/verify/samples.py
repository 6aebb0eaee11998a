"""Verifications as the checks make them, and some that an enemy would like to see."""

from __future__ import annotations

from typing import Any

from modelstore.database.checkpoint import Checkpoint
from modelstore.finding import Finding, Severity, Verification
from modelstore.wal.locks import Blocker


def finding(
    check: str,
    severity: Severity,
    measured: str,
    *,
    where: str = "",
    advice: str | None = None,
    word: str = "x",
    data: dict[str, object] | None = None,
) -> Finding:
    return Finding(f"{check}.{word}", severity, measured, where, advice, data or {})


def verification(*findings: Finding, **changes: Any) -> Verification:
    values: dict[str, Any] = {
        "database": "/srv/models.db",
        "origin": "--db",
        "findings": findings,
        "started": "2026-01-02T03:04:05Z",
        "seconds": 1.25,
        "timings": {found.check: 0.5 for found in findings},
    }
    return Verification(**(values | changes))


GOOD = verification(
    finding(
        "file", "pass", "120 pages of 4,096 bytes", where="/srv/models.db", data={"pages": 120}
    ),
    finding("log", "pass", "the log is empty"),
    finding("models", "note", "not checked: no catalogue"),
    checkpoint=Checkpoint(mode="truncate", log=5, checkpointed=5, moved=5, wal_size_before=20632),
)
WARNED = verification(
    finding("log", "warn", "18 rows were only in the WAL", where="models", advice="fold it"),
    finding("integrity", "pass", "integrity_check: ok"),
)
BAD = verification(
    finding("log", "warn", "18 rows were only in the WAL", where="models", advice="fold it"),
    finding("checkpoint", "fail", "250 left; busy: yes", where="pid 4121", advice="end it"),
    finding("persistence", "fail", "18 rows are lost", where="models", advice="do not copy"),
    finding("persistence", "fail", "2 rows are old", where="tags", advice="do not copy"),
    checkpoint=Checkpoint(
        mode="truncate",
        busy=True,
        log=377,
        checkpointed=127,
        left=250,
        wal_size_before=1553272,
        wal_size_after=1553272,
        in_main_file=False,
        blockers=(Blocker(4121, "python <app>", "READ1", 1, 127, ("backfill", "truncate")),),
    ),
)


def hostile(text: str) -> Verification:
    """Return a verification in which every text of others is `text`."""
    return verification(
        finding("models", "fail", text, where=text, advice=text, data={text: [text]}),
        finding("models", "warn", f"before {text} after", where=text, advice=text),
        finding("file", "note", text, where=text),
        database=text,
        checkpoint=Checkpoint(
            mode="truncate",
            busy=True,
            log=1,
            left=1,
            reason=text,
            blockers=(Blocker(None, text, "READ1", 1, 1, ("backfill",)),),
        ),
    )
