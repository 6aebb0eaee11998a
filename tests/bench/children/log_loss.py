"""Make a loss report of a log, and check it against SQLite's own counts. Argument: database."""

from __future__ import annotations

import json
import sys
import time

from modelstore.wal.loss import analyse_loss

begun = time.process_time()
report = analyse_loss(sys.argv[1])
took = time.process_time() - begun
answer = {
    "seconds": took,
    "frames": report.scan.max_frame,
    "lost": report.lost,
    "reverted": report.reverted,
    "returning": report.returning,
}
print(json.dumps(answer))
