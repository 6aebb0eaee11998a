"""Make a loss report, and check it against what was written. Argument: database."""

from __future__ import annotations

import json
import os
import sys
import time

from modelstore.wal.loss import analyse_loss

begun = time.perf_counter()
report = analyse_loss(sys.argv[1])
took = time.perf_counter() - begun
if (report.lost, report.reverted, report.returning) != (200, 20, 20):
    sys.exit(f"{report.lost} lost, {report.reverted} reverted, {report.returning} returning")
answer = {
    "seconds": took,
    "reads": report.pages_read,
    "pages": os.path.getsize(sys.argv[1]) // 4096,
    "frames": (os.path.getsize(sys.argv[1] + "-wal") - 32) // 4120,
    "lost": report.lost,
}
print(json.dumps(answer))
