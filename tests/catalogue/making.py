"""A catalogue to test with, and the models that go into it."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING

from modelstore.catalogue.merge import Merged, merge
from modelstore.catalogue.schema import create_or_migrate
from modelstore.catalogue.staging import Staging, model_row
from modelstore.database.handle import Database
from modelstore.database.sqlite import sqlite3
from modelstore.found import Found, ModelFile, Place
from modelstore.locator import file_locator, model_id
from modelstore.model import Model
from modelstore.sources.kinds import RANKS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


NOW = "2026-11-22T19:35:00Z"
LATER = "2026-11-23T08:00:00Z"


def handle(conn: sqlite3.Connection) -> Database:
    return Database(conn, recursive_triggers=False, execute_plugins=False)


class Opened:
    """A database with the transaction of `OpenDatabase.write`, and nothing else of it."""

    def __init__(self, path: str, journal_mode: str = "WAL") -> None:
        self.path = path
        self.conn = sqlite3.connect(f"file:{path}", uri=True, isolation_level=None)
        self.db = handle(self.conn)
        self.conn.execute(f"PRAGMA journal_mode = {journal_mode}")
        self.conn.execute("PRAGMA wal_autocheckpoint = 0")
        self.conn.execute("PRAGMA synchronous = OFF")  # no test here pulls the plug

    @contextmanager
    def write(self) -> Iterator[Database]:
        self.conn.execute("BEGIN IMMEDIATE")
        try:
            yield self.db
        except BaseException:
            self.conn.rollback()
            raise
        self.conn.execute("COMMIT")


def new_staging(directory: str | None = None) -> Staging:
    return Staging(RANKS, directory)


def catalogue(directory: Path) -> Opened:
    opened = Opened(str(directory / "models.db"))
    create_or_migrate(opened, opened.path)
    return opened


def model(path: str, *, host: str = "box", source: str = "gguf", **values: object) -> Model:
    """A model that a file at `path` is."""
    locator = file_locator(host, path)
    given: dict[str, object] = {"name": path.rpartition("/")[2], "path": path} | values
    return Model(
        id=model_id(locator),
        locator=locator,
        host=host,
        source=source,
        **given,  # type: ignore[arg-type]
    )


def file(path: str, **values: object) -> ModelFile:
    given: dict[str, object] = {"role": "model", "size": 100, "mtime_ns": 5} | values
    return ModelFile(path, **given)  # type: ignore[arg-type]


def found(path: str, root: str = "/m", **values: object) -> Found:
    """A model of one file, seen under `root`; `file_*` values are the file's."""
    files = {key.removeprefix("file_"): values.pop(key) for key in list(values) if "file_" in key}
    made = model(path, **values)  # type: ignore[arg-type]
    return Found(made, (file(path, **files),), Place(root, path, made.source, made.name))


def served(key: str, address: str = "http://localhost:1", **values: object) -> Found:
    """A model that a server lists."""
    locator = f"{address}#{key}"
    given: dict[str, object] = {
        "name": key,
        "status": "remote",
        "host": "box",
        "source": "llama-server",
    } | values
    made = Model(id=model_id(locator), locator=locator, **given)  # type: ignore[arg-type]
    return Found(made, (), Place(address, key, made.source, made.name, "loaded"))


def take(
    opened: Opened,
    *items: Found,
    now: str = NOW,
    tags: tuple[str, ...] = (),
    told: bool = False,
) -> Merged:
    """Import models in one batch."""
    with new_staging() as staging:
        for item in items:
            assert staging.add(item, is_authoritative=told) is None
        return merge(opened, staging, now=now, tags=tags)


def take_rows(
    opened: Opened, models: Iterable[Model], *, now: str = NOW, fill: bool = False
) -> Merged:
    """Import records in one batch."""
    with new_staging() as staging:
        assert (
            staging.add_rows([model_row(item) for item in models], is_authoritative=not fill) == []
        )
        return merge(opened, staging, now=now)


def table(opened: Opened, columns: str = "*", name: str = "models") -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = opened.conn.execute(f"SELECT {columns} FROM {name}").fetchall()
    return sorted(rows, key=repr)


def counts(merged: Merged) -> tuple[int, int, int]:
    return merged.added, merged.updated, merged.unchanged


def as_objects(lines: Iterable[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in lines]
