"""What kind of source a target is, by its content first and its name second.

Pipes, sockets and devices are never opened: reading one would hang, or take what is another's.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from modelstore.errors import SourceError, UsageError
from modelstore.sources.sniff import HEAD_SIZE, kind_of_bytes
from modelstore.text import visible

if TYPE_CHECKING:
    from modelstore.sources.base import Target

_MAX_ENTRIES = 20_000  # of a directory, looked at before it is taken for a plain tree


def detect(target: Target) -> str:
    """Return the kind of `target`, a key of ``registry.KINDS``.

    Raises `SourceError` where it is missing, unreadable, or nothing that holds models.
    """
    if target.stream is not None:
        return kind_of_bytes(peek(target), "standard input", extension="")
    if target.is_url:
        return "server"
    name = visible(target.text, 200)
    if "://" in target.text:
        raise UsageError(f"'{name}' is no address that can be read", hint="http:// or https://")
    try:
        status = os.stat(target.text)
    except (OSError, ValueError) as error:
        raise unreadable(target, error) from None
    if stat.S_ISDIR(status.st_mode):
        return _directory_kind(target)
    if not stat.S_ISREG(status.st_mode):
        raise SourceError(
            f"'{name}' is {_special(status.st_mode)}, which is not opened",
            hint="send its content to: modelstore import -",
        )
    head = _read_head(target)
    kind = kind_of_bytes(
        head, f"'{name}'", extension=os.path.splitext(target.text)[1].lower(), size=status.st_size
    )
    if kind == "sqlite":
        from modelstore.sources.foreign_file import sqlite_kind

        return sqlite_kind(target.real_path)
    return kind


def unreadable(target: Target, error: OSError | ValueError) -> SourceError:
    """Return the error that says why `target` could not be opened."""
    name = visible(target.text, 200)
    if isinstance(error, FileNotFoundError):
        return SourceError(f"'{name}' does not exist", hint="check the path")
    if isinstance(error, PermissionError):
        return SourceError(
            f"'{name}' may not be read by this user", hint="check the permissions of the path"
        )
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return SourceError(f"'{name}' cannot be read: {visible(reason, 200)}", hint="check the path")


def peek(target: Target) -> bytes:
    """Return the first bytes of the target's stream without taking them from it.

    A buffered stream gives what its first read brings: at least one byte, unless it is empty.
    """
    look = getattr(target.stream, "peek", None)
    if look is None:
        raise UsageError("the kind of this stream cannot be told", hint="name it with --from KIND")
    head: bytes = look(HEAD_SIZE)
    return head


def _read_head(target: Target) -> bytes:
    # Without O_NONBLOCK, a file replaced by a pipe since it was looked at would hang us.
    try:
        descriptor = os.open(target.text, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
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
    """Tell a program's store by its layout: the store itself, or the folder that holds it."""
    if any(name.startswith("models--") for name in names) or (
        "hub" in names and _holds(path, "hub", "models--")
    ):
        return "huggingface"
    if os.path.basename(path).startswith("models--") and {"blobs", "snapshots"} & names:
        return "huggingface"
    if {"manifests", "blobs"} <= names or (
        "models" in names and os.path.isdir(os.path.join(path, "models", "manifests"))
    ):
        return "ollama"
    if _is_lmstudio(path, names):
        return "lmstudio"
    if any(name.startswith("manifest=") or name.endswith(".gguf.etag") for name in names):
        return "llama-cache"
    return None


def _models_kind(names: set[str]) -> str:
    has_config = {"config.json", "adapter_config.json", "model.safetensors.index.json"} & names
    has_weights = any(name.endswith(".safetensors") for name in names)
    if has_config and has_weights and not any(name.endswith(".gguf") for name in names):
        return "safetensors"
    return "directory"


def _holds(path: str, child: str, prefix: str) -> bool:
    try:
        with os.scandir(os.path.join(path, child)) as entries:
            return any(
                entry.name.startswith(prefix)
                for entry, _ in zip(entries, range(_MAX_ENTRIES), strict=False)
            )
    except OSError:
        return False


def _is_lmstudio(path: str, names: set[str]) -> bool:
    parts = path.replace(os.sep, "/").rstrip("/").split("/")
    if parts[-1] in {".lmstudio", "lm-studio"}:
        return True
    if parts[-1] == "models" and parts[-2:-1] in (["lm-studio"], [".lmstudio"]):
        return True
    return ".internal" in names and "models" in names
