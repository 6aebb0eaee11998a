"""The meaning of each stable code, as a test of the facts: the sentence behind it must be so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.truth.facts import Facts

Meaning = Callable[[Facts, dict[str, Any]], bool]
"""Tells if the claim is so; the second argument is the JSON object, or the finding, behind it."""


def _never(_facts: Facts, _found: dict[str, Any]) -> bool:
    return False


def _always(_facts: Facts, _found: dict[str, Any]) -> bool:
    return True


def _is_broken_alone(facts: Facts) -> bool:
    """Tell if the main file lacks pages, or SQLite does not read all of it without its log."""
    is_short = len(facts.main) < facts.page_size * facts.counted_pages
    return is_short or not facts.alone.is_sound


def _is_broken_with_log(facts: Facts) -> bool:
    return not facts.both.is_sound or facts.lacks_pages


def _is_same(facts: Facts) -> bool:
    is_same = facts.is_same_content or not (facts.both.is_sound and facts.alone.is_sound)
    return facts.is_identical and is_same and not facts.hides_commits


def _has_version(facts: Facts) -> bool:
    """Tell if the log's header has another version than all SQLites know."""
    header = facts.state.files.get("-wal", b"")[:8]
    return header[:3] == b"\x37\x7f\x06" and header[4:8] != (3007000).to_bytes(4, "big")


def _rows_differ(facts: Facts) -> bool:
    return not facts.can_figure or facts.both.digest != facts.alone.digest


def _no_row_differs(facts: Facts) -> bool:
    same = all([0, 0, 0] in table["figures"] for table in facts.tables.values())
    return bool(facts.differing) and not facts.schema and same


CLAIMS: dict[str, Meaning] = {
    "raced": _never,  # nobody is at work
    "log-foreign": lambda facts, _: not facts.is_alarm_false,
    "log-older": lambda facts, _: not facts.is_alarm_false,
    "used-elsewhere": _never,  # no process has the files
    "malformed": lambda facts, _: _is_broken_with_log(facts),
    "hot-journal": lambda facts, _: facts.has_journal,
    "main-damaged": lambda facts, _: not facts.both.is_sound or _is_broken_alone(facts),
    "log-empty": lambda facts, _: not facts.log.committed and not facts.hides_commits,
    "log-newer": lambda facts, _: _has_version(facts),
    "log-header-damaged": lambda facts, _: not facts.log.page_size and facts.log.size > 0,
    "log-damaged": lambda facts, _: facts.log.later_commits > 0,
    "unreadable-with-log": lambda facts, _: _is_broken_with_log(facts),
    "encrypted": _never,
    "no-database": lambda facts, _: "" not in facts.state.files,
    "nothing-committed": lambda facts, _: not facts.log.committed,
    "in-main-file": lambda facts, _: _is_same(facts),
    "pages-same": lambda facts, _: not facts.differing,  # it speaks of the pages in the log alone
    "rows-differ": lambda facts, _: _rows_differ(facts),
    "schema-differs": lambda facts, _: bool(facts.schema) or not facts.can_figure,
    "no-row-differs": lambda facts, _: not facts.is_agreed or _no_row_differs(facts),
    "loss-unknown": _always,  # counted
    "unreadable-alone": lambda facts, _: (
        not facts.alone.is_sound or len(facts.main) < facts.page_size
    ),
    "in-use": _never,  # no process has the files
    "main-alone-sound": lambda facts, _: not facts.alone.is_unsound,
    "main-alone-damaged": lambda facts, _: not facts.alone.is_sound,
    "main-alone-unknown": _never,  # nobody writes
    "main-mixed": lambda facts, _: not facts.is_identical,  # it says "perhaps", which is counted
    "main-torn": lambda facts, _: _is_broken_alone(facts),
    "log-holds-all": lambda facts, _: len(facts.log.newest()) >= facts.log.page_count,
    "recover": _always,  # advice
}

FINDINGS: dict[str, Meaning] = {
    "log.pending": lambda facts, _: not facts.is_identical,
    "log.folded": lambda facts, _: not facts.differing,  # as "pages-same" does
    "log.torn": lambda facts, _: not facts.is_identical,  # "may have", which is counted
    "log.damaged": lambda facts, _: bool(facts.log.later_commits or not facts.log.page_size),
    "log.foreign": lambda facts, _: not facts.is_alarm_false,
    "log.foreign-log": lambda facts, _: not facts.is_alarm_false,
    "log.older-log": lambda facts, _: not facts.is_alarm_false,
    "log.malformed": lambda facts, _: _is_broken_with_log(facts),
    "log.unreadable": lambda facts, _: _is_broken_with_log(facts),
    "log.gone": lambda _, found: found["result"] != "fail",  # a -shm without holder proves nothing
    "log.deleted": _never,
    "log.wrong-index": _never,
    "log.raced": _never,
    "log.empty": lambda facts, _: not facts.log.committed,
    "log.none": lambda facts, _: not facts.log.committed,
    "file.empty": lambda facts, _: not facts.main,
    "file.sane": lambda facts, found: (
        found["data"]["size"] == len(facts.main)
        and found["data"]["page_size"] == facts.page_size
        and len(facts.main) >= facts.page_size * facts.counted_pages
        and found["data"]["user_version"] == int.from_bytes(facts.main[60:64], "big", signed=True)
    ),
    "file.short": lambda facts, _: len(facts.main) < facts.page_size * facts.counted_pages,
    "file.truncated": lambda facts, _: (
        len(facts.main) < facts.page_size * facts.counted_pages and not facts.is_alarm_false
    ),
    "file.long": lambda facts, _: len(facts.main) > facts.page_size * facts.counted_pages,
    "file.ragged": lambda facts, _: len(facts.main) % facts.page_size != 0,
    "file.header": lambda facts, _: not facts.is_alarm_false,
    "file.unreadable": lambda facts, _: not facts.is_alarm_false,
    "file.opened": _always,
    "integrity.ok": lambda facts, _: not facts.both.is_unsound,
    "integrity.alone": lambda facts, _: not facts.alone.is_unsound,
    "integrity.alone-damaged": lambda facts, _: not facts.alone.is_sound,
    "integrity.alone-unknown": _never,
    "integrity.alone-unchecked": _never,  # each SQLite here knows all that the schemas need
    "integrity.damaged": lambda facts, _: not facts.both.is_sound,
    "integrity.malformed": lambda facts, _: not facts.both.is_sound,
    "integrity.foreign-keys": _always,  # no schema here has any
    "integrity.constraints-unchecked": _always,
    "persistence.same": lambda facts, _: facts.may_be_same_content,
    "persistence.differs": lambda facts, _: not facts.is_same_content,
    "persistence.pending": lambda facts, _: not facts.is_identical,
    "persistence.malformed": lambda facts, _: not facts.alone.is_sound,
    "persistence.hot-journal": lambda facts, _: facts.has_journal,
    "checkpoint.none": lambda facts, found: (
        found["data"]["log"] == facts.log.committed or not facts.log.page_size
    ),
    "checkpoint.done": _always,  # the state afterwards decides
    "checkpoint.refused": lambda facts, _: not facts.is_alarm_false or facts.has_journal,
}
