"""GGUF files that lie, each named by its fault, with the words that the reason must have.

Every builder returns the bytes of the file's beginning; `SPARSE` gives the size that the file is
extended to, so that a claim can be as large as the file seems to be. The faults are those of the
published advisories (CVE-2024-12055, CVE-2025-0312, CVE-2025-0315, CVE-2025-0317, CVE-2026-7482,
CVE-2026-33298, CVE-2025-53630) and of readers that hang or exhaust memory.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

Builder = Callable[[], bytes]

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
GIB = 1 << 30


def text(value: bytes | str, length: int | None = None) -> bytes:
    """A GGUF string; `length` is the lie about its length."""
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw) if length is None else length) + raw


def key(name: bytes | str, kind: int, value: bytes) -> bytes:
    """One key with its value."""
    return text(name) + struct.pack("<I", kind) + value


def array(element: int, count: int, raw: bytes = b"") -> bytes:
    """The value of an array."""
    return struct.pack("<IQ", element, count) + raw


def tensor(
    name: bytes | str = "blk.0.attn_q.weight",
    shape: tuple[int, ...] = (32, 2),
    kind: int = 0,
    offset: int = 0,
    dimensions: int | None = None,
) -> bytes:
    """One tensor's entry; `dimensions` is the lie about their number."""
    count = len(shape) if dimensions is None else dimensions
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", count, *shape, kind, offset)


def gguf(
    *parts: bytes,
    tensors: int = 0,
    keys: int | None = None,
    version: int = 3,
    magic: bytes = b"GGUF",
) -> bytes:
    """A file of these keys, then tensors; counts default to the truth."""
    count = len(parts) - tensors if keys is None else keys
    return magic + struct.pack("<IQQ", version, tensors, count) + b"".join(parts)


ARCHITECTURE = key("general.architecture", STRING, text("llama"))


def _nested() -> bytes:
    return b"".join(array(ARRAY, 1) for _ in range(5000)) + array(U8, 1, b"\0")


BAD: dict[str, tuple[Builder, str]] = {
    "empty": (lambda: b"", "is empty"),
    "one byte": (lambda: b"G", "not a GGUF file"),
    "magic alone": (lambda: b"GGUF", "ends within its header"),
    "short header": (lambda: gguf()[:20], "ends within its header"),
    "wrong magic": (lambda: gguf(magic=b"GGUX"), "not a GGUF file"),
    "older GGML": (lambda: gguf(magic=b"tjgg"), "GGJT"),
    "a web page": (lambda: b"<!DOCTYPE html><title>403 Forbidden</title>", "web page"),
    "a Git LFS pointer": (
        lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4\n",
        "Git LFS pointer",
    ),
    "zeros": (lambda: bytes(4096), "zeros"),
    "version 0": (lambda: gguf(version=0), "version 0"),
    "version 1": (lambda: gguf(version=1), "GGUF version 1"),
    "version 4": (lambda: gguf(version=4), "GGUF version 4"),
    "version 2^32-1": (lambda: gguf(version=0xFFFFFFFF), "GGUF version 4294967295"),
    "2^64-1 keys": (lambda: gguf(keys=(1 << 64) - 1), "18446744073709551615 metadata keys"),
    "2^64-1 tensors": (
        lambda: b"GGUF" + struct.pack("<IQQ", 3, (1 << 64) - 1, 0),
        "18446744073709551615 tensors",
    ),
    "more keys than bytes": (lambda: gguf(ARCHITECTURE, keys=9000), "ends within its header"),
    "more tensors than bytes": (
        lambda: b"GGUF" + struct.pack("<IQQ", 3, 9000, 0),
        "ends within its header",
    ),
    "key of 2^64-1 bytes": (
        lambda: gguf(text(b"general", (1 << 64) - 1), keys=1),
        "a metadata key of 18446744073709551615 bytes",
    ),
    "key past the end": (lambda: gguf(text(b"general", 4000), keys=1), "ends within its header"),
    "string of 1 GiB in 45 bytes": (
        lambda: gguf(key("a", STRING, text(b"", GIB))),
        "a string of 1073741824 bytes",
    ),
    "string past the end": (
        lambda: gguf(key("a", STRING, text(b"x", 5000))),
        "ends within its header",
    ),
    "long string past the end": (
        lambda: gguf(key("a", STRING, text(b"x", 1 << 20))),
        "ends within the value at key 'a'",
    ),
    "unknown value type": (lambda: gguf(key("a", 13, bytes(8))), "a value of type 13"),
    "value type 2^32-1": (lambda: gguf(key("a", 0xFFFFFFFF, bytes(8))), "type 4294967295"),
    "array of 2^63 bytes": (
        lambda: gguf(key("a", ARRAY, array(U8, 1 << 63))),
        "array of 9223372036854775808 elements",
    ),
    "array of 2^64-1 strings": (
        lambda: gguf(key("a", ARRAY, array(STRING, (1 << 64) - 1))),
        "array of 18446744073709551615 elements",
    ),
    "array whose bytes overflow": (
        lambda: gguf(key("a", ARRAY, array(F64, 1 << 61))),
        "array of 2305843009213693952 elements",
    ),
    "array past the end": (
        lambda: gguf(key("a", ARRAY, array(U32, 1 << 20))),
        "ends within the value at key 'a'",
    ),
    "array of unknown type": (lambda: gguf(key("a", ARRAY, array(99, 1))), "array of type 99"),
    "arrays 5000 deep": (lambda: gguf(key("a", ARRAY, _nested())), "array of arrays"),
    "strings past the end": (
        lambda: gguf(key("a", ARRAY, array(STRING, 5000, text("x") * 300))),
        "ends within its header",
    ),
    "string of 2^64-1 in an array": (
        lambda: gguf(key("a", ARRAY, array(STRING, 5000, text(b"", (1 << 64) - 1) * 5000))),
        "ends within the value at key 'a'",
    ),
    "long string in a short array": (
        lambda: gguf(key("a", ARRAY, array(STRING, 2, text(b"", GIB)))),
        "a string of 1073741824 bytes at key 'a'",
    ),
    "the same key twice": (lambda: gguf(ARCHITECTURE, ARCHITECTURE), "two values"),
    "alignment 0": (
        lambda: gguf(key("general.alignment", U32, struct.pack("<I", 0))),
        "alignment of 0",
    ),
    "alignment 3": (
        lambda: gguf(key("general.alignment", U32, struct.pack("<I", 3))),
        "alignment of 3",
    ),
    "alignment 2^31": (
        lambda: gguf(key("general.alignment", U32, struct.pack("<I", 1 << 31))),
        "alignment of 2147483648",
    ),
    "alignment as text": (
        lambda: gguf(key("general.alignment", STRING, text("32"))),
        "alignment of '32'",
    ),
    "tensor of 10^9 dimensions": (
        lambda: gguf(tensor(dimensions=10**9), tensors=1),
        "1000000000 dimensions",
    ),
    "tensor of 5 dimensions": (
        lambda: gguf(tensor(shape=(2, 2, 2, 2, 2)), tensors=1),
        "5 dimensions",
    ),
    "tensor name of 2^64-1 bytes": (
        lambda: gguf(text(b"x", (1 << 64) - 1), tensors=1, keys=0),
        "a tensor name of 18446744073709551615 bytes",
    ),
    "tensor shape overflows": (
        lambda: gguf(tensor(shape=(1 << 32, 1 << 32, 4)), tensors=1),
        "does not fit into 64 bits",
    ),
    "tensor shape wraps to 0": (
        lambda: gguf(tensor(shape=(1 << 63, 2)), tensors=1),
        "does not fit into 64 bits",
    ),
    "tensor bytes overflow": (
        lambda: gguf(tensor(shape=((1 << 62),)), tensors=1),
        "does not fit into 64 bits",
    ),
    "tensor offset overflows": (
        lambda: gguf(tensor(offset=(1 << 64) - 32), tensors=1),
        "does not fit into 64 bits",
    ),
    "elements of an unknown type overflow": (
        lambda: gguf(tensor(shape=(1 << 63, 2), kind=77), tensors=1),
        "more than 2^63 parameters",
    ),
    "parameters overflow together": (
        lambda: gguf(
            *(tensor(f"t{n}", ((1 << 62),), kind=24, offset=0) for n in range(3)), tensors=3
        ),
        "more than 2^63 parameters",
    ),
    "tensor type 2^32-1": (
        lambda: gguf(tensor(kind=0xFFFFFFFF), tensors=1),
        "has the type 4294967295",
    ),
    "rows that split a block": (
        lambda: gguf(tensor(shape=(33, 2), kind=2), tensors=1),
        "no multiple of 32",
    ),
    "two tensors of one name": (lambda: gguf(tensor(), tensor(), tensors=2), "is there twice"),
    "18 MB of keys": (
        lambda: gguf(*(key(f"{n:05}".ljust(60_000), U8, b"\0") for n in range(300))),
        "16 MiB of names and metadata",
    ),
    "number arrays by the hundred": (
        lambda: gguf(*(key(f"k{n}", ARRAY, array(U8, 1024, bytes(1024))) for n in range(600))),
        "16 MiB of names and metadata",
    ),
    "18 MB of tensor names": (
        lambda: gguf(*(tensor(f"{n:05}".ljust(60_000)) for n in range(300)), tensors=300),
        "16 MiB of names and metadata",
    ),
}
"""Files that cannot be read as a model, and words of the reason."""

SPARSE: dict[str, tuple[Builder, int, str]] = {
    "16 GB of zeros": (lambda: b"", 16 * GIB, "zeros"),
    "10^9 empty strings in 16 GB": (
        lambda: gguf(key("a", ARRAY, array(STRING, 10**9))),
        16 * GIB,
        "array of 1000000000 elements",
    ),
    "16 million empty strings in 16 GB": (
        lambda: gguf(key("a", ARRAY, array(STRING, 1 << 24))),
        16 * GIB,
        "array of 16777216 strings",
    ),
    "10^9 tensors in 16 GB": (
        lambda: b"GGUF" + struct.pack("<IQQ", 3, 10**9, 0),
        16 * GIB,
        "1000000000 tensors",
    ),
    "60000 empty tensors in 16 GB": (
        lambda: b"GGUF" + struct.pack("<IQQ", 3, 60_000, 0),
        16 * GIB,
        "is there twice",
    ),
    "16000 empty keys in 16 GB": (
        lambda: b"GGUF" + struct.pack("<IQQ", 3, 0, 16_000),
        16 * GIB,
        "two values",
    ),
}
"""Files that are as large as they claim, on the disk's word alone: name, size, words."""


def write(path: Path, start: bytes, size: int | None = None) -> Path:
    """Write a file that begins with `start`, with a hole up to `size`."""
    path.write_bytes(start)
    if size is not None:
        os.truncate(path, size)
    return path


def write_far_strings(path: Path, count: int, length: int) -> Path:
    """Write an array of strings each so long that the next length is beyond any buffer."""
    start = gguf(key("a", ARRAY, array(STRING, count)))
    with path.open("wb") as file:
        file.write(start)
        for _ in range(count):
            file.write(struct.pack("<Q", length))
            file.seek(length, os.SEEK_CUR)
        file.truncate()
    return path
