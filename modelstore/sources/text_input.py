"""Text from a file or a stream, in blocks of whole lines and in bounded memory."""

from __future__ import annotations

import os
import struct
from contextlib import contextmanager
from io import BufferedReader
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from modelstore.errors import SourceError
from modelstore.text import visible
from modelstore.wal.files import open_regular

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.sources.base import Context, Target

BLOCK_SIZE = 1 << 20  # bytes
LINES_SIZE = 1 << 16  # bytes: a block of lines with its records and rows fits a processor's cache
MAX_RECORD = 16 << 20  # bytes of one line or value

# A JSON text without these marks holds no lone surrogate and no NUL character in its values.
_SUSPECT_MARKS = ("\0", "\\ud", "\\uD", "\\u0000")

_COMPRESSED = (
    (b"\x1f\x8b", "gzip", "gunzip -c"),
    (b"\x28\xb5\x2f\xfd", "zstd", "zstd -dc"),
    (b"\xfd7zXZ\0", "xz", "xz -dc"),
    (b"BZh", "bzip2", "bunzip2 -c"),
    (b"PK\x03\x04", "a zip archive", "unzip -p"),
)
_OLD_GGML = (b"lmgg", b"tjgg", b"fmgg", b"algg")  # GGML, GGJT, GGMF, GGLA, little-endian
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
UTF8_MARK = b"\xef\xbb\xbf"


class Block(NamedTuple):
    """Whole lines, without their ends. ``first`` is the number of the first one, from 1."""

    lines: list[str]
    first: int
    suspects: tuple[str, ...]  # see `suspects`
    is_utf8: bool  # if not, other bytes are lone surrogates, as in file names
    cut: bool = False  # the only line is too long and ends early


def suspects(text: str) -> tuple[str, ...]:
    """Return the marks in `text` that need a closer look; usually none."""
    if "\\" not in text and "\0" not in text:  # single characters are found ten times as fast
        return ()
    return tuple(mark for mark in _SUSPECT_MARKS if mark in text)


def target_name(target: Target) -> str:
    """Return the target's name for a `Skipped`: as it was written, not escaped."""
    return "standard input" if target.stream is not None else target.text


def base_directory(target: Target) -> str:
    """Return the directory that relative paths in the target start from."""
    return os.getcwd() if target.stream is not None else os.path.dirname(target.real_path)


@contextmanager
def opened(target: Target) -> Iterator[BinaryIO]:
    """Open a regular file for reading, or yield the target's own stream.

    Raises `SourceError` for a file that cannot be opened, a pipe or a device.
    """
    if target.stream is not None:
        yield target.stream
        return
    name = visible(target.text, 200)
    try:
        descriptor = open_regular(target.text)
    except FileNotFoundError:
        raise SourceError(f"'{name}' does not exist", hint="check the path") from None
    except OSError as error:
        reason = visible(error.strerror or str(error), 200)
        raise SourceError(f"'{name}' cannot be read: {reason}", hint="check the path") from None
    except ValueError as error:
        raise SourceError(
            f"'{name}' {visible(str(error), 200)}",
            hint="pipe its content into: modelstore import -",
        ) from None
    with open(descriptor, "rb", buffering=0) as file:
        yield file


def tell_read(context: Context, target: Target, stream: BinaryIO, count: int) -> None:
    """Tell how far a text is read: in bytes of a file, in models of a pipe."""
    if target.stream is None:
        size = os.fstat(stream.fileno()).st_size
        context.progress(target.text, stream.tell(), size, "bytes")
    else:
        context.progress(target.text, count)


def raw_blocks(target: Target, stream: BinaryIO, size: int = BLOCK_SIZE) -> Iterator[bytes]:
    """Yield the bytes in blocks of at most `size`, without a byte order mark.

    Raises `SourceError` for compressed data, for UTF-16, and if reading fails.
    """
    first = True
    while True:
        try:
            data = stream.read(size)
        except OSError as error:
            raise SourceError(
                f"reading {visible(target_name(target), 200)} failed: {visible(str(error), 200)}",
                hint="check the disk or the connection, and try again",
            ) from None
        if not data:
            return
        # A buffered stream gives less than was asked for only at its end. A terminal has no other
        # sign of that: one more read would wait for a second Ctrl-D.
        has_ended = isinstance(stream, BufferedReader) and len(data) < size
        if first:
            refuse_unreadable_text(data[:4096], f"'{visible(target_name(target), 200)}'")
            data = data.removeprefix(UTF8_MARK)
            first = False
        yield data
        if has_ended:
            return


def _is_whisper(head: bytes) -> bool:
    """Return True for the start of a whisper.cpp model.

    Its magic is GGML's; the sizes after it are those of Whisper: 51864 to 51866 tokens, 1500
    frames of audio (github.com/ggml-org/whisper.cpp/blob/master/src/whisper.cpp).
    """
    if not head.startswith(_OLD_GGML) or len(head) < 12:
        return False
    tokens, frames = struct.unpack_from("<II", head, 4)
    return tokens in (51864, 51865, 51866) and frames == 1500


def refuse_unreadable_text(head: bytes, name: str) -> None:
    """Raise `SourceError` for the start of a compressed file, a pre-GGUF model, or UTF-16."""
    for magic, what, tool in _COMPRESSED:
        if head.startswith(magic):
            raise SourceError(
                f"{name} is compressed ({what})", hint=f"try: {tool} FILE | modelstore import -"
            )
    if _is_whisper(head):
        raise SourceError(
            f"{name} is a speech model of whisper.cpp, in a GGML format of its own",
            hint="whisper.cpp reads it; the catalogue holds GGUF and safetensors models",
        )
    if head.startswith(_OLD_GGML):
        raise SourceError(
            f"{name} is a GGML model from before GGUF, which llama.cpp no longer reads",
            hint="convert it, or get a GGUF of the model",
        )
    if head.startswith(_UTF16_MARKS) or _looks_utf16(head):
        raise SourceError(
            f"{name} is UTF-16 (or UTF-32), not UTF-8",
            hint="try: iconv -f UTF-16 -t UTF-8 FILE | modelstore import -",
        )


def _looks_utf16(head: bytes) -> bool:
    sample = head[:64]
    return len(sample) >= 4 and (
        not any(sample[1:40:2]) or (not any(sample[0:40:2]) and any(sample[1:40:2]))
    )


def decode(data: bytes) -> tuple[str, bool]:
    """Return `data` as text and whether it is UTF-8; other bytes become lone surrogates."""
    try:
        return data.decode(), True
    except UnicodeDecodeError:
        return data.decode(errors="surrogateescape"), False


def line_blocks(target: Target, stream: BinaryIO) -> Iterator[Block]:
    """Yield the lines of a text in blocks of about `LINES_SIZE`; CRLF ends a line as LF does.

    A line longer than `MAX_RECORD` comes as a block of its own, cut. Raises as `raw_blocks`.
    """
    number = 1
    parts: list[bytes] = []  # of a line that has not ended yet
    length = 0
    cut = False
    for data in raw_blocks(target, stream, LINES_SIZE):
        end = data.rfind(b"\n")
        if end < 0:
            length += len(data)
            cut = cut or length > MAX_RECORD
            parts = parts[:1] if cut else [*parts, data]
            continue
        if cut:
            start = data.index(b"\n") + 1
            yield Block([decode(parts[0][:200])[0]], number, (), is_utf8=False, cut=True)
            number += 1
            whole = data[start : end + 1]
        else:
            whole = b"".join([*parts, data[: end + 1]])
        if whole:
            block = _block(whole[:-1], number)
            yield block
            number += len(block.lines)
        parts, length, cut = [data[end + 1 :]], len(data) - end - 1, False
    rest = b"".join(parts)
    if cut:
        yield Block([decode(rest[:200])[0]], number, (), is_utf8=False, cut=True)
    elif rest:
        yield _block(rest, number)


def _block(data: bytes, first: int) -> Block:
    text, is_utf8 = decode(data)
    if "\r" in text:
        text = text.replace("\r\n", "\n").removesuffix("\r")
    return Block(text.split("\n"), first, suspects(text), is_utf8)


def small_text(target: Target, limit: int) -> str:
    """Return a whole text of at most `limit` bytes, for formats that are always small.

    Raises `SourceError` if it is larger, not UTF-8, or unreadable.
    """
    name = f"'{visible(target_name(target), 200)}'"
    parts: list[bytes] = []
    with opened(target) as stream:
        size = 0
        for data in raw_blocks(target, stream):
            parts.append(data)
            size += len(data)
            if size > limit:
                raise SourceError(
                    f"{name} is larger than {limit // (1 << 20)} MiB, too large for its kind",
                    hint="is it the right file?",
                )
    text, is_utf8 = decode(b"".join(parts))
    if not is_utf8:
        raise SourceError(f"{name} is not UTF-8 text", hint="convert it with iconv")
    return text
