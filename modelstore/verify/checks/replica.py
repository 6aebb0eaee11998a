"""The replica that Litestream keeps: restored, and compared with the database row by row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelstore.finding import Finding
from modelstore.replica.examination import Examination, TableLoss, Verdict, examine
from modelstore.text import human_seconds, listed, plural
from modelstore.verify.check import NAMED, Check, Run, not_checked
from modelstore.verify.preconditions import why_not_open

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.replica.name import ReplicaName

_NAMES = 3  # of rows of a table that a sentence has
_ADVICE = {
    Verdict.BEHIND: "see whether Litestream runs and reaches the replica, or wait longer with "
    "--timeout; `litestream replicate -once` copies a database that no daemon replicates",
    Verdict.LOST: "keep the database, restart Litestream so that it takes a new snapshot, and "
    "verify again; see `modelstore help litestream`",
    Verdict.DAMAGED: "keep the database, give Litestream a new, empty path to replicate to, and "
    "verify that one",
    Verdict.ANOTHER: "compare the URL with the one in Litestream's configuration",
    Verdict.ABSENT: "check the URL, and whether Litestream has ever replicated to it",
    Verdict.UNREACHABLE: "check the URL, the server, and the credentials in the environment",
}


def _check(run: Run) -> Iterator[Finding]:
    options, subject = run.options, run.subject
    if options.replica is None:
        return
    why = why_not_open(subject)
    if why is not None:
        yield not_checked("replica", why)
        return
    if not subject.is_wal:
        yield Finding(
            "replica.no-wal",
            "fail",
            "the database is not in WAL mode, so Litestream does not replicate it",
            subject.path,
            "`litestream replicate` puts it into WAL mode",
        )
        return
    found = examine(
        subject.path,
        options.replica,
        timeout=options.timeout,
        named=subject.given,
        integrity="quick_check" if options.quick else "integrity_check",
        watching=options.watching,
    )
    yield _finding(found, options.replica)


def _finding(found: Examination, replica: ReplicaName) -> Finding:
    is_same = found.verdict is Verdict.SAME
    unread = found.compared.unread if found.compared is not None else {}
    measured = _measured(found)
    advice = _ADVICE.get(found.verdict)
    severity, code = ("pass" if is_same else "fail"), str(found.verdict)
    if is_same and unread:
        names = listed([f"{name} ({why})" for name, why in unread.items()], NAMED)
        measured += f"; not compared: {names}"
        severity, code, advice = "warn", "unread", "the application defines what these tables need"
    return Finding(
        f"replica.{code}",
        severity,  # type: ignore[arg-type]  # one of three literals
        measured,
        replica.shown,
        advice,
        _data(found),
    )


def _measured(found: Examination) -> str:
    """Return the verdict as one sentence."""
    total = found.compared.rows if found.compared is not None else 0
    count, losses = found.rows, listed([_loss(loss) for loss in found.losses], NAMED)
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


def _data(found: Examination) -> dict[str, object]:
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


CHECK = Check(
    name="replica",
    title="whether the replica, restored, has every row",
    order=75,
    closed=_check,
    on_request=True,
)
