"""The verdict on a replica, as a sentence and as figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelstore.replica.examination import Verdict
from modelstore.text import human_seconds, listed, plural

if TYPE_CHECKING:
    from modelstore.replica.examination import Examination, TableLoss

_NAMES = 3  # of rows of a table that a sentence has
_TABLES = 20  # that a sentence names

ADVICE = {
    Verdict.BEHIND: "see whether Litestream runs and reaches the replica, or wait longer with "
    "--timeout; `litestream replicate -once` copies a database that no daemon replicates",
    Verdict.LOST: "keep the database, stop Litestream, delete its directory beside the database, "
    "and let it replicate to a new, empty path; see `modelstore help litestream`",
    Verdict.DAMAGED: "keep the database, give Litestream a new, empty path to replicate to, and "
    "verify that one",
    Verdict.ANOTHER: "compare the URL with the one in Litestream's configuration",
    Verdict.ABSENT: "check the URL, and whether Litestream has ever replicated to it",
    Verdict.UNREACHABLE: "check the URL, the server, and the credentials in the environment",
}
"""The thing to do about each verdict but `SAME`."""


def verdict_words(found: Examination) -> str:
    """Return the verdict as one sentence."""
    total = found.compared.rows if found.compared is not None else 0
    count, losses = found.rows, listed([_loss(loss) for loss in found.losses], _TABLES)
    one = f"{count:,} of {plural(total, 'row')}"
    if found.verdict is Verdict.SAME:
        compared = found.compared
        text = f"every row is in the replica: {plural(total, 'row')} compared"
        if compared is not None and compared.differing:
            late = plural(compared.differing, "row")
            text += f"; it was {late} behind, and caught up in {human_seconds(found.lag)}"
        return text
    if found.verdict is Verdict.BEHIND:
        age = (
            "" if found.age is None else f"; its last transaction is {human_seconds(found.age)} old"
        )
        return f"the replica is {plural(count, 'row')} behind{age}: {losses}"
    if found.verdict is Verdict.LOST:
        return f"the replica has lost {one}: {losses}"
    if found.verdict is Verdict.ANOTHER:
        return f"the replica is another database's: hardly a row of {total:,} is in it"
    if found.verdict is Verdict.ABSENT:
        return "nothing is replicated there"
    if found.verdict is Verdict.UNREACHABLE:
        return f"the replica cannot be reached: {found.reason}"
    return f"the replica cannot be restored: {found.reason}"


def _loss(loss: TableLoss) -> str:
    """Return the differences of one table: ``models: 2,000 rows are not in it (a, b)``."""
    parts = [
        f"{plural(number, 'row')} {words[number != 1]}"
        for number, words in (
            (loss.missing, ("is not in it", "are not in it")),
            (loss.changed, ("is old in it", "are old in it")),
            (
                loss.returning,
                ("was deleted and is still in it", "were deleted and are still in it"),
            ),
        )
        if number
    ]
    return f"{loss.table}: {', '.join(parts)} ({listed(loss.names[:_NAMES], _NAMES)})"


def verdict_data(found: Examination) -> dict[str, object]:
    """Return the figures of a verdict as JSON values. Durations are in seconds."""
    return {
        "verdict": str(found.verdict),
        "transaction": found.txid,
        "rows": found.compared.rows if found.compared is not None else None,
        "rows_differing": found.rows,
        "lag_seconds": round(found.lag, 3),
        "age_seconds": None if found.age is None else round(found.age, 3),
        "looks": found.looks,
        "read_transaction_seconds": round(found.reading, 3),
        "reason": found.reason,
        "tables": {
            loss.table: {
                "missing": loss.missing,
                "changed": loss.changed,
                "returning": loss.returning,
                "first": list(loss.names),
            }
            for loss in found.losses
        },
        "unread": dict(found.compared.unread) if found.compared is not None else {},
    }
