"""Loss after random work, and on random damage: SQLite is the oracle of the first."""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelstore.errors import ModelstoreError
from modelstore.wal.loss import analyse_loss
from modelstore.wal.scan import scan_wal
from tests.wal.logfiles import LogBuilder
from tests.wal.loss_build import NUMBERS, Database
from tests.wal.loss_oracle import check, contents

BODIES = (
    "(id INTEGER PRIMARY KEY, a TEXT, b)",
    "(a TEXT UNIQUE, b, id)",
    "(b, a TEXT, id INT, PRIMARY KEY(id, a)) WITHOUT ROWID",
)
TABLE = st.sampled_from(["t0", "t1", "t2"])
SIZE = st.sampled_from([0, 3, 60, 400, 3000, 20000])
STEP = st.one_of(
    st.tuples(st.just("CREATE TABLE IF NOT EXISTS {} "), TABLE, st.sampled_from(BODIES)),
    st.tuples(st.just("DROP TABLE {}"), TABLE),
    st.tuples(st.just("fill"), TABLE, st.integers(1, 120), SIZE, st.integers(0, 5000)),
    st.tuples(st.just("fill"), TABLE, st.integers(1, 120), SIZE, st.integers(0, 5000)),
    st.tuples(
        st.just("UPDATE OR IGNORE {} SET b = zeroblob({1}) WHERE id % {2} = 0"),
        TABLE,
        SIZE,
        st.integers(1, 9),
    ),
    st.tuples(
        st.just("UPDATE OR IGNORE {} SET id = id + 1, a = a||'x' WHERE id % {1} = 0"),
        TABLE,
        st.integers(1, 9),
    ),
    st.tuples(st.just("DELETE FROM {} WHERE id % {1} = 0"), TABLE, st.integers(1, 5)),
    st.tuples(st.just("CREATE INDEX IF NOT EXISTS {1} ON {}(b, a)"), TABLE, st.sampled_from("xy")),
    st.tuples(st.just("ALTER TABLE {} RENAME TO {1}"), TABLE, TABLE),
    st.tuples(st.just("ALTER TABLE {} ADD COLUMN c{1}"), TABLE, st.integers(0, 9)),
    st.sampled_from([("VACUUM",), ("PRAGMA incremental_vacuum(7)",), ("BEGIN",), ("COMMIT",)]),
    st.sampled_from([("ROLLBACK",), ("PRAGMA wal_checkpoint(PASSIVE)",)]),
)


def carry_out(conn: sqlite3.Connection, step: tuple[Any, ...]) -> None:
    with suppress(sqlite3.OperationalError, sqlite3.IntegrityError):
        if step[0] == "fill":
            _, table, rows, size, first = step
            conn.execute(
                NUMBERS.format(rows) + f"INSERT OR IGNORE INTO {table}(id, a, b) "
                f"SELECT i + {first}, 'näme '||i, zeroblob({size}) FROM s"
            ).fetchall()
        else:
            statement = step[0] + (step[2] if step[0].startswith("CREATE TABLE") else "")
            statement = statement.replace("{}", "{0}")
            conn.execute(statement.format(*step[1:])).fetchall()


def work(steps: list[tuple[Any, ...]]) -> Any:
    def run(conn: sqlite3.Connection) -> None:
        for step in steps:
            carry_out(conn, step)
        with suppress(sqlite3.OperationalError):
            conn.execute("COMMIT")

    return run


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    before=st.lists(STEP, max_size=12),
    after=st.lists(STEP, min_size=1, max_size=8),
    page_size=st.sampled_from([512, 1024, 4096, 65536]),
    vacuum=st.sampled_from(["NONE", "FULL", "INCREMENTAL"]),
    encoding=st.sampled_from(["UTF-8", "UTF-16le", "UTF-16be"]),
    shm=st.booleans(),
)
def test_random_work(
    before: list[tuple[Any, ...]],
    after: list[tuple[Any, ...]],
    page_size: int,
    vacuum: str,
    encoding: str,
    *,
    shm: bool,
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        database = Database(
            Path(directory),
            work(before),
            work(after),
            page_size=page_size,
            pragmas=(f"auto_vacuum = {vacuum}", f"encoding = '{encoding}'"),
            shm=shm,
        )
        report = analyse_loss(database.path, limit=1_000_000)
        live = contents(database.live_path, "mode=ro")
        check(report, live, contents(database.path, "immutable=1"))
        assert report.is_exact


class Damageable:
    """A database and its log as bytes, made once and then damaged again and again."""

    def __init__(self, page_size: int, vacuum: str) -> None:
        with tempfile.TemporaryDirectory() as directory:
            setup = "".join(f"CREATE TABLE t{n}{body};" for n, body in enumerate(BODIES))
            for table, size in (("t0", 30), ("t1", 900), ("t2", 50)):
                setup += NUMBERS.format(150) + f"INSERT INTO {table}(id, a, b) "
                setup += f"SELECT i, 'm '||i, zeroblob({size}) FROM s;"
            change = "CREATE INDEX x ON t0(b, a); DELETE FROM t1 WHERE id % 3 = 0;"
            change += "UPDATE t0 SET b = zeroblob(9000) WHERE id % 20 = 0;"
            change += "UPDATE t2 SET b = 1 WHERE id % 9 = 0;"
            pragmas = (f"auto_vacuum = {vacuum}",)
            database = Database(
                Path(directory), setup, change, page_size=page_size, pragmas=pragmas
            )
            self.page_size = page_size
            self.main = Path(database.path).read_bytes()
            raw = Path(database.path + "-wal").read_bytes()
            found = scan_wal(database.path + "-wal")
        self.frames = [
            (frame.page_number, frame.page_count, raw[frame.offset : frame.offset + page_size])
            for frame in found.frames()
        ]


DAMAGEABLE = {
    (size, vacuum): Damageable(size, vacuum)
    for size, vacuum in ((512, "NONE"), (512, "FULL"), (2048, "FULL"))
}
# Where a byte counts most: headers of pages, their cell pointers, chains; and what it may become.
OFFSET = st.one_of(st.integers(0, 12), st.integers(12, 110), st.integers(0, 4095))
PLACE = st.tuples(st.integers(0, 10_000), OFFSET)
VALUE = st.sampled_from(
    [b"\0", b"\1", b"\2", b"\5", b"\n", b"\r", b"\x80", b"\xff", b"\0\0\0\1", b"\xff" * 9]
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    kind=st.sampled_from(sorted(DAMAGEABLE)),
    in_main=st.lists(st.tuples(PLACE, VALUE), max_size=6),
    in_log=st.lists(st.tuples(PLACE, VALUE), max_size=6),
    renumbered=st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 2**32 - 1)), max_size=2),
    resized=st.none() | st.integers(1, 2**32 - 1),
    cut=st.none() | st.floats(0, 1),
)
def test_random_damage_is_told_and_never_a_crash(
    kind: tuple[int, str],
    in_main: list[tuple[tuple[int, int], bytes]],
    in_log: list[tuple[tuple[int, int], bytes]],
    renumbered: list[tuple[int, int]],
    resized: int | None,
    cut: float | None,
) -> None:
    origin = DAMAGEABLE[kind]
    size = origin.page_size
    main = bytearray(origin.main)
    for (page, at), value in in_main:
        place = page % (len(main) // size) * size + at % size
        main[place : place + len(value)] = value
    if cut is not None:
        del main[int(len(main) * cut) :]
    numbers = [number for number, _, _ in origin.frames]
    pages = [bytearray(page) for _, _, page in origin.frames]
    for (page, at), value in in_log:
        image = pages[page % len(pages)]
        image[at % size : at % size + len(value)] = value
    for index, number in renumbered:
        numbers[index % len(numbers)] = number
    log = LogBuilder(size)
    for number, image, (_, commit, _) in zip(numbers, pages, origin.frames, strict=True):
        log.frame(number, bytes(image[:size]), resized if commit and resized else commit)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "models.db"
        path.write_bytes(main)
        Path(f"{path}-wal").write_bytes(log.raw)
        with suppress(ModelstoreError):
            report = analyse_loss(str(path), deep=True, names=("t0", "a"))
            assert report.scan.max_frame == len(origin.frames)
            # The work is bounded by the files: a few looks at each page for each table.
            assert report.pages_read < 40 * (len(origin.frames) + len(origin.main) // size)
