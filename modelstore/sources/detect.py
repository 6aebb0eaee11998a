"""Detection of the kind of a target: by its content first, by its name second.

Pipes, sockets and devices are never opened: a read could hang, or take another reader's data.
"""

from __future__ import annotations

import json
import os
import re
import stat
import struct
from typing import TYPE_CHECKING

from modelstore.errors import SourceError, UsageError
from modelstore.sources.kinds import KINDS, load
from modelstore.sources.text_input import UTF8_MARK, refuse_unreadable_text
from modelstore.text import visible
from modelstore.wal.files import open_to_look

if TYPE_CHECKING:
    from modelstore.sources.base import Target

HEAD_SIZE = 65_536  # bytes looked at

_MAX_SAFETENSORS_HEADER = 100_000_000  # bytes; the format's own limit
_SQLITE_MAGIC = b"SQLite format 3\0"

_EXTENSIONS = {extension: kind for kind, info in KINDS.items() for extension in info.extensions}
_SECTION = re.compile(r"\[[^\]\n]{1,512}\]\s*(?:[;#].*)?")
_INI_PAIR = re.compile(r"[A-Za-z][\w.-]{0,63}\s*=")
_YAML_KEY = re.compile(r"""(?:---|["']?[A-Za-z_][\w.-]{0,63}["']?:)(?:\s|$)""")


def kind_of_bytes(head: bytes, name: str, *, extension: str, size: int | None = None) -> str:
    """Return the kind of a file or stream that begins with `head`; ``sqlite`` for any database.

    `name` is for messages, already safe to show; `size` is the whole size in bytes where known.
    Raises `SourceError` for a known format that cannot be read, and for an unknown one.
    """
    binary = _binary_kind(head, size)
    if binary is not None:
        return binary
    if head and not any(head):
        raise SourceError(
            f"{name} begins with zeros, like a download that was never filled",
            hint="the download may have broken off: get it again",
        )
    refuse_unreadable_text(head, name)
    if b"\0" in head:
        raise SourceError(
            f"{name} is a binary file of an unknown kind",
            hint="models are read from GGUF, safetensors, JSON, CSV, databases and stores",
        )
    text = head.removeprefix(UTF8_MARK).decode("utf-8", "replace").lstrip()
    kind = _text_kind(text, extension) or _EXTENSIONS.get(extension)
    if kind is None and not text:
        return "jsonl"  # an empty text holds no models, whatever its kind
    if kind is None:
        raise SourceError(
            f"{name} is of no kind that models are read from",
            hint="if you know its kind, name it with --from KIND",
        )
    return kind


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
    content = [line for line in lines if line and not line.startswith(("#", ";"))]
    if not content:
        return None
    if _SECTION.fullmatch(content[0]) or (
        _INI_PAIR.match(content[0]) and any(_SECTION.fullmatch(line) for line in content)
    ):
        return "preset"
    if _YAML_KEY.match(content[0]) and "\t" not in content[0]:
        return "llama-swap"
    from modelstore.sources.records.csv_records import kind_of_header

    header = text.split("\n", 1)[0]
    return kind_of_header(header, is_first=header.strip() == content[0])


def _is_section(text: str) -> bool:
    """Return True if the first line is an INI section, not a JSON array: ``[7B]``, not ``[7]``."""
    line = text.split("\n", 1)[0].strip()
    if not _SECTION.fullmatch(line):
        return False
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return not line[1:].lstrip().startswith(("{", '"', "["))
    return False


def _json_kind(text: str, extension: str) -> str:
    """Distinguish one JSON document from JSON lines; a wrapped list is a document."""
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


_MAX_ENTRIES = 20_000  # of a directory, read to recognise a store


def detect(target: Target) -> str:
    """Return the kind of `target`, a key of ``kinds.KINDS``.

    Raises `SourceError` if it is missing, unreadable, or holds no models.
    """
    if target.stream is not None:
        return kind_of_bytes(peek(target), "standard input", extension="")
    if target.is_url:
        return "server"
    name = visible(target.text, 200)
    if "://" in target.text:
        raise UsageError(
            f"'{name}' is not an address that can be read", hint="write it as http:// or https://"
        )
    try:
        status = os.stat(target.text)
    except (OSError, ValueError) as error:
        raise unreadable(target, error) from None
    if stat.S_ISDIR(status.st_mode):
        return _directory_kind(target)
    if not stat.S_ISREG(status.st_mode):
        raise SourceError(
            f"'{name}' is {_special(status.st_mode)}, which is never opened",
            hint="pipe its content into: modelstore import -",
        )
    head = _read_head(target)
    kind = kind_of_bytes(
        head, f"'{name}'", extension=os.path.splitext(target.text)[1].lower(), size=status.st_size
    )
    if kind == "sqlite":
        from modelstore.sources.records.foreign_file import sqlite_kind

        return sqlite_kind(target.real_path)
    return kind


def unreadable(target: Target, error: OSError | ValueError) -> SourceError:
    """Return the error for a `target` that could not be opened."""
    name = visible(target.text, 200)
    if isinstance(error, FileNotFoundError):
        return SourceError(f"'{name}' does not exist", hint="check the path")
    if isinstance(error, PermissionError):
        return SourceError(
            f"'{name}' cannot be read by this user", hint="check the permissions of the path"
        )
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return SourceError(f"'{name}' cannot be read: {visible(reason, 200)}", hint="check the path")


def peek(target: Target) -> bytes:
    """Return the first bytes of the target's stream and leave them in it.

    A buffered stream gives the bytes of its first read: at least one, unless it is empty.
    """
    look = getattr(target.stream, "peek", None)
    if look is None:
        raise UsageError(
            "the kind of this stream cannot be detected", hint="name it with --from KIND"
        )
    head: bytes = look(HEAD_SIZE)
    return head


def _read_head(target: Target) -> bytes:
    # The file may have been replaced by a pipe.
    try:
        descriptor = open_to_look(target.text)
    except OSError as error:
        raise unreadable(target, error) from None
    with open(descriptor, "rb", buffering=0) as file:
        try:
            return file.read(HEAD_SIZE) or b""
        except OSError as error:
            raise unreadable(target, error) from None


def _special(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "a named pipe"
    if stat.S_ISSOCK(mode):
        return "a socket"
    return "a device"


def _directory_kind(target: Target) -> str:
    names: set[str] = set()
    try:
        with os.scandir(target.text) as entries:
            for entry in entries:
                names.add(entry.name)
                if len(names) >= _MAX_ENTRIES:
                    break
    except OSError as error:
        raise unreadable(target, error) from None
    return _store_kind(target.real_path, names) or _models_kind(names)


def _store_kind(path: str, names: set[str]) -> str | None:
    """Return the program whose store this is, by its layout: the store or the folder around it."""
    for kind, info in KINDS.items():
        if info.is_store and getattr(load(kind), "recognises")(path, names):  # noqa: B009
            return kind
    return None


def _models_kind(names: set[str]) -> str:
    has_config = {"config.json", "adapter_config.json", "model.safetensors.index.json"} & names
    has_weights = any(name.endswith(".safetensors") for name in names)
    if has_config and has_weights and not any(name.endswith(".gguf") for name in names):
        return "safetensors"
    return "directory"
