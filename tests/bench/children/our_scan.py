"""Scan a WAL by our reader. Arguments: the -wal, and how often: the last time is told."""

from __future__ import annotations

import json
import sys
import time

from modelstore.wal.scan import scan_wal

for _ in range(int(sys.argv[2]) if len(sys.argv) > 2 else 1):
    began = time.perf_counter()
    found = scan_wal(sys.argv[1])
    took = time.perf_counter() - began
print(json.dumps([found.valid, found.max_frame]), took)
