"""Building blocks for tests of stores: tiny models by their formats' own writers, and contexts."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import gguf
import numpy as np

from modelstore.found import Found, KnownFile, Skipped
from modelstore.sources.base import Context, Target, Unchanged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from modelstore.sources.base import Item

NOW = "2026-11-22T19:35:00Z"


def context(**changes: object) -> Context:
    """A context of host ``box`` that knows nothing, with `changes`."""
    return replace(Context(host="box", now=NOW, home="/nowhere"), **changes)  # type: ignore[arg-type]


def write_gguf(path: Path, *, name: str = "Tiny", **numbers: int) -> bytes:
    """Write a llama of one small tensor, different for each `name`; return the content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name(name)
    writer.add_context_length(numbers.get("context_length", 4096))
    writer.add_embedding_length(64)
    writer.add_block_count(2)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_file_type(0)
    writer.add_tensor("token_embd.weight", np.zeros((8, 64), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


def write_projector(path: Path) -> bytes:
    """Write an image projector in GGUF; return the content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(str(path), "clip")
    writer.add_type("mmproj")
    writer.add_tensor("v.patch_embd.weight", np.ones((4, 32), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


def safetensors_bytes(names: Iterable[str] = ("weight",)) -> bytes:
    """The content of a safetensors file with a few tensors of 2 × 3 float32."""
    header: dict[str, object] = {}
    end = 0
    for name in names:
        header[name] = {"dtype": "F32", "shape": [2, 3], "data_offsets": [end, end + 24]}
        end += 24
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(end)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def read_all(
    read: Callable[[Target, Context], Iterator[Item]], path: object, ctx: Context | None = None
) -> list[Item]:
    return list(read(Target(str(path)), ctx or context()))


def found(items: Iterable[Item]) -> list[Found]:
    return [item for item in items if isinstance(item, Found)]


def skipped(items: Iterable[Item]) -> dict[str, str]:
    return {item.what: item.reason for item in items if isinstance(item, Skipped)}


def knowing(items: Iterable[Item], ctx: Context | None = None) -> Context:
    """The context of a second import: the catalogue holds what the first one found."""
    known: dict[str, KnownFile] = {}
    for item in found(items):
        for file in item.files:
            assert file.size is not None
            assert file.mtime_ns is not None
            known[file.path] = KnownFile(
                file.size, file.mtime_ns, item.model.locator, file.sha256, len(item.files)
            )
    return replace(ctx or context(), known=known)


_OPENED: list[str] = []
_WATCHING = [False]


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and _WATCHING[0] and isinstance(arguments[0], (str, bytes, os.PathLike)):
        _OPENED.append(os.fsdecode(arguments[0]))


sys.addaudithook(_audit)


def opened_while(action: Callable[[], object]) -> list[str]:
    """The paths of all files that `action` opened, as Python's own audit events tell."""
    _OPENED.clear()
    _WATCHING[0] = True
    try:
        action()
    finally:
        _WATCHING[0] = False
    return list(_OPENED)


def second_import(
    read: Callable[[Target, Context], Iterator[Item]], path: object, models: Iterable[bytes]
) -> None:
    """Assert that a second import finds all unchanged and opens no file that holds a model."""
    first = read_all(read, path)
    ctx = knowing(first)
    again: list[Item] = []
    opened = opened_while(lambda: again.extend(read_all(read, path, ctx)))
    assert found(first)
    assert [type(item) for item in again] == [Unchanged] * len(found(first)), again
    assert [(item.locator, item.place) for item in again if isinstance(item, Unchanged)] == [
        (item.model.locator, item.place) for item in found(first)
    ]
    contents = set(models)
    files = [name for name in opened if os.path.isfile(name)]
    assert [name for name in files if Path(name).read_bytes() in contents] == []


@contextmanager
def unprivileged() -> Iterator[Path]:
    """Be somebody whom permissions bind, even if the tests are run by root; give a directory."""
    with tempfile.TemporaryDirectory() as name:
        is_root = os.name != "nt" and os.geteuid() == 0
        if is_root:
            os.chown(name, 65534, 65534)
            os.seteuid(65534)
        try:
            yield Path(name)
        finally:
            if is_root:
                os.seteuid(0)
