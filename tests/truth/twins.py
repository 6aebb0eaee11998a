"""Broken twins of the program: each makes one claim that is not so, and the harness must see it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Twin = Callable[[], None]
"""Breaks the program in this process."""


def _says_same_where_no_row_differs() -> None:
    """Take a main file for the same where only user_version, an index or a free page differs."""
    from modelstore.wal import loss_report

    report: Any = loss_report.LossReport
    report.is_same = property(lambda loss: loss.is_known and not loss.has_row_changes)


def _counts_one_row_too_many() -> None:
    from modelstore.wal import loss_report

    report: Any = loss_report.LossReport
    honest = report.lost.fget
    report.lost = property(lambda loss: honest(loss) + bool(loss.tables))


def _sees_no_damage() -> None:
    from modelstore.wal import inspection

    blind: Any = inspection.Inspection
    blind.is_damaged = property(lambda _: False)


def _is_afraid() -> None:
    """Take frames behind the last commit, which any crash leaves, for damage."""
    from modelstore.wal import inspection

    afraid: Any = inspection.Inspection
    honest = afraid.is_damaged.fget
    afraid.is_damaged = property(lambda found: honest(found) or found.scan.uncommitted > 0)


TWINS: dict[str, Twin] = {
    "same-where-no-row-differs": _says_same_where_no_row_differs,
    "one-row-too-many": _counts_one_row_too_many,
    "sees-no-damage": _sees_no_damage,
    "is-afraid": _is_afraid,
}
