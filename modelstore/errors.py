"""Exit codes and exceptions.

::

    ModelstoreError
    ├── UsageError              2  the call itself is wrong
    │   └── AmbiguousModelError 2  a name or id prefix fits several models
    ├── RefusedError            3  a database that is missing, unreadable, or unsafe to open
    ├── SourceError             3  a source that is missing or unreadable as a whole
    ├── ModelNotFoundError      3  no model of that id or name
    ├── LockedError             7  the timeout passed before anything was written
    ├── PartlyWrittenError      4  the timeout passed when only a part was written
    └── DamageError             5  damage or loss that keeps the command from going on

A *part* of a result (a skipped file, a busy checkpoint, a failed check) is a value, not an
exception: the command renders it, and its exit code says so.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """The exit codes of every command; `text` documents each."""

    OK = 0
    BUG = 1
    USAGE = 2
    REFUSED = 3
    BUSY = 4
    FAILED = 5
    SKIPPED = 6
    LOCKED = 7
    INTERRUPTED = 130
    TERMINATED = 143

    @property
    def text(self) -> str:
        """The meaning in one line of Markdown, as the README lists it."""
        return _MEANINGS[self]


_MEANINGS = {
    ExitCode.OK: "done (an empty result too); for `import`: and safe in the main file",
    ExitCode.BUG: "unexpected failure: a bug, or standard output that cannot be written",
    ExitCode.USAGE: "usage, an ambiguous model",
    ExitCode.REFUSED: "the database, a source or a model is missing, unreadable, "
    "not a database, too new, or refused",
    ExitCode.BUSY: "busy: what was written is safe in database + WAL, but not all of it "
    "is in the main file, or in the replica; try again",
    ExitCode.FAILED: "a check failed: damage, loss, or an expectation not met",
    ExitCode.SKIPPED: "import finished, but some sources were skipped as bad, or held no "
    "model (each is named; `--allow-empty`)",
    ExitCode.LOCKED: "locked: patience ran out before anything could be written; nothing "
    "was; try again",
    ExitCode.INTERRUPTED: "interrupted (Ctrl-C): what was committed stays, nothing half-written",
    ExitCode.TERMINATED: "terminated (SIGTERM): what was committed stays, nothing half-written",
}


_PRECEDENCE = (
    ExitCode.TERMINATED,
    ExitCode.INTERRUPTED,
    ExitCode.BUG,
    ExitCode.USAGE,
    ExitCode.REFUSED,
    ExitCode.LOCKED,
    ExitCode.FAILED,
    ExitCode.BUSY,
    ExitCode.SKIPPED,
    ExitCode.OK,
)


def worst(*codes: ExitCode) -> ExitCode:
    """Return the code that wins if several apply: a signal, then 1, 2, 3, 7, 5, 4, 6, 0."""
    return min(codes, key=_PRECEDENCE.index, default=ExitCode.OK)


class ModelstoreError(Exception):
    """An error for the user: a sentence that names the thing, and a hint that says what to do."""

    exit_code: ClassVar[ExitCode] = ExitCode.BUG

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(ModelstoreError):
    """The call itself is wrong: an option, an argument, or their combination."""

    exit_code = ExitCode.USAGE


class AmbiguousModelError(UsageError):
    """A name or an id prefix fits several models."""


class RefusedError(ModelstoreError):
    """A database that is missing, unreadable, too new or unsafe to open, or a file that is none."""

    exit_code = ExitCode.REFUSED


class SourceError(ModelstoreError):
    """A source of models that is missing or unreadable as a whole."""

    exit_code = ExitCode.REFUSED


class ModelNotFoundError(ModelstoreError):
    """No model has that id, id prefix or name."""

    exit_code = ExitCode.REFUSED


class LockedError(ModelstoreError):
    """The timeout passed before anything was written."""

    exit_code = ExitCode.LOCKED


class PartlyWrittenError(ModelstoreError):
    """The timeout passed when only a part was written: this part is safe, the rest is missing."""

    exit_code = ExitCode.BUSY


class DamageError(ModelstoreError):
    """Damage or loss that keeps the command from going on."""

    exit_code = ExitCode.FAILED
