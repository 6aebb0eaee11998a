"""Files that a result is written to: whole or not at all, and never through a link."""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from modelstore.errors import RefusedError, UsageError
from modelstore.text import visible

if TYPE_CHECKING:
    from types import TracebackType

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
_DATABASE = b"SQLite format 3\0"


class ResultFile:
    """A file that is begun beside its place before the work, and put there after it.

    What was at the place stays as it is until then, and where the work fails. Raises `UsageError`
    for a place where nothing should be written, `RefusedError` where nothing can be.
    """

    def __init__(self, path: str, option: str) -> None:
        self._path = path
        self._name = f"{option} {visible(path, 200)}"
        mode = self._check()
        directory, base = os.path.split(os.path.abspath(path))
        self._draft = os.path.join(directory, f".{base[:100]}.{secrets.token_hex(6)}.part")
        try:
            # Less the umask, and no wider than the file that it takes the place of.
            self._descriptor = os.open(self._draft, _FLAGS, mode)
        except (OSError, ValueError) as error:
            raise self._refused(error) from error

    def _check(self) -> int:
        """Return the mode of the file that is there, else that of new files."""
        try:
            status = os.lstat(self._path)
        except (OSError, ValueError):
            return 0o666  # nothing is there, or it cannot be reached: told when the draft is made
        if stat.S_ISLNK(status.st_mode):
            raise UsageError(
                f"{self._name} is a symbolic link", hint="give the path of the file itself"
            )
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(f"{self._name} is no regular file", hint="give the path of a file")
        with suppress(OSError), open(self._path, "rb") as file:
            if file.read(len(_DATABASE)) == _DATABASE:
                raise UsageError(
                    f"{self._name} is a database, which would be overwritten",
                    hint="give another path",
                )
        return stat.S_IMODE(status.st_mode) & 0o666

    def write(self, text: str) -> None:
        """Put `text` in its place, as UTF-8."""
        try:
            with os.fdopen(self._descriptor, "wb", closefd=False) as file:
                file.write(text.encode("utf-8", "backslashreplace"))
            os.close(self._descriptor)
            self._descriptor = -1
            os.replace(self._draft, self._path)
        except OSError as error:
            raise self._refused(error) from error

    def _refused(self, error: Exception) -> RefusedError:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return RefusedError(
            f"{self._name} cannot be written: {reason}", hint="check the path and its directory"
        )

    def __enter__(self) -> Self:
        """Return the file itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the draft, if it is still there."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        with suppress(OSError):
            os.unlink(self._draft)
