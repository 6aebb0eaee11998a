"""Running one command line: errors become one sentence, signals their documented exit codes."""

from __future__ import annotations

import errno
import os
import signal
import sys
from typing import TYPE_CHECKING

from modelstore.cli.completion.scripts import COMPLETION_VARIABLE
from modelstore.cli.output import StdoutClosedError, StdoutFailedError, current
from modelstore.errors import ExitCode, ModelstoreError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import FrameType

    from modelstore.cli.output import Output


class TerminatedError(BaseException):
    """SIGTERM or SIGHUP arrived. Not an Exception, so that no handler takes it for a fault."""


_FULL = (errno.ENOSPC, errno.EIO, errno.EFBIG, errno.EDQUOT)  # of the file behind stdout

_arrived: list[ExitCode] = []  # one for each signal, in case its exception is swallowed


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    _arrived.append(ExitCode.INTERRUPTED)
    raise KeyboardInterrupt


def _terminate(_number: int, _frame: FrameType | None) -> None:
    _arrived.append(ExitCode.TERMINATED)
    raise TerminatedError


def _handle_signals() -> None:
    """Let SIGTERM and SIGHUP unwind as Ctrl-C does, so that committed rows are folded."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _terminate)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)


def _fill_standard_descriptors() -> None:
    """Open the null device as each closed descriptor of 0 to 2, so that no database becomes one."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    _fill_standard_descriptors()
    _handle_signals()
    out = current()
    try:
        code = _guarded(arguments)
        out.flush()
    except StdoutFailedError as error:
        out.message(f"error: stdout could not be written: {error}")
        code = ExitCode.BUG
    except KeyboardInterrupt:
        code = ExitCode.INTERRUPTED
    except TerminatedError:
        code = ExitCode.TERMINATED
    return int(code)


def _guarded(arguments: Sequence[str]) -> ExitCode:
    out = current()
    try:
        return _invoke(arguments)
    except ModelstoreError as error:
        out.error(error)
        return error.exit_code
    except StdoutClosedError:
        return ExitCode.OK
    except KeyboardInterrupt:
        out.message("interrupted")
        return ExitCode.INTERRUPTED
    except TerminatedError:
        out.message("terminated")
        return ExitCode.TERMINATED
    except StdoutFailedError:
        raise
    except MemoryError:
        out.message("error: out of memory")
        return ExitCode.BUG
    except Exception as error:  # the last resort: report a bug
        if isinstance(error, OSError) and error.errno in _FULL and error.filename is None:
            raise StdoutFailedError(os.strerror(error.errno)) from error  # Typer's own help
        if _arrived:
            # SQLite's module swallows what a signal's handler raises; the statement fails instead.
            out.message("interrupted" if _arrived[0] is ExitCode.INTERRUPTED else "terminated")
            return _arrived[0]
        return _report(out, error)


def _report(out: Output, error: Exception) -> ExitCode:
    """Name the file of a database that could not be read; any other error is a bug."""
    from modelstore.text import visible
    from modelstore.wal.files import FailedReadError

    if not isinstance(error, FailedReadError):
        _report_bug(error)
        return ExitCode.BUG
    out.message(f"error: {visible(str(error.filename), 200)} cannot be read: {error.strerror}")
    out.message("hint: check the disk and the kernel's log; keep copies of what can be read")
    return ExitCode.REFUSED


def _invoke(arguments: Sequence[str]) -> ExitCode:
    from modelstore.cli.app import command_tree
    from modelstore.cli.vendored_click import Abort, ClickException

    if COMPLETION_VARIABLE in os.environ:
        from modelstore.cli.completion.shell import answer

        current().answer(answer(command_tree()))
        return ExitCode.OK
    try:
        result = command_tree().main(
            args=list(arguments), prog_name="modelstore", standalone_mode=False
        )
    except ClickException as error:
        raise _usage_error(error) from error
    except Abort as error:
        raise KeyboardInterrupt from error
    code = ExitCode(result) if isinstance(result, int) else ExitCode.OK
    if code is ExitCode.INTERRUPTED:  # Typer's code for Ctrl-C
        raise KeyboardInterrupt
    return code


def _usage_error(error: Exception) -> UsageError:
    """Turn Click's complaint into one sentence and one hint."""
    from modelstore.cli.vendored_click import NoSuchOption
    from modelstore.text import visible

    context = getattr(error, "ctx", None)
    path = getattr(context, "command_path", "modelstore")
    if isinstance(error, NoSuchOption):
        near = _near_options(error.option_name, error.possibilities or ())
        hint = f"did you mean {near}?" if near else f"see {path} --help"
        return UsageError(f"there is no option {visible(error.option_name, 60)}", hint=hint)
    message = " ".join(error.format_message().split()).rstrip(".")  # type: ignore[attr-defined]
    return UsageError(message[:1].lower() + message[1:], hint=f"see {path} --help")


def _near_options(typed: str, known: Iterable[str]) -> str:
    """Return the options most like the one typed; dashes do not count."""
    from difflib import get_close_matches

    names = [name.lstrip("-") for name in known]
    return " or ".join(f"--{name}" for name in get_close_matches(typed.lstrip("-"), names, n=2))


def _report_bug(error: Exception) -> None:
    """Write that this is a bug, with its traceback, escaped line by line."""
    import traceback

    if COMPLETION_VARIABLE in os.environ:  # the shell would show it in the line being typed
        return
    out = current()
    out.message(f"error: this is a bug in modelstore: {type(error).__name__}: {error}")
    for line in "".join(traceback.format_exception(error)).splitlines():
        out.message(f"  {line}")
    out.message(f"hint: please report it with these lines; Python {sys.version.split()[0]}")
