"""Making bytes wrong, from a seed: blindly, by format, and where lies hurt most."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence

from tests.wal.logfiles import rechain

WORDS = (
    *(0, 1, 2, 7, 8, 127, 128, 255, 256, 1000, 4096, 65535, 65536, 1 << 20, 1 << 24, 1 << 30),
    *((1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, (1 << 62) + 1, (1 << 63) - 1, 1 << 63),
    (1 << 64) - 1,
)
TOKENS = (
    *(b"{", b"}", b"[", b"]", b'"', b"\\", b":", b",", b"\n", b"\r\n", b"\t", b"'", b"=", b"#"),
    *(b"\0", b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xe2\x80\xae", b"\x1b[2J"),
    *(b"null", b"true", b"NaN", b"-Infinity", b"1e999", b"-0", b"9" * 400, b"1" * 5000, b'""'),
    *(b"\\ud800", b"\\u0000", b"{}", b"[]", b"&a", b"*a", b"<<: *a", b"!!python/object:os.system"),
    *(b"---\n", b"? ", b"- ", b"%YAML 9.9\n", b"[*]\n", b"${", b"${x}", b'"tags":', b'"path":'),
    *(b"[" * 3000, b'{"a":' * 3000, b"- " * 2000, b"a," * 5000, b'"' + b"x" * 200_000 + b'"'),
    *(b'"id":"x",', b'"name":5,', b'"file_size":-1,', b'"parameters":{"a":[1]},', b"..", b"/"),
)
_DATABASE_FIELDS = (16, 18, 19, 20, 21, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60, 64, 68, 92, 96)


def mutated(rng: random.Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """Return `data` with one to four blind changes."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
        _change(rng, out, others)
    return bytes(out)


def _change(rng: random.Random, out: bytearray, others: Sequence[bytes]) -> None:
    size = len(out)
    at = rng.randrange(size) if size else 0
    near = min(at, rng.choice((32, 64, 256, 4096, 1 << 30)))  # faults of headers hurt most
    kind = rng.randrange(11)
    if kind <= 2 and size:
        out[near] ^= 1 << rng.randrange(8)
    elif kind == 3 and size:
        out[near] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
    elif kind == 4:
        width = rng.choice((1, 2, 4, 8))
        order = rng.choice(("little", "big"))
        word = rng.choice(WORDS) & ((1 << 8 * width) - 1)
        out[near : near + width] = word.to_bytes(width, "little" if order == "little" else "big")
    elif kind == 5:
        del out[at:]
    elif kind == 6:
        out += rng.choice((bytes(rng.choice((1, 24, 512, 4096))), rng.randbytes(100), out[:5000]))
    elif kind == 7:
        del out[at : at + rng.choice((1, 4, 8, 100))]
    elif kind == 8:
        out[at:at] = out[near : near + rng.choice((1, 8, 64, 1000))]
    elif kind == 9:
        start = at // 512 * 512
        out[start : start + 512] = bytes(len(out[start : start + 512]))
    elif others:
        other = rng.choice(others)
        start = rng.randrange(len(other)) if other else 0
        out[at : at + 200] = other[start : start + 200]


def mutated_text(rng: random.Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """Return a text with tokens in wrong places, and now and then blindly changed."""
    out = bytearray(data)
    for _ in range(rng.choice((0, 1, 1, 2, 5))):
        at = rng.randrange(len(out) + 1)
        out[at : at + rng.choice((0, 0, 1, 5))] = rng.choice(TOKENS)
    return mutated(rng, bytes(out), others) if rng.random() < 0.5 else bytes(out)


def mutated_log(rng: random.Random, log: bytes, others: Sequence[bytes] = ()) -> bytes:
    """Return a log that was damaged, or that lies with every checksum right."""
    page_size = int.from_bytes(log[8:12], "big") if len(log) >= 32 else 0
    is_page_size = page_size in {1 << bit for bit in range(9, 17)}
    frames = (len(log) - 32) // (page_size + 24) if is_page_size else 0
    kind = rng.randrange(8)
    if not frames or kind <= 2:
        return mutated(rng, log, others)
    out = bytearray(log)
    frame = rng.randrange(frames)
    start = 32 + frame * (page_size + 24)
    if kind == 3:  # a frame's own fields, its checksum left as it was
        struct.pack_into(">I", out, start + 4 * rng.randrange(6), rng.choice(WORDS) & 0xFFFFFFFF)
    elif kind == 4:  # cut at or within a frame
        del out[start + rng.choice((0, 0, 1, 24, 24 + page_size // 2)) :]
    elif kind == 5:  # frames exchanged
        other = 32 + rng.randrange(frames) * (page_size + 24)
        one, two = (bytes(out[place : place + page_size + 24]) for place in (start, other))
        out[start : start + page_size + 24] = two
        out[other : other + page_size + 24] = one
    elif kind == 6:  # a page that lies
        page = mutated_page(rng, bytes(out[start + 24 : start + 24 + page_size]))
        out[start + 24 : start + 24 + page_size] = page
        return bytes(rechain(out))
    else:  # a page number or a size of the database that lies
        at = start + rng.choice((0, 4))
        word = rng.choice((*WORDS, frame, frame + 1)) & 0xFFFFFFFF
        struct.pack_into(">I", out, at, word)
        return bytes(rechain(out))
    return bytes(out)


def mutated_page(rng: random.Random, page: bytes) -> bytes:
    """Return a page of the same size whose header, cell pointers or cells lie."""
    out = bytearray(page)
    for _ in range(rng.choice((1, 1, 2, 4))):
        kind = rng.randrange(4)
        if kind == 0:
            out[rng.choice((0, 1, 2, 3, 4, 5, 6, 7, 8, 100, 103, 105, 108))] = rng.randrange(256)
        elif kind == 1:
            struct.pack_into(">H", out, 8 + 2 * rng.randrange(10), rng.randrange(65536))
        elif kind == 2:
            out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
        else:
            at = rng.randrange(len(out) - 9)
            out[at : at + 9] = rng.choice((b"\xff" * 9, bytes(9), b"\x81" * 9))
    return bytes(out)


def mutated_database(rng: random.Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """Return a database file whose header, pages or length lie."""
    kind = rng.randrange(5)
    out = bytearray(data)
    if kind <= 1 or len(out) < 512:
        return mutated(rng, data, others)
    if kind == 2:
        at = rng.choice(_DATABASE_FIELDS)
        word = rng.choice(WORDS) & 0xFFFFFFFF
        out[at : at + 4] = (
            bytes([word & 0xFF]) + out[at + 1 : at + 4]
            if at in (18, 19, 20, 21)
            else word.to_bytes(4, "big")
        )
        return bytes(out)
    page_size = int.from_bytes(out[16:18], "big") or 4096
    page_size = 65536 if page_size == 1 else page_size
    pages = max(1, len(out) // page_size)
    start = rng.randrange(pages) * page_size
    if kind == 3 and len(out[start : start + page_size]) == page_size:
        out[start : start + page_size] = mutated_page(rng, bytes(out[start : start + page_size]))
        return bytes(out)
    other = rng.randrange(pages) * page_size
    out[start : start + page_size] = out[other : other + page_size]
    return bytes(out)


def mutated_index(rng: random.Random, raw: bytes) -> bytes:
    """Return a wal-index with other figures; half the time its checksums are right."""
    out = bytearray(raw)
    for _ in range(rng.choice((1, 2, 3))):
        at = 4 * rng.randrange(34)
        struct.pack_into("=I", out, at, rng.choice((*WORDS, *range(8))) & 0xFFFFFFFF)
    if rng.random() < 0.5:
        words = struct.unpack_from("=10I", out)
        s0 = s1 = 0
        for position in range(0, 10, 2):
            s0 = (s0 + words[position] + s1) % 2**32
            s1 = (s1 + words[position + 1] + s0) % 2**32
        struct.pack_into("=2I", out, 40, s0, s1)
        out[48:96] = out[:48]
    return bytes(out)
