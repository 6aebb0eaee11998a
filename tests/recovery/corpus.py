"""The SQLite Forensic Corpus (Nemetz, Schmitt, Freiling 2018): deleted rows with answer keys.

It is no part of the project: `corpus_folder` finds a copy (https://doi.org/10.1016/j.diin.2018.01.015).
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET  # the corpus is a file of the tester
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from tests.recovery.histories import Row, is_split, stored
from tests.recovery.scores import Score

CATEGORIES = ("0A", "0B", "0C", "0D", "0E")
PART = 16  # bytes of a text that are looked for at once
LEAST = 4  # bytes of a value that prove something
_BESIDE = "sqlite-forensic-v1"


def corpus_folder() -> Path | None:
    """Return the corpus: named by MODELSTORE_TEST_CORPUS, or in a folder beside the checkout."""
    named = os.environ.get("MODELSTORE_TEST_CORPUS")
    if named:
        return Path(named)
    beside = Path(__file__).parents[3] / "shared" / "corpus" / _BESIDE
    return beside if beside.is_dir() else None


def score_corpus(folder: Path) -> dict[str, Score]:
    """Return the score of each category: whole rows; live rows read again count as `returned`."""
    found = {}
    for category in CATEGORIES:
        total = Score()
        for key in sorted((folder / category).glob("*.xml")):
            total.add(score_database(key.with_suffix(".db")))
        found[category] = total
    return found


def score_database(path: Path) -> Score:
    """Run the command on one database, and compare the deleted rows with its answer key."""
    dead, live = answers(path.with_suffix(".xml"))
    shown = _deleted_rows(path)
    true = shown & dead
    return Score(len(dead), len(true), len(shown - live), len(true), len(shown & live - dead))


def ceilings(folder: Path) -> dict[str, int]:
    """Return how many deleted rows of each category still have all their values in the file."""
    found = dict.fromkeys(CATEGORIES, 0)
    for category in CATEGORIES:
        for key in sorted((folder / category).glob("*.xml")):
            content = key.with_suffix(".db").read_bytes()
            encoding = {2: "utf-16-le", 3: "utf-16-be"}.get(content[59], "utf-8")
            dead, _ = answers(key)
            found[category] += sum(is_whole(row, content, encoding) for row in dead)
    return found


def is_whole(row: Row, content: bytes, encoding: str) -> bool:
    """Return True if the bytes of each value occur, wherever; a few bytes alone prove nothing.

    Each part of a long text must occur; one may lie in two pages.
    """
    for value in row:
        is_short = isinstance(value, float) and value == int(value) and abs(value) < 1 << 47
        raw = stored(int(value) if is_short else value, encoding)[1]
        for at in range(0, len(raw), PART) if len(raw) >= LEAST else ():
            part = raw[at : at + PART]
            if part not in content and not (len(raw) > PART and is_split(raw, at, content)):
                return False
    return True


def answers(key: Path) -> tuple[set[Row], set[Row]]:
    """Return the deleted and the live rows of an answer key."""
    dead: set[Row] = set()
    live: set[Row] = set()
    for element in ET.parse(key).getroot().findall("element"):  # as above
        kinds = [c.findtext("columnTypeName") for c in element.findall("sql/columnDefinition")]
        is_gone = element.findtext("meta/deleted") == "True"
        for row in element.findall("entries/row"):
            texts = [column.findtext("content") for column in row.findall("column")]
            values = tuple(_value(t, k) for t, k in zip(texts, kinds, strict=False))
            (dead if is_gone or row.get("deleted") else live).add(values)
    return dead, live


def _value(text: str | None, kind: str | None) -> int | float | str | None:
    if text is None:
        return None
    if kind == "INTEGER":
        return int(text)
    return float(text) if kind == "REAL" else text


def _deleted_rows(path: Path) -> set[Row]:
    with tempfile.TemporaryDirectory() as work:
        new = Path(work) / "new.db"
        subprocess.run(
            [sys.executable, "-m", "modelstore", "recover", str(path), "--deleted",
             "--into", str(new)],
            capture_output=True, check=True,
        )  # fmt: skip
        with closing(sqlite3.connect(new)) as conn:
            return set(_set_aside(conn))


def _set_aside(conn: sqlite3.Connection) -> Iterator[Row]:
    names = conn.execute("SELECT name FROM sqlite_schema WHERE name LIKE 'deleted@_%' ESCAPE '@'")
    for (name,) in names.fetchall():
        for row in conn.execute(f'SELECT * FROM "{name}"'):
            yield tuple(row[2:])
