"""The replica that Litestream keeps: restored, and compared with the database row by row.

`modelstore.replica` does it, and is loaded when a replica is named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelstore.finding import Finding
from modelstore.text import listed
from modelstore.verify.check import NAMED, Check, Run, not_checked
from modelstore.verify.preconditions import why_not_open

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.replica.examination import Examination
    from modelstore.replica.name import ReplicaName


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
    from modelstore.replica.examination import examine

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
    from modelstore.replica.examination import Verdict
    from modelstore.replica.words import ADVICE, verdict_data, verdict_words

    is_same = found.verdict is Verdict.SAME
    unread = found.compared.unread if found.compared is not None else {}
    measured = verdict_words(found)
    advice = ADVICE.get(found.verdict)
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
        verdict_data(found),
    )


CHECK = Check(
    name="replica",
    title="whether the replica, restored, has every row",
    order=75,
    closed=_check,
    on_request=True,
)
