"""``modelstore verify``: checks that the data of any database really persists, with evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from modelstore.cli.completion.values import complete_source, complete_values
from modelstore.cli.options import (
    DEFAULT_TIMEOUT,
    OUTPUT,
    DatabaseArgument,
    DbOption,
    JsonOption,
    NoCheckpointOption,
    TimeoutOption,
    chosen_format,
    option,
    seconds,
)
from modelstore.errors import ExitCode, ModelstoreError, UsageError  # Typer reads the signature
from modelstore.render.formats import Format

if TYPE_CHECKING:
    from modelstore.cli.output import Output
    from modelstore.cli.session import DatabaseChoice
    from modelstore.finding import Verification
    from modelstore.replica.name import ReplicaName
    from modelstore.verify.check import VerifyOptions
    from modelstore.verify.expected import Expected


_FORMATS = ("openmetrics",)


def _file(name: str, what: str) -> Any:  # noqa: ANN401  # Typer's own type for it
    return option(
        name, metavar="FILE", about=f"Also write {what}.", complete=complete_source, group=OUTPUT
    )


def _complete_check(incomplete: str) -> list[str]:
    from modelstore.verify.checks import check_names

    return [name for name in check_names() if name.startswith(incomplete)]


EXAMPLES = (
    "modelstore verify --expect-count 18 --strict --junit result.xml",
    "modelstore verify app.db --no-checkpoint    change nothing",
)

TOGETHER = {
    ("--min-count", "--host"): "At least N. --host NAME: only that machine's models.",
    ("--only", "--skip"): "Make only this check. --skip CHECK leaves one out.",
    ("--junit", "--report", "--sarif", "--textfile"): (
        "Also write JUnit XML. Likewise: --report (an HTML page), "
        "--sarif, --textfile (for node_exporter)."
    ),
}


def command(
    database: DatabaseArgument = None,
    quick: Annotated[
        bool, option("--quick", about="Use quick_check instead of integrity_check.")
    ] = False,
    deep: Annotated[
        bool,
        option("--deep", about="Compare every table; check the main file alone."),
    ] = False,
    hash_files: Annotated[
        bool,
        option("--hash", about="Read every model file, and check its SHA-256."),
    ] = False,
    drill: Annotated[
        bool,
        option(
            "--drill",
            about="Rehearse losses on scratch files: see help ci.",
        ),
    ] = False,
    replica: Annotated[
        str | None,
        option(
            "--replica",
            metavar="URL",
            about="Compare every row with this Litestream replica.",
        ),
    ] = None,
    expect_count: Annotated[
        list[str] | None,
        option(
            "--expect-count",
            metavar="[T=]N",
            about="Table T (models) must have N rows without its log.",
        ),
    ] = None,
    min_count: Annotated[
        list[str] | None,
        option("--min-count", metavar="[T=]N", about="The same, but at least N rows."),
    ] = None,
    expect: Annotated[
        str | None,
        option(
            "--expect",
            metavar="FILE",
            about="Models that must be there: names, or JSON lines.",
        ),
    ] = None,
    host: Annotated[
        str | None,
        option(
            "--host",
            metavar="NAME",
            about="Count only the models of this machine.",
            complete=complete_values("host"),
        ),
    ] = None,
    max_wal_size: Annotated[
        str | None,
        option(
            "--max-wal-size",
            metavar="SIZE",
            about="The -wal must not be larger when the run begins.",
        ),
    ] = None,
    strict: Annotated[bool, option("--strict", about="Warnings fail too.")] = False,
    only: Annotated[
        list[str] | None,
        option("--only", metavar="CHECK", about="Make only this check.", complete=_complete_check),
    ] = None,
    skip: Annotated[
        list[str] | None,
        option("--skip", metavar="CHECK", about="Skip this check.", complete=_complete_check),
    ] = None,
    db: DbOption = None,
    output_format: Annotated[
        str | None,
        option(
            "--format",
            "-f",
            choices=(*Format, *_FORMATS),
            about=f"{', '.join((*Format, *_FORMATS))}.",
            group=OUTPUT,
        ),
    ] = None,
    as_json: JsonOption = False,
    nagios: Annotated[
        bool,
        option(
            "--nagios",
            about="One line, and the exit code of a Nagios plugin.",
            group=OUTPUT,
        ),
    ] = False,
    junit: Annotated[str | None, _file("--junit", "JUnit XML")] = None,
    report: Annotated[str | None, _file("--report", "an HTML page")] = None,
    sarif: Annotated[str | None, _file("--sarif", "SARIF, for code scanning")] = None,
    textfile: Annotated[str | None, _file("--textfile", "metrics for node_exporter")] = None,
    no_checkpoint: NoCheckpointOption = False,
    timeout: TimeoutOption = DEFAULT_TIMEOUT,
) -> ExitCode:
    """Check that the data really persists; for CI.

    Measures the file, log, integrity, checkpoint, persistence, environment and models of any
    SQLite database. Exit 5 if a check fails. Rows that are only in the WAL are a warning if
    they could be folded, a failure with --no-checkpoint.
    """
    from contextlib import ExitStack
    from functools import partial

    from modelstore.cli.output import current
    from modelstore.cli.progress import progress, waiting_line
    from modelstore.cli.reporting import write_answer
    from modelstore.cli.result_files import ResultFile
    from modelstore.cli.session import choose_database
    from modelstore.render.findings import findings_report
    from modelstore.text import host_name
    from modelstore.verify.check import VerifyOptions

    replica_name = _replica(replica)
    on_request = {"drill": drill, "replica": replica_name is not None}
    checks = _checks(only, skip, {name for name, chosen in on_request.items() if chosen})
    if replica_name is None and "replica" in checks:
        raise UsageError("the check 'replica' has no replica", hint="name it with --replica URL")
    expected = _expected(expect_count or [], min_count or [], expect, max_wal_size, host)
    form = chosen_format(output_format, as_json)
    out = current()
    choice = choose_database(db, database)
    with ExitStack() as stack:
        files = [
            (stack.enter_context(ResultFile(path, name)), name)
            for name, path in (
                ("--junit", junit),
                ("--report", report),
                ("--sarif", sarif),
                ("--textfile", textfile),
            )
            if path is not None
        ]
        options = VerifyOptions(
            checks=checks,
            quick=quick,
            deep=deep,
            hash_files=hash_files,
            fold=not no_checkpoint,
            strict=strict,
            timeout=seconds(timeout),
            host=host_name(),
            expected=expected,
            replica=replica_name,
            watching=partial(progress, out),
            on_wait=waiting_line(out, seconds(timeout)),
            tell=out.message,
        )
        stack.enter_context(progress(out, "", "verifying"))
        try:
            verification = _verify(choice, options)
        except ModelstoreError as error:
            if not nagios:
                raise
            return _tell_nagios(out, error)
        for file, name in files:
            file.write(_document(verification, name))
    if nagios:
        return _tell_nagios(out, verification)
    if form == "openmetrics":
        out.answer(_document(verification, "--textfile"))
    else:
        write_answer(out, findings_report(verification), form, verification.checkpoint)
    if out.under_github_actions:
        _tell_github(out, verification)
    return verification.exit_code


def _tell_nagios(out: Output, result: Verification | ModelstoreError) -> ExitCode:
    """Write the line of a Nagios plugin; return the plugin's exit code."""
    from modelstore.render.nagios import error_line, nagios_line, nagios_state

    if isinstance(result, ModelstoreError):
        state, line = error_line(result)
    else:
        state, line = nagios_state(result), nagios_line(result)
    out.answer(line)
    return ExitCode(state)


def _verify(choice: DatabaseChoice, options: VerifyOptions) -> Verification:
    """Make the checks. Only the drill accepts a directory."""
    import os

    from modelstore.cli.session import refuse_absent
    from modelstore.verify.run import verify

    if not ("drill" in (options.checks or ()) and os.path.isdir(choice.path)):
        refuse_absent(choice)
    return verify(choice.path, origin=choice.origin, options=options)


def _replica(text: str | None) -> ReplicaName | None:
    """Return the replica to compare with. Raises `RefusedError` where nothing can restore it."""
    if text is None:
        return None
    from modelstore.replica.engine import find_engine
    from modelstore.replica.name import ReplicaName

    name = ReplicaName.parse(text)
    find_engine()
    return name


def _checks(only: list[str] | None, skip: list[str] | None, requested: set[str]) -> frozenset[str]:
    """Return the checks to make; those on request only if they are named or `requested`."""
    from modelstore.text import visible
    from modelstore.verify.checks import all_checks

    checks = {check.name: check for check in all_checks()}
    for name in (*(only or ()), *(skip or ())):
        if name not in checks:
            raise UsageError(
                f"there is no check '{visible(name, 80)}'", hint=f"one of {', '.join(checks)}"
            )
    chosen = set(only or (name for name, check in checks.items() if not check.on_request))
    chosen |= requested
    chosen -= set(skip or ())
    if not chosen:
        raise UsageError("no check is left to make", hint="give fewer of --skip and --only")
    return frozenset(chosen)


def _expected(
    counts: list[str],
    least: list[str],
    file: str | None,
    max_wal_size: str | None,
    host: str | None,
) -> Expected | None:
    if host == "":
        raise UsageError("--host is empty", hint="an unset variable in a script?")
    if not (counts or least or file is not None or max_wal_size is not None or host):
        return None
    from modelstore.text import parse_size
    from modelstore.verify.expected import Expected, parse_count, read_models

    return Expected(
        tuple(parse_count(text, "--expect-count", at_least=False) for text in counts)
        + tuple(parse_count(text, "--min-count", at_least=True) for text in least),
        read_models(file) if file is not None else (),
        parse_size(max_wal_size) if max_wal_size is not None else None,
        host,
    )


def _document(verification: Verification, name: str) -> str:
    """Return the document that the option `name` asks for."""
    if name == "--sarif":
        from modelstore.render.sarif import sarif_text

        return sarif_text(verification)
    if name == "--textfile":
        from modelstore.render.openmetrics import openmetrics_text

        return openmetrics_text(verification)
    if name == "--junit":
        from modelstore.render.junit import junit_xml

        return junit_xml(verification)
    from modelstore.render.html import html_report

    return html_report(verification)


def _tell_github(out: Output, verification: Verification) -> None:
    """Annotate the workflow run of GitHub Actions, and add to the summary of the job."""
    import os

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
