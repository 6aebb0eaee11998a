"""The states that the evidence can give, the best first, and the logs that are kept apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelstore.database.foreign_log import judge_log
from modelstore.recovery.evidence import Origin, Pair
from modelstore.recovery.history import LogHistory, read_history
from modelstore.recovery.states import State, candidate_states
from modelstore.wal.files import read_at
from modelstore.wal.format import DATABASE_HEADER_SIZE, DatabaseHeader, DatabaseHeaderError
from modelstore.wal.pages import CorruptPageError

if TYPE_CHECKING:
    from modelstore.recovery.evidence import Evidence


class Choices:
    """The logs of the evidence and the states that they give.

    `apart` has a sentence for each pair whose log does not belong to its database.
    """

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.logs: dict[int, LogHistory] = {}
        self.apart: dict[Pair, str] = {}

    def read_logs(self) -> None:
        """Read every log of the evidence, and judge if it belongs to the database beside it."""
        for pair in self.evidence.pairs:
            if pair.log is not None and pair.log.fd not in self.logs and pair.log.size:
                found = read_history(pair.log.fd)
                if found is not None:
                    self.logs[pair.log.fd] = found
            log = self.log(pair)
            if pair.main is not None and pair.log is not None and log is not None:
                self._judge(pair, pair.main.fd, log)

    def _judge(self, pair: Pair, main: int, log: LogHistory) -> None:
        """Note why a log is kept apart from the database beside it, if it does not belong to it."""
        try:
            header = DatabaseHeader.parse(read_at(main, DATABASE_HEADER_SIZE, 0))
            verdict = judge_log(header, main, log.scan, log.fd)
        except (DatabaseHeaderError, CorruptPageError):
            return
        name = "" if pair.log is None else pair.log.name
        if verdict.foreign is not None:
            self.apart[pair] = f"{name} is not the log of this database: {verdict.foreign}"
        elif verdict.older is not None and pair.log and pair.log.origin is Origin.PATH:
            self.apart[pair] = f"{name} is from before this database was put here"

    def log(self, pair: Pair) -> LogHistory | None:
        """Return the history in the log of a pair; None if it has no frame."""
        return None if pair.log is None else self.logs.get(pair.log.fd)

    def states(self) -> list[State]:
        """Return the states of all pairs, the best first.

        A living process with a log of its own for the database at the path has the newest rows.
        One that uses another database than that comes after it: somebody put this one there.
        """
        origins = [pair.main.origin for pair in self.evidence.pairs if pair.main and pair.main.size]
        has_path = Origin.PATH in origins

        def rank(pair: Pair) -> tuple[int, int]:
            log = self.log(pair)
            current = None if log is None else log.current
            commits = 0
            if current is not None and pair not in self.apart:
                commits = sum(1 for _ in current.commits())
            origin = Origin.PATH if pair.main is None else pair.main.origin
            if origin is Origin.COPY:
                return 3, -commits
            if origin is Origin.HELD and has_path:
                return 2, -commits
            return (0 if pair.is_held and commits else 1), -commits

        found: dict[object, State] = {}
        for pair in sorted(self.evidence.pairs, key=rank):
            states = candidate_states(pair, self.log(pair))
            if pair in self.apart:
                states.sort(key=lambda state: state.commit != 0)
            for state in states:
                key = (state.main_fd, state.pair.log if state.commit else None, state.commit)
                found.setdefault(key, state)
        return list(found.values())

    def split_off(self, pair: Pair, log: LogHistory) -> bool:
        """Return True if a log's newest pages never reached the main file: another history."""
        if pair.is_held or pair in self.apart:
            return pair.is_held
        current = log.current
        if current is None or pair.main is None:
            return True
        return not any(
            read_at(pair.main.fd, log.page_size, (number - 1) * log.page_size) == log.image(frame)
            for number, frame in current.latest(current.end).items()
        )


def is_own(state: State) -> bool:
    """Return True if a state has a main file that is no other copy: it may be the newest."""
    main = state.pair.main
    return main is not None and main.origin is not Origin.COPY and main.size > 0
