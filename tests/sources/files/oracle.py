"""What the official readers say of a file, in the shape of our own answers."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import gguf
import pytest
from gguf.gguf_reader import GGUFReader

from modelstore.sources.files.gguf_header import Elided, GgufHeader
from modelstore.sources.files.quantization import tensor_bytes

REPOSITORY = Path(__file__).resolve().parents[3]
TINY = REPOSITORY / "tests" / "data" / "models"


def real_files() -> list[Any]:
    """The smaller real GGUF files, as parameters of a test; a skipped one where there are none.

    The official reader takes two seconds for a large one, which holds more of the same.
    """
    folder = Path(os.environ.get("MODELSTORE_TEST_GGUF") or REPOSITORY.parent / "shared" / "gguf")
    files = sorted(folder.glob("*.gguf"), key=lambda file: (file.stat().st_size, file))[:4]
    if not files:
        why = "no real GGUF files: set MODELSTORE_TEST_GGUF to a folder of some"
        return [pytest.param(folder, marks=pytest.mark.skip(reason=why))]
    return [pytest.param(file, id=file.stem) for file in files]


def assert_agrees(header: GgufHeader, path: Path) -> None:
    """Every key, every count and every type is what the official reader makes of the file."""
    reader = GGUFReader(path)
    fields = {name: field for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    assert header.version == reader.fields["GGUF.version"].contents()
    assert header.big_endian == (reader.endianess == gguf.GGUFEndian.BIG)
    assert list(header.metadata) == list(fields)
    for name, field in fields.items():
        ours = header.metadata[name]
        if isinstance(ours, Elided):
            is_array = field.types[0] == gguf.GGUFValueType.ARRAY
            assert ours.count == len(field.data if is_array else field.parts[-1]), name
        else:
            assert ours == field.contents(), name
            assert type(ours) is type(field.contents()), name
    types: Counter[int] = Counter()
    for tensor in reader.tensors:
        types[int(tensor.tensor_type)] += int(tensor.n_elements)
    assert header.tensor_count == len(reader.tensors)
    assert header.tensor_types == dict(types)
    assert header.parameter_count == sum(types.values())
    size = sum(int(tensor.n_bytes) for tensor in reader.tensors)
    assert tensor_bytes(header.tensor_types) == (size or None)
    ends = [int(tensor.data_offset + tensor.n_bytes) for tensor in reader.tensors]
    assert header.data_end == max(ends, default=0)
