"""Keeping digests in the catalogue, so that the next look has something to compare with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelstore.errors import ExitCode, ModelstoreError
from modelstore.store.connection import Purpose, open_database
from modelstore.store.storable import storable
from modelstore.text import plural
from modelstore.verify.finding import Finding

if TYPE_CHECKING:
    from modelstore.verify.models import NewHash

_RECORD = """UPDATE model_files SET sha256 = ? WHERE model_id = ? AND weights = ? AND path = ?
AND size = ? AND mtime_ns = ? AND sha256 IS NULL"""


def record_hashes(path: str, hashes: list[NewHash], timeout: float) -> Finding | None:
    """Write digests in one short transaction, and fold; return what went wrong, if anything."""
    rows = [
        (new.sha256, new.model, storable(new.weights), storable(new.path), new.size, new.mtime_ns)
        for new in hashes
    ]
    try:
        with (
            open_database(path, purpose=Purpose.WRITE, timeout=timeout) as opened,
            opened.write() as conn,
        ):
            conn.executemany(_RECORD, rows)
        checkpoint = opened.checkpoint
    except ModelstoreError as error:
        return _not_recorded(f"{plural(len(rows), 'digest')} could not be recorded: {error}")
    if checkpoint is None or checkpoint.exit_code(wrote=True) is not ExitCode.OK:
        return _not_recorded(
            f"{plural(len(rows), 'digest')} were recorded, but only in the log: "
            "somebody keeps it from being folded"
        )
    return None


def _not_recorded(words: str) -> Finding:
    return Finding(
        code="models.not-recorded",
        check="models",
        severity="warn",
        measured=words,
        advice="run it again with --hash when nobody holds the database",
    )
