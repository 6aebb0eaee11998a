"""What the first bytes of a file or stream are: a model, a database, or a kind of text.

Magic numbers first; then the grammar of the text; the extension only where neither says.
"""

from __future__ import annotations

import json
import re
import struct

from modelstore.errors import SourceError

HEAD_SIZE = 65_536  # bytes looked at

_MAX_SAFETENSORS_HEADER = 100_000_000  # bytes; the format's own limit
_SQLITE_MAGIC = b"SQLite format 3\0"
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

_EXTENSIONS = {
    ".gguf": "gguf",
    ".safetensors": "safetensors",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".yaml": "llama-swap",
    ".yml": "llama-swap",
    ".ini": "preset",
}
_SECTION = re.compile(r"\[[^\]\n]{1,512}\]\s*(?:[;#].*)?")
_INI_PAIR = re.compile(r"[A-Za-z][\w.-]{0,63}\s*=")
_YAML_KEY = re.compile(r"""(?:---|["']?[A-Za-z_][\w.-]{0,63}["']?:)(?:\s|$)""")


def kind_of_bytes(head: bytes, name: str, *, extension: str, size: int | None = None) -> str:
    """Return the kind of what begins with `head`, or ``sqlite`` for any SQLite database.

    `name` is for messages, already safe to show; `size` is the whole size in bytes where known.
    Raises `SourceError` for what is recognised and cannot be read, and for what is not.
    """
    binary = _binary_kind(head, size)
    if binary is not None:
        return binary
    if head and not any(head):
        raise SourceError(
            f"{name} begins with zeros, as a file does that was never filled",
            hint="it may be a download that broke off: get it again",
        )
    refuse_unreadable_text(head, name)
    if b"\0" in head:
        raise SourceError(
            f"{name} is a binary file of no known kind",
            hint="models are read from GGUF, safetensors, JSON, CSV, databases and stores",
        )
    text = head.removeprefix(UTF8_MARK).decode("utf-8", "replace").lstrip()
    kind = _text_kind(text, extension) or _EXTENSIONS.get(extension)
    if kind is None and not text:
        return "jsonl"  # nothing at all: no models, whatever it was meant to be
    if kind is None:
        raise SourceError(
            f"what {name} holds is nothing that models are read from",
            hint="where it is one of the kinds after all, name it with --from KIND",
        )
    return kind


def refuse_unreadable_text(head: bytes, name: str) -> None:
    """Raise `SourceError` for what begins as a compressed file, an old model, or UTF-16."""
    for magic, what, tool in _COMPRESSED:
        if head.startswith(magic):
            raise SourceError(
                f"{name} is compressed ({what})", hint=f"try: {tool} FILE | modelstore import -"
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


def _binary_kind(head: bytes, size: int | None) -> str | None:
    if head.startswith(b"GGUF"):
        return "gguf"
    if head.startswith(_SQLITE_MAGIC):
        return "sqlite"
    if len(head) > 9 and head[8:9] == b"{":
        (length,) = struct.unpack_from("<Q", head)
        if 2 <= length <= _MAX_SAFETENSORS_HEADER and (size is None or length + 8 <= size):
            return "safetensors"
    return None


def _text_kind(text: str, extension: str) -> str | None:
    if text.startswith("{") or (text.startswith("[") and not _is_section(text)):
        return _json_kind(text, extension)
    if _EXTENSIONS.get(extension) == "jsonl":
        return "jsonl"  # a bad first line is skipped like any other
    lines = [line.strip() for line in text.splitlines()[:2000]]
    told = [line for line in lines if line and not line.startswith(("#", ";"))]
    if not told:
        return None
    if _SECTION.fullmatch(told[0]) or (
        _INI_PAIR.match(told[0]) and any(_SECTION.fullmatch(line) for line in told)
    ):
        return "preset"
    if _YAML_KEY.match(told[0]) and "\t" not in told[0]:
        return "llama-swap"
    header = text.split("\n", 1)[0]
    tabs, commas = header.count("\t"), header.count(",")
    if tabs or commas:
        return "tsv" if tabs > commas else "csv"
    return "csv" if ";" in header and header.strip() == told[0] else None


def _is_section(text: str) -> bool:
    """Whether it begins with an INI section and not with a JSON array: ``[7B]``, not ``[7]``."""
    line = text.split("\n", 1)[0].strip()
    if not _SECTION.fullmatch(line):
        return False
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return not line[1:].lstrip().startswith(("{", '"', "["))
    return False


def _json_kind(text: str, extension: str) -> str:
    """Tell one JSON document from lines of them; a wrapped list counts as a document."""
    if '"weight_map"' in text and '"models"' not in text:
        return "safetensors"  # the index of a sharded set
    if text.startswith("["):
        return "json"
    first, newline, rest = text.partition("\n")
    try:
        record = json.loads(first)
    except (ValueError, RecursionError):
        return "jsonl" if _EXTENSIONS.get(extension) == "jsonl" else "json"
    if any(isinstance(record.get(key), list) for key in ("models", "data")):
        return "json"
    return (
        "jsonl" if (newline and rest.strip()) or _EXTENSIONS.get(extension) == "jsonl" else "json"
    )
