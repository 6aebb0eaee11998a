"""The same content more than once on a disk: by SHA-256, else by size and samples, said as maybe.

The catalogue tells which files may be the same; a look at this machine's files tells which still
are there, and which names are one file (hard links, symbolic links). Of other machines the
catalogue's word counts, and only a SHA-256. Copies that share their blocks (reflinks) count as
copies: no portable call tells them apart.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from modelstore.database.sqlite_text import from_sqlite_text
from modelstore.reclaim.result import Copy, Duplicate
from modelstore.wal.files import open_regular, read_at

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from modelstore.database.handle import Database
    from modelstore.reclaim.result import Inode

_LOOSE = "directory"  # the source of files that no store owns
_HEAD = 1 << 18  # bytes: a header, or its beginning
_SAMPLE = 1 << 14
_SAMPLES = 16  # evenly over the file: two fine-tunes differ everywhere

# Only sizes that are there twice: the rest cannot be the same. Copies on several machines are no
# duplicates.
_CANDIDATES = """SELECT m.id, m.name, m.host, f.weights, f.role, f.path, f.size, f.mtime_ns,
    f.sha256, f.device, f.inode
FROM model_files AS f CROSS JOIN models AS m ON m.id = f.model_id
WHERE f.role IN ('model', 'shard', 'projector', 'draft', 'adapter') AND f.size > 0
    AND f.size IN (SELECT size FROM model_files GROUP BY size HAVING min(path) <> max(path))
ORDER BY m.rowid, f.weights, f.path"""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One file of a model, as the catalogue recorded it."""

    model: str  # id
    name: str  # of the model
    host: str | None
    weights: str  # the first weights file of the copy that it belongs to
    role: str
    path: str
    size: int
    mtime_ns: int | None
    sha256: str | None
    device: int | None
    inode: int | None


@dataclass(slots=True)
class _File:
    """One file on a disk, with all of its names that the catalogue knows."""

    host: str
    size: int
    links: int  # names that the file system counts
    is_here: bool
    sha256: str | None = None
    records: list[Recorded] = field(default_factory=list)

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(record.path for record in self.records))

    @property
    def frees(self) -> int:
        """Bytes that are freed if all known names go; 0 if there are other names."""
        return self.size if len(self.paths) >= self.links else 0

    @property
    def is_weights(self) -> bool:
        """False for a companion, which another model needs where it is."""
        return any(record.role in ("model", "shard") for record in self.records)

    @property
    def weights(self) -> tuple[str, ...]:
        """The copies that it belongs to, as a key."""
        return tuple(sorted({record.weights for record in self.records}))


def recorded_files(db: Database) -> list[Recorded]:
    """Return the files of a catalogue that may be there twice."""
    return [Recorded(**_typed(row)) for row in db.query(_CANDIDATES)]


def _typed(row: dict[str, Any]) -> dict[str, Any]:
    row["model"] = row.pop("id")
    return {
        key: from_sqlite_text(value) if isinstance(value, str) else value
        for key, value in row.items()
    }


@dataclass(frozen=True, slots=True)
class Owner:
    """The program that has a copy, and the command that removes it."""

    source: str
    command: str


def find_duplicates(
    records: Iterable[Recorded],
    here: str,
    owner: Callable[[str, Sequence[str]], Owner],
    gone: Collection[Inode] = (),
) -> list[Duplicate]:
    """Return the duplicates, those that free most first.

    `here` is the name of this machine. `owner` tells who has the files of a model at some paths.
    The files `gone` are counted elsewhere, as if they were removed already.
    """
    sizes: dict[tuple[str, int], list[_File]] = defaultdict(list)
    for file in _files(records, here, gone):
        sizes[file.host, file.size].append(file)
    sets: dict[tuple[tuple[str, ...], ...], list[list[tuple[_File, bool]]]] = defaultdict(list)
    for files in sizes.values():
        if len(files) > 1:
            for same in _same_content(files):
                # A model needs both of two equal files of its own.
                each = list({one[0].weights: one for one in same}.values())
                each.sort(key=lambda one: one[0].weights)
                sets[tuple(file.weights for file, _ in each)].append(each)
    found = (
        _duplicate(shards, owner)
        for copies, shards in sets.items()
        if len(copies) > 1 and any(same[0][0].is_weights for same in shards)
    )
    return sorted(
        (one for one in found if one.frees), key=lambda one: (-one.frees, one.copies[0].name)
    )


def _files(records: Iterable[Recorded], here: str, gone: Collection[Inode]) -> Iterator[_File]:
    """Yield the files that are there, each once."""
    found: dict[tuple[str, Inode | str], _File] = {}
    for record in records:
        host = record.host or here
        seen = _look(record) if host == here else _from_record(record)
        if seen is None:
            continue
        key, size, links, sha256 = seen
        if host == here and key in gone:
            continue
        file = found.setdefault((host, key), _File(host, size, links, host == here))
        file.sha256 = file.sha256 or sha256
        file.records.append(record)
    yield from found.values()


_Seen = tuple["Inode | str", int, int, str | None]  # its key, size, number of names, SHA-256


def _look(record: Recorded) -> _Seen | None:
    """Look at a file of this machine: a hash from before another size or time is void."""
    try:
        status = os.stat(record.path)
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(status.st_mode) or not status.st_size:
        return None
    same = (status.st_size, status.st_mtime_ns) == (record.size, record.mtime_ns)
    key: Inode | str = (status.st_dev, status.st_ino) if status.st_ino else record.path
    return key, status.st_size, status.st_nlink, record.sha256 if same else None


def _from_record(record: Recorded) -> _Seen:
    known = record.device is not None and record.inode is not None
    key = (record.device, record.inode) if known else record.path
    return key, record.size, 1, record.sha256  # type: ignore[return-value]  # both are numbers


def _same_content(files: list[_File]) -> Iterator[list[tuple[_File, bool]]]:
    """Yield the files of one size that have the same content, each with True if that is certain."""
    by_hash: dict[str, list[_File]] = defaultdict(list)
    unknown = []
    for file in files:
        if file.sha256:
            by_hash[file.sha256].append(file)
        elif file.is_here:
            unknown.append(file)
    groups = {sha256: [(file, True) for file in same] for sha256, same in by_hash.items()}
    if unknown:
        samples = {_sample(same[0]): sha256 for sha256, same in by_hash.items() if same[0].is_here}
        for file in unknown:
            sample = _sample(file)
            if sample is not None:
                groups.setdefault(samples.get(sample, sample), []).append((file, False))
    yield from (group for group in groups.values() if len(group) > 1)


def _sample(file: _File) -> str | None:
    """Return a hash of the beginning of a file and of parts of the rest; None if unreadable."""
    digest = hashlib.sha256()
    try:
        descriptor = open_regular(file.paths[0])
    except (OSError, ValueError):
        return None
    try:
        digest.update(read_at(descriptor, _HEAD, 0))
        for number in range(1, _SAMPLES + 1):
            offset = max(0, (file.size - _SAMPLE) * number // _SAMPLES)
            digest.update(read_at(descriptor, _SAMPLE, offset))
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return f"samples:{digest.hexdigest()}"


def _duplicate(
    shards: list[list[tuple[_File, bool]]], owner: Callable[[str, Sequence[str]], Owner]
) -> Duplicate:
    """Join the files that lie together in the same copies: the shards of one model."""
    copies = []
    for parts in zip(*shards, strict=True):
        files = [file for file, _ in parts]
        record = files[0].records[0]
        paths = tuple(path for file in files for path in file.paths)
        owned = owner(record.model, paths)
        copies.append(
            Copy(
                record.model,
                record.name,
                owned.source,
                paths,
                sum(file.frees for file in files),
                all(certain for _, certain in parts),
                owned.command,
            )
        )
    # Keep what frees nothing, for it has other names; else what a program takes care of.
    copies.sort(
        key=lambda copy: (copy.frees, not copy.is_certain, copy.source == _LOOSE, copy.paths)
    )
    kept, *others = copies
    told = [
        copy if copy.is_certain and kept.is_certain else replace(copy, command=None)
        for copy in others
    ]
    size = sum(same[0][0].size for same in shards)
    known = next((file.sha256 for file, _ in shards[0] if file.sha256), None)
    host = shards[0][0][0].host
    frees = sum(copy.frees for copy in others)
    return Duplicate(host, size, known, (replace(kept, command=None), *told), frees)
