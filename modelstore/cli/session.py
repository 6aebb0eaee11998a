"""Which database a command works on, and that database opened and closed around its work."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from modelstore.errors import ExitCode, RefusedError, UsageError
from modelstore.text import visible

if TYPE_CHECKING:
    from types import TracebackType

    from modelstore.cli.output import Output
    from modelstore.database.checkpoint import Checkpoint, Work
    from modelstore.database.connection import OpenDatabase
    from modelstore.database.open import Purpose
    from modelstore.wal.locks import Blocker

ENVIRONMENT_VARIABLE = "MODELSTORE_DB"
DEFAULT_NAME = "models.db"


@dataclass(frozen=True, slots=True)
class DatabaseChoice:
    """A database's path as it was given, and where the choice came from."""

    path: str
    origin: str  # --db, DATABASE, MODELSTORE_DB, default

    def __str__(self) -> str:
        """Return what output says: the path and where it came from."""
        return f"{self.path} ({self.origin})"


def choose_database(option: str | None, positional: str | None = None) -> DatabaseChoice:
    """Choose ``--db``, else the positional one, else MODELSTORE_DB, else the default place."""
    for value, name in ((option, "--db"), (positional, "DATABASE")):
        if value == "":
            raise UsageError(f"{name} is empty", hint="an unset variable in a script?")
        if value and value.endswith(os.sep):
            raise UsageError(f"{name} {value} names a directory", hint="name a file in it")
    if option and positional and os.path.realpath(option) != os.path.realpath(positional):
        raise UsageError(
            f"DATABASE {positional} and --db {option} are two different files", hint="give one"
        )
    if option:
        return DatabaseChoice(option, "--db")
    if positional:
        return DatabaseChoice(positional, "DATABASE")
    from_environment = os.environ.get(ENVIRONMENT_VARIABLE)
    if from_environment:
        return DatabaseChoice(from_environment, ENVIRONMENT_VARIABLE)
    return DatabaseChoice(default_database(), "default")


def default_database() -> str:
    """Return the catalogue's path in the platform's user data directory."""
    import platformdirs

    return os.path.join(platformdirs.user_data_dir("modelstore", appauthor=False), DEFAULT_NAME)


class Session:
    """A database opened for one command; closing folds the WAL and keeps what the fold did."""

    def __init__(
        self,
        out: Output,
        choice: DatabaseChoice,
        purpose: Purpose,
        *,
        timeout: float,
        fold: bool = True,
    ) -> None:
        from modelstore.catalogue.schema import is_catalogue
        from modelstore.database.open import Purpose, open_database

        if purpose is not Purpose.CREATE:
            refuse_absent(choice)
        self.out = out
        self.choice = choice
        try:
            self.opened: OpenDatabase = open_database(
                choice.path, purpose=purpose, timeout=timeout, fold=fold, check=is_catalogue
            )
        except RefusedError as error:
            if choice.origin != ENVIRONMENT_VARIABLE:
                raise
            raise RefusedError(
                f"{error.message} (its path is from {ENVIRONMENT_VARIABLE})", hint=error.hint
            ) from error
        self.checkpoint: Checkpoint | None = None
        self.stays: str | None = None  # what was committed, in words, should the command not end
        for warning in self.opened.warnings:
            out.warn(warning)

    def __enter__(self) -> Self:
        """Return the session itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close and fold; where that or the body failed, say what stays, for nobody else will."""
        meaning = self.opened.meaning(error)
        is_whole = False
        try:
            self.opened.close(interrupted=error is not None and not isinstance(error, Exception))
            is_whole = error is None
        finally:
            self.checkpoint = self.opened.checkpoint
            if not is_whole:
                self.report_fold()
                self._tell_what_stays()
        if meaning is not None:
            raise meaning from error

    def _tell_what_stays(self) -> None:
        """Say in one sentence what was committed, and where it is."""
        checkpoint = self.checkpoint
        if self.stays is None or not self.opened.commits or checkpoint is None:
            return
        path = visible(self.opened.path, 500)
        if checkpoint.in_main_file:
            self.out.note(f"{self.stays}, and safe in {path}")
        elif checkpoint.wal_synced:
            self.out.note(f"{self.stays}, and safe in {path} together with its log, {path}-wal")
        else:
            self.out.note(f"{self.stays}, but {checkpoint.reason}")

    def report_fold(self) -> None:
        """Write the WAL line to stderr where the log held anything, and who is in the way."""
        if self.checkpoint is not None:
            report_fold(self.out, self.checkpoint)

    def exit_code(self, work: Work, *, allow_pending: bool = False) -> ExitCode:
        """Return what the close adds to the command's exit code."""
        if self.checkpoint is None:
            return ExitCode.OK
        return self.checkpoint.exit_code(work, allow_pending=allow_pending)


def tell_wal_line(out: Output, checkpoint: Checkpoint) -> None:
    """Write the WAL line to stderr where the log held anything."""
    if checkpoint.log or checkpoint.left:
        out.message(
            f"[Database] WAL checkpoint: {checkpoint.checkpointed} pages checkpointed, "
            f"{checkpoint.log} log pages, busy: {int(checkpoint.busy)}"
        )


def report_fold(out: Output, checkpoint: Checkpoint) -> None:
    """Write the WAL line to stderr where the log held anything, and who is in the way."""
    tell_wal_line(out, checkpoint)
    if checkpoint.left:
        for line in blocker_lines(checkpoint):
            out.note(line)


def blocker_name(blocker: Blocker) -> str:
    """Return the process in words; its command alone where the kernel hides the pid."""
    return f"pid {blocker.pid} ({blocker.command})" if blocker.pid else blocker.command


def blocker_lines(checkpoint: Checkpoint) -> list[str]:
    """Return one sentence for each process that keeps the WAL from being folded whole."""
    lines = [
        f"{blocker_name(blocker)} holds {blocker.lock}"
        + (f" at frame {blocker.frame}" if blocker.frame is not None else "")
        + f": blocks {', '.join(blocker.blocks)}"
        for blocker in checkpoint.blockers
    ]
    if checkpoint.blockers_note:
        lines.append(checkpoint.blockers_note)
    if checkpoint.reason:
        lines.append(checkpoint.reason)
    return lines


def refuse_absent(choice: DatabaseChoice) -> None:
    """Tell a newcomer how to begin, before the probe says only that a file is missing."""
    if choice.origin != "default" or os.path.lexists(choice.path):
        return
    raise RefusedError(
        f"there is no catalogue yet at {choice.path}",
        hint="begin with: modelstore import DIRECTORY (or --discover), or name one with --db",
    )
