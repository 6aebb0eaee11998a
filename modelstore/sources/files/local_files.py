"""The files of a model on this machine, and the record that is built from them."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from modelstore.found import FileRole, Found, ModelFile, Place
from modelstore.locator import file_locator, model_id
from modelstore.model import Model, Status
from modelstore.sources.base import Context, Unchanged
from modelstore.sources.files import naming
from modelstore.sources.values import iso_time, parameters_json
from modelstore.text import visible
from modelstore.wal.files import open_regular, read_at

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WEIGHTS: frozenset[FileRole] = frozenset(("model", "shard"))
"""The roles of the files that hold the model itself, not a companion."""


@dataclass(frozen=True, slots=True)
class LocalFile:
    """One file as it was found, with the result of a single ``stat``."""

    path: str  # as seen: a meaningful name, even if it links to a nameless blob
    real: str  # real path, which identifies the file
    size: int  # bytes
    mtime_ns: int
    device: int  # st_dev
    inode: int  # st_ino; 0 if unknown, as after listing a directory on Windows
    role: FileRole = "model"
    sha256: str | None = None  # lower-case hex, of the content, if the store knows it

    @property
    def name(self) -> str:
        """The last part of the path as seen."""
        return os.path.basename(self.path)

    @property
    def shown(self) -> str:
        """The name, escaped."""
        return visible(self.name, 200)

    def as_model_file(self) -> ModelFile:
        """Return the record of it in the catalogue."""
        return ModelFile(
            path=self.real,
            role=self.role,
            size=self.size,
            mtime_ns=self.mtime_ns,
            sha256=self.sha256,
            device=self.device if self.inode else None,
            inode=self.inode or None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The facts that a place adds to those in a model's files."""

    source: str | None = None  # kind; None: the files' own format, gguf or safetensors
    name: str | None = None  # None: made from the file names
    place: Place | None = None
    source_id: str | None = None
    license: str | None = None  # used if the files name none
    revision: str | None = None  # of the repository or the store's manifest
    shares_file: bool = False  # with another revision, which begins with the same file
    extra: Mapping[str, object] = field(default_factory=dict)  # into `parameters`: JSON values


def local_file(path: str, role: FileRole = "model", *, sha256: str | None = None) -> LocalFile:
    """Look at one file or link without opening it. Raises OSError."""
    path = os.path.abspath(path)
    return from_stat(path, os.path.realpath(path), os.stat(path), role, sha256)


def from_stat(
    path: str, real: str, st: os.stat_result, role: FileRole = "model", sha256: str | None = None
) -> LocalFile:
    """Make a `LocalFile` from an existing ``stat`` result; `real` is the real path."""
    return LocalFile(path, real, st.st_size, st.st_mtime_ns, st.st_dev, st.st_ino, role, sha256)


def unchanged(
    files: Sequence[LocalFile], place: Place | None, context: Context
) -> Unchanged | None:
    """Return the model that the catalogue has for these files; None if they must be read.

    All files must have their recorded size and mtime, and the model that the first weights file
    belongs to exactly these files. Other files may serve several models.
    """
    weights = [file for file in files if file.role in WEIGHTS]
    first = min(weights, key=lambda file: (file.role != "model", file.real), default=None)
    locator = None
    count = 0
    for file in files:
        known = context.known.get(file.real)
        if known is None or known.size != file.size or known.mtime_ns != file.mtime_ns:
            return None
        if file is first:
            locator = known.locator
            count = known.model_file_count
    if locator is None or count != len(files):
        return None
    return Unchanged(locator, place)


def read_bounded(path: str, limit: int) -> bytes:
    """Return a small file's bytes. Raises OSError, or ValueError if it is too large or no file."""
    fd = open_regular(path)
    try:
        size = os.fstat(fd).st_size
        if size > limit:
            raise ValueError(f"has {size} bytes")
        return read_at(fd, size, 0)
    finally:
        os.close(fd)


_FIRST_READ = 1 << 16  # bytes that the readers of headers begin with


def ask_for_header(path: str) -> None:
    """Let the system read the first bytes of a file in the background, where it can do so."""
    if not hasattr(os, "posix_fadvise"):
        return
    with suppress(OSError, ValueError):  # whoever reads the file reports it
        fd = open_regular(path)
        try:
            os.posix_fadvise(fd, 0, _FIRST_READ, os.POSIX_FADV_WILLNEED)
        finally:
            os.close(fd)


_MAGICS = (
    (b"GGUF", "it is a GGUF file"),
    (b"version https://git-lfs", "it is a Git LFS pointer, the model itself was not downloaded"),
    (b"<", "it is a web page or XML, perhaps an error instead of the download"),
    (b"PK\x03\x04", "it is a ZIP archive, perhaps a PyTorch checkpoint"),
    (b"\x1f\x8b", "it is compressed by gzip"),
    (b"\x28\xb5\x2f\xfd", "it is compressed by zstd"),
    (b"SQLite format 3\0", "it is an SQLite database"),
    (b"lmgg", "it is in the GGML format, older than GGUF"),
    (b"fmgg", "it is in the GGMF format, older than GGUF"),
    (b"tjgg", "it is in the GGJT format, older than GGUF"),
    (b"\0\0\0\0", "it begins with zeros, like a download that was never filled"),
)


def guess_format(start: bytes) -> str:
    """Return a guess, for a message, at the format of a file that begins with `start`."""
    for magic, words in _MAGICS:
        if start.startswith(magic):
            return words
    return f"it begins with {start[:8].hex(' ')}"


_MAX_FAULTS = 20  # kept of one model


@dataclass(slots=True)
class Faults:
    """The faults of a model that is imported all the same, and the resulting status."""

    status: Status = "available"
    sentences: list[str] = field(default_factory=list)

    def incomplete(self, sentence: str) -> None:
        """Note a missing part."""
        self.status = "incomplete"
        self.sentences.append(sentence)

    def truncated(self, sentence: str) -> None:
        """Note a file that ends early."""
        if self.status == "available":
            self.status = "truncated"
        self.sentences.append(sentence)

    def note(self, sentence: str) -> None:
        """Note a fault that leaves the model usable."""
        self.sentences.append(sentence)


def missing_shards(present: set[int], total: int, faults: Faults) -> bool:
    """Note the shards of `total` that are not `present`; return True if any is missing.

    Shards count from 1; a set with a shard 0, and none of the number `total`, counts from 0.
    """
    first = 0 if 0 in present and total not in present else 1
    missing = [str(number) for number in range(first, total + first) if number not in present]
    if total < 2 or not missing:
        return False
    some = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
    faults.incomplete(f"{len(missing)} of {total} shards are missing: {some}")
    return True


def build_found(
    files: Sequence[LocalFile],
    weights: Sequence[LocalFile],
    columns: Mapping[str, Any],
    facts: Mapping[str, object],
    faults: Faults,
    origin: Origin,
    context: Context,
) -> Found:
    """Build the record from `columns`, by `Model`'s field names, and `facts` for ``parameters``."""
    first = weights[0]
    # A link gets the name of its target, unless that is a nameless blob.
    named = first.real if naming.parse_name(os.path.basename(first.real)) else first.path
    locator = file_locator(context.host, _final_path(first.real))
    if origin.shares_file:
        locator += f"#{origin.revision}"
    if faults.sentences:
        facts = {"faults": faults.sentences[:_MAX_FAULTS], **facts}
    fields: dict[str, Any] = {"license": origin.license, "revision": origin.revision} | {
        name: value for name, value in columns.items() if value is not None
    }
    model = Model(
        id=model_id(locator),
        name=origin.name or naming.model_name(named),
        locator=locator,
        path=named,
        status=faults.status,
        file_size=sum(file.size for file in weights),
        sha256=first.sha256 if len(weights) == 1 else None,
        host=context.host,
        parameters=parameters_json({**origin.extra, **facts}),
        source_id=origin.source_id,
        modified_at=iso_time(max(file.mtime_ns for file in weights)),
        created_at=context.now,
        updated_at=context.now,
        **fields,
    )
    return Found(model, tuple(file.as_model_file() for file in files), origin.place)


def is_named_after(locator: str, file: LocalFile, context: Context) -> bool:
    """Return True for the locator that a model has by this file, its first one.

    The locator of a model with several copies is that of one of them, and so is its name.
    """
    own = file_locator(context.host, _final_path(file.real))
    return locator == own or locator.startswith(f"{own}#")


def _final_path(path: str) -> str:
    """Return the path that a model will have when it is complete: it identifies the model."""
    path = naming.first_shard(path)
    final = os.path.join(os.path.dirname(path), naming.without_partial(os.path.basename(path)))
    # A second download of an existing file is a model of its own.
    return path if final != path and os.path.lexists(final) else final
