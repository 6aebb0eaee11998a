"""The parsers of outside bytes, each behind one function that takes bytes and must not mind them.

A target raises only for what is a fault: an exception that the parser does not document, or an
answer that another reading of the same bytes refutes. Documented refusals end in silence.
"""

from __future__ import annotations

import io
import json
import os
import random
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from modelstore.database.sqlite_text import to_sqlite_text
from modelstore.errors import ModelstoreError
from modelstore.found import Found, Skipped
from modelstore.model import MODEL_COLUMNS
from modelstore.sources.base import Context, Item, Rows, Target
from modelstore.sources.configs import llama_swap, preset
from modelstore.sources.files.gguf_header import GgufError, read_header
from modelstore.sources.files.safetensors_header import SafetensorsError, read_safetensors_header
from modelstore.sources.records import csv_records, json_records
from modelstore.wal.index import WalIndex
from modelstore.wal.locks import LockReport, blockers
from modelstore.wal.loss import analyse_loss
from modelstore.wal.scan import scan_wal
from tests.torture import seeds, shim
from tests.torture.mutate import mutated, mutated_database, mutated_index, mutated_log, mutated_text
from tests.wal.logfiles import LogBuilder, naive_checksum, page, simple_log

_CONTEXT = Context(host="box", now="2026-11-22T19:35:00Z", home="/nowhere")
_INT64 = 1 << 63


class WrongAnswerError(Exception):
    """A parser answered, and not with the truth."""


@dataclass(frozen=True, slots=True)
class Parser:
    """One parser: how its input is made wrong, how it is fed, and its share of the cases."""

    name: str
    share: int
    make: Callable[[random.Random], bytes]
    feed: Callable[[bytes], None]


@cache
def _descriptor() -> int:
    return os.memfd_create("torture")


def _held(data: bytes) -> int:
    """Return a descriptor of a file in memory that holds `data`."""
    descriptor = _descriptor()
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, data, 0)
    return descriptor


@cache
def _directory(_process: int) -> TemporaryDirectory[str]:
    """Return a directory of this process's own, in memory, that ends with it."""
    return TemporaryDirectory(prefix="modelstore-torture-", dir=shim.workplace())


def _scratch() -> str:
    """Return a path of this process's own."""
    return os.path.join(_directory(os.getpid()).name, "scratch")


def feed_gguf(data: bytes) -> None:
    try:
        header = read_header(_held(data))
    except GgufError as error:
        _expect_reason(error.reason)
        return
    counts = (header.parameter_count, header.tensor_count, header.data_end)
    if not all(0 <= count <= _INT64 for count in counts):
        raise WrongAnswerError(f"counts beyond 63 bits: {counts}")
    json.dumps(header.tensor_types)


def feed_safetensors(data: bytes) -> None:
    path = _scratch()
    with open(path, "wb") as file:
        file.write(data)
    try:
        header = read_safetensors_header(path)
    except SafetensorsError as error:
        _expect_reason(error.reason)
        return
    # What was accepted is the JSON that the specification asks for, to another reader as well.
    length = int.from_bytes(data[:8], "little")
    value = json.loads(data[8 : 8 + length])
    tensors = {name: entry for name, entry in value.items() if name != "__metadata__"}
    if header.tensor_count != len(tensors):
        raise WrongAnswerError(f"{header.tensor_count} tensors of {len(tensors)}")


def feed_wal(data: bytes) -> None:
    found = scan_wal(_held(data))
    if found.changed_while_reading:
        raise WrongAnswerError("changed while it was read, and nobody wrote")
    valid, committed = _recovered(data)
    if (found.valid, found.max_frame) != (valid, committed) and not (
        found.header is None or found.fault is not None
    ):
        raise WrongAnswerError(
            f"{found.valid} valid, {found.max_frame} committed; naively {valid}, {committed}"
        )
    if (found.fault is not None) != (valid < 0):
        raise WrongAnswerError(f"header: {found.fault}, naively {valid}")


def _recovered(data: bytes) -> tuple[int, int]:
    """Return the valid and the committed frames as SQLite's recovery counts them; -1: no header."""
    if len(data) < 32:
        return -1, -1
    magic, version, page_size, _, salt0, salt1, *stored = struct.unpack(">8I", data[:32])
    big_endian = bool(magic & 1)
    state = naive_checksum(data[:24], (0, 0), big_endian=big_endian)
    is_sound = magic & ~1 == 0x377F0682 and page_size in {1 << bit for bit in range(9, 17)}
    if not is_sound or version != 3007000 or list(state) != stored:
        return -1, -1
    valid = committed = 0
    for start in range(32, len(data) - page_size - 23, page_size + 24):
        number, commit, *rest = struct.unpack_from(">6I", data, start)
        state = naive_checksum(data[start : start + 8], state, big_endian=big_endian)
        body = data[start + 24 : start + 24 + page_size]
        state = naive_checksum(body, state, big_endian=big_endian)
        if number == 0 or rest != [salt0, salt1, *state]:
            break
        valid += 1
        committed = valid if commit else committed
    return valid, committed


def feed_index(data: bytes) -> None:
    try:
        index = WalIndex.parse(data)
    except ValueError:
        if len(data) >= 136:
            raise
        return
    if index.pending < 0 or len(index.read_marks) != 5:
        raise WrongAnswerError(f"{index}")
    blockers(index, LockReport((), complete=True))


def _expect_reason(reason: str) -> None:
    if not reason or not reason.isprintable():
        raise WrongAnswerError(f"a reason that is none: {reason!r}")


def _expect_items(items: Iterable[Item]) -> None:
    """Take all items, and hold each row to what the catalogue can keep."""
    try:
        for item in items:
            if isinstance(item, Rows):
                for row in item.rows:
                    _expect_row(row)
            elif isinstance(item, Found):
                _expect_row([getattr(item.model, column) for column in MODEL_COLUMNS])
            elif isinstance(item, Skipped) and not item.reason:
                raise WrongAnswerError("a skip without a reason")
    except ModelstoreError as error:
        if not error.message.isprintable():
            raise WrongAnswerError(f"a message that is not safe: {error.message!r}") from error


def _expect_row(row: Sequence[object]) -> None:
    if row and len(row) != len(MODEL_COLUMNS):
        raise WrongAnswerError(f"a row of {len(row)} columns")
    for value in row:
        if isinstance(value, str):
            to_sqlite_text(value).encode()
        elif isinstance(value, int) and not -_INT64 <= value < _INT64:
            raise WrongAnswerError(f"an integer beyond 64 bits: {value}")


def _records(read: Callable[[Target, Context], Iterable[Item]]) -> Callable[[bytes], None]:
    return lambda data: _expect_items(read(Target("-", io.BytesIO(data)), _CONTEXT))


def feed_preset(data: bytes) -> None:
    _expect_items(preset.read(Target("-", io.BytesIO(data)), _CONTEXT))


def feed_yaml(data: bytes) -> None:
    _expect_items(llama_swap.read(Target("-", io.BytesIO(data)), _CONTEXT))


def feed_loss(data: bytes) -> None:
    """Take a database and its log behind each other; the first four bytes say where."""
    path = _scratch()
    cut = int.from_bytes(data[:4], "little")
    Path(f"{path}.db").write_bytes(data[4 : 4 + cut])
    Path(f"{path}.db-wal").write_bytes(data[4 + cut :])
    try:
        report = analyse_loss(f"{path}.db", names=("models", "name"))
    except ModelstoreError:
        return
    counts = (report.lost, report.reverted, report.returning, report.pages, report.unattributed)
    if min(counts) < 0:
        raise WrongAnswerError(f"negative counts: {counts}")


@cache
def _ggufs() -> list[bytes]:
    """Return the headers of the models: their weights are not read anyway."""
    return [*(data[:4000] for data in seeds.ggufs()), *corpus("gguf")]


@cache
def _logs() -> list[bytes]:
    built = LogBuilder(512).frame(2, page(512)).frame(3, page(512, 2), 3)
    built.frame(4, page(512, 3), salt=(1, 2)).frame(2, page(512, 4), 4)
    small = [bytes(simple_log(512, 2)), bytes(simple_log(512, 2, big_endian=True))]
    return [*small, bytes(simple_log(1024, 1)), bytes(built.raw), *corpus("wal")]


@cache
def _pairs() -> list[tuple[bytes, bytes]]:
    return [(files.database, files.log) for files in seeds.databases()]


def _index(rng: random.Random) -> bytes:
    raw = bytearray(136)
    struct.pack_into("=IIIBBHII", raw, 0, 3007000, 0, 7, 1, 0, 4096, 9, 5)
    data = mutated_index(rng, bytes(raw))
    return mutated(rng, data) if rng.random() < 0.2 else data


def _pair(rng: random.Random) -> bytes:
    database, log = rng.choice(_pairs())
    kind = rng.randrange(4)
    if kind <= 1:
        log = mutated_log(rng, log)
    if kind >= 1:
        database = mutated_database(rng, database)
    return len(database).to_bytes(4, "little") + database + log


@cache
def corpus(name: str) -> list[bytes]:
    """Return the inputs that fuzzing found to reach further, kept in the repository."""
    return [path.read_bytes() for path in sorted((seeds.CORPUS / name).glob("*"))]


def _texts(seed: bytes, name: str) -> Callable[[random.Random], bytes]:
    def make(rng: random.Random) -> bytes:
        known = [seed, *corpus(name)]
        return mutated_text(rng, seed if rng.random() < 0.7 else rng.choice(known), known)

    return make


PARSERS: tuple[Parser, ...] = (
    Parser("gguf", 30, lambda rng: mutated(rng, rng.choice(_ggufs()), _ggufs()), feed_gguf),
    Parser(
        "safetensors",
        20,
        lambda rng: mutated_text(rng, rng.choice([*seeds.safetensors(), *corpus("safetensors")])),
        feed_safetensors,
    ),
    Parser("wal", 17, lambda rng: mutated_log(rng, rng.choice(_logs()), _logs()), feed_wal),
    Parser("wal-index", 15, _index, feed_index),
    Parser("preset", 6, _texts(seeds.INI, "preset"), feed_preset),
    Parser("jsonl", 4, _texts(seeds.JSONL, "json"), _records(json_records.read_lines)),
    Parser("json", 4, _texts(seeds.JSON, "json"), _records(json_records.read_document)),
    Parser("csv", 2, _texts(seeds.CSV, "csv"), _records(csv_records.SOURCES["csv"].read)),
    Parser("llama-swap", 1, _texts(seeds.YAML, "yaml"), feed_yaml),
    Parser("loss", 1, _pair, feed_loss),
)
