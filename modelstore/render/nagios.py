"""A verification as a line of a Nagios plugin: its state, a sentence, and performance data.

https://nagios-plugins.org/doc/guidelines.html: exit 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelstore.errors import ExitCode
from modelstore.text import visible

if TYPE_CHECKING:
    from modelstore.errors import ModelstoreError
    from modelstore.finding import Verification

STATES = ("OK", "WARNING", "CRITICAL", "UNKNOWN")


def nagios_state(verification: Verification) -> int:
    """Return the exit code of a plugin."""
    return 2 if verification.failed else 1 if verification.count("warn") else 0


def nagios_line(verification: Verification) -> str:
    """Return the line with a newline; outside text cannot end it or begin performance data."""
    bad = [f for f in verification.findings if f.severity in ("fail", "warn")]
    bad.sort(key=lambda finding: finding.severity != "fail")
    said = f"{bad[0].check}: {bad[0].measured}" if bad else verification.verdict
    if len(bad) > 1:
        said += f" (and {len(bad) - 1} more)"
    figures = [f"time={verification.seconds:.3f}s;;;0"]
    fold = verification.checkpoint
    if fold is not None:
        figures += [
            f"wal_frames={fold.log};;;0",
            f"wal_left={fold.left};;;0",
            f"wal_bytes={fold.wal_size_after}B;;;0",
            f"blockers={len(fold.blockers)};;;0",
        ]
    state = STATES[nagios_state(verification)]
    text = visible(said, 400).replace("|", "/")
    return f"MODELSTORE {state} - {text} | {' '.join(figures)}\n"


def error_line(error: ModelstoreError) -> tuple[int, str]:
    """Return the state and the line for a run that could not be made: damage is critical."""
    state = 2 if error.exit_code is ExitCode.FAILED else 3
    text = visible(error.message, 400).replace("|", "/")
    return state, f"MODELSTORE {STATES[state]} - {text}\n"
