"""The harness in its quick form, and the broken twins that prove it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.truth.__main__ import run_histories
from tests.truth.life import scratch
from tests.truth.oracle import Apsw, Stdlib, View, differences, read
from tests.truth.races import race
from tests.truth.trial import Bench
from tests.truth.twins import TWINS

SEED = 1
FIRST_CAUGHT = {"same-where-no-row-differs": 17, "sees-no-damage": 13, "is-afraid": 12}
"""The history that catches a twin, where it is not one of the first."""


def test_no_claim_is_false() -> None:
    outcome = run_histories(range(25), SEED)
    assert outcome.counts["main file differs"], "the histories show nothing"
    assert [failure.complaint for failure in outcome.failures] == []


@pytest.mark.parametrize("twin", TWINS)
def test_a_broken_twin_is_caught(twin: str) -> None:
    first = FIRST_CAUGHT.get(twin, 0)
    with scratch() as place, Bench(place, twin) as bench:
        assert any(bench.trial(f"{SEED}:{n}").failures for n in range(first, first + 3))


def test_a_race_is_no_damage() -> None:
    counts, wrong = race(3, 1, 4 << 20)
    assert wrong == []
    assert counts["programs run"]


@pytest.mark.parametrize("library", [Stdlib, Apsw])
@pytest.mark.parametrize("key", ["k BLOB PRIMARY KEY, n", "k, n, PRIMARY KEY(k DESC)"])
def test_rows_are_read_from_their_table(
    tmp_path: Path, library: type[Stdlib | Apsw], key: str
) -> None:
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as conn:
        conn.executescript(
            f"""
            CREATE TABLE "two words"({key}) WITHOUT ROWID;
            CREATE INDEX "index 2" ON "two words"(n, k);
            INSERT INTO "two words" VALUES (x'6b657931', 1), (x'6b657932', 2);
            """
        )
        (root,) = conn.execute("SELECT rootpage FROM sqlite_schema WHERE type = 'index'").fetchone()
        (size,) = conn.execute("PRAGMA page_size").fetchone()
    data = path.read_bytes()
    at = (root - 1) * size  # of the index, which has every column
    path.write_bytes(data[:at] + data[at:].replace(b"key2", b"key3"))
    opened = library()
    ask, close = opened.connect(f"file:{path}")
    try:
        view = read(ask, (opened.error,))
    finally:
        close()
    assert view.integrity != "ok"
    assert {value for ((_, value),) in view.rows["two words"]} == {b"key1", b"key2"}


def test_a_row_that_changed_before_a_vacuum_numbered_it_anew_may_count_as_reverted() -> None:
    def view(rows: dict[int, str]) -> View:
        found = View(columns={"t": ["a"]}, has_key={"t": False})
        found.rows["t"] = {(("int", key),): (("str", text),) for key, text in rows.items()}
        return found

    told = differences(view({1: "one", 2: "changed"}), view({1: "one", 3: "three"}))
    assert [0, 1, 0] in told["t"]["figures"]
