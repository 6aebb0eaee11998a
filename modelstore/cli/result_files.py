"""Files that receive a result: whole or not at all, and never through a link."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from modelstore.errors import RefusedError, UsageError
from modelstore.text import visible

if TYPE_CHECKING:
    from types import TracebackType

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
_DATABASE = b"SQLite format 3\0"
_BESIDE = ("-wal", "-shm", "-journal")  # files that belong to the database beside them


class ResultFile:
    """A file that a result is written to. Entering it creates a draft beside the place.

    The file that is there now stays unchanged until `write`, and if the work fails. Entering
    raises `UsageError` for a link, a special file or a database, `RefusedError` if the directory
    takes no file.
    """

    def __init__(self, path: str, option: str) -> None:
        self._path = path
        self._name = f"{option} {visible(path, 200)}"
        directory, base = os.path.split(os.path.abspath(path))
        self._draft = os.path.join(directory, f".{base[:100]}.{os.urandom(6).hex()}.part")
        self._descriptor = -1

    def __enter__(self) -> Self:
        """Create the draft, before the work whose result it takes."""
        mode = self._check()
        try:
            # Less the umask, and no wider than the file that it replaces.
            self._descriptor = os.open(self._draft, _FLAGS, mode)
        except (OSError, ValueError) as error:
            raise self._refused(error) from error
        return self

    def _check(self) -> int:
        """Return the mode of the file that is there, else the mode of new files."""
        for end in _BESIDE:
            if self._path.endswith(end) and os.path.lexists(self._path.removesuffix(end)):
                raise UsageError(
                    f"{self._name} belongs to the database beside it", hint="give another path"
                )
        try:
            status = os.lstat(self._path)
        except (OSError, ValueError):
            return 0o666  # nothing is there, or it is out of reach: creating the draft will tell
        if stat.S_ISLNK(status.st_mode):
            raise UsageError(
                f"{self._name} is a symbolic link", hint="give the path of the file itself"
            )
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(f"{self._name} is not a regular file", hint="give the path of a file")
        with suppress(OSError), open(self._path, "rb") as file:
            if file.read(len(_DATABASE)) == _DATABASE:
                raise UsageError(
                    f"{self._name} is a database, which would be overwritten",
                    hint="give another path",
                )
        return stat.S_IMODE(status.st_mode) & 0o666

    def write(self, text: str) -> None:
        """Write `text` as UTF-8 and move it to its place."""
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the draft, if `write` did not move it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        with suppress(OSError):
            os.unlink(self._draft)
