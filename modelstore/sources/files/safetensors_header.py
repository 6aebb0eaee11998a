"""The header of a safetensors file: the types and shapes of its tensors.

Layout (github.com/huggingface/safetensors, "Format"): u64 little-endian length, then as much JSON,
``{"name": {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]}, "__metadata__": {…}}``,
then the tensors' data. The JSON is parsed entry by entry, so it costs no more memory than its
text, however deep it nests.
"""

from __future__ import annotations

import json
import math
import os
import re
from dataclasses import dataclass
from typing import TypeGuard

from modelstore.errors import SourceError
from modelstore.sources.files.local_files import guess_format
from modelstore.text import visible
from modelstore.wal.files import open_regular, read_at

MAX_HEADER = 1 << 25  # bytes; the format allows 100 MB, the largest known are a tenth of this
MAX_TENSORS = 131_072
MAX_METADATA = 1 << 20  # bytes; trainers keep their whole settings there
_MAX_ENTRY = 4096  # bytes of one tensor's entry
_INT64_MAX = (1 << 63) - 1

DTYPE_BITS = {
    "BOOL": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "C64": 64,
    "F64": 64,
    "I64": 64,
    "U64": 64,
}
"""Bits an element of each dtype (safetensors/src/tensor.rs, ``Dtype::bitsize``)."""

SHAPED = frozenset((b"q_weight", b"q_invperm", b"q_perm", b"scales", b"trellis"))
"""The last parts of tensors' names whose shapes tell what their packed numbers do not."""

_ADAPTER = re.compile(rb"lora_|lokr_|hada_w")  # LoRA; LyCORIS' LoKr and LoHa
_MAX_SAMPLES = 100

_SPACE = rb"[ \t\n\r]*+"
_NAME = rb'"((?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+)"'
_VALUE = rb'(\{(?:[^"{}]++|"(?:[^"\\]++|\\.)*+")*+\})'
_EMPTY = re.compile(rb"\{" + _SPACE + rb"\}")
_ENTRY = re.compile(
    _SPACE.join((b"", _NAME, b":", _VALUE, b"([,}])")),
    re.DOTALL,
)


class SafetensorsError(SourceError):
    """A file that is not readable safetensors. `reason` continues a sentence: "is …", "has …"."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class SafetensorsHeader:
    """The header of one safetensors file."""

    metadata: dict[str, str]
    tensor_count: int
    elements: dict[tuple[str, str], int]  # by dtype and last part of the tensor's name
    shapes: dict[str, tuple[int, ...]]  # of the tensors whose last part is one of `SHAPED`
    adapter_elements: int  # of LoRA and its like
    samples: tuple[str, ...]  # the first tensor's name of each first part
    data_end: int  # bytes that the file must hold for its tensors to be whole
    size: int  # bytes that it holds

    @property
    def truncated(self) -> bool:
        """True if the file ends before its tensors do."""
        return self.data_end > self.size


def read_safetensors_header(path: str) -> SafetensorsHeader:
    """Read the header of a safetensors file.

    Raises `SafetensorsError` if it is not one or its header is invalid, OSError if it cannot be
    opened.
    """
    try:
        fd = open_regular(path)
    except ValueError as error:
        raise SafetensorsError(str(error)) from None
    try:
        size = os.fstat(fd).st_size
        text = _header_text(fd, size)
    finally:
        os.close(fd)
    return _parse(text, size)


def _header_text(fd: int, size: int) -> bytes:
    if size == 0:
        raise SafetensorsError("is empty")
    start = read_at(fd, 9, 0)
    length = int.from_bytes(start[:8], "little")
    if start[8:] != b"{" or length > max(MAX_HEADER, 100_000_000):
        raise SafetensorsError(f"is not a safetensors file: {guess_format(read_at(fd, 64, 0))}")
    if length > MAX_HEADER:
        raise SafetensorsError(f"has a header of {length} bytes")
    if length > size - 8:
        raise SafetensorsError(f"ends within its header, at {size} bytes")
    text = read_at(fd, length, 8)
    if len(text) < length:
        raise SafetensorsError("became shorter while it was read")
    return text


def _parse(text: bytes, size: int) -> SafetensorsHeader:
    metadata: dict[str, str] = {}
    elements: dict[tuple[str, str], int] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    names: set[bytes] = set()
    end = 0
    adapter_elements = 0
    samples: dict[bytes, bytes] = {}
    empty = _EMPTY.match(text)
    pos, separator = (empty.end(), b"}") if empty else (1, b",")
    while separator == b",":
        match = _ENTRY.match(text, pos)
        if match is None:
            raise SafetensorsError("has a header that is not what safetensors writes")
        written, entry, separator = match.groups()
        raw_name = _unescaped(written)
        pos = match.end()
        if raw_name == b"__metadata__":
            metadata = _metadata(entry)
            continue
        if raw_name in names or len(names) == MAX_TENSORS:
            raise SafetensorsError(f"has two tensors of one name, or more than {MAX_TENSORS}")
        names.add(raw_name)
        dtype, shape, entry_end = _tensor(raw_name, entry)
        end = max(end, entry_end)
        part = raw_name.rpartition(b".")[2]
        count = math.prod(shape)
        if _ADAPTER.search(raw_name):
            adapter_elements += count
        if len(samples) < _MAX_SAMPLES:
            samples.setdefault(raw_name.partition(b".")[0], raw_name)
        if part in SHAPED:
            shapes[raw_name.decode("utf-8", "replace")] = tuple(shape)
        key = (dtype, part.decode("utf-8", "replace"))
        elements[key] = elements.get(key, 0) + count
    if text[pos:].strip(b" \t\n\r"):
        raise SafetensorsError("has more text after its header's JSON")
    return SafetensorsHeader(
        metadata=metadata,
        tensor_count=len(names),
        elements=elements,
        shapes=shapes,
        adapter_elements=adapter_elements,
        samples=tuple(name.decode("utf-8", "replace") for name in samples.values()),
        data_end=8 + len(text) + end,
        size=size,
    )


def _unescaped(written: bytes) -> bytes:
    """Return the UTF-8 of a name, so that two spellings of one name compare equal."""
    try:
        if b"\\" not in written:
            written.decode("utf-8")
            return written
        return str(json.loads(b'"%s"' % written)).encode("utf-8")
    except ValueError:
        raise SafetensorsError("has a header that is not in UTF-8") from None


def _metadata(entry: bytes) -> dict[str, str]:
    """Return the texts under ``__metadata__``; none if they are too large to keep."""
    value = _json(entry) if len(entry) <= MAX_METADATA else {}
    return {key: text for key, text in value.items() if isinstance(text, str)}


def _tensor(raw_name: bytes, entry: bytes) -> tuple[str, list[int], int]:
    """Return the dtype, the shape and the end offset of a tensor."""
    shown = visible(raw_name.decode("utf-8", "replace"), 80)
    value = _json(entry) if len(entry) <= _MAX_ENTRY else {}
    dtype, shape, offsets = (value.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not (isinstance(dtype, str) and _is_counts(shape) and _is_counts(offsets)):
        raise SafetensorsError(f"has a tensor '{shown}' without dtype, shape and data_offsets")
    count = math.prod(shape)
    if count > _INT64_MAX:
        raise SafetensorsError(f"has a tensor '{shown}' that does not fit into 64 bits")
    bits = DTYPE_BITS.get(dtype)
    if len(offsets) != 2 or (bits and offsets[1] - offsets[0] != -(-count * bits // 8)):
        raise SafetensorsError(f"has a tensor '{shown}' whose shape and data_offsets disagree")
    return dtype, shape, offsets[1]


def _is_counts(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(
        type(item) is int and 0 <= item <= _INT64_MAX for item in value
    )


def _json(entry: bytes) -> dict[str, object]:
    try:
        value = json.loads(entry)
    except (ValueError, RecursionError):
        raise SafetensorsError("has a header that is not JSON") from None
    return value if isinstance(value, dict) else {}
