"""The report of an import, for people and for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.importing.result import ImportResult, Tally
    from modelstore.render.grid import Cell
    from modelstore.render.report import Part, Report

_ALWAYS_SHOWN = ("found", "added", "updated", "unchanged", "skipped")


def import_report(result: ImportResult) -> Report:
    """Return the report of an import: sources, changes, the fold and the proof."""
    from modelstore.importing.result import COUNTS
    from modelstore.render.report import Report

    return Report(
        body=(*_source_parts(result), *_change_parts(result), *_safety_parts(result)),
        payload=_payload(result),
        columns=("source", "kind", *COUNTS, "error"),
        rows=[
            (t.source, t.kind, *(getattr(t, n) for n in COUNTS), t.error and t.error.message)
            for t in result.tallies
        ],
    )


def _source_parts(result: ImportResult) -> Iterator[Part]:
    """Yield the table of the sources, then the sources that were absent or offline."""
    from modelstore.importing.result import COUNTS
    from modelstore.render.grid import Cell, Grid, Heading

    shown = [name for name in COUNTS if name in _ALWAYS_SHOWN or result.total(name)]
    present = [tally for tally in result.tallies if tally.absent is None]
    has_kinds = any(tally.optional for tally in present)
    headings = (
        Heading("SOURCE", shrink="middle"),
        *((Heading("KIND"),) if has_kinds else ()),
        *(Heading(name.upper(), right=True) for name in shown),
    )
    if present:
        yield Grid(
            headings,
            [
                (
                    tally.source,
                    *((tally.kind,) if has_kinds else ()),
                    *(f"{getattr(tally, name):,}" for name in shown),
                )
                for tally in present
            ],
        )
    absent = [(t.source, t.kind, t.absent) for t in result.tallies if t.absent is not None]
    if absent and not present:
        yield Cell(
            f"no program keeps models here: {len(absent)} usual places were looked at", "warn"
        )
    elif absent:
        nothing = Heading("NOTHING AT", shrink="middle"), Heading("KIND")
        yield Grid((*nothing, Heading("WHY", shrink="wrap")), absent)
    yield from _machine_lines(result)
    for tally in result.tallies:
        if tally.offline:
            yield Cell(f"{tally.source} is offline: {tally.offline}", "warn")


def _machine_lines(result: ImportResult) -> Iterator[Part]:
    """Yield a line for each fleet: its machines, how many were read, and which are offline."""
    from modelstore.render.grid import Cell
    from modelstore.text import listed, plural

    for tally in result.tallies:
        silent = [machine.host for machine in tally.machines if machine.is_silent]
        read = sum(machine.is_read for machine in tally.machines)
        if tally.machines:
            yield f"{plural(len(tally.machines), 'machine')}, {read:,} read because of changes"
        if silent:
            names = listed(silent, _SILENT_NAMED)
            yield Cell(
                f"{plural(len(silent), 'machine')} offline for a day or longer: {names}", "warn"
            )


_SILENT_NAMED = 10  # machines that a line names


def _machines(tally: Tally) -> list[dict[str, object]]:
    from modelstore.text import utc_text

    return [
        {
            "host": machine.host,
            "replica": machine.root,
            "position": machine.position or None,
            "changed_at": None if machine.changed_at is None else utc_text(machine.changed_at),
            "status": "offline" if machine.is_silent else "online",
            "read": machine.is_read,
        }
        for machine in tally.machines
    ]


def _change_parts(result: ImportResult) -> Iterator[Part]:
    """Yield a line for each model that was added, changed, marked missing or pruned, if few."""
    from modelstore.importing.changes import SIGNS
    from modelstore.render.grid import Grid, Heading

    if result.changes:
        headings = (Heading(""), Heading("", shrink="end", least=7), Heading("", shrink="middle"))
        rows = [
            (SIGNS[one.kind], one.id[:7], one.name + (" (missing)" * (one.kind == "missing")))
            for one in result.changes
        ]
        yield Grid(headings, rows)


def _safety_parts(result: ImportResult) -> Iterator[Part]:
    """Yield the fold, the proof, and what to do about frames that are left."""
    import shlex

    from modelstore.render.fold import fold_parts
    from modelstore.render.grid import Cell

    if result.dry_run:
        yield Cell("dry run: nothing was written", "strong")
        return
    yield from fold_parts(result.checkpoint)
    yield _proof_line(result)
    yield from _replica_lines(result)
    if result.is_pending:
        command = f"modelstore checkpoint {shlex.quote(result.database)}"
        yield f"fold the rest when no reader holds it up: {command}"


def _proof_line(result: ImportResult) -> Cell:
    from modelstore.render.grid import Cell
    from modelstore.text import plural

    proof = result.proof
    if result.is_pending:
        return Cell("not all rows are in the main file: they are in database + WAL", "warn")
    if proof is None or not result.checkpoint.in_main_file:
        return Cell("not all rows are in the main file, and they may be lost", "bad")
    if not proof.holds:
        return Cell(
            f"only {plural(proof.counted or 0, 'row')} of {proof.expected:,} are in the main file",
            "bad",
        )
    if proof.counted is None:
        return Cell(
            "every frame of this import was checkpointed and synced; "
            "the main file was too busy to count its rows alone",
            "good",
        )
    return Cell(f"{plural(proof.counted, 'row')} counted in the main file alone", "good")


def _replica_lines(result: ImportResult) -> Iterator[Part]:
    """Yield the verdict on the replica, if one was named."""
    from modelstore.errors import ExitCode
    from modelstore.render.grid import Cell

    if result.replica is None:
        return
    from modelstore.replica.words import verdict_words

    code = result.replica.exit_code
    words = f"{verdict_words(result.replica.examination)} ({result.replica.name})"
    yield Cell(words, "warn" if code is ExitCode.BUSY else "bad" if code else "good")


def _replica_data(result: ImportResult) -> dict[str, object] | None:
    if result.replica is None:
        return None
    from modelstore.replica.words import verdict_data

    return {"url": result.replica.name, **verdict_data(result.replica.examination)}


def _payload(result: ImportResult) -> dict[str, object]:
    from modelstore.cli.reporting import payload
    from modelstore.cli.session import DatabaseChoice
    from modelstore.importing.result import COUNTS

    proof = result.proof
    report = {
        "dry_run": result.dry_run,
        **{name: result.total(name) for name in COUNTS},
        "in_main_file": result.in_main_file,
        "proof": None
        if proof is None
        else {"kind": proof.kind, "expected": proof.expected, "counted": proof.counted},
        "replica": _replica_data(result),
        "changes": None
        if result.changes is None
        else [{"change": one.kind, "id": one.id, "name": one.name} for one in result.changes],
        "write_lock_seconds": round(result.lock_seconds, 6),
        "sources": [
            {
                "source": tally.source,
                "kind": tally.kind,
                **{name: getattr(tally, name) for name in COUNTS},
                "absent": tally.absent,
                "offline": tally.offline,
                "error": tally.error.message if tally.error else None,
                **({"machines": _machines(tally)} if tally.kind == "fleet" else {}),
                "skips": [{"what": s.what, "reason": s.reason} for s in tally.skips],
            }
            for tally in result.tallies
        ],
        "checkpoint": None if result.dry_run else result.checkpoint.as_json(),
    }
    return payload("import", DatabaseChoice(result.database, result.origin), report, *result.codes)
