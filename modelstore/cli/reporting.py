"""Writing an answer: the report on stdout, and what the fold did where the report lacks it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelstore.cli.output import Output
    from modelstore.cli.session import DatabaseChoice, Session
    from modelstore.database.checkpoint import Checkpoint
    from modelstore.errors import ExitCode
    from modelstore.render.grid import Style
    from modelstore.render.report import Report, Screen


def screen_of(out: Output) -> Screen | None:
    """Return the terminal that stdout is; None for a pipe or a file."""
    from modelstore.render.report import Screen

    return Screen(out.width, out.color) if out.stdout_is_terminal else None


def style_of(out: Output) -> Style | None:
    """Return the function that colours the words of a pipe; None if it takes no colour."""
    from modelstore.cli.output import styled

    return styled if out.color and not out.stdout_is_terminal else None


def payload(
    command: str, choice: DatabaseChoice, report: Mapping[str, object], *codes: ExitCode
) -> dict[str, object]:
    """Return a command's JSON object: the keys that all commands share, then its own."""
    from modelstore.render.formats import envelope

    return envelope(
        command, report, database=choice.path, database_from=choice.origin, exit_codes=codes
    )


def write_answer(
    out: Output, report: Report, form: str | None, checkpoint: Checkpoint | None = None
) -> None:
    """Write a report to stdout.

    `checkpoint` is the fold that a table of this report shows. Its WAL line goes to stderr in
    all other formats, and beside a pipe.
    """
    from modelstore.render.report import write_report

    chosen = form or "table"
    if chosen == "table":
        out.page()
    write_report(out.answer, report, chosen, screen=screen_of(out), style=style_of(out))
    if checkpoint is not None and not (chosen == "table" and out.stdout_is_terminal):
        note_wal_line(out, checkpoint)


def write_answer_and_fold(session: Session, report: Report, form: str | None) -> None:
    """Write a report that says nothing of the fold to stdout, then the fold of the session."""
    write_answer(session.out, report, form)
    write_fold(session, on_stdout=form in (None, "table"))


def write_fold(session: Session, *, on_stdout: bool) -> None:
    """Write what the close folded: on a terminal always, else only if the log held anything.

    On a terminal the line goes to stdout if the answer is words (`on_stdout`), else to stderr.
    """
    out, checkpoint = session.out, session.checkpoint
    if checkpoint is None:
        return
    if not out.stdout_is_terminal:
        note_fold(out, checkpoint)
        return
    if on_stdout:
        from modelstore.render.report import write_body

        write_body(out.answer, (checkpoint.wal_line(),), screen_of(out))
    else:
        out.message(checkpoint.wal_line())
    _note_blockers(out, checkpoint)


def note_fold(out: Output, checkpoint: Checkpoint) -> None:
    """Write the WAL line to stderr if the log held anything, and name the blockers."""
    note_wal_line(out, checkpoint)
    _note_blockers(out, checkpoint)


def note_wal_line(out: Output, checkpoint: Checkpoint) -> None:
    """Write the WAL line to stderr if the log held anything."""
    if checkpoint.log or checkpoint.left:
        out.message(
            f"[Database] WAL checkpoint: {checkpoint.checkpointed} pages checkpointed, "
            f"{checkpoint.log} log pages, busy: {int(checkpoint.busy)}"
        )


def _note_blockers(out: Output, checkpoint: Checkpoint) -> None:
    """Write one note for each process that keeps frames in the WAL, and other reasons."""
    from modelstore.text import process_name

    if not checkpoint.left:
        return
    for blocker in checkpoint.blockers:
        frame = f" at frame {blocker.frame}" if blocker.frame is not None else ""
        who = process_name(blocker.pid, blocker.command, *blocker.facts)
        out.note(f"{who} holds {blocker.lock}{frame}: blocks {', '.join(blocker.blocks)}")
    for text in (checkpoint.blockers_note, checkpoint.reason):
        if text:
            out.note(text)
