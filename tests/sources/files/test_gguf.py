from __future__ import annotations

import errno
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelstore.sources.files.gguf_header import Elided, GgufError, GgufHeader, read_header
from modelstore.wal.files import read_at
from tests.sources.files import hostile
from tests.sources.files.oracle import TINY, assert_agrees, real_files

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="measures with Linux's tools")
needs_fifo = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
quick = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("path", real_files())
def test_every_field_of_a_real_file_agrees_with_the_official_reader(path: Path) -> None:
    assert_agrees(read_header(str(path)), path)


@pytest.mark.parametrize("path", sorted(TINY.rglob("*.gguf")), ids=lambda path: path.stem)
def test_every_field_of_a_generated_file_agrees_with_the_official_reader(path: Path) -> None:
    header = read_header(str(path))
    assert_agrees(header, path)
    assert not header.truncated


def test_an_open_descriptor_is_read_and_left_open() -> None:
    path = next(TINY.rglob("*.gguf"))
    fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        assert read_header(fd) == read_header(str(path))
        os.fstat(fd)
    finally:
        os.close(fd)


_names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
_scalars = {
    "uint8": st.integers(0, 255),
    "int8": st.integers(-128, 127),
    "uint16": st.integers(0, 65535),
    "int16": st.integers(-32768, 32767),
    "uint32": st.integers(0, (1 << 32) - 1),
    "int32": st.integers(-(1 << 31), (1 << 31) - 1),
    "float32": st.floats(width=32, allow_nan=False),
    "bool": st.booleans(),
    "string": st.text(st.characters(codec="utf-8"), max_size=300).filter(bool),
    "uint64": st.integers(0, (1 << 64) - 1),
    "int64": st.integers(-(1 << 63), (1 << 63) - 1),
    "float64": st.floats(allow_nan=False),
}
_values = st.one_of(
    *(st.tuples(st.just(kind), values) for kind, values in _scalars.items()),
    st.tuples(st.just("array"), st.lists(st.integers(0, 1000), min_size=1, max_size=2000)),
    st.tuples(st.just("array"), st.lists(_scalars["string"], min_size=1, max_size=400)),
    st.tuples(st.just("array"), st.lists(st.booleans(), min_size=1, max_size=5)),
)
_quants = st.sampled_from(["F32", "F16", "Q8_0", "Q4_0", "Q5_1", "BF16"])
_tensors = st.lists(st.tuples(_quants, st.lists(st.integers(1, 3), max_size=3)), max_size=5)


@settings(quick, max_examples=60)
@given(metadata=st.dictionaries(_names, _values, max_size=8), tensors=_tensors, big=st.booleans())
def test_what_the_official_writer_writes_is_read_as_the_official_reader_does(
    tmp_path: Path, metadata: dict[str, tuple[str, Any]], tensors: list[Any], big: bool
) -> None:
    path = tmp_path / "written.gguf"
    order = gguf.GGUFEndian.BIG if big else gguf.GGUFEndian.LITTLE
    file = gguf.GGUFWriter(str(path), "llama", endianess=order)
    for name, (kind, value) in metadata.items():
        if name != "general.architecture":
            getattr(file, f"add_{kind}")(name, value)
    for number, (quant, shape) in enumerate(tensors):
        kind = gguf.GGMLQuantizationType[quant]
        data = gguf.quants.quantize(np.zeros((*shape, 32), dtype=np.float32), kind)
        file.add_tensor(f"tensor.{number}", data, raw_dtype=kind)
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_tensors_to_file()
    file.close()
    assert_agrees(read_header(str(path)), path)


def test_version_2_is_read_as_version_3_is(tmp_path: Path) -> None:
    content = bytearray(next(TINY.rglob("*Q8_0.gguf")).read_bytes())
    content[4:8] = struct.pack("<I", 2)
    path = tmp_path / "v2.gguf"
    path.write_bytes(content)
    header = read_header(str(path))
    assert header.version == 2
    assert_agrees(header, path)


def test_version_1_of_a_big_endian_file_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "v1.gguf"
    path.write_bytes(b"GGUF" + struct.pack(">IQQ", 1, 0, 0))
    with pytest.raises(GgufError, match="GGUF version 1"):
        read_header(str(path))


@pytest.mark.parametrize(("build", "words"), hostile.BAD.values(), ids=hostile.BAD)
def test_a_hostile_file_is_refused_with_its_fault_named(
    tmp_path: Path, build: hostile.Builder, words: str
) -> None:
    path = hostile.write(tmp_path / "hostile.gguf", build())
    with pytest.raises(GgufError) as caught:
        read_header(str(path))
    assert words in caught.value.reason
    assert len(caught.value.reason) < 250


@pytest.mark.parametrize(("build", "size", "words"), hostile.SPARSE.values(), ids=hostile.SPARSE)
def test_a_huge_hole_is_refused_as_quickly(
    tmp_path: Path, build: hostile.Builder, size: int, words: str
) -> None:
    path = hostile.write(tmp_path / "sparse.gguf", build(), size)
    with pytest.raises(GgufError) as caught:
        read_header(str(path))
    assert words in caught.value.reason


def test_there_are_enough_kinds_of_hostile_file() -> None:
    assert len(hostile.BAD) + len(hostile.SPARSE) >= 31


_WITHIN_MEMORY = """
import resource, sys
from modelstore.sources.files.gguf_header import GgufError, read_header
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[1:]:
    try:
        read_header(path)
    except GgufError:
        pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def _memory_of(*paths: Path) -> int:
    """Return the KiB that reading the files adds to a process's high water."""
    result = subprocess.run(
        [sys.executable, "-c", _WITHIN_MEMORY, *map(str, paths)],
        capture_output=True,
        check=True,
        text=True,
        cwd=TINY.parents[2],
    )
    return int(result.stdout)


@needs_linux
def test_no_hostile_file_costs_much_memory(tmp_path: Path) -> None:
    paths = []
    for number, (build, _) in enumerate(hostile.BAD.values()):
        paths.append(hostile.write(tmp_path / f"{number}.gguf", build()))
    for number, (build, size, _) in enumerate(hostile.SPARSE.values()):
        paths.append(hostile.write(tmp_path / f"sparse{number}.gguf", build(), size))
    paths.append(hostile.write_far_strings(tmp_path / "far.gguf", 2000, 1 << 20))
    assert _memory_of(*paths) < 40 << 10


@needs_linux
def test_a_large_vocabulary_costs_little_memory(tmp_path: Path) -> None:
    tokens = b"".join(hostile.text(f"token {number}") for number in range(150_000))
    content = hostile.gguf(hostile.key("t", hostile.ARRAY, hostile.array(8, 150_000, tokens)))
    assert _memory_of(hostile.write(tmp_path / "vocab.gguf", content)) < 20 << 10


def test_token_tables_are_stepped_over_wherever_a_chunk_ends(tmp_path: Path) -> None:
    after = hostile.key("after", hostile.U32, struct.pack("<I", 7))
    for shift in range(12):  # bytes by which the chunks' ends move against the lengths
        tokens = [b"x" * (length % 23) for length in range(200_000)]
        tokens[1000] = b"y" * (70_000 + shift)
        tokens[150_000] = b"z" * (2_500_000 + shift)
        raw = b"".join(map(hostile.text, tokens))
        table = hostile.key("tokens", hostile.ARRAY, hostile.array(8, len(tokens), raw))
        path = hostile.write(tmp_path / "table.gguf", hostile.gguf(table, after))
        assert read_header(str(path)).metadata == {"tokens": Elided(200_000), "after": 7}


def test_strings_far_apart_are_stepped_over_too(tmp_path: Path) -> None:
    path = hostile.write_far_strings(tmp_path / "far.gguf", 500, 3 << 20)
    assert read_header(str(path)).metadata == {"a": Elided(500)}


def test_a_long_string_is_elided_and_what_follows_is_read(tmp_path: Path) -> None:
    long = hostile.key("template", hostile.STRING, hostile.text(b"x" * 300_000))
    path = hostile.write(tmp_path / "long.gguf", hostile.gguf(long, hostile.ARCHITECTURE))
    metadata = read_header(str(path)).metadata
    assert metadata == {"template": Elided(300_000), "general.architecture": "llama"}


def test_text_that_is_no_utf_8_is_replaced(tmp_path: Path) -> None:
    name = hostile.key("general.name", hostile.STRING, hostile.text(b"caf\xe9"))
    path = hostile.write(tmp_path / "latin.gguf", hostile.gguf(name))
    assert read_header(str(path)).metadata == {"general.name": "caf\ufffd"}


def test_a_file_that_ends_before_its_tensors_is_truncated(tmp_path: Path) -> None:
    content = next(TINY.rglob("*Q8_0.gguf")).read_bytes()
    path = hostile.write(tmp_path / "cut.gguf", content[:-64])
    header = read_header(str(path))
    assert header.truncated
    assert header.size < header.data_end <= len(content)


def test_a_tensor_type_to_come_is_counted(tmp_path: Path) -> None:
    content = hostile.gguf(hostile.tensor(shape=(7, 3), kind=77), tensors=1)
    header = read_header(str(hostile.write(tmp_path / "new.gguf", content)))
    assert header.tensor_types == {77: 21}
    assert not header.truncated


def test_a_file_that_shrinks_while_it_is_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = b"".join(hostile.text(f"token {number}") for number in range(300_000))
    content = hostile.gguf(hostile.key("t", hostile.ARRAY, hostile.array(8, 300_000, tokens)))
    path = hostile.write(tmp_path / "shrinks.gguf", content)

    def read_and_shrink(fd: int, length: int, offset: int) -> bytes:
        data = read_at(fd, length, offset)
        os.truncate(path, 1000)
        return data

    monkeypatch.setattr("modelstore.sources.files.gguf_header.read_at", read_and_shrink)
    with pytest.raises(GgufError, match="became shorter while it was read"):
        read_header(str(path))


@needs_fifo
def test_what_is_no_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> bytes:
        raise AssertionError("it was read")

    monkeypatch.setattr("modelstore.sources.files.gguf_header.read_at", never)
    os.mkfifo(tmp_path / "fifo.gguf")
    (tmp_path / "directory.gguf").mkdir()
    (tmp_path / "device.gguf").symlink_to("/dev/zero")
    for name, words in (("fifo", "a FIFO"), ("directory", "a directory"), ("device", "a device")):
        with pytest.raises(GgufError, match=f"is {words}, not a file"):
            read_header(str(tmp_path / f"{name}.gguf"))


@pytest.mark.skipif(sys.platform == "win32", reason="sockets are no files there")
def test_a_socket_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s.gguf")
        with pytest.raises(OSError) as caught:  # noqa: PT011 - its number is what is asserted
            read_header("s.gguf")
    assert caught.value.errno == errno.ENXIO


_SEEDS = [path.read_bytes()[:4000] for path in sorted(TINY.rglob("*.gguf"))]
_edits = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True),
        st.sampled_from(["flip", "insert", "delete", "number"]),
        st.binary(min_size=1, max_size=9),
    ),
    min_size=1,
    max_size=6,
)


def read_or_refuse(path: Path) -> GgufHeader | str:
    """Return the header, or the reason why there is none; any other error is a fault of ours."""
    try:
        return read_header(str(path))
    except GgufError as error:
        return error.reason


def mutate(content: bytes, edits: list[tuple[float, str, bytes]]) -> bytes:
    """Damage a file: where (a fraction of its length), how, and with what."""
    data = bytearray(content)
    for where, how, raw in edits:
        at = int(where * len(data))
        if how == "flip":
            data[at : at + len(raw)] = raw
        elif how == "insert":
            data[at:at] = raw
        elif how == "delete":
            del data[at : at + len(raw) * 7]
        else:  # a length or a count that is off
            number = int.from_bytes(raw[:8], "little") << (len(raw) * 7)
            data[at : at + 8] = (number & ((1 << 64) - 1)).to_bytes(8, "little")
    return bytes(data)


@settings(quick, max_examples=400)
@given(seed=st.sampled_from(_SEEDS), edits=_edits)
def test_a_damaged_file_is_read_or_refused_and_nothing_else(
    tmp_path: Path, seed: bytes, edits: list[tuple[float, str, bytes]]
) -> None:
    path = hostile.write(tmp_path / "damaged.gguf", mutate(seed, edits))
    outcome = read_or_refuse(path)
    if isinstance(outcome, str):
        assert outcome.isprintable()
        assert len(outcome) < 300
    else:
        assert 0 <= outcome.parameter_count < 1 << 63


@settings(quick, max_examples=100)
@given(content=st.binary(max_size=200))
def test_any_bytes_behind_the_magic_are_read_or_refused(tmp_path: Path, content: bytes) -> None:
    path = hostile.write(tmp_path / "random.gguf", b"GGUF\3\0\0\0" + content)
    outcome = read_or_refuse(path)
    assert outcome if isinstance(outcome, str) else outcome.version == 3
