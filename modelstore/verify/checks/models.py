"""The model files of the catalogue: present, whole, and still of the recorded content."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from modelstore.catalogue.schema import is_catalogue, ownership, single_value
from modelstore.database.open import Purpose, open_database
from modelstore.database.sqlite_text import from_sqlite_text, to_sqlite_text, whole_or_none
from modelstore.errors import ExitCode, ModelstoreError
from modelstore.finding import Finding, Severity
from modelstore.text import human_bytes, plural
from modelstore.verify.check import Check, Run, not_checked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.database.connection import OpenDatabase
    from modelstore.database.handle import Database
    from modelstore.verify.check import VerifyOptions
    from modelstore.verify.hashing import Hashed

_TOLD = 50  # findings of one kind; the rest are counted
_DIGEST = re.compile(r"(?:sha256[-:])?([0-9a-f]{64})")
_FILES = """SELECT m.id AS model, m.name, m.status,
    f.weights, f.path, f.role, f.size, f.mtime_ns, f.sha256
FROM model_files AS f JOIN models AS m ON m.id = f.model_id WHERE m.host IS ?
ORDER BY m.name, m.id, f.weights, f.path"""
_ELSEWHERE = """SELECT count(DISTINCT m.id) FROM model_files AS f JOIN models AS m
ON m.id = f.model_id WHERE m.host IS NOT :host"""


class FileRecord(NamedTuple):
    """The catalogue's record of one file of a model. `size` in bytes, None if unknown."""

    model: str  # id
    name: str
    status: str
    weights: str
    path: str
    role: str
    size: int | None
    mtime_ns: int | None
    sha256: str | None

    @property
    def known_sha256(self) -> str | None:
        """The digest in the file's own name, as content-addressed stores have it."""
        match = _DIGEST.fullmatch(os.path.basename(self.path))
        return match[1] if match else None


class NewHash(NamedTuple):
    """A digest that the catalogue lacks, with the size and time of the file when it was read."""

    sha256: str
    model: str
    weights: str
    path: str
    size: int
    mtime_ns: int


@dataclass(slots=True)
class Records:
    """The files that should be on this machine, and the number of models of other machines."""

    files: list[FileRecord]
    elsewhere: int


@dataclass(slots=True)
class _Tally:
    """Findings by their code: a thousand missing files do not fill the screen."""

    findings: dict[str, list[Finding]] = field(default_factory=dict)

    def add(self, finding: Finding) -> None:
        self.findings.setdefault(finding.code, []).append(finding)

    def told(self) -> Iterator[Finding]:
        for code, found in self.findings.items():
            yield from found[:_TOLD]
            if found[_TOLD:]:
                yield Finding(
                    code,
                    found[0].severity,
                    f"and {len(found) - _TOLD:,} more files like these",
                    data={"paths": [finding.where for finding in found[_TOLD:]]},
                )


def read_records(db: Database, host: str | None) -> Records:
    """Return the catalogue's records of the files on this machine."""
    files = []
    for row in db.query(_FILES, [host]):
        row |= {key: from_sqlite_text(row[key]) for key in ("name", "weights", "path")}
        row |= {key: whole_or_none(row[key]) for key in ("size", "mtime_ns")}
        files.append(FileRecord(**row))
    return Records(files, int(single_value(db, _ELSEWHERE, {"host": host})))


def check_models(records: Records, options: VerifyOptions) -> tuple[list[Finding], list[NewHash]]:
    """Return the findings, and the digests to record."""
    tally = _Tally()
    there = _Present(tally)
    for record in records.files:
        there.look(record)
    if records.files:
        there.judge_shards(records.files)
    new: list[NewHash] = []
    read = 0
    if options.hash_files:
        new, read = _check_hashes(there.whole, options, tally)
    findings = list(tally.told())
    models = len({record.model for record in records.files})
    bad = sum(len(found) for found in tally.findings.values())
    summary = f"{plural(models, 'model')}, {plural(len(records.files), 'file')}"
    if not records.files:
        summary = "the catalogue records no model file of this machine"
    elif not bad:
        summary += ", all as recorded" if options.hash_files else ", sizes and times as recorded"
    if options.hash_files:
        summary += f", {human_bytes(read)} hashed ({len(new):,} for the first time)"
    if records.elsewhere:
        summary += f"; {plural(records.elsewhere, 'model')} of other hosts not looked at"
    findings.append(
        Finding(
            "models.files",
            "note" if bad else "pass",
            summary,
            data={
                "models": models,
                "files": len(records.files),
                "elsewhere": records.elsewhere,
                "problems": bad,
                "bytes_hashed": read,
                "first_hashes": len(new),
            },
        )
    )
    return findings, new


class _Present:
    """Compares records with the files themselves; `whole` files have the recorded size."""

    def __init__(self, tally: _Tally) -> None:
        self._tally = tally
        self.whole: list[tuple[FileRecord, os.stat_result]] = []

    def look(self, record: FileRecord) -> None:
        """Compare one record with its file."""
        try:
            status = os.stat(record.path)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "no path"
            self._missing(record, reason)
            return
        if not stat.S_ISREG(status.st_mode):
            self._tally.add(_problem("kind", "fail", record, "is no regular file", _IMPORT))
        elif record.size is not None and status.st_size != record.size:
            self._tally.add(
                _problem(
                    "size",
                    "fail",
                    record,
                    f"has {status.st_size:,} bytes, not {record.size:,}",
                    _IMPORT,
                    {"expected": record.size, "found": status.st_size},
                )
            )
        else:
            self.whole.append((record, status))
            if record.status in ("incomplete", "truncated"):
                self._tally.add(
                    _problem(record.status, "warn", record, f"is {record.status}", _DOWNLOAD)
                )
            if record.mtime_ns is not None and status.st_mtime_ns != record.mtime_ns:
                self._tally.add(
                    _problem(
                        "changed",
                        "warn",
                        record,
                        "was written since it was imported, at the same size",
                        _IMPORT + "; --hash tells whether a known content is still there",
                    )
                )

    def _missing(self, record: FileRecord, reason: str | None) -> None:
        if record.status == "missing":
            words = "is missing, as the catalogue knows"
            self._tally.add(_problem("known-missing", "warn", record, words, _FORGET))
        else:
            words = f"cannot be found ({reason})"
            self._tally.add(_problem("missing", "fail", record, words, _FORGET))

    def judge_shards(self, records: list[FileRecord]) -> None:
        """Report each set of shards that lacks a number."""
        from modelstore.sources.files.naming import parse_name

        shards: dict[tuple[str, str], dict[tuple[str, int], set[int]]] = {}
        some: dict[tuple[str, str], FileRecord] = {}
        for record in records:
            name = parse_name(os.path.basename(record.path))
            if name is None or not name.shards or record.role not in ("model", "shard"):
                continue
            copy = (record.model, record.weights)
            some.setdefault(copy, record)
            numbers = shards.setdefault(copy, {}).setdefault((name.stem, name.shards), set())
            numbers.add(name.shard)
        for copy, sets in shards.items():
            for (_, count), numbers in sets.items():
                first = 0 if 0 in numbers and count not in numbers else 1
                absent = sorted(set(range(first, min(count, 100_000) + first)) - numbers)
                if absent and some[copy].status == "available":
                    listed = ", ".join(map(str, absent[:10])) + ("…" if absent[10:] else "")
                    words = f"is one of {count:,} shards, and of these {listed} are not there"
                    self._tally.add(_problem("shards", "fail", some[copy], words, _DOWNLOAD))


_IMPORT = "if that was meant, import it again; else restore it or download it again"
_DOWNLOAD = "finish the download, then import it again"
_FORGET = (
    "mount its disk, restore it, or download it again; import its directory again, or forget it"
)


def _check_hashes(
    files: list[tuple[FileRecord, os.stat_result]], options: VerifyOptions, tally: _Tally
) -> tuple[list[NewHash], int]:
    """Hash the files and compare them; return the digests to record, and the bytes read."""
    from modelstore.verify.hashing import hash_files  # late: it loads threads and their log

    sizes = {record.path: status.st_size for record, status in files}
    with options.watching("bytes") as tick:
        hashes = hash_files(sizes, sum(sizes.values()), tick)
    new = []
    for record, _ in files:
        found = hashes[record.path]
        if found.sha256 is None:
            words = f"could not be hashed: {found.problem}"
            tally.add(_problem("unreadable", "fail", record, words, "check the disk"))
            continue
        fresh = _judge(record, found, found.sha256, tally)
        if fresh is not None:
            new.append(fresh)
    return new, sum(hashed.size for hashed in hashes.values())


def _judge(record: FileRecord, found: Hashed, sha256: str, tally: _Tally) -> NewHash | None:
    """Compare one digest; return it if the catalogue has none for the file as it is."""
    is_as_recorded = (found.size, found.mtime_ns) == (record.size, record.mtime_ns)
    wanted = record.known_sha256 or (record.sha256 if is_as_recorded else None)
    if wanted is not None and wanted != sha256:
        source = "its name says" if record.known_sha256 else "the catalogue has"
        tally.add(
            _problem(
                "corrupt",
                "fail",
                record,
                f"is corrupt: SHA-256 {sha256[:16]}…, {source} {wanted[:16]}…",
                "download it again; if a disk flips bits, other files will follow",
                {"expected": wanted, "found": sha256},
            )
        )
        return None
    if record.sha256 is not None or not is_as_recorded:
        return None
    return NewHash(sha256, record.model, record.weights, record.path, found.size, found.mtime_ns)


def _problem(
    word: str,
    severity: Severity,
    record: FileRecord,
    words: str,
    advice: str,
    data: dict[str, object] | None = None,
) -> Finding:
    return Finding(
        f"models.{word}",
        severity,
        f"{record.name}: {record.path} {words}",
        record.path,
        advice,
        {"model": record.model, "name": record.name, "path": record.path, **(data or {})},
    )


_RECORD = """UPDATE model_files SET sha256 = ? WHERE model_id = ? AND weights = ? AND path = ?
AND size = ? AND mtime_ns = ? AND sha256 IS NULL"""
_RECORD_WHOLE = """UPDATE models SET sha256 = ?1 WHERE id = ?2 AND sha256 IS NULL AND ?3 = ?4
AND (SELECT count(*) FROM model_files WHERE model_id = ?2 AND weights = ?3
    AND role IN ('model', 'shard')) = 1"""  # shards have no hash in common


def record_hashes(path: str, hashes: list[NewHash], timeout: float) -> Finding | None:
    """Write digests in one short transaction, and fold; return a finding if that failed."""
    rows = [
        (
            new.sha256,
            new.model,
            to_sqlite_text(new.weights),
            to_sqlite_text(new.path),
            new.size,
            new.mtime_ns,
        )
        for new in hashes
    ]
    try:
        with (
            open_database(
                path, purpose=Purpose.WRITE, timeout=timeout, check=is_catalogue
            ) as opened,
            opened.write() as db,
        ):
            # plain SQL: table.update() takes one row at a time, by its key alone
            db.conn.executemany(_RECORD, rows)
            db.conn.executemany(_RECORD_WHOLE, (row[:4] for row in rows))
        checkpoint = opened.checkpoint
    except ModelstoreError as error:
        return _not_recorded(f"{plural(len(rows), 'digest')} could not be recorded: {error}")
    if checkpoint is None or checkpoint.exit_code("write") is not ExitCode.OK:
        return _not_recorded(
            f"{plural(len(rows), 'digest')} were recorded, but only in the log: "
            "another process keeps it from being folded"
        )
    return None


def _not_recorded(words: str) -> Finding:
    advice = "run it again with --hash when nobody holds the database"
    return Finding("models.not-recorded", "warn", words, advice=advice)


def _read(run: Run, reader: OpenDatabase) -> Iterator[Finding]:
    """Keep the records for later, if the database is a catalogue that can be read."""
    with run.tolerating_damage():
        if ownership(reader.db) == "catalogue":
            run.kept["models"] = read_records(reader.db, run.options.host)
    if run.options.hash_files and "models" not in run.kept:
        yield not_checked("models", "there is no catalogue of models that can be read")


def _check(run: Run) -> Iterator[Finding]:
    """Look at the files while no connection is open, however long that takes."""
    records: Records | None = run.kept.get("models")
    if records is None:
        return
    found, new = check_models(records, run.options)
    yield from found
    if new and run.options.fold and run.unfoldable is None:
        trouble = record_hashes(run.subject.path, new, run.options.timeout)
        yield from [trouble] if trouble is not None else []


CHECK = Check(
    name="models",
    title="the model files of the catalogue",
    order=70,
    reading=_read,
    closed=_check,
)
