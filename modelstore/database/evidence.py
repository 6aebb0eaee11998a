"""Evidence against a fold: each reason with a stable code, a sentence, and what to do.

Folding is what any program does when it closes a database as the last one. If a living process is
in another state than the files at the path, or if the files contradict each other, that destroys
data. `Reasons` come from two looks: at the processes (`holder_reasons`) and at the files (`probe`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from modelstore.database.holders import HolderProblem, Role
from modelstore.errors import DamageError, RefusedError
from modelstore.text import human_bytes, listed, plural, process_name, visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from modelstore.database.holders import Holder, Holders, OpenFile
    from modelstore.wal.frames import WalScan

FOREIGN_LOG = "foreign-log"
OLDER_LOG = "older-log"
DAMAGED_LOG = "damaged-log"
LOG_REPLACED = "log-replaced"
MALFORMED = "malformed"
OVERWRITTEN = "overwritten"
UNSEEN = "unseen"
HOT_JOURNAL = "hot-journal"

_NAMED = 3  # reasons in one sentence
_NAMED_FILES = 4  # of one process

_ELSEWHERE = frozenset(
    (
        *(HolderProblem.OTHER_DATABASE, HolderProblem.OTHER_LOG, HolderProblem.OTHER_NAME),
        *(HolderProblem.OTHER_MOUNT, LOG_REPLACED, OVERWRITTEN, UNSEEN),
    )
)


class Reason(NamedTuple):
    """A reason against a fold. `code` is stable; `pid` names the process, if one is the reason."""

    code: str
    text: str
    hint: str
    pid: int | None = None

    @property
    def is_elsewhere(self) -> bool:
        """True if rows may exist in files that the path does not name any more."""
        return self.code in _ELSEWHERE

    def as_json(self) -> dict[str, object]:
        """Return it for a program to read; text from outside is escaped."""
        return {"code": str(self.code), "text": self.text, "hint": self.hint, "pid": self.pid}


class FoldForbiddenError(DamageError):
    """The evidence forbids a fold that was the task of the command; `reasons` say why."""

    def __init__(self, message: str, *, hint: str, reasons: tuple[Reason, ...]) -> None:
        super().__init__(message, hint=hint)
        self.reasons = reasons


def forbid_fold(name: str, reasons: tuple[Reason, ...], *, as_refusal: bool = False) -> None:
    """Raise `FoldForbiddenError` for some reasons, or `RefusedError`; do nothing without any."""
    if not reasons:
        return
    texts = "; ".join(reason.text for reason in reasons[:_NAMED])
    message, hint = f"{name} must not be folded: {texts}", reasons[0].hint
    if as_refusal:
        raise RefusedError(message, hint=hint)
    raise FoldForbiddenError(message, hint=hint, reasons=reasons)


def codes(reasons: Iterable[Reason]) -> frozenset[str]:
    """Return the codes of some reasons."""
    return frozenset(reason.code for reason in reasons)


def holder_reasons(holders: Holders) -> tuple[Reason, ...]:
    """Return one reason for each process that makes a fold dangerous."""
    return tuple(reason for holder in holders.troubled for reason in _of(holder, holders.path))


def damage_of(log: WalScan) -> str:
    """Say what SQLite would drop of a damaged log."""
    lost = plural(log.later_commits, "commit")
    if log.fault is not None:
        return f"{log.fault.value}, and SQLite would drop all of it ({lost})"
    return (
        f"frame {log.valid + 1:,} of the log is damaged, and SQLite would drop it and the {lost} "
        "after it"
    )


def unseen_reason(who: str) -> Reason:
    """Return the reason for a process that shows its locks and not its files."""
    text = (
        f"{who} has it open, does not show its files to this user, and uses another log than that "
        "at the path"
    )
    hint = "run `modelstore inspect-wal` as root, or where that process runs: it tells more"
    return Reason(UNSEEN, text, hint)


def _of(holder: Holder, path: str) -> Iterator[Reason]:
    problem = holder.problems[0]
    who = process_name(holder.pid, visible(holder.command, 200)) + (
        ", stopped," if holder.is_stopped else ""
    )
    text, hint = _SENTENCES[problem](holder, visible(path, 200))
    yield Reason(problem, f"{who} {text}", hint, holder.pid)


def _other(holder: Holder, path: str) -> tuple[str, str]:
    """Say which files a process uses instead of those at the path."""
    others = [file for file in holder.files if not file.is_current]
    what = _joined([_named(file) for file in others]) or "another database"
    keep = f"keep pid {holder.pid} running: " + _only_there(others, path)
    return f"uses {what}, not what is at {path} now", keep


def _joined(files: list[str]) -> str:
    """Join the files of a process in a sentence; one that loses a log a day may have very many."""
    return " and ".join(files) if len(files) <= _NAMED_FILES else listed(files, _NAMED_FILES)


def _named(file: OpenFile) -> str:
    words = {
        Role.DATABASE: "a database",
        Role.LOG: "a log",
        Role.INDEX: "an index",
        Role.JOURNAL: "a journal",
    }
    state = "deleted but still open" if file.is_deleted else f"at {visible(file.name, 200)}"
    return f"{words[file.role]} of {human_bytes(file.size)} ({state})"


def _only_there(others: list[OpenFile], path: str) -> str:
    lost = [file for file in others if file.is_deleted and file.role is not Role.INDEX]
    if not lost:
        return "restart it when its data is safe; nothing is folded until then"
    names = {Role.LOG: "log", Role.DATABASE: "database"}
    what = _joined(
        [f"{names.get(file.role, 'journal')} of {human_bytes(file.size)}" for file in lost]
    )
    verb = "is" if len(lost) == 1 else "are"
    saves = f"`modelstore recover {path} --into NEW.db` saves {'it' if len(lost) == 1 else 'them'}"
    return f"its {what} {verb} deleted but still open; {saves}"


def _other_index(holder: Holder, path: str) -> tuple[str, str]:
    del path
    return (
        "uses an index (-shm) that was deleted or replaced: it shares no lock with newcomers, and "
        "whoever closes the database last unlinks the log that it goes on using",
        f"end pid {holder.pid} cleanly, or restart it; its rows are in the database and its log",
    )


def _other_name(holder: Holder, path: str) -> tuple[str, str]:
    place = visible(holder.base, 200)
    text, _ = _other(holder, path)
    if not any(not file.is_current for file in holder.files):
        text = "has it open"
    return (
        f"{text}: it knows the database as {place}, and keeps its log there",
        f"work on {place} where that process runs; mount or share the directory, not the file",
    )


def _no_locks(holder: Holder, path: str) -> tuple[str, str]:
    del path
    return (
        "has the database and its log open without the locks that SQLite holds (a second SQLite or "
        "an open() and close() of its own dropped them, or it runs without locks)",
        f"end pid {holder.pid} cleanly, then try again; nobody else can see that it is there",
    )


def _exclusive(holder: Holder, path: str) -> tuple[str, str]:
    del path
    return (
        "keeps the database locked for itself alone, with its index in its own memory: waiting "
        "will not help",
        f"let pid {holder.pid} checkpoint, or end it cleanly, then try again",
    )


def _replica_lock(holder: Holder, path: str) -> tuple[str, str]:
    del path
    return (
        "replicates this database and has lost its read lock: a fold takes away frames that it has "
        "not copied yet, and the replica then lacks their rows",
        f"restart pid {holder.pid} (litestream), wait for its first sync, then try again",
    )


_SENTENCES = {
    HolderProblem.OTHER_DATABASE: _other,
    HolderProblem.OTHER_LOG: _other,
    HolderProblem.OTHER_INDEX: _other_index,
    HolderProblem.OTHER_NAME: _other_name,
    HolderProblem.OTHER_MOUNT: _other_name,
    HolderProblem.NO_LOCKS: _no_locks,
    HolderProblem.EXCLUSIVE: _exclusive,
    HolderProblem.REPLICA_LOCK: _replica_lock,
}
