"""A verification as OpenMetrics text, for Prometheus and node_exporter's textfile collector.

https://prometheus.io/docs/specs/om/open_metrics_spec/. A figure that was not measured is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from modelstore.text import visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.finding import LogFigures, Verification

_RESULTS = ("pass", "note", "warn", "fail")
_LABEL_LIMIT = 500  # characters


@dataclass(frozen=True, slots=True)
class Metric:
    """One gauge: its name, unit, help, and a value for each set of labels."""

    name: str
    unit: str
    about: str
    samples: tuple[tuple[dict[str, str], float], ...]


def openmetrics_text(verification: Verification) -> str:
    """Return the whole exposition; every metric has the database as a label."""
    database = {"database": verification.database}
    lines: list[str] = []
    for metric in _metrics(verification):
        lines.append(f"# TYPE {metric.name} gauge")
        if metric.unit:
            lines.append(f"# UNIT {metric.name} {metric.unit}")
        lines.append(f"# HELP {metric.name} {metric.about}")
        lines += [
            f"{metric.name}{_labels({**database, **labels})} {value:g}"
            if abs(value) < 1e6
            else f"{metric.name}{_labels({**database, **labels})} {value:.17g}"
            for labels, value in metric.samples
        ]
    return "\n".join([*lines, "# EOF"]) + "\n"


def _metrics(verification: Verification) -> Iterator[Metric]:
    started = datetime.fromisoformat(verification.started).timestamp()
    yield Metric(
        "modelstore_verify_success",
        "",
        "1 if every check passed.",
        (({}, float(not verification.failed)),),
    )
    yield Metric(
        "modelstore_verify_timestamp_seconds",
        "seconds",
        "When the run began.",
        (({}, started),),
    )
    yield Metric(
        "modelstore_verify_duration_seconds",
        "seconds",
        "How long the run took.",
        (({}, verification.seconds),),
    )
    worst = {
        name: max((finding.severity for finding in findings), key=_RESULTS.index)
        for name, findings in verification.by_check().items()
    }
    yield Metric(
        "modelstore_verify_check",
        "",
        "1 for the result that a check has.",
        tuple(
            ({"check": name, "result": result}, float(found == result))
            for name, found in worst.items()
            for result in _RESULTS
        ),
    )
    yield from _log_metrics(verification)
    yield from _log_figures(verification.log)
    rows = [
        number
        for finding in verification.findings
        if finding.check == "log" and isinstance(number := finding.data.get("lost"), int)
    ]
    if rows:
        yield Metric(
            "modelstore_rows_at_risk",
            "",
            "Rows that were only in the log when the run began.",
            (({}, float(max(rows))),),
        )


def _log_metrics(verification: Verification) -> Iterator[Metric]:
    fold = verification.checkpoint
    if fold is None:
        return
    for name, about, value in (
        ("modelstore_wal_frames", "Frames in the log.", fold.log),
        ("modelstore_wal_checkpointed_frames", "Frames in the main file.", fold.checkpointed),
        ("modelstore_wal_left_frames", "Frames that are only in the log.", fold.left),
        ("modelstore_wal_blockers", "Processes in the way of the fold.", len(fold.blockers)),
    ):
        yield Metric(name, "frames" if name.endswith("_frames") else "", about, (({}, value),))
    yield Metric(
        "modelstore_wal_file_size_bytes",
        "bytes",
        "The size of the -wal file after the run.",
        (({}, fold.wal_size_after),),
    )
    yield Metric(
        "modelstore_database_size_bytes",
        "bytes",
        "The size of the main file after the run.",
        (({}, fold.db_size_after),),
    )


def _log_figures(figures: LogFigures) -> Iterator[Metric]:
    for name, unit, about, value in (
        (
            "modelstore_wal_live_size_bytes",
            "bytes",
            "The part of the -wal file that holds frames of now, when the run began.",
            figures.live_bytes,
        ),
        (
            "modelstore_last_fold_timestamp_seconds",
            "seconds",
            "The last write to the main file, which in WAL mode is a fold.",
            figures.last_fold,
        ),
        (
            "modelstore_wal_oldest_reader_start_timestamp_seconds",
            "seconds",
            "The start of the oldest process that reads from the log.",
            figures.oldest_reader,
        ),
    ):
        if value is not None:
            yield Metric(name, unit, about, (({}, value),))


def _labels(labels: dict[str, str]) -> str:
    pairs = (f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return "{" + ",".join(pairs) + "}"


def _escaped(text: str) -> str:
    return visible(text, _LABEL_LIMIT).replace("\\", "\\\\").replace('"', '\\"')
