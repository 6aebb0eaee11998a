"""Time our reader of GGUF headers. Argument: path."""

from __future__ import annotations

import json
import resource
import sys
import time

from modelstore.sources.files.gguf_header import read_header


def measured() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


before = measured()
times = []
for _ in range(5):
    begun = time.perf_counter()
    header = read_header(sys.argv[1])
    times.append(time.perf_counter() - begun)
scalars = {
    key: value
    for key, value in header.metadata.items()
    if isinstance(value, (str, int)) and not isinstance(value, bool) and len(str(value)) < 200
}
answer = {
    "seconds": sorted(times)[len(times) // 2],
    "memory": measured() - before,
    "matter": [sorted(scalars.items()), header.tensor_count, header.parameter_count],
}
print(json.dumps(answer))
