"""The bytes of a GGUF header in order, a chunk at a time, none believed before it is there."""

from __future__ import annotations

import struct

from modelstore.errors import SourceError
from modelstore.sources.files import read_at
from modelstore.text import visible

MAX_READ = 1 << 27  # bytes of one header, all arrays included
MAX_COST = 1 << 24  # bytes of memory for what is held on to
MAX_STRINGS = 1 << 21  # in token tables of one file; the largest vocabularies have half a million
_OBJECT = 64  # bytes that Python spends on a small thing, about

SCALAR_FORMATS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True))
"""The ``struct`` format of each scalar value type (gguf_metadata_value_type)."""

_UNPACKERS = {
    order + form: struct.Struct(order + form)
    for order in "<>"
    for form in (*SCALAR_FORMATS.values(), "QQ", "IQ")
}
FIRST_CHUNK = 1 << 16
_CHUNK = 1 << 20


class GgufError(SourceError):
    """A file that is no readable GGUF; `reason` goes on from its name: "is …", "has …"."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def at_key(key: str) -> str:
    """Return where in the metadata something is, to end a sentence."""
    return f" at key '{visible(key, 80)}'" if key else ""


class HeaderBytes:
    """The file's bytes in order, a chunk at a time; nothing is taken that is not there."""

    __slots__ = (
        "base",
        "cost",
        "data",
        "fd",
        "order",
        "pos",
        "read",
        "size",
        "strings",
        "u64",
    )

    def __init__(self, fd: int, size: int) -> None:
        self.fd = fd
        self.size = size
        self.base = 0  # offset of `data` in the file
        self.pos = 0  # in `data`; beyond its end after a long step
        self.data = b""
        self.read = 0  # bytes
        self.cost = 0  # bytes held on to
        self.strings = 0  # stepped over
        self.order = "<"
        self.u64 = struct.Struct("<Q").unpack_from

    def need(self, length: int) -> int:
        """Have `length` bytes at hand; return where they begin in `data`."""
        if self.pos + length > len(self.data):
            self._refill(length)
        return self.pos

    def _refill(self, length: int) -> None:
        start = self.base + self.pos
        if length > self.size - start:
            raise GgufError(f"ends within its header, at {self.size} bytes")
        # What follows a long step is likely to be stepped over too.
        chunk = _CHUNK if self.data and self.pos <= len(self.data) else FIRST_CHUNK
        data = read_at(self.fd, max(length, chunk), start)
        if len(data) < length:
            raise GgufError("became shorter while it was read")
        self.read += len(data)
        if self.read > MAX_READ:
            raise GgufError(f"has a header of more than {MAX_READ >> 20} MiB")
        self.data, self.base, self.pos = data, start, 0

    def charge(self, cost: int) -> None:
        """Count memory that is held on to, against what one header may cost."""
        self.cost += cost + _OBJECT
        if self.cost > MAX_COST:
            raise GgufError(f"has more than {MAX_COST >> 20} MiB of names and metadata")

    def number(self, form: str) -> int:
        """Take one integer of a ``struct`` format character."""
        return self.numbers(form)[0]

    def numbers(self, form: str) -> tuple[int, ...]:
        """Take the numbers of a ``struct`` format; `bool` and `float` where it says so."""
        form = self.order + form
        unpacker = _UNPACKERS.get(form) or struct.Struct(form)
        pos = self.need(unpacker.size)
        self.pos = pos + unpacker.size
        return unpacker.unpack_from(self.data, pos)

    def length(self, limit: int, what: str, key: str) -> int:
        """Take the length in bytes of a string that may have at most `limit`."""
        pos = self.need(8)
        self.pos = pos + 8
        (length,) = self.u64(self.data, pos)
        if length > limit:
            raise GgufError(f"has {what} of {length} bytes{at_key(key)}")
        return int(length)

    def hold(self, length: int) -> bytes:
        """Take bytes that are held on to."""
        self.charge(length)
        pos = self.need(length)
        self.pos = end = pos + length
        return self.data[pos:end]

    def text(self, limit: int, what: str, key: str = "") -> str:
        """Take a string of at most `limit` bytes; what is no UTF-8 in it is replaced."""
        return self.hold(self.length(limit, what, key)).decode("utf-8", "replace")

    def step(self, length: int, key: str) -> None:
        """Step over `length` bytes without reading them."""
        if length > self.size - self.base - self.pos:
            raise GgufError(f"ends within the value{at_key(key)}")
        self.pos += length

    def step_strings(self, count: int, key: str) -> None:
        """Step over `count` strings: whole token tables, so the inner loop is kept bare."""
        self.strings += count
        if self.strings > MAX_STRINGS:
            raise GgufError(f"has an array of {count} strings{at_key(key)}")
        unpack = self.u64
        while count:
            pos = self.need(8)
            data = self.data
            done = 0
            try:
                for done in range(count):  # noqa: B007 - told after the loop
                    pos += 8 + unpack(data, pos)[0]
                done = count
            except (struct.error, OverflowError):  # the next length is not in this chunk
                pass
            if pos > self.size - self.base:
                raise GgufError(f"ends within the value{at_key(key)}")
            self.pos = pos
            count -= done
