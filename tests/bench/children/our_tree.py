"""Read every GGUF header of a tree with our reader, and keep nothing. Argument: directory."""

from __future__ import annotations

import os
import sys

from modelstore.sources.files.gguf_header import read_header

for directory, _, names in os.walk(sys.argv[1]):
    for name in names:
        read_header(os.path.join(directory, name))
