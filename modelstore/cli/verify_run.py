"""The run of ``verify``: the checks with their progress, then every form of the result."""

from __future__ import annotations

import os
import platform
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast

from modelstore.cli.catalogue_session import screen_of
from modelstore.cli.output import Output, current
from modelstore.cli.progress import progress, status_line
from modelstore.cli.result_files import ResultFile
from modelstore.cli.session import DatabaseChoice, choose_database, refuse_absent, tell_wal_line
from modelstore.render.findings import findings_report
from modelstore.render.report import ReportFormat, write_report
from modelstore.text import human_seconds, process_name
from modelstore.verify.check import VerifyOptions
from modelstore.verify.run import verify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from modelstore.errors import ExitCode
    from modelstore.finding import Verification
    from modelstore.verify.expected import Expected
    from modelstore.wal.locks import Blocker


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the command line asks for; durations in seconds."""

    option: str | None
    positional: str | None
    checks: frozenset[str]
    quick: bool
    deep: bool
    hash_files: bool
    strict: bool
    expected: Expected | None
    form: str
    junit: str | None
    report: str | None
    fold: bool
    timeout: float


def run_verification(request: Request) -> ExitCode:
    """Verify, tell, and return what it says to the shell."""
    out = current()
    choice = choose_database(request.option, request.positional)
    with ExitStack() as stack:
        files = [
            (stack.enter_context(ResultFile(path, option)), option)
            for path, option in ((request.junit, "--junit"), (request.report, "--report"))
            if path is not None
        ]
        verification = _verify(out, choice, request)
        for file, option in files:
            file.write(_document(verification, option))
    write_report(
        out.answer,
        findings_report(verification),
        cast("ReportFormat", request.form),
        screen=screen_of(out),
    )
    if verification.checkpoint is not None and not (
        request.form == "table" and out.stdout_is_terminal
    ):
        tell_wal_line(out, verification.checkpoint)
    if os.environ.get("GITHUB_ACTIONS") == "true":
        _tell_github(out, verification)
    return verification.exit_code


def _verify(out: Output, choice: DatabaseChoice, request: Request) -> Verification:
    """Make the checks; a directory is allowed for the drill alone."""
    if not ("drill" in request.checks and os.path.isdir(choice.path)):
        refuse_absent(choice)
    with _awaiting(out, request.timeout) as on_wait:
        return verify(
            choice.path,
            origin=choice.origin,
            options=VerifyOptions(
                checks=request.checks,
                quick=request.quick,
                deep=request.deep,
                hash_files=request.hash_files,
                fold=request.fold,
                strict=request.strict,
                timeout=request.timeout,
                host=platform.node() or "localhost",
                expected=request.expected,
                watching=partial(progress, out),
                on_wait=on_wait,
                tell=out.message,
            ),
        )


@contextmanager
def _awaiting(
    out: Output, patience: float
) -> Iterator[Callable[[tuple[Blocker, ...], float], None]]:
    """Show on a terminal who is awaited; elsewhere say it once."""
    with status_line(out) as show:

        def tell(blockers: tuple[Blocker, ...], waited: float) -> None:
            names = ", ".join(process_name(b.pid, b.command) for b in blockers)
            of = f"{human_seconds(waited)} of {human_seconds(patience)}"
            show(f"{of}: waiting for {names or 'another checkpoint'}")

        yield tell


def _document(verification: Verification, option: str) -> str:
    if option == "--junit":
        from modelstore.render.junit import junit_xml

        return junit_xml(verification)
    from modelstore.render.html import html_report

    return html_report(verification)


def _tell_github(out: Output, verification: Verification) -> None:
    """Annotate the run, and add to the summary of the job."""
    from modelstore.render.github import annotation_lines, job_summary

    for line in annotation_lines(verification):
        out.message(line, is_command=True)
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if not path:
        return
    try:
        with open(path, "a", encoding="utf-8", errors="backslashreplace") as summary:
            summary.write(job_summary(verification))
    except OSError as error:
        out.warn(f"the job summary could not be written: {error.strerror}")
