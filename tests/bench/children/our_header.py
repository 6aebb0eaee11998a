"""Time our reader of GGUF headers. Argument: path."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable

from modelstore.sources.files.gguf_header import HeaderBytes, _parse, read_header


def measured() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def median(work: Callable[[], object]) -> float:
    times = []
    for _ in range(5):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return sorted(times)[len(times) // 2]


def read_bytes(size: int) -> None:
    """Read the bytes of a header as `read_header` does, and look at none of them."""
    fd = os.open(sys.argv[1], os.O_RDONLY)
    for start in range(0, size, 1 << 20):
        os.pread(fd, min(1 << 20, size - start), start)
    os.close(fd)


before = measured()
took = median(lambda: read_header(sys.argv[1]))
header = read_header(sys.argv[1])
memory = measured() - before
with open(sys.argv[1], "rb") as file:
    cursor = HeaderBytes(file.fileno(), header.size)
    _parse(cursor)
scalars = {
    key: value
    for key, value in header.metadata.items()
    if isinstance(value, (str, int)) and not isinstance(value, bool) and len(str(value)) < 200
}
answer = {
    "seconds": took,
    "floor": median(lambda: read_bytes(cursor.base + cursor.pos)),
    "strings": cursor.strings,
    "memory": memory,
    "matter": [sorted(scalars.items()), header.tensor_count, header.parameter_count],
}
print(json.dumps(answer))
