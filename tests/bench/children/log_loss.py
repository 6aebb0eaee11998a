"""Make a loss report of a log that an append-only application left. Argument: database."""

from __future__ import annotations

import json
import sys
import time

from modelstore.wal.loss import analyse_loss

begun = time.process_time()
report = analyse_loss(sys.argv[1])
took = time.process_time() - begun
if report.lost != report.scan.commit_count * 500 or report.reverted or report.returning:
    sys.exit(f"{report.lost} lost, {report.reverted} reverted, {report.returning} returning")
print(json.dumps({"seconds": took, "frames": report.scan.max_frame, "lost": report.lost}))
