"""Read every GGUF file of a tree by the official reader. Argument: directory."""

from __future__ import annotations

import json
import os
import sys

import gguf

found = {}
for directory, _, names in os.walk(os.path.realpath(sys.argv[1])):
    for name in names:
        path = os.path.join(directory, name)
        reader = gguf.GGUFReader(path)
        architecture = reader.fields["general.architecture"].contents()
        found[path] = [architecture, sum(int(tensor.n_elements) for tensor in reader.tensors)]
print(json.dumps(found))
