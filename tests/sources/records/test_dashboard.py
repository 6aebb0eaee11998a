from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from modelstore.database.sqlite import sqlite3
from modelstore.errors import SourceError
from modelstore.sources.base import Target
from modelstore.sources.detect import detect
from modelstore.sources.records.dashboard import read
from tests.sources.reading import models, notes
from tests.sources.records.databases import contents, in_the_log
from tests.sources.stores.making import context, found, write_gguf

if TYPE_CHECKING:
    from pathlib import Path

    from modelstore.sources.base import Item

# As the two generations of the dashboard create them, but for columns that nobody reads.
OLD = """
CREATE TABLE models (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, type TEXT,
    status TEXT CHECK (status IN ('running', 'stopped', 'loading', 'error')), model_path TEXT,
    hf_repo TEXT, hf_file TEXT, hf_token TEXT, file_size_bytes INTEGER,
    ctx_size INTEGER DEFAULT 0, created_at INTEGER, updated_at INTEGER);
CREATE TABLE model_fit_params (id INTEGER PRIMARY KEY, model_id INTEGER, quantization_type TEXT,
    parameter_count REAL, architecture TEXT, context_window INTEGER);
INSERT INTO models VALUES (1, 'old', 'llama', 'running', '/no/old.gguf', NULL, NULL, 's3cret',
    4096000, 0, 1700000000000, 1700000001000);
INSERT INTO models VALUES (2, 'hub', 'llama', 'stopped', NULL, 'org/repo', 'a.gguf', 's3cret',
    0, 0, 1700000000000, 1700000001000);
INSERT INTO model_fit_params VALUES (1, 1, 'Q4_K_M', 8030261248.0, 'llama', 8192);
"""
NEW = """
CREATE TABLE models (id TEXT PRIMARY KEY, name TEXT NOT NULL, type TEXT, status TEXT,
    parameters TEXT, model_path TEXT, file_size INTEGER, params TEXT, quantization TEXT,
    ctx_size INTEGER DEFAULT 4096, embedding_size INTEGER DEFAULT 0,
    block_count INTEGER DEFAULT 0, favorite INTEGER DEFAULT 0, created_at INTEGER,
    updated_at INTEGER);
INSERT INTO models VALUES ('model_1_x', 'new', 'llama', 'idle', '{"hf_token": "s3cret", "a": 1}',
    '/no/new.gguf', 4096000, '7B', 'Q8_0', 4096, 0, 32, 1, 1700000000, 1700000001);
"""


def read_from(path: Path) -> list[Item]:
    return list(read(Target(str(path)), context()))


def create(path: Path, script: str) -> None:
    conn = sqlite3.connect(path)
    conn.executescript(script)
    conn.close()


def test_the_old_generation(tmp_path: Path) -> None:
    create(tmp_path / "app.db", OLD)
    assert detect(Target(str(tmp_path / "app.db"))) == "dashboard"
    items = read_from(tmp_path / "app.db")
    old, hub = models(items)
    assert (old["name"], old["path"], old["source_id"]) == ("old", "/no/old.gguf", "1")
    assert (old["source"], old["host"], old["status"]) == ("dashboard", "box", "missing")
    assert (old["file_size"], old["context_length"]) == (4096000, 8192)
    assert (old["quantization"], old["architecture"]) == ("Q4_K_M", "llama")
    assert old["created_at"] == "2023-11-14T22:13:20Z"  # milliseconds
    assert (hub["locator"], hub["file_size"], hub["context_length"]) == (
        "hf:org/repo:a.gguf",
        None,
        None,
    )
    assert "s3cret" not in repr(items)


def test_the_new_generation(tmp_path: Path) -> None:
    create(tmp_path / "app.db", NEW)
    items = read_from(tmp_path / "app.db")
    (new,) = models(items)
    assert (new["size_label"], new["parameter_count"]) == ("7B", None)
    assert (new["block_count"], new["embedding_length"]) == (32, None)
    assert new["context_length"] is None  # 4096 is what it is where nobody said
    assert new["tags"] == '["favorite"]'
    assert new["created_at"] == "2023-11-14T22:13:20Z"  # seconds
    assert new["parameters"] == '{"a":1}'
    assert "s3cret" not in repr(items)


@pytest.mark.parametrize("script", [OLD, NEW])
def test_rows_that_are_only_in_the_log_are_read_and_said(tmp_path: Path, script: str) -> None:
    path = tmp_path / "app.db"
    with in_the_log(path) as conn:
        conn.executescript(script)
    before = contents(path)
    assert detect(Target(str(path))) == "dashboard"
    items = read_from(path)
    assert models(items)
    assert "0 are in its main file" in notes(items)
    assert contents(path) == before


def test_a_model_that_is_here_is_described_from_its_file(tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf", context_length=2048)
    path = tmp_path / "app.db"
    create(path, NEW)
    conn = sqlite3.connect(path)
    conn.execute("UPDATE models SET model_path = ?", (str(tmp_path / "tiny.gguf"),))
    conn.commit()
    conn.close()
    (item,) = found(read_from(path))
    assert item.model.locator == f"file://box{tmp_path}/tiny.gguf"
    assert (item.model.context_length, item.model.source) == (2048, "gguf")
    assert item.model.tags == ("favorite",)
    assert item.model.created_at == "2023-11-14T22:13:20Z"
    assert item.place is not None
    assert (item.place.root, item.place.source, item.place.name) == (str(path), "dashboard", "new")


def test_a_table_that_cannot_be_understood_is_refused(tmp_path: Path) -> None:
    create(tmp_path / "app.db", "CREATE TABLE models (colour TEXT)")
    with pytest.raises(SourceError, match="understands"):
        read_from(tmp_path / "app.db")
    create(tmp_path / "none.db", "CREATE TABLE cars (name TEXT)")
    with pytest.raises(SourceError, match="understands"):
        read_from(tmp_path / "none.db")
