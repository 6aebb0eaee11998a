"""The header of a GGUF file: its metadata and the shapes of its tensors.

Layout (github.com/ggml-org/ggml/blob/master/docs/gguf.md). Integers are little-endian, or
big-endian in files for big-endian machines::

    "GGUF"  version u32  tensor_count u64  metadata_kv_count u64
    metadata_kv_count × ( key string, type u32, value )
    tensor_count      × ( name string, n_dims u32, n_dims × u64, ggml_type u32, offset u64 )
    padding to general.alignment, then the tensors' data

A string is a u64 length in bytes and as much UTF-8. An array is an element type u32, a count u64,
and the elements. Every number may be a lie and is bounded before it is used. Token tables are
skipped; other readers spend seconds on them.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass

from modelstore.errors import SourceError
from modelstore.sources.files.local_files import guess_format
from modelstore.sources.files.quantization import GGML_TYPES
from modelstore.sources.values import MAX_TEMPLATE
from modelstore.text import visible
from modelstore.wal.files import open_regular, read_at

MAX_READ = 1 << 27  # bytes of one header, all arrays included
MAX_COST = 1 << 24  # bytes of memory that is kept
MAX_STRINGS = 1 << 21  # in token tables of one file; the largest vocabularies have half a million
_OBJECT = 64  # bytes of a small Python object, about

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
    """A file that is not a readable GGUF. `reason` continues a sentence: "is …", "has …"."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def at_key(key: str) -> str:
    """Return the words that name a metadata key at the end of a sentence."""
    return f" at key '{visible(key, 80)}'" if key else ""


class HeaderBytes:
    """A cursor over the file's bytes that reads chunk by chunk and never past the end."""

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
        self.cost = 0  # bytes kept
        self.strings = 0  # stepped over
        self.order = "<"
        self.u64 = struct.Struct("<Q").unpack_from

    def need(self, length: int) -> int:
        """Make `length` bytes available in `data` and return their offset there."""
        if self.pos + length > len(self.data):
            self._refill(length)
        return self.pos

    def _refill(self, length: int) -> None:
        start = self.base + self.pos
        if length > self.size - start:
            raise GgufError(f"ends within its header, at {self.size} bytes")
        # The bytes after a long step are likely to be skipped too.
        chunk = _CHUNK if self.data and self.pos <= len(self.data) else FIRST_CHUNK
        data = read_at(self.fd, max(length, chunk), start)
        if len(data) < length:
            raise GgufError("became shorter while it was read")
        self.read += len(data)
        if self.read > MAX_READ:
            raise GgufError(f"has a header of more than {MAX_READ >> 20} MiB")
        self.data, self.base, self.pos = data, start, 0

    def charge(self, cost: int) -> None:
        """Count kept memory against the limit of one header."""
        self.cost += cost + _OBJECT
        if self.cost > MAX_COST:
            raise GgufError(f"has more than {MAX_COST >> 20} MiB of names and metadata")

    def number(self, form: str) -> int:
        """Take one integer of a ``struct`` format character."""
        return self.numbers(form)[0]

    def numbers(self, form: str) -> tuple[int, ...]:
        """Take the numbers of a ``struct`` format, among them `bool` and `float`."""
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
        """Take bytes and keep them."""
        self.charge(length)
        pos = self.need(length)
        self.pos = end = pos + length
        return self.data[pos:end]

    def text(self, limit: int, what: str, key: str = "") -> str:
        """Take a string of at most `limit` bytes. Bytes outside UTF-8 are replaced."""
        # A header is mostly strings that are in `data`: without this, an import takes 10 % longer.
        data, start = self.data, self.pos + 8
        if start <= len(data):
            length = self.u64(data, start - 8)[0]
            cost = self.cost + length + _OBJECT
            if start + length <= len(data) and length <= limit and cost <= MAX_COST:
                self.cost = cost
                self.pos = end = start + length
                return data[start:end].decode("utf-8", "replace")
        return self.hold(self.length(limit, what, key)).decode("utf-8", "replace")

    def step(self, length: int, key: str) -> None:
        """Skip `length` bytes without reading them."""
        if length > self.size - self.base - self.pos:
            raise GgufError(f"ends within the value{at_key(key)}")
        self.pos += length

    def step_strings(self, count: int, key: str) -> None:
        """Skip `count` strings. Token tables are large, so the inner loop is bare."""
        self.strings += count
        if self.strings > MAX_STRINGS:
            raise GgufError(f"has an array of {count} strings{at_key(key)}")
        unpack = self.u64
        while count:
            pos = self.need(8)
            data = self.data
            done = 0
            try:
                for done in range(count):  # noqa: B007 - used after the loop
                    pos += 8 + unpack(data, pos)[0]
                done = count
            except (struct.error, OverflowError):  # the next length is not in this chunk
                pass
            if pos > self.size - self.base:
                raise GgufError(f"ends within the value{at_key(key)}")
            self.pos = pos
            count -= done


MAX_KEYS = 16_384
MAX_TENSORS = 65_536
MAX_NAME = 65_535  # bytes of a key (the specification's bound) or of a tensor's name
MAX_DIMENSIONS = 4  # GGML_MAX_DIMS
MAX_STRING = 1 << 24
MAX_ARRAY = 1 << 24  # elements
MAX_ALIGNMENT = 1 << 20
KEPT_STRING = 1 << 16  # a longer value is skipped and kept as `Elided`
CHAT_TEMPLATE = "tokenizer.chat_template"  # with a name after it, one of several
KEPT_NUMBERS = 1024  # elements: one a layer
KEPT_STRINGS = 256  # elements: tags, languages
_INT64_MAX = (1 << 63) - 1

_STRING, _ARRAY = 8, 9
_MAX_GGML_TYPE = 1023  # future types are counted, though their size is unknown


@dataclass(frozen=True, slots=True)
class Elided:
    """A value that was skipped: a token table, or a string too long to keep."""

    count: int  # elements of an array, bytes of a string


Scalar = int | float | bool | str
Value = Scalar | list[int] | list[float] | list[bool] | list[str] | Elided


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """The header of one GGUF file."""

    version: int
    big_endian: bool
    metadata: dict[str, Value]
    tensor_count: int
    parameter_count: int  # elements of all tensors of this file
    tensor_types: dict[int, int]  # ggml_type to elements
    data_end: int  # bytes that the file must hold for its tensors to be whole
    size: int  # bytes that it holds

    @property
    def truncated(self) -> bool:
        """True if the file ends before its tensors do."""
        return self.data_end > self.size


def read_header(source: str | int, counted: tuple[bytes, ...] = ()) -> GgufHeader:
    """Read the header of a GGUF file, given its path or an open descriptor.

    `counted` limits ``tensor_types`` to the tensors whose names begin with one of these.
    Takes milliseconds and at most a few megabytes, whatever the file claims. Raises `GgufError`
    if it is not a GGUF file or its header is invalid, OSError if it cannot be opened.
    """
    if isinstance(source, int):
        return _parse(HeaderBytes(source, os.fstat(source).st_size), counted)
    try:
        fd = open_regular(source)
    except ValueError as error:
        raise GgufError(str(error)) from None
    try:
        return _parse(HeaderBytes(fd, os.fstat(fd).st_size), counted)
    finally:
        os.close(fd)


def _parse(file: HeaderBytes, counted: tuple[bytes, ...] = ()) -> GgufHeader:
    version = _version(file)
    tensor_count, key_count = file.numbers("QQ")
    if key_count > MAX_KEYS:
        raise GgufError(f"claims {key_count} metadata keys")
    if tensor_count > MAX_TENSORS:
        raise GgufError(f"claims {tensor_count} tensors")
    metadata = _metadata(file, key_count)
    alignment = metadata.get("general.alignment", 32)
    if (
        not isinstance(alignment, int)
        or not 0 < alignment <= MAX_ALIGNMENT
        or alignment & (alignment - 1)
    ):
        raise GgufError(f"has an alignment of {visible(repr(alignment), 40)}")
    types, data_bytes = _tensors(file, tensor_count, counted)
    data_start = -(-(file.base + file.pos) // alignment) * alignment
    return GgufHeader(
        version=version,
        big_endian=file.order == ">",
        metadata=metadata,
        tensor_count=tensor_count,
        parameter_count=sum(types.values()),
        tensor_types=types,
        data_end=data_start + data_bytes if data_bytes else 0,
        size=file.size,
    )


def _version(file: HeaderBytes) -> int:
    if file.size == 0:
        raise GgufError("is empty")
    start = file.data = read_at(file.fd, FIRST_CHUNK, 0)
    if start[:4] != b"GGUF":
        raise GgufError(f"is not a GGUF file: {guess_format(start)}")
    file.pos = 4
    version = file.number("I")
    if version & 0xFFFF == 0:  # the first versions are small: their bytes are swapped
        file.order = ">"
        file.u64 = struct.Struct(">Q").unpack_from
        version = int.from_bytes(version.to_bytes(4, "little"), "big")
    if version == 1:
        raise GgufError("is of GGUF version 1, of August 2023; convert it to version 3")
    if version not in (2, 3):
        raise GgufError(f"is of GGUF version {version}; 2 and 3 are known")
    return version


def _metadata(file: HeaderBytes, count: int) -> dict[str, Value]:
    metadata: dict[str, Value] = {}
    for _ in range(count):
        key = file.text(MAX_NAME, "a metadata key")
        if key in metadata:
            raise GgufError(f"has two values{at_key(key)}")
        value_type = file.number("I")
        form = SCALAR_FORMATS.get(value_type)
        if form is not None:
            metadata[key] = file.number(form)
        elif value_type == _STRING:
            metadata[key] = _string(file, key)
        elif value_type == _ARRAY:
            metadata[key] = _array(file, key)
        else:
            raise GgufError(f"has a value of type {value_type}{at_key(key)}")
    return metadata


def _string(file: HeaderBytes, key: str) -> str | Elided:
    length = file.length(MAX_STRING, "a string", key)
    if length <= KEPT_STRING or (length <= MAX_TEMPLATE and key.startswith(CHAT_TEMPLATE)):
        return file.hold(length).decode("utf-8", "replace")
    file.step(length, key)
    return Elided(length)


def _array(file: HeaderBytes, key: str) -> Value:
    element, count = file.numbers("IQ")
    if element == _ARRAY:
        raise GgufError(f"has an array of arrays{at_key(key)}")
    if count > MAX_ARRAY:
        raise GgufError(f"has an array of {count} elements{at_key(key)}")
    if element == _STRING:
        if count > KEPT_STRINGS:
            file.step_strings(count, key)
            return Elided(count)
        return [file.text(KEPT_STRING, "a string", key) for _ in range(count)]
    form = SCALAR_FORMATS.get(element)
    if form is None:
        raise GgufError(f"has an array of type {element}{at_key(key)}")
    if count <= KEPT_NUMBERS:
        file.charge(count * 40)
        return list(file.numbers(f"{count}{form}"))
    file.step(count * struct.calcsize("=" + form), key)
    return Elided(count)


def _tensors(
    file: HeaderBytes, count: int, counted: tuple[bytes, ...]
) -> tuple[dict[int, int], int]:
    """Return the elements by ggml_type, and the end of the last tensor in the data."""
    types: dict[int, int] = {}
    names: set[bytes] = set()
    data_bytes = 0
    unpack_u32 = struct.Struct(f"{file.order}I").unpack_from
    tails = [struct.Struct(f"{file.order}{n}QIQ") for n in range(MAX_DIMENSIONS + 1)]
    for _ in range(count):
        raw = file.hold(file.length(MAX_NAME, "a tensor name", "") + 4)
        name = raw[:-4]
        if name in names:
            raise _tensor_error(name, "is there twice")
        names.add(name)
        (dimensions,) = unpack_u32(raw, len(name))
        if dimensions > MAX_DIMENSIONS:
            raise _tensor_error(name, f"has {dimensions} dimensions")
        tail = tails[dimensions]
        pos = file.need(tail.size)
        file.pos = pos + tail.size
        *shape, ggml_type, offset = tail.unpack_from(file.data, pos)
        elements = 1
        for length in shape:
            elements *= length
        if not counted or name.startswith(counted):
            types[ggml_type] = types.get(ggml_type, 0) + elements
        data_bytes = max(data_bytes, offset + _tensor_bytes(name, shape, elements, ggml_type))
        if data_bytes > _INT64_MAX:
            raise _tensor_error(name, "does not fit into 64 bits")
    if sum(types.values()) > _INT64_MAX:
        raise GgufError("has more than 2^63 parameters")
    return types, data_bytes


def _tensor_bytes(name: bytes, shape: list[int], elements: int, ggml_type: int) -> int:
    known = GGML_TYPES.get(ggml_type)
    if known is None:
        if ggml_type > _MAX_GGML_TYPE:
            raise _tensor_error(name, f"has the type {ggml_type}")
        return 0
    _, block, block_bytes = known
    if block > 1 and (not shape or shape[0] % block):
        raise _tensor_error(name, f"has rows that are no multiple of {block}, its block")
    return elements // block * block_bytes


def _tensor_error(name: bytes, fault: str) -> GgufError:
    return GgufError(f"has a tensor '{visible(name.decode('utf-8', 'replace'), 80)}' that {fault}")
