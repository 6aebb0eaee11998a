"""Name a file that is no database by its first bytes, and give a hint of what to do with it."""

from __future__ import annotations

import struct

_MAGICS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"GGUF", "a GGUF model"),
    (0, b"\x1f\x8b", "gzip-compressed"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"\x28\xb5\x2f\xfd", "zstd-compressed"),
    (0, b"\xfd7zXZ\0", "xz-compressed"),
    (0, b"BZh", "bzip2-compressed"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"\x37\x7f\x06\x82", "the -wal of a database"),
    (0, b"\x37\x7f\x06\x83", "the -wal of a database"),
    (0, b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7", "the rollback journal of a database"),
    (0, struct.pack("=II", 3007000, 0), "the -shm of a database"),
    (0, b"** This file contains an SQLite 2", "an SQLite 2 database"),
    (8, b"DUCK", "a DuckDB database"),
    (0, b"PAR1", "a Parquet file"),
    (0, b"version https://git-lfs", "a Git LFS pointer, not the file itself"),
    (0, b"\x7fELF", "a program"),
    (0, b"#!", "a script"),
    (0, b"%PDF", "a PDF document"),
    (0, b"\x89PNG", "a PNG image"),
    (257, b"ustar", "a tar archive"),
    (8, b"{", "a safetensors model"),
    (0, b"{", "JSON"),
    (0, b"[", "JSON"),
)

_HINTS = {
    "a GGUF model": "`modelstore import FILE` reads a model into the catalogue",
    "a safetensors model": "`modelstore import FILE` reads a model into the catalogue",
    "JSON": "`modelstore import FILE` reads records into the catalogue",
    "gzip-compressed": "unpack it first",
    "zstd-compressed": "unpack it first",
    "xz-compressed": "unpack it first",
    "the -wal of a database": "name the database itself, without -wal",
    "the -shm of a database": "name the database itself, without -shm",
    "the rollback journal of a database": "name the database itself, without -journal",
}


def describe(head: bytes) -> tuple[str, str | None]:
    """Name a file by its first bytes (512 are enough), and give a hint of what to do with it."""
    for offset, magic, what in _MAGICS:
        if head[offset : offset + len(magic)] == magic:
            return f"it is {what}", _HINTS.get(what)
    if not head.strip(b"\0"):
        return "it holds nothing but zeros", "restore it from a backup"
    if _is_text(head):
        return "it is text", "`modelstore import FILE` reads records into the catalogue"
    return "it is of no known kind, or encrypted", None


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # else a character cut at the end
            return False
        text = head[: error.start].decode("utf-8")
    return all(char.isprintable() or char.isspace() for char in text)
