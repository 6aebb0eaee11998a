"""Figures of a fleet: ``python -m tests.replica.figures [--quick] [--only NAME]``.

Ten machines over an object store, a thousand over files, a store that is killed and comes back, and
NATS with three nodes of which one is killed. Needs Litestream, weed and nats-server in PATH.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cli.program import Result, environment, modelstore
from tests.replica.litestream import LITESTREAM, daemon, replicate_once, with_litestream
from tests.replica.stores import KEYS, NATS, free_ports, make_bucket, object_store
from tests.waiting import wait_until

_UPDATE = """UPDATE models SET id = substr(lower(hex('{host}-' || rowid || '....')), 1, 16),
    host = '{host}', locator = 'file://{host}' || path"""


def _records(host: str, first: int, count: int) -> bytes:
    return "\n".join(
        json.dumps(
            {"name": f"{host}-{n}", "path": f"/srv/{host}-{n}.gguf", "architecture": "llama"}
        )
        for n in range(first, first + count)
    ).encode()


def _import(db: Path, host: str, first: int, count: int, *options: str) -> Result:
    return modelstore(
        *("import", "-", "--db", db, "--host", host),
        *options,
        stdin=_records(host, first, count),
        env={**with_litestream(), **KEYS},
    )


@dataclass(frozen=True, slots=True)
class _Merged:
    """A round of the hub. `processor` is the time of all its processes, in seconds."""

    code: int
    report: Any
    err: str
    seconds: float
    processor: float

    def __str__(self) -> str:
        return f"{self.seconds:.1f} s, {self.processor:.1f} s of processor time"


def _merge(hub: Path, url: str) -> _Merged:
    def spent() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    begun, before = time.monotonic(), spent()
    done = subprocess.run(
        [
            *(sys.executable, "-m", "modelstore", "import", "--from", "fleet", url),
            *("--db", str(hub), "--json"),
        ],
        capture_output=True,
        env={**environment(), **with_litestream(), **KEYS},
        text=True,
        check=False,
    )
    report = json.loads(done.stdout) if done.stdout else None
    seconds = time.monotonic() - begun
    return _Merged(done.returncode, report, done.stderr, seconds, spent() - before)


def _count(db: Path) -> int:
    with closing(sqlite3.connect(f"file:{db}?mode=ro", uri=True)) as conn:
        return int(conn.execute("SELECT count(*) FROM models").fetchone()[0])


def ten_machines(place: Path, *, quick: bool) -> Iterator[str]:
    """Ten machines over an object store: the first merge, and one new model."""
    models = 500 if quick else 10_000
    hub = place / "hub.db"
    with object_store(place / "store") as store, ExitStack() as daemons:
        for number in range(10):
            host = f"host-{number}"
            (place / host).mkdir()
            db = place / host / "models.db"
            done = _import(db, host, 0, models, "--replica", store.url(f"fleet/{host}"))
            assert done.code == 0, done.err
        merged = _merge(hub, store.url("fleet"))
        assert merged.code == 0, merged.err
        assert merged.report["added"] == 10 * models
        yield f"10 machines x {models:,} models over S3: first merge {merged}"
        environment = {**KEYS}
        daemons.enter_context(_daemon(db, store.url(f"fleet/{host}"), environment))
        spent = []
        for turn in range(5):
            done = _import(db, host, models + turn, 1, "--allow-pending", "--timeout", "0")
            assert done.code == 0, done.err
            committed = time.monotonic()
            wait_until(lambda: _merge(hub, store.url("fleet")).report["added"] == 1)
            spent.append(time.monotonic() - committed)
        yield f"one new model in the hub after {sorted(spent)[2]:.2f} s (median of 5)"


@contextmanager
def _daemon(db: Path, url: str, environment: dict[str, str]) -> Iterator[None]:
    import os

    before = dict(os.environ)
    os.environ.update(environment)
    os.environ.pop("AWS_CA_BUNDLE", None)
    try:
        with daemon(db, url):
            yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def thousand_machines(place: Path, *, quick: bool) -> Iterator[str]:
    """A thousand machines in files: a round in which ten of them moved."""
    machines = 50 if quick else 1000
    fleet, hub, template = place / "fleet", place / "hub.db", place / "template.db"
    assert _import(template, "template", 0, 100).code == 0
    databases = []
    for number in range(machines):
        db = place / f"m{number}" / "models.db"
        db.parent.mkdir()
        shutil.copyfile(template, db)
        with closing(sqlite3.connect(db, isolation_level=None)) as conn:
            conn.execute(_UPDATE.format(host=f"m{number}"))
        replicate_once(db, fleet / f"m{number}")
        databases.append(db)
    merged = _merge(hub, f"file://{fleet}")
    assert merged.code == 0, merged.err
    assert _count(hub) == merged.report["added"] == 100 * machines
    yield f"{machines:,} machines x 100 models in files: first merge {merged}"
    for db in databases[:10]:
        assert _import(db, db.parent.name, 1000, 1).code == 0
        replicate_once(db, fleet / db.parent.name)
    merged = _merge(hub, f"file://{fleet}")
    assert merged.report["added"] == 10, merged.err
    yield f"a round in which 10 of {machines:,} moved: {merged}"
    merged = _merge(hub, f"file://{fleet}")
    yield f"a round in which nobody moved: {merged}"


def store_killed(place: Path, *, quick: bool) -> Iterator[str]:
    """A store that is killed while machines import, and comes back."""
    ports, hub, db = free_ports(4), place / "hub.db", place / "den.db"
    acknowledged, refused, rounds = 0, 0, 3 if quick else 10
    for turn in range(2):
        with object_store(place / "store", ports) as store:
            den, fleet = store.url("fleet/den"), store.url("fleet")
            for number in range(rounds):
                done = _import(db, "den", turn * 100 + number, 1, "--replica", den)
                acknowledged += done.code == 0
        done = _import(db, "den", turn * 100 + 50, 1, "--replica", den, "--timeout", "1s")
        refused += done.code == 4
    with object_store(place / "store", ports):
        done = _import(db, "den", 500, 1, "--replica", den)
        assert done.code == 0, done.err
        merged = _merge(hub, fleet)
        assert merged.code == 0, merged.err
        assert _count(hub) == _count(db) == 2 * rounds + 3
    yield (
        f"a store killed twice: {acknowledged} imports exited 0 and {refused} exited 4; "
        "caught up, nothing lost"
    )


def nats_node_killed(place: Path, *, quick: bool) -> Iterator[str]:
    """NATS with three nodes, one killed while a machine imports."""
    ports, routes = free_ports(3), free_ports(3)
    peers = ",".join(f"nats://127.0.0.1:{port}" for port in routes)
    rounds = 6 if quick else 30
    with ExitStack() as stack:
        nodes = []
        for number in range(3):
            command = [
                *(NATS, "-js", "-sd", str(place / f"node-{number}"), "-n", f"node-{number}"),
                *("-a", "127.0.0.1", "-p", str(ports[number]), "-cluster_name", "fleet"),
                *("-cluster", f"nats://127.0.0.1:{routes[number]}", "-routes", peers),
            ]
            quiet = subprocess.DEVNULL
            node = stack.enter_context(subprocess.Popen(command, stdout=quiet, stderr=quiet))
            stack.callback(node.kill)
            nodes.append(node)
        wait_until(lambda: make_bucket(ports[0], "fleet-den", replicas=3), *nodes)
        db, url = place / "den.db", f"nats://127.0.0.1:{ports[0]}/fleet-den"
        acknowledged = set()
        for number in range(rounds):
            if number == rounds // 3:
                nodes[2].kill()
            done = _import(db, "den", number, 1, "--replica", url, "--timeout", "20s")
            if done.code == 0:
                acknowledged.add(f"den-{number}")
        restored = place / "restored.db"
        other = f"nats://127.0.0.1:{ports[1]}/fleet-den"
        subprocess.run(
            [LITESTREAM, "restore", "-o", str(restored), other], check=True, capture_output=True
        )
        with closing(sqlite3.connect(restored)) as conn:
            there = {name for (name,) in conn.execute("SELECT name FROM models")}
        assert acknowledged <= there, acknowledged - there
        merged = _merge(place / "hub.db", f"nats://127.0.0.1:{ports[1]}/fleet")
        assert merged.code == 0, merged.err
        assert merged.report["added"] == len(there)
        for node in nodes:
            node.kill()
    yield (
        f"NATS with three nodes, one killed: {len(acknowledged)} of {rounds} imports acknowledged, "
        "every one of them in the replica"
    )


_FIGURES: dict[str, Callable[..., Iterator[str]]] = {
    "ten": ten_machines,
    "thousand": thousand_machines,
    "store": store_killed,
    "nats": nats_node_killed,
}


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.replica.figures", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller fleets")
    parser.add_argument("--only", action="append", choices=_FIGURES)
    options = parser.parse_args()
    for name in options.only or _FIGURES:
        with tempfile.TemporaryDirectory(prefix=f"modelstore-{name}-") as place:
            for line in _FIGURES[name](Path(place), quick=options.quick):
                print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
