"""The records of a JSON document one by one, however long it is.

An array is read element by element, a wrapper (``{"models": [...]}``, ``{"data": [...]}``) member
by member, and several documents in a row one after the other. Memory is bounded by the largest
record, and that by `MAX_RECORD`.
"""

from __future__ import annotations

import json
import re
from json.scanner import make_scanner
from typing import TYPE_CHECKING, Any, cast

from modelstore.sources.blocks import MAX_RECORD, suspects
from modelstore.text import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SPACE = re.compile(r"[ \t\r\n]*")
_OPEN_TEXT = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+\\?\Z', re.DOTALL)
_TOO_LARGE = f"one record is larger than {MAX_RECORD >> 20} MiB"
_WRAPPERS = frozenset(("models", "data"))


def refuse_constant(name: str) -> float:
    """Refuse NaN and Infinity, which are no JSON and which SQLite's JSON cannot hold."""
    raise ValueError(f"{name} is no JSON number")


DECODER = json.JSONDecoder(parse_constant=refuse_constant)
scan: Callable[[str, int], tuple[object, int]] = make_scanner(cast("Any", DECODER))
"""Reads one value: ``scan(text, start)`` is the value and its end, or raises StopIteration,
ValueError or RecursionError. It is what ``json.loads`` does without its checks of the argument."""


class MalformedError(ValueError):
    """The document is no JSON from here on; why, safe to show."""


class Document:
    """Reads the records of a document from blocks of text.

    ``plain`` tells of the record just read whether it holds nothing suspect.
    """

    def __init__(self, blocks: Iterator[tuple[str, bool]]) -> None:
        """Read `blocks`, each a text and whether it was UTF-8."""
        self._blocks = blocks
        self._text = ""
        self._at = 0
        self._lines = 0  # before the text that is held
        self._dropped = 0  # characters, likewise
        self._ended = False
        self._suspects: tuple[str, ...] = ()
        self._is_utf8 = True
        self.plain = True

    @property
    def line(self) -> int:
        """The line that reading has come to, from 1."""
        return self._lines + self._text.count("\n", 0, self._at) + 1

    def records(self) -> Iterator[object]:
        """Yield each record, of whatever type it is. Raises `MalformedError`."""
        while self._peek():
            if self._peek() == "[":
                yield from self._elements()
            elif self._peek() == "{":
                yield from self._object()
            else:
                raise MalformedError("it is neither an array nor an object")

    def _fill(self) -> bool:
        """Take one more block, drop what was read, and tell whether there was one."""
        text, is_utf8 = next(self._blocks, ("", True))
        if not text:
            self._ended = True
            return False
        self._lines += self._text.count("\n", 0, self._at)
        self._dropped += self._at
        self._text = self._text[self._at :] + text
        self._at = 0
        self._is_utf8 = is_utf8 and self._is_utf8
        self._suspects = suspects(self._text)
        return True

    def _peek(self) -> str:
        """Return the next character that is no space, or "" at the end."""
        while True:
            match = _SPACE.match(self._text, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if self._ended or not self._fill():
                return ""

    def _expect(self, wanted: str) -> str:
        found = self._peek()
        if not found or found not in wanted:
            names = " or ".join(f"'{sign}'" for sign in wanted)
            what = f"'{visible(found)}'" if found else "the end"
            raise MalformedError(f"{what} stands where {names} should")
        self._at += 1
        return found

    def _value(self) -> object:
        """Read one value, however many blocks it takes."""
        self._peek()
        while True:
            try:
                value, end = scan(self._text, self._at)
            except StopIteration as stop:
                needs_more, reason = stop.value >= len(self._text) - 16, "no JSON value"
            except json.JSONDecodeError as error:
                needs_more = error.pos >= len(self._text) - 16 or self._is_open_text(error.pos)
                reason = error.msg
            except RecursionError:
                raise MalformedError("it is nested too deeply") from None
            except ValueError as error:
                raise MalformedError(str(error)[:200]) from None
            else:
                # A number may go on in the next block: `1`, `1.` and `1e+` are read as 1.
                if self._ended or end + 3 <= len(self._text) or not isinstance(value, int | float):
                    self._note(end)
                    return value
                needs_more, reason = True, ""
            if not needs_more:
                raise MalformedError(reason)
            self._grow(reason)

    def _is_open_text(self, start: int) -> bool:
        """Tell whether a text begins at `start` that does not end in what is held."""
        return _OPEN_TEXT.match(self._text, start) is not None

    def _note(self, end: int) -> None:
        """Remember whether what was just read is plain, and step over it."""
        self.plain = self._is_utf8 and not (
            self._suspects
            and any(self._text.find(mark, self._at, end) >= 0 for mark in self._suspects)
        )
        self._at = end

    def _grow(self, reason: str) -> None:
        """Double what is held of a value that goes on."""
        held = len(self._text) - self._at
        if held > MAX_RECORD:
            raise MalformedError(_TOO_LARGE)
        if self._ended:
            raise MalformedError(f"it ends in the middle of a record ({reason})")
        while len(self._text) - self._at <= 2 * held and self._fill():
            pass

    def _elements(self) -> Iterator[object]:
        self._expect("[")
        if self._peek() == "]":
            self._at += 1
            return
        while True:
            yield self._value()
            if self._expect(",]") == "]":
                return

    def _object(self) -> Iterator[object]:
        """Read a record, or the records in a wrapper."""
        self._expect("{")
        record: dict[str, object] = {}
        wrapped = False
        plain = True
        size = 0
        while self._peek() != "}":
            start = self._dropped + self._at
            key = self._value()
            plain = plain and self.plain
            if not isinstance(key, str):
                raise MalformedError("a field's name is no text")
            self._expect(":")
            if key in _WRAPPERS and self._peek() == "[" and not record.get("name"):
                wrapped = True
                yield from self._elements()
            else:
                record[key] = self._value()
                plain = plain and self.plain
                size += self._dropped + self._at - start
            if size > MAX_RECORD:
                raise MalformedError(_TOO_LARGE)
            if self._peek() != "}":
                self._expect(",")
                if self._peek() == "}":
                    raise MalformedError("'}' stands where a field should")
        self._at += 1
        if not wrapped:
            self.plain = plain
            yield record
