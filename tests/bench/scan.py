"""The scan of a large WAL, beside the same checksum in C, in pure Python, and showwal."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tests.bench.logs import make_log
from tests.bench.measure import (
    Command,
    FailedError,
    Sample,
    alternate,
    in_turn,
    middle,
    output,
    run,
)
from tests.bench.place import CHILDREN, Place, python
from tests.bench.row import Row, compared, missing


def bench(place: Place) -> Iterator[Row]:
    """Yield the rows."""
    size = place.size(1_000_000_000, 30_000_000)
    log = make_log(place, place.directory / "scan.db", size)
    ours: Command = [python(), CHILDREN / "our_scan.py", log]
    what = f"scan of a WAL of {log.stat().st_size / 1e9:.2g} GB"
    frames = _scanned(ours)[0]
    yield from _beside_c(place, log, ours, what, frames)
    pure: Command = [python(), CHILDREN / "pure_scan.py", log]
    if json.loads(output(pure)) != frames:
        raise FailedError(f"pure Python finds {output(pure)}, ours {frames}")
    pairs = in_turn(ours, pure, 1)
    yield compared(
        "scan", what, "pure Python", pairs, limit=place.limit(50), faster=True, note="same frames"
    )
    showwal = shutil.which("showwal")
    if showwal is None:
        yield missing("scan", what, "showwal", "Debian: apt install sqlite3-tools")
    else:
        yield compared(
            "scan",
            f"{what}, the start of the interpreter included",
            "showwal",
            in_turn(ours, [showwal, log], place.rounds),
            faster=True,
        )
        pairs = alternate(lambda: _alone(ours), lambda: run([showwal, log]), place.rounds)
        yield compared("scan", what, "showwal", pairs, limit=place.limit(5), faster=True)
    pairs = in_turn(ours, [shutil.which("cat") or "/bin/cat", log], place.rounds)
    yield compared("scan", what, "cat to /dev/null", pairs)
    yield Row(
        bench="scan",
        what=f"{what}: memory",
        measured=middle(pairs.ours).memory / 1e6,
        unit="MB",
        limit=100,
    )
    log.unlink()


def _scanned(ours: Command) -> tuple[object, float]:
    """Return the frames that we find, and how many seconds the scan alone took."""
    frames, _, took = output(ours).rpartition(" ")
    return json.loads(frames), float(took)


def _alone(ours: Command) -> Sample:
    """Measure a scan in a process that has made one already, and so has numpy loaded."""
    whole = run([*ours, "2"])
    return replace(whole, wall=_scanned([*ours, "2"])[1])


def _beside_c(place: Place, log: Path, ours: Command, what: str, frames: object) -> Iterator[Row]:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        yield missing("scan", what, "C loop")
        return
    loop = place.directory / "scan-loop"
    build = [compiler, "-O3", "-march=native", "-o", str(loop), str(CHILDREN / "scan.c")]
    subprocess.run(build, check=True, capture_output=True)
    if json.loads(output([loop, log])) != frames:
        raise FailedError(f"the C loop finds {output([loop, log])}, ours {frames}")
    pairs = in_turn(ours, [loop, log], place.rounds)
    yield compared("scan", what, "C loop, gcc -O3", pairs, note="same frames")
