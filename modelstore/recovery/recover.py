"""Recover a database: gather the evidence, choose the newest state, write it, add the rest."""

from __future__ import annotations

import os
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from modelstore.errors import RefusedError
from modelstore.recovery.accounts import lost_frames, only_in_log, rows_without_sql, user_rows
from modelstore.recovery.additions import Additions, Source
from modelstore.recovery.checks import Verdict, check, check_beside
from modelstore.recovery.choices import Choices, is_own
from modelstore.recovery.comparison import Comparison, compare
from modelstore.recovery.deleted import add_deleted
from modelstore.recovery.doubts import mark_doubtful_rows
from modelstore.recovery.evidence import Evidence, EvidenceFile, Origin, gather
from modelstore.recovery.leftovers import Leftovers
from modelstore.recovery.result import RecoveredTable, Recovery
from modelstore.recovery.salvage import Salvage, read_objects, salvage
from modelstore.recovery.states import State, candidate_states, has_page_one
from modelstore.recovery.writer import (
    SCAN_CACHE,
    SQL_ERRORS,
    new_file,
    open_new,
    publish,
    read_at_path,
    require_room,
    set_mode_bytes,
    write_pages,
)
from modelstore.text import plural
from modelstore.wal.files import read_at
from modelstore.wal.format import WAL_HEADER_SIZE, DatabaseHeaderError
from modelstore.wal.pages import CorruptPageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from modelstore.database.sqlite import sqlite3
    from modelstore.progress import Progress
    from modelstore.wal.schema import SchemaObject

_ATTEMPTS = 4
_MAX_NAMED = 100  # unreadable pages that the result names
_MAX_CANDIDATES = 8  # states that are written and checked


@dataclass(frozen=True, slots=True)
class Request:
    """The order for a recovery; the paths are as the user gave them."""

    database: str
    into: str | None = None
    logs: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()
    deleted: bool = False


def recover(request: Request, progress: Progress | None = None) -> Recovery:
    """Recover a database into the new file `request.into`, or find out what that would give.

    Opens no file of the victim with SQLite and writes to none. Repeats the work if a checkpoint
    changed the database meanwhile. Raises `RefusedError` if there is nothing to recover, if the
    new file exists, or if there is no room.
    """
    with new_file(request.into) as draft:
        for attempt in range(1, _ATTEMPTS + 1):
            number = "" if attempt == 1 else f"-{attempt}"
            save_to = f"{request.into}-evidence{number}" if request.into else None
            with gather(
                request.database, logs=request.logs, copies=request.copies, save_to=save_to
            ) as evidence:
                before = _stamps(evidence)
                done = _Work(request, evidence, draft, progress).run()
                like = _like(evidence)
                raced = _stamps(evidence) != before
            if not raced:
                break
        if request.into is not None:
            publish(draft, request.into, like.mode, like.owner)
            done = replace(done, size=os.path.getsize(request.into))
    return replace(done, is_raced=done.is_raced or raced)


def _like(evidence: Evidence) -> EvidenceFile:
    """Return the file whose mode and owner the new file gets, to be put in its place."""
    files = [pair.main or pair.log for pair in evidence.pairs]
    own = [file for file in files if file is not None and file.origin is not Origin.COPY]
    return (own or [file for file in files if file is not None])[0]


def _stamps(evidence: Evidence) -> list[object]:
    """Return facts that change if a checkpoint writes a database or a log restarts."""
    found: list[object] = []
    for pair in evidence.pairs:
        if pair.main is not None:
            status = os.fstat(pair.main.fd)
            found.append((status.st_size, status.st_mtime_ns))
        if pair.log is not None:
            found.append(read_at(pair.log.fd, WAL_HEADER_SIZE, 0))
    return found


class _Work:
    """One attempt at a recovery."""

    def __init__(
        self, request: Request, evidence: Evidence, draft: str, progress: Progress | None
    ) -> None:
        self.request = request
        self.evidence = evidence
        self.draft = draft
        self.progress = progress
        self.choices = Choices(evidence)
        self.notes: list[str] = []
        self.salvaged = Salvage()
        self._compared: tuple[State, Comparison] | None = None

    def _tell(self, what: str) -> None:
        if self.progress is not None:
            self.progress(what, 0)

    def run(self) -> Recovery:
        self._tell("reading the logs")
        self.choices.read_logs()
        self._tell("looking for states that were commits")
        states = self.choices.states()
        if not states:
            raise RefusedError(
                "nothing to recover: no file of the evidence holds a page of a database",
                hint="name other copies with --also FILE, and logs found elsewhere with --wal FILE",
            )
        require_room(self.draft, max(s.page_size * s.page_count for s in states))
        # A whole copy must not hide the newer rows of the database itself, damaged as it may be.
        own = [state for state in states if is_own(state)]
        rest = [state for state in states if not is_own(state)]
        found = self._build(own, states, is_last=not rest) if own else None
        if found is None and rest:
            found = self._build(rest, states, is_last=True)
        if found is None:
            raise RefusedError(
                "nothing to recover: the evidence holds no row of any table",
                hint="name other copies with --also FILE, and logs found elsewhere with --wal",
            )
        return found

    def _build(
        self, chosen: Sequence[State], states: Sequence[State], *, is_last: bool
    ) -> Recovery | None:
        """Build the new file from the best of the `chosen` states; None if they hold no row."""
        self.notes, self.salvaged = [], Salvage()
        base, verdict, how = self._base(chosen)
        try:
            tables = self._fill(base, verdict, states, how, is_last=is_last)
        except SQL_ERRORS as error:
            if how == "rows" or verdict.is_whole:
                raise RefusedError(
                    f"the new file cannot be written: {error}",
                    hint="check the disk, and its room, at the place of the new file",
                ) from error
            how = "rows"  # the pages looked readable, but SQLite cannot work with them
            tables = self._fill(base, verdict, states, how, is_last=is_last)
        if how == "rows":
            verdict = check(self.draft, base)
            if not any(table.rows or table.set_aside for table in tables):
                return None
        return self._result(base, verdict, how, tables)

    def _fill(
        self, base: State, verdict: Verdict, states: Sequence[State], how: str, *, is_last: bool
    ) -> tuple[RecoveredTable, ...]:
        """Add to the draft the rows that its pages lack, or all rows; return the tables.

        Returns none if the state has no row, and others (not `is_last`) are left to try.
        """
        with self._open_draft(how) as conn:
            additions = Additions(conn)
            if how == "rows":
                self._tell("gathering rows")
                self._salvage(base, states, conn, additions)
                is_empty = not (additions.total or any(user_rows(conn).values()))
                if is_empty and not is_last:
                    return ()
            elif verdict.may_have_lost and (marked := mark_doubtful_rows(base, additions)):
                self.notes.append(
                    f"{plural(marked, 'row')} lost bytes to sectors of zeros, unseen by "
                    "integrity_check: modelstore_recovered names them"
                )
            self._tell("counting rows")
            comparison = self._comparison(base)
            self._add_the_rest(base, additions, comparison)
            if self.request.deleted and has_page_one(base):
                add_deleted(base, additions)
            self._describe(base, additions)
            self.added = additions.total
            in_log = only_in_log(base, conn, comparison.same_keys) if base.commit else {}
            rows = verdict.rows
            if how == "rows" or not rows or any(one.fitted for one in additions.counts.values()):
                rows = user_rows(conn)
            if how == "pages":
                rows = {**rows, **self._rows_without_sql(base)}
            return self._tables(rows, base, additions, in_log)

    def _rows_without_sql(self, base: State) -> dict[str, int]:
        """Return the rows of the tables whose definition is no UTF-8, and say what that means."""
        rows: dict[str, int] = {}
        with suppress(CorruptPageError):
            rows = rows_without_sql(base.view())
        self.notes += (
            f"the new file has table {name} as it was; no other rows of it were looked for, for "
            "its definition is no UTF-8"
            for name in rows
        )
        return rows

    # -- the state ---------------------------------------------------------------------------------

    def _base(self, states: Sequence[State]) -> tuple[State, Verdict, str]:
        """Choose the first state that integrity_check passes, else the best that there is."""
        fallback: tuple[State, Verdict] | None = None
        for state in states[:_MAX_CANDIDATES]:
            if not has_page_one(state) or state.missing_pages():
                continue
            write_pages(state, self.draft, self.progress)
            self._tell("checking the new file")
            verdict = check_beside(self.draft, state, partial(self._comparison, state))
            if verdict.is_whole:
                return state, verdict, "pages"
            if verdict.is_readable and fallback is None:
                fallback = state, verdict
        if fallback is not None:
            write_pages(fallback[0], self.draft, self.progress)
            return fallback[0], self._rebuild_indexes(*fallback), "pages"
        best = next((state for state in states if has_page_one(state)), states[0])
        return _with_all_pages(best), Verdict(is_whole=False, is_readable=False), "rows"

    def _comparison(self, state: State) -> Comparison:
        """Return the comparison of a state with its main file; the last one is kept."""
        if self._compared is None or self._compared[0] is not state:
            self._compared = state, compare(state)
        return self._compared[1]

    def _rebuild_indexes(self, state: State, verdict: Verdict) -> Verdict:
        """Rebuild the indexes of a state whose tables are whole; keep its pages if that fails."""
        try:
            with closing(open_new(self.draft)) as conn:
                conn.execute("PRAGMA journal_mode = DELETE")
                conn.execute("REINDEX")
        except SQL_ERRORS:
            write_pages(state, self.draft, self.progress)
            return verdict
        after = check(self.draft, state)
        if after.is_whole:
            self.notes.append("indexes did not agree with their tables, and were built again")
        return after

    @contextmanager
    def _open_draft(self, how: str) -> Iterator[sqlite3.Connection]:
        """Open the draft in one transaction; the file is synced before it gets its name.

        Rolls back if nothing was added, so that the pages stay exactly as the evidence has them.
        """
        if how == "rows":
            os.truncate(self.draft, 0)
        mode = read_at_path(self.draft, 18, 2)
        conn = open_new(self.draft)
        try:
            conn.execute("PRAGMA synchronous = OFF")
            conn.execute("PRAGMA locking_mode = EXCLUSIVE")
            conn.execute("PRAGMA ignore_check_constraints = ON")
            if how == "pages":
                conn.execute(f"PRAGMA cache_size = -{SCAN_CACHE}")
                set_mode_bytes(self.draft, b"\1\1", mode)
            conn.execute("PRAGMA journal_mode = MEMORY")
            conn.execute("BEGIN")
            changes = conn.total_changes
            yield conn
            is_changed = conn.total_changes != changes or how == "rows"
            conn.execute("COMMIT" if is_changed else "ROLLBACK")
        finally:
            conn.close()
        if how == "pages":
            set_mode_bytes(self.draft, mode, b"\1\1")

    # -- rows --------------------------------------------------------------------------------------

    def _salvage(
        self,
        base: State,
        states: Sequence[State],
        conn: sqlite3.Connection,
        additions: Additions,
    ) -> None:
        conn.execute("ROLLBACK")
        conn.execute(f"PRAGMA page_size = {base.page_size}")
        header = base.view().header
        encoding = {2: "UTF-16le", 3: "UTF-16be"}.get(header.encoding, "UTF-8")
        conn.execute(f"PRAGMA encoding = '{encoding}'")
        conn.execute("BEGIN IMMEDIATE")
        objects = self._objects(base, states)
        self.salvaged = salvage(base, conn, objects, additions)
        if has_page_one(base):
            for name, value in (
                ("user_version", header.user_version),
                ("application_id", header.application_id),
            ):
                signed = value - (1 << 32) if value >> 31 else value
                conn.execute(f"PRAGMA {name} = {signed}")
        self.notes += self.salvaged.notes
        if not has_page_one(base):
            self.notes.append("no evidence holds page 1, with the header and the schema's root")
        if not objects:
            self.notes.append(
                "no evidence holds the schema: tables are told from their pages, and their "
                "columns are named c0, c1, …"
            )

    def _objects(self, base: State, states: Sequence[State]) -> list[SchemaObject]:
        """Return the schema of the base, or of the best other state that has one."""
        for state in (base, *states):
            try:
                objects = read_objects(state.view())
            except DatabaseHeaderError:
                continue
            if any(item.type == "table" for item in objects):
                if state.main_fd != base.main_fd:
                    name = state.source(1)[0]
                    self.notes.append(f"the schema is that of {name}: the database's own is lost")
                return objects
        return []

    def _add_the_rest(self, base: State, additions: Additions, comparison: Comparison) -> None:
        """Add the rows that other logs, other generations and older frames have."""
        leftovers = Leftovers(base, additions, comparison, self.progress)
        leftovers.prepare()
        done: set[int] = set()
        for pair in self.evidence.pairs:
            log = self.choices.log(pair)
            if log is None or log.fd in done or log.page_size != base.page_size:
                continue
            done.add(log.fd)
            for generation in log.generations:
                is_base = base.log is log and base.generation is generation
                if is_base:
                    beyond = generation.end > base.commit
                else:
                    beyond = generation.is_current and self.choices.split_off(pair, log)
                leftovers.add_generation(pair, log, generation, beyond=beyond)
        leftovers.add_main_alone()
        for pair in self.evidence.pairs:
            is_other = pair.main is not None and pair.main.fd != base.main_fd
            if is_other:
                for state in candidate_states(pair, self.choices.log(pair))[:1]:
                    leftovers.add_state(state, beyond=pair.is_held, lost=self.salvaged)

    def _describe(self, base: State, additions: Additions) -> None:
        """Write the provenance of whole tables if their files are not those at the path."""
        files = [file for file in (base.pair.main, base.pair.log) if file is not None]
        is_plain = all(file.origin is Origin.PATH for file in files)
        if is_plain and not additions.total and base.is_exact:
            return
        for file in files:
            if file is base.pair.log and not base.commit:
                continue
            note = "the recovered state" if base.is_exact else "pages of it may be older"
            additions.note(
                "*", None, None,
                Source(file.path, commit=base.commit or None,
                       confidence=1.0 if base.is_exact else 0.9, note=note),
            )  # fmt: skip

    def _tables(
        self,
        counted: Mapping[str, int],
        base: State,
        additions: Additions,
        in_log: Mapping[str, int],
    ) -> tuple[RecoveredTable, ...]:
        rows = {name: n for name, n in counted.items() if name not in additions.own_tables}
        found = []
        for name in dict.fromkeys((*rows, *additions.counts)):
            counts = additions.count(name)
            found.append(
                RecoveredTable(
                    name,
                    rows.get(name, 0),
                    in_log.get(name) if base.commit else None,
                    counts.fitted,
                    dict(counts.others),
                    self.salvaged.missing_pages(name),
                    self.salvaged.missing_rows(name),
                    tuple(self.salvaged.unreadable.get(name, ())[:_MAX_NAMED]),
                    dict(counts.sources),
                    dict(counts.fitted_from),
                )
            )
        return tuple(found)

    # -- the result --------------------------------------------------------------------------------

    def _result(
        self, base: State, verdict: Verdict, how: str, tables: tuple[RecoveredTable, ...]
    ) -> Recovery:
        files = [f for pair in self.evidence.pairs for f in (pair.main, pair.log) if f is not None]
        lost = [
            frame
            for log in self.choices.logs.values()
            if log.current is not None
            for frame in lost_frames(log)
        ]
        self.notes += self._unfinished()
        if base.rollback is not None:
            self.notes.append(
                f"{base.rollback.file.name} belongs to a transaction that never ended: the new "
                f"file has {plural(len(base.rollback.pages), 'page')} as they were before it"
            )
        return Recovery(
            database=self.evidence.path,
            into=self.request.into,
            evidence=tuple(dict.fromkeys(f"{file.name}: {file.path}" for file in files)),
            held=self.evidence.held,
            is_wal=read_at_path(self.draft, 19, 1) == b"\2",
            main=None if base.pair.main is None or not base.pair.main.size else base.pair.main.name,
            log=_log_name(base),
            how=how,
            is_whole=verdict.is_whole,
            messages=verdict.messages if not verdict.is_whole else (),
            commit=base.commit,
            is_exact=base.is_exact,
            tables=tables,
            mended_frames=sum(len(log.mended) for log in self.choices.logs.values()),
            lost_frames=tuple(lost),
            lost_pages=tuple(base.missing_pages()) if how == "rows" else (),
            bad_rows=self.salvaged.bad_rows,
            provenance_lines=self.added,
            searched_deleted=self.request.deleted,
            notes=(
                *self.notes,
                *dict.fromkeys(self.choices.apart.values()),
                *([self.evidence.gone] if self.evidence.gone and not base.commit else []),
                *([self.evidence.hidden] if self.evidence.hidden else []),
            ),
            unread=self.evidence.notes,
            is_raced=self.evidence.is_raced,
            saved_to=self.evidence.saved_to,
            saved=self.evidence.saved,
        )

    def _unfinished(self) -> Iterator[str]:
        """Yield a sentence for each log that ends within a transaction."""
        for pair in self.evidence.pairs:
            log = self.choices.log(pair)
            current = None if log is None else log.current
            if pair.log and current and current.end < current.first + len(current.sound) - 1:
                yield (
                    f"{pair.log.name} ends within a transaction without its commit: rows that it "
                    "alone has are set aside"
                )


def _with_all_pages(state: State) -> State:
    """Return a damaged state with every page of its main file: the header's count may be wrong."""
    if state.commit or state.pair.main is None:
        return state
    return replace(state, page_count=max(state.page_count, state.pair.main.size // state.page_size))


def _log_name(base: State) -> str | None:
    return base.pair.log.name if base.commit and base.pair.log is not None else None
