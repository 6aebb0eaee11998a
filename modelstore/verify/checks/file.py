"""The main file: a database of the size that its header says, with a sound header."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from modelstore.errors import RefusedError
from modelstore.finding import Finding
from modelstore.text import human_bytes, plural
from modelstore.verify.check import Check, Run
from modelstore.verify.loss_summary import TORN
from modelstore.verify.preconditions import why_not_fold
from modelstore.wal.files import open_or_refuse, read_at
from modelstore.wal.format import DATABASE_HEADER_SIZE, DatabaseHeader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.database.connection import OpenDatabase
    from modelstore.verify.subject import Subject

_RESTORE = (
    "keep this copy and its -wal; `modelstore recover DATABASE --into NEW.db` writes what is left "
    "to a new file, or restore it from a backup"
)
_LOOKS = 5
_PAUSE = 0.02  # seconds between looks
_ENCODINGS = (0, 1, 2, 3)  # 0: nothing was stored yet


def _check(run: Run) -> Iterator[Finding]:
    subject, found = run.subject, run.subject.probe
    if found is None:
        return
    if found.header is None:
        yield Finding(
            "file.empty", "note", "the file is empty: a database without any table", subject.path
        )
        return
    problems = [*_size_problems(subject, found.header), *_header_problems(subject, found.header)]
    yield from problems
    if problems:
        return
    header = found.header
    size = f"{human_bytes(found.size)}, {plural(found.size // header.page_size, 'page')}"
    mode = "WAL mode" if header.is_wal else "rollback journal"
    version = header.sqlite_version
    by = (
        f", last written by SQLite {version // 1000000}.{version // 1000 % 1000}.{version % 1000}"
        if 3_000_000 <= version < 4_000_000
        else ""
    )
    yield Finding(
        "file.sane",
        "pass",
        f"{size} of {header.page_size:,} bytes, {mode}{by}",
        subject.path,
        data={
            "size": found.size,
            "page_size": header.page_size,
            "pages": found.size // header.page_size,
            "wal_mode": header.is_wal,
            "user_version": header.user_version,
            "application_id": header.application_id,
        },
    )


def _opening_notes(run: Run, reader: OpenDatabase) -> Iterator[Finding]:
    """Yield the findings that came up only when SQLite opened the database."""
    del run
    for warning in reader.warnings[len(reader.probe.warnings) :]:
        yield Finding("file.opened", "note", warning, reader.path)


def _size_problems(subject: Subject, header: DatabaseHeader) -> Iterator[Finding]:
    size = subject.probe.size if subject.probe is not None else 0
    expected = header.page_count * header.page_size
    data: dict[str, object] = {
        "size": size,
        "page_size": header.page_size,
        "page_count": header.page_count,
    }
    if header.has_valid_page_count and size < expected:
        if not _was_in_a_race(subject):
            yield _shortness(subject, header, size, data)
    elif size % header.page_size:
        yield Finding(
            "file.ragged",
            "warn",
            f"{size % header.page_size:,} bytes at the end of the file are no whole page",
            subject.path,
            "something other than SQLite wrote to the file, or a copy was cut short",
            data,
        )
    elif header.has_valid_page_count and size > expected and not subject.log.scan.max_frame:
        yield Finding(
            "file.long",
            "note",
            f"{plural((size - expected) // header.page_size, 'page')} lie behind the "
            f"{header.page_count:,} that the header counts: reserved space, or a cut VACUUM",
            subject.path,
            data=data,
        )


def _was_in_a_race(subject: Subject) -> bool:
    """Return True if the file is whole by now: a checkpoint writes page 1 before the last pages."""
    if not subject.log.locks.attached and not subject.log.loss.raced:
        return False
    for look in range(_LOOKS):
        if look:
            time.sleep(_PAUSE)
        try:
            descriptor = open_or_refuse(subject.path)
        except FileNotFoundError:
            return False
        try:
            header = DatabaseHeader.parse(read_at(descriptor, DATABASE_HEADER_SIZE, 0))
            size = os.fstat(descriptor).st_size
        except RefusedError:
            continue
        finally:
            os.close(descriptor)
        if not header.has_valid_page_count or size >= header.page_count * header.page_size:
            return True
    return subject.log.loss.raced


def _shortness(
    subject: Subject, header: DatabaseHeader, size: int, data: dict[str, object]
) -> Finding:
    """Return the finding for a file that lacks pages, which the log or a journal may have."""
    expected = header.page_count * header.page_size
    lacking = -(-(expected - size) // header.page_size)
    missing = plural(lacking, "page")
    log = subject.log
    if log.scan.max_frame and log.loss.main.state in TORN and why_not_fold(subject) is None:
        return Finding(
            "file.short",
            "warn",
            f"{missing} of {header.page_count:,} {'is' if lacking == 1 else 'are'} not in the main "
            "file yet, as after a checkpoint that was cut short",
            subject.path,
            "never delete the -wal: the next checkpoint completes the file",
            data,
        )
    if subject.has_hot_journal and not subject.is_wal:
        return Finding(
            "file.short",
            "warn",
            f"{missing} of {header.page_count:,} are not written yet; a transaction was "
            "cut short, and its journal takes it back",
            subject.path,
            "never delete the journal: the next opening of the database uses it up",
            data,
        )
    return Finding(
        "file.truncated",
        "fail",
        f"{human_bytes(size)}, but its header says {plural(header.page_count, 'page')} of "
        f"{header.page_size:,} bytes: {missing} {'is' if lacking == 1 else 'are'} cut off",
        subject.path,
        _RESTORE,
        data,
    )


def _header_problems(subject: Subject, header: DatabaseHeader) -> Iterator[Finding]:
    pages = max(header.page_count, (subject.probe.size if subject.probe else 0) // header.page_size)
    wrong = []
    if header.text_encoding not in _ENCODINGS:
        wrong.append(f"text encoding {header.text_encoding}")
    if header.freelist_count >= pages or header.freelist_trunk > pages:
        wrong.append(f"{header.freelist_count:,} free pages of {pages:,}")
    if bool(header.freelist_count) != bool(header.freelist_trunk):
        wrong.append("a free list that contradicts its count")
    if header.write_version not in (1, 2) or header.read_version not in (1, 2):
        wrong.append(f"file format {header.write_version}, {header.read_version}")
    if wrong:
        yield Finding(
            "file.header",
            "fail",
            f"the header holds what no SQLite writes: {', '.join(wrong)}",
            subject.path,
            _RESTORE,
        )


CHECK = Check(
    name="file",
    title="whether the database file is whole and readable",
    order=10,
    raw=_check,
    reading=_opening_notes,
)
