"""Scan a WAL by our reader. Argument: the -wal."""

from __future__ import annotations

import json
import sys

from modelstore.wal.reader import scan

found = scan(sys.argv[1])
print(json.dumps([found.valid, found.committed]))
