"""States of a database: for each page, the newest version up to one commit.

A state reads pages from a main file and the frames of a log, and is a `DatabaseView` for everything
that reads b-trees. Page 1 may be missing; then the state invents a header for it.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from modelstore.recovery.rollback import Rollback, read_rollback
from modelstore.wal.files import read_at
from modelstore.wal.format import (
    DATABASE_HEADER_SIZE,
    DATABASE_MAGIC,
    PAGE_SIZES,
    PENDING_BYTE,
    DatabaseHeader,
    DatabaseHeaderError,
)
from modelstore.wal.pages import INDEX_LEAF, TABLE_LEAF, TREE_KINDS, DatabaseView
from modelstore.wal.record import RecordError, read_varint, record_fields, serial_size

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from modelstore.recovery.evidence import Pair
    from modelstore.recovery.history import Generation, LogHistory

_SAMPLE = 400  # pages that are looked at to guess a page size


@dataclass(frozen=True, slots=True)
class State:
    """A database as of one commit: `frames` gives the log's frame for each page that it has.

    `commit` is the frame of the commit, 0 for the main file alone. `is_exact` is False if an
    unsound frame came before: then a page that only this frame held may be older.
    """

    pair: Pair
    page_size: int
    page_count: int
    log: LogHistory | None
    generation: Generation | None
    frames: Mapping[int, int]
    commit: int
    is_exact: bool
    rollback: Rollback | None = None
    invented_header: bytes | None = None

    @property
    def main_fd(self) -> int | None:
        """The descriptor of the main file."""
        return None if self.pair.main is None else self.pair.main.fd

    def read(self, number: int) -> bytes:
        """Return page `number`; fewer bytes if no file holds it."""
        data = self._stored(number)
        if number == 1 and self.invented_header is not None:
            return _with_header(data, self.invented_header, self.page_size)
        return data

    def _stored(self, number: int) -> bytes:
        frame = self.frames.get(number)
        if frame is not None and self.log is not None:
            return self.log.image(frame)
        if self.rollback is not None and number in self.rollback.pages:
            return self.rollback.image(number)
        if self.main_fd is None:
            return b""
        return read_at(self.main_fd, self.page_size, (number - 1) * self.page_size)

    def source(self, number: int) -> tuple[str, int | None]:
        """Return the name of the file that holds page `number`, and the frame in it."""
        frame = self.frames.get(number)
        if frame is not None and self.pair.log is not None:
            return self.pair.log.name, frame
        if self.rollback is not None and number in self.rollback.pages:
            return self.rollback.file.name, None
        return ("" if self.pair.main is None else self.pair.main.name), None

    def replaces(self, number: int) -> bool:
        """Return True if the log or the journal has page `number`."""
        return number in self.frames or (
            self.rollback is not None and number in self.rollback.pages
        )

    def view(self) -> StateView:
        """Return the state as a view of a database."""
        return StateView(self)

    def missing_pages(self) -> list[int]:
        """Return the pages that no file holds; at most 1,000,000 of them."""
        size = 0 if self.pair.main is None else self.pair.main.size
        first = size // self.page_size + 1
        empty = PENDING_BYTE // self.page_size + 1
        return [
            number
            for number in range(first, min(self.page_count, first + 1_000_000) + 1)
            if not self.replaces(number) and number != empty
        ]


class StateView(DatabaseView):
    """A `DatabaseView` of a state.

    `torn` has the pages that a file holds in part, and how many bytes; zeros stand for the rest.
    """

    def __init__(self, state: State) -> None:
        self.state = state
        self.torn: dict[int, int] = {}
        super().__init__(state.main_fd, state.page_size, state.page_count)

    def page(self, number: int) -> bytes:
        """Return the bytes of page `number` in this state."""
        if not 1 <= number <= self.page_count:
            raise self.corrupt(f"page {number} is not one of 1 to {self.page_count}")
        self.reads += 1
        data = self.state.read(number)
        if not data:
            raise self.corrupt(f"page {number} is missing from the file")
        if len(data) < self.page_size:
            self.torn[number] = len(data)
            return data.ljust(self.page_size, b"\0")
        return data

    def _exists(self, number: int) -> bool:
        is_held = number <= self._main_pages or self.state.replaces(number)
        return is_held and 1 <= number <= self.page_count


def candidate_states(pair: Pair, log: LogHistory | None) -> list[State]:
    """Return the states that a pair can give, the best first.

    First the newest exact commit, then the newest sound one, then what SQLite would show, and the
    main file alone.
    """
    rollback = None if pair.journal is None else read_rollback(pair.journal)
    main_header = _main_header(pair, rollback)
    if main_header is not None and rollback and rollback.page_size != main_header.page_size:
        rollback = None
    found: list[State] = []
    if log is not None:
        found = [
            state
            for generation in log.generations
            if generation.is_current
            for state in _states_of(pair, log, generation, main_header)
        ]
    if pair.main is not None and pair.main.size:
        found.append(_main_alone(pair, main_header, rollback, log.page_size if log else None))
    if rollback is None:
        return found
    return [_with_a_header(replace(state, rollback=rollback)) for state in found]


def main_alone(pair: Pair) -> State | None:
    """Return the state of a pair's main file without its log; None if it has no page 1."""
    states = candidate_states(replace(pair, log=None), None) if pair.main is not None else []
    return states[0] if states and has_page_one(states[0]) else None


def _states_of(
    pair: Pair, log: LogHistory, generation: Generation, main_header: DatabaseHeader | None
) -> list[State]:
    if main_header is not None and main_header.page_size != log.page_size:
        return []  # another database's log
    ends = [generation.exact_end, generation.end]
    return [
        state_at(pair, log, generation, end)
        for end in dict.fromkeys(ends)
        if end >= generation.first
    ]


def state_at(pair: Pair, log: LogHistory, generation: Generation, commit: int) -> State:
    """Return the state after the commit in frame `commit` of a generation."""
    frames = generation.latest(commit)
    count = generation.sizes_until(commit) or max(frames, default=1)
    state = State(
        pair,
        log.page_size,
        count,
        log,
        generation,
        {number: frame for number, frame in frames.items() if number <= count},
        commit,
        is_exact=commit <= generation.exact_end,
    )
    return _with_a_header(state)


def _main_alone(
    pair: Pair, header: DatabaseHeader | None, rollback: Rollback | None, page_size: int | None
) -> State:
    assert pair.main is not None  # noqa: S101  # the caller has looked
    size = header.page_size if header else page_size or guess_page_size(pair.main.fd)
    whole = pair.main.size // size
    count = header.page_count if header is not None and header.has_valid_page_count else whole
    if rollback is not None and rollback.page_size == size:
        count = rollback.pages_before
    # A false page count must not cost time: no evidence goes far beyond the file's own size.
    state = State(
        pair, size, max(1, min(count, 64 * (whole + 64))), None, None, {}, 0, is_exact=True
    )
    return _with_a_header(state)


def _with_a_header(state: State) -> State:
    """Return the state; if page 1 has no valid header, one that is invented for it."""
    data = state.read(1)
    try:
        header = DatabaseHeader.parse(data[:DATABASE_HEADER_SIZE])
    except DatabaseHeaderError:
        return replace(state, invented_header=_invented(state))
    if header.page_size != state.page_size:
        return replace(state, invented_header=_invented(state))
    if len(data) < state.page_size:
        return replace(state, invented_header=data[:DATABASE_HEADER_SIZE])
    return state


def has_page_one(state: State) -> bool:
    """Return True if some file holds page 1 with a valid header."""
    return state.invented_header is None


def _main_header(pair: Pair, rollback: Rollback | None) -> DatabaseHeader | None:
    if pair.main is None:
        return None
    raw = read_at(pair.main.fd, DATABASE_HEADER_SIZE, 0)
    if rollback is not None and 1 in rollback.pages:
        raw = rollback.image(1)
    try:
        return DatabaseHeader.parse(raw[:DATABASE_HEADER_SIZE])
    except DatabaseHeaderError:
        return None


# -- a header where there is none ------------------------------------------------------------------


def _invented(state: State) -> bytes:
    """Return 100 bytes of a header that fits the pages that are there."""
    stored = state.page_size if state.page_size < 65536 else 1
    head = struct.pack(
        ">16sHBBBBBBIIII", DATABASE_MAGIC, stored, 1, 1, 0, 64, 32, 32, 1, state.page_count, 0, 0
    )
    tail = struct.pack(">IIIIIIII", 1, 4, 0, 0, guess_encoding(state), 0, 0, 0)
    return (head + tail).ljust(92, b"\0") + struct.pack(">II", 1, 3_053_004)


def _with_header(data: bytes, header: bytes, page_size: int) -> bytes:
    """Return page 1 with an invented header; what follows is kept if it is a b-tree page."""
    if len(data) == page_size and data[DATABASE_HEADER_SIZE] in TREE_KINDS:
        return header + data[DATABASE_HEADER_SIZE:]
    empty = struct.pack(">BHHHB", TABLE_LEAF, 0, 0, page_size & 0xFFFF, 0)
    return (header + empty).ljust(page_size, b"\0")


def looks_like_tree(page: bytes) -> bool:
    """Return True if a page has the header of a b-tree page and cells that fit into it."""
    if len(page) < 8 or page[0] not in TREE_KINDS:
        return False
    count = int.from_bytes(page[3:5], "big")
    content = int.from_bytes(page[5:7], "big") or 65536
    start = (12 if page[0] < 10 else 8) + 2 * count
    return count > 0 and start <= content < len(page) and page[7] <= 60


def guess_page_size(fd: int) -> int:
    """Return the page size that most pages of a file without a header agree with.

    The content of a b-tree page ends where the page ends, or a few reserved bytes before it.
    """
    size = os.fstat(fd).st_size
    best, most = 4096, 0.0
    for page_size in PAGE_SIZES:
        step = max(1, size // page_size // _SAMPLE)
        numbers = range(0, size // page_size, step)
        good = sum(_is_filled(read_at(fd, page_size, n * page_size)) for n in numbers)
        score = good / max(1, len(numbers))
        if score > most:
            best, most = page_size, score
    return best


def _is_filled(page: bytes) -> bool:
    """Return True for a leaf whose last cell ends at the end of the page."""
    if not looks_like_tree(page) or page[0] not in (TABLE_LEAF, INDEX_LEAF):
        return False
    count = int.from_bytes(page[3:5], "big")
    cells = struct.unpack_from(f">{min(count, (len(page) - 8) // 2)}H", page, 8)
    last = max(cells)
    try:
        size, start = read_varint(page, last)
        if page[0] == TABLE_LEAF:
            _, start = read_varint(page, start)
    except IndexError:
        return False
    most = len(page) - 35 if page[0] == TABLE_LEAF else (len(page) - 12) * 64 // 255 - 23
    least = (len(page) - 12) * 32 // 255 - 23
    if size > most:
        local = least + (size - least) % (len(page) - 4)
        size = (local if local <= most else least) + 4
    return len(page) - 64 <= start + size <= len(page)


def guess_encoding(state: State) -> int:
    """Return the text encoding that the rows show: 1 UTF-8, 2 UTF-16le, 3 UTF-16be.

    Every second byte of most texts in UTF-16 is zero; UTF-8 has none.
    """
    first = second = total = 0
    for number in range(2, min(state.page_count, _SAMPLE) + 1):
        page = state._stored(number)  # noqa: SLF001  # a state without page 1 cannot be read yet
        if not looks_like_tree(page) or page[0] != TABLE_LEAF:
            continue
        for text in _texts(page):
            total += len(text) // 2
            first += text[::2].count(0)
            second += text[1::2].count(0)
    if not total or first + second <= total // 3:
        return 1
    return 2 if second >= first else 3


def _texts(page: bytes) -> Iterator[bytes]:
    """Yield the bytes of the texts in a table leaf, as far as they lie in it."""
    count = int.from_bytes(page[3:5], "big")
    for start in struct.unpack_from(f">{min(count, 20)}H", page, 8):
        try:
            _, after_size = read_varint(page, start)
            _, after_rowid = read_varint(page, after_size)
            payload = page[after_rowid:]
            for serial, offset in record_fields(payload):
                if serial >= 13 and serial % 2:
                    yield payload[offset : offset + serial_size(serial)]
        except (IndexError, RecordError):
            continue
