"""Time the official reader of GGUF headers. Argument: path."""

from __future__ import annotations

import json
import resource
import sys
import time

import gguf


def measured() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


before = measured()
times = []
for _ in range(3):
    begun = time.perf_counter()
    reader = gguf.GGUFReader(sys.argv[1])
    times.append(time.perf_counter() - begun)
    if sum(times) > 2:
        break
scalars = {}
for key, field in reader.fields.items():
    if field.types and field.types[0] != gguf.GGUFValueType.ARRAY and not key.startswith("GGUF."):
        value = field.contents()
        if isinstance(value, (str, int)) and not isinstance(value, bool) and len(str(value)) < 200:
            scalars[key] = value
total = sum(int(tensor.n_elements) for tensor in reader.tensors)
answer = {
    "seconds": sorted(times)[len(times) // 2],
    "memory": measured() - before,
    "matter": [sorted(scalars.items()), len(reader.tensors), total],
}
print(json.dumps(answer))
