"""The database of a command: its choice, and the session that opens, closes and folds it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple, Self

from modelstore.errors import ExitCode, RefusedError, UsageError
from modelstore.text import visible

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from types import TracebackType

    from modelstore.cli.output import Output
    from modelstore.database.checkpoint import Checkpoint, Work
    from modelstore.database.connection import OpenDatabase
    from modelstore.database.holders import Holders
    from modelstore.database.open import Purpose

ENVIRONMENT_VARIABLE = "MODELSTORE_DB"
DEFAULT_NAME = "models.db"


class DatabaseChoice(NamedTuple):
    """A database's path as it was given, and where the choice came from."""

    path: str
    origin: str  # --db, DATABASE, MODELSTORE_DB, default

    def __str__(self) -> str:
        """Return the path and its origin, as output shows them."""
        from modelstore.render.formats import named_database

        return named_database(self.path, self.origin)


def choose_database(option: str | None, positional: str | None = None) -> DatabaseChoice:
    """Choose ``--db``, else DATABASE, else MODELSTORE_DB, else the default path."""
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


def refuse_absent(choice: DatabaseChoice) -> None:
    """Raise `RefusedError` with a newcomer's hint if the default catalogue does not exist yet."""
    if choice.origin != "default" or os.path.lexists(choice.path):
        return
    raise RefusedError(
        f"there is no catalogue yet at {choice.path}",
        hint="begin with: modelstore import DIRECTORY (or --discover), or name one with --db",
    )


class Session:
    """A database that is open for one command; leaving the session folds the WAL and closes it.

    `opened` exists inside the session; `checkpoint` holds what the fold did, after it. Set `stays`
    to the words for what was committed, in case the command fails or is interrupted.
    """

    opened: OpenDatabase

    def __init__(
        self,
        out: Output,
        choice: DatabaseChoice,
        purpose: Purpose,
        *,
        timeout: float,
        fold: bool = True,
        known: Holders | None = None,
    ) -> None:
        self.out = out
        self.choice = choice
        self.checkpoint: Checkpoint | None = None
        self.stays: str | None = None
        self._purpose = purpose
        self._timeout = timeout  # seconds
        self._fold = fold
        self._known = known  # an earlier look at the processes that have it open

    def __enter__(self) -> Self:
        """Open the database and write its warnings."""
        from modelstore.catalogue.schema import is_catalogue
        from modelstore.database.open import Purpose, open_database

        if self._purpose is not Purpose.CREATE:
            refuse_absent(self.choice)
        try:
            with self._progress("reading the log"):
                self.opened = open_database(
                    self.choice.path,
                    purpose=self._purpose,
                    timeout=self._timeout,
                    fold=self._fold,
                    check=is_catalogue,
                    known=self._known,
                )
        except RefusedError as error:
            if self.choice.origin != ENVIRONMENT_VARIABLE:
                raise
            raise RefusedError(
                f"{error.message} (its path is from {ENVIRONMENT_VARIABLE})", hint=error.hint
            ) from error
        for warning in self.opened.warnings:
            self.out.warn(warning)
        if self.out.shows_progress and self.opened.totals is not None:
            from modelstore.cli.progress import relay

            self.opened.totals.progress = relay(self.out)
        return self

    def _progress(self, what: str) -> AbstractContextManager[object]:
        """Return a block whose work is shown on a terminal, if it takes long."""
        if not self.out.shows_progress:
            from contextlib import nullcontext

            return nullcontext()
        from modelstore.cli.progress import progress

        return progress(self.out, "", what)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Fold and close. After a failure, write what stays: no report will say it."""
        from modelstore.cli.reporting import note_fold

        meaning = self.opened.meaning(error)
        is_whole = False
        try:
            with self._progress("folding the log"):
                self.opened.close(
                    interrupted=error is not None and not isinstance(error, Exception)
                )
            is_whole = error is None
        finally:
            self.checkpoint = self.opened.checkpoint
            if not is_whole and self.checkpoint is not None:
                note_fold(self.out, self.checkpoint)
                self._note_what_stays(self.checkpoint)
        if meaning is not None:
            raise meaning from error

    def _note_what_stays(self, checkpoint: Checkpoint) -> None:
        """Write in one sentence what was committed, and which files hold it."""
        if self.stays is None or not self.opened.commits:
            return
        path = visible(self.opened.path, 500)
        if checkpoint.in_main_file:
            self.out.note(f"{self.stays}, and safe in {path}")
        elif checkpoint.wal_synced:
            self.out.note(f"{self.stays}, and safe in {path} together with its log, {path}-wal")
        else:
            self.out.note(f"{self.stays}, but {checkpoint.reason}")

    def exit_code(self, work: Work) -> ExitCode:
        """Return the exit code that the fold gives to a command."""
        return ExitCode.OK if self.checkpoint is None else self.checkpoint.exit_code(work)
