"""All that is so about a state: what two SQLites read, and what the bytes of its log say."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.truth.cuts import State
from tests.truth.life import Child, Files, write_files
from tests.truth.log import Log, read_log

CONTENT = ("user_version", "application_id", "auto_vacuum", "encoding")
"""What an application sees of the header, beside rows and schema."""

Figures = tuple[int, int, int]
"""Rows lost, reverted, returning."""


@dataclass(frozen=True, slots=True)
class View:
    """A database as two SQLites read it. `is_sound`: both read all of it, and called it ok.

    `is_unsound`: neither did. `is_unreadable`: both met an error before the end.
    """

    is_sound: bool
    is_unsound: bool
    is_unreadable: bool
    header: dict[str, Any]
    schema: tuple[tuple[str, str, str | None], ...]
    digest: str
    trouble: str


@dataclass(frozen=True)
class Facts:
    """The truth about a state. `is_agreed` tells that both oracles read the same content."""

    state: State
    both: View
    alone: View
    is_agreed: bool
    tables: dict[str, Any]
    schema: tuple[tuple[str, str, str], ...]
    owners: dict[int, str]
    sqlite_frames: int | None  # frames of the log as SQLite counts them

    @property
    def main(self) -> bytes:
        return self.state.files.get("", b"")

    @cached_property
    def log(self) -> Log:
        return read_log(self.state.files.get("-wal", b""))

    @property
    def has_journal(self) -> bool:
        return bool(self.state.files.get("-journal", b"").strip(b"\0"))

    @property
    def hides_commits(self) -> bool:
        """True if a damaged header of the log hides the commits behind it."""
        data, whole = self.state.files.get("-wal", b""), self.state.whole_log
        is_hidden = not self.log.page_size and bool(read_log(whole).committed)
        return is_hidden and len(data) == len(whole) and data[32:] == whole[32:]

    @cached_property
    def page_size(self) -> int:
        size = int.from_bytes(self.main[16:18], "big")
        return 65536 if size == 1 else size

    @cached_property
    def counted_pages(self) -> int:
        """The database's size in pages as the header of the main file counts it."""
        return int.from_bytes(self.main[28:32], "big")

    @cached_property
    def differing(self) -> frozenset[int]:
        """Pages of the database whose newest committed version the main file lacks."""
        return frozenset(
            page
            for page, content in self.log.newest().items()
            if page <= self.log.page_count and self.page(page) != content
        )

    def page(self, number: int) -> bytes:
        """Return a page of the main file."""
        size = self.log.page_size
        return self.main[(number - 1) * size : number * size]

    @property
    def is_identical(self) -> bool:
        """True if a fold changes no byte of the pages that the database has, nor their number."""
        log = self.log
        if not log.committed:
            return True
        is_short = len(self.main) < log.page_count * log.page_size
        return not is_short and not self.differing

    @property
    def header_changes(self) -> tuple[str, ...]:
        """The pragmas whose values differ."""
        one, two = self.both.header, self.alone.header
        return tuple(name for name in one if one[name] != two.get(name))

    @property
    def is_same_content(self) -> bool:
        """True if both views are sound, and equal in rows, schema and what pragmas show."""
        return self.both.is_sound and self.alone.is_sound and self.may_be_same_content

    @property
    def may_be_same_content(self) -> bool:
        """True if one of the two SQLites at least finds both views sound, and they are equal."""
        changed = set(self.header_changes) & set(CONTENT)
        is_unsound = self.both.is_unsound or self.alone.is_unsound
        return self.both.digest == self.alone.digest and not changed and not is_unsound

    @property
    def lacks_pages(self) -> bool:
        """True if a page of the database is whole in neither the log nor the main file."""
        log, newest = self.log, self.log.newest()
        size, count = log.page_size or self.page_size or 1, log.page_count or self.counted_pages
        return any(page not in newest for page in range(len(self.main) // size + 1, count + 1))

    def fits_commit(self, number: int) -> bool:
        """Tell if the pages of the log are in the main file as commit `number` had them."""
        pages, size = self.log.at_commit(number)
        return all(self.page(page) == pages[page] for page in pages if page <= size)

    @property
    def is_alarm_false(self) -> bool:
        """True if SQLite itself may leave this state, and reads all that was committed in it."""
        return self.state.is_own and self.both.is_sound and not self.log.later_commits

    @property
    def may_be_left_over(self) -> bool:
        """True if the last frame alone may be a commit that nobody saw: its writer was killed
        before it was told, or the power went before it was synced.

        Of a log that was damaged since, the index says so: it ends where the valid frames end.
        """
        frames = self.log.frames
        is_last = bool(frames) and frames[-1].has_salt and bool(frames[-1].commit)
        is_seen = not self.state.is_own and self.indexed_frames != self.log.valid
        return not is_seen and self.log.later_commits == 1 and is_last

    @property
    def indexed_frames(self) -> int:
        """The frames that the index knows (sqlite.org/walformat.html#the_wal_index_header)."""
        return int.from_bytes(self.state.files.get("-shm", b"")[16:20], sys.byteorder)

    @property
    def can_figure(self) -> bool:
        """True if the figures of rows are known for certain."""
        is_sound = self.both.is_sound and self.alone.is_sound
        return self.is_agreed and is_sound and not self.is_partial

    @property
    def is_partial(self) -> bool:
        """True if the main file is empty, and the log has not every page: SQLite drops the log."""
        is_empty = len(self.main) <= 1 and self.log.committed > 0
        return is_empty and len(self.log.newest()) < self.log.page_count


class Oracles:
    """Two SQLites, each in a child process, that read copies of the files in `place`."""

    def __init__(self, place: Path, children: tuple[Child, Child]) -> None:
        self._place = place
        self._children = children

    def facts(self, state: State) -> Facts:
        """Let both read a state."""
        answers = [self._ask(child, state.files) for child in self._children]
        first, second = answers
        return Facts(
            state=state,
            both=_view("both", answers),
            alone=_view("alone", answers),
            is_agreed=first["digests"] == second["digests"],
            tables=first["tables"],
            schema=tuple((kind, name, fate) for kind, name, fate in first["schema"]),
            owners=dict(second["owners"]),
            sqlite_frames=first["frames"][1] if first["frames"] else None,
        )

    def look(self, files: Files) -> dict[str, Any]:
        """Let the first one read other files; later `renamed` questions are about them."""
        return self._ask(self._children[0], files)

    def renamed(self, name: str, former: str) -> dict[str, Any] | None:
        """Return the figures of a table under two names, in the state that was read last."""
        found = self._children[0].ask(renamed=[name, former])
        return found if isinstance(found, dict) else None

    def _ask(self, child: Child, files: Files) -> dict[str, Any]:
        shutil.rmtree(self._place, ignore_errors=True)
        self._place.mkdir()
        write_files(str(self._place / "both.db"), _with_log(files))
        write_files(str(self._place / "alone.db"), {s: d for s, d in files.items() if not s})
        answer = child.ask(place=str(self._place))
        assert isinstance(answer, dict)
        return answer


def _with_log(files: Files) -> Files:
    """Return the files that SQLite reads. It would delete the log of an empty main file, so the
    log alone stands for both then, if it has every page."""
    log = read_log(files.get("-wal", b""))
    newest = log.newest()
    if len(files.get("", b"")) > 1 or len(newest) < max(log.page_count, 1):
        return {suffix: data for suffix, data in files.items() if suffix != "-shm"}
    return {"": b"".join(newest[page] for page in range(1, log.page_count + 1))}


def _view(name: str, answers: list[dict[str, Any]]) -> View:
    views = [answer[name] for answer in answers]
    sound = [view["trouble"] is None and view["integrity"] == "ok" for view in views]
    first = views[0]
    return View(
        is_sound=all(sound),
        is_unsound=not any(sound),
        is_unreadable=all(view["trouble"] is not None for view in views),
        header=first["header"],
        schema=tuple((kind, thing, sql) for kind, thing, sql in first["schema"]),
        digest=answers[0]["digests"][name == "alone"],
        trouble=str(first["trouble"] or first["integrity"])[:80],
    )
