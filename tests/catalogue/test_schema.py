from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from modelstore.catalogue import schema
from modelstore.catalogue.merge import count_present, merge
from modelstore.catalogue.schema import (
    APPLICATION_ID,
    SCHEMA_VERSION,
    create_or_migrate,
    is_catalogue,
    ownership,
)
from modelstore.database.open import Purpose, open_database
from modelstore.database.sqlite import sqlite3
from modelstore.errors import RefusedError
from modelstore.model import MODEL_COLUMNS
from tests.catalogue.making import NOW, Opened, catalogue, found, new_staging

if TYPE_CHECKING:
    from pathlib import Path


def test_a_new_file_becomes_a_catalogue(tmp_path: Path) -> None:
    opened = Opened(str(tmp_path / "new.db"))
    assert ownership(opened.db) == "empty"
    create_or_migrate(opened, opened.path)
    assert ownership(opened.db) == "catalogue"
    columns = [row[1] for row in opened.conn.execute("PRAGMA table_info(models)")]
    assert sorted(columns) == sorted(MODEL_COLUMNS)  # later steps add theirs at the end
    assert opened.conn.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    assert opened.conn.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)


def test_a_catalogue_of_this_schema_is_not_written_to(tmp_path: Path) -> None:
    opened = catalogue(tmp_path)
    before = os.stat(opened.path + "-wal").st_size
    create_or_migrate(opened, opened.path)
    assert os.stat(opened.path + "-wal").st_size == before


def test_the_tables_are_strict(tmp_path: Path) -> None:
    opened = catalogue(tmp_path)
    insert = (
        "INSERT INTO models (id, name, source, locator, status, created_at, updated_at, "
        "parameter_count) VALUES ('1', 'n', 's', 'l', 'available', 't', 't', ?)"
    )
    with pytest.raises(sqlite3.IntegrityError):
        opened.conn.execute(insert, ("7B",))
    opened.conn.execute(insert, (7,))


def test_a_locator_is_one_row(tmp_path: Path) -> None:
    opened = catalogue(tmp_path)
    insert = (
        "INSERT INTO models (id, name, source, locator, status, created_at, updated_at) "
        "VALUES (?, 'n', 's', ?, 'available', 't', 't')"
    )
    opened.conn.execute(insert, ("1", "l"))
    with pytest.raises(sqlite3.IntegrityError):
        opened.conn.execute(insert, ("2", "l"))
    opened.conn.execute(insert, ("2", "m"))


@pytest.mark.parametrize(
    "statement",
    ["CREATE TABLE models (id, name)", "PRAGMA application_id = 7", "PRAGMA user_version = 3"],
)
def test_another_programs_database_is_never_altered(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "other.db"
    conn = sqlite3.connect(str(path))
    conn.execute(statement)
    conn.commit()
    conn.close()
    before = path.read_bytes()
    opened = Opened(str(path), "DELETE")
    with pytest.raises(RefusedError, match="belongs to another program") as refused:
        create_or_migrate(opened, opened.path)
    assert refused.value.hint
    opened.conn.close()
    assert path.read_bytes() == before


def test_a_newer_catalogue_is_refused(tmp_path: Path) -> None:
    opened = catalogue(tmp_path)
    opened.conn.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    with pytest.raises(RefusedError, match=f"schema {SCHEMA_VERSION + 1}"):
        create_or_migrate(opened, opened.path)


@pytest.mark.parametrize("purpose", list(Purpose))
def test_a_newer_catalogue_is_not_even_opened(tmp_path: Path, purpose: Purpose) -> None:
    opened = catalogue(tmp_path)
    opened.conn.execute("PRAGMA user_version = 999")
    opened.conn.close()
    with pytest.raises(RefusedError, match="schema 999"):
        open_database(opened.path, purpose=purpose, check=is_catalogue)


def test_an_older_catalogue_is_brought_forward_step_by_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = catalogue(tmp_path)
    step = ("ALTER TABLE models ADD COLUMN colour TEXT",)
    monkeypatch.setattr(schema, "_STEPS", (*schema._STEPS, step))
    monkeypatch.setattr(schema, "SCHEMA_VERSION", SCHEMA_VERSION + 1)
    create_or_migrate(opened, opened.path)
    assert opened.conn.execute("SELECT colour FROM models").fetchall() == []
    assert opened.conn.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION + 1,)


def test_a_failed_migration_leaves_the_catalogue_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = catalogue(tmp_path)
    step = ("ALTER TABLE models ADD COLUMN colour TEXT", "THIS IS NO SQL")
    monkeypatch.setattr(schema, "_STEPS", (*schema._STEPS, step))
    monkeypatch.setattr(schema, "SCHEMA_VERSION", SCHEMA_VERSION + 1)
    with pytest.raises(sqlite3.OperationalError):
        create_or_migrate(opened, opened.path)
    columns = [row[1] for row in opened.conn.execute("PRAGMA table_info(models)")]
    assert "colour" not in columns
    assert opened.conn.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)


def test_a_database_opened_for_real_takes_an_import(tmp_path: Path) -> None:
    path = str(tmp_path / "a 'quoted' # name%41.db")
    with open_database(path, purpose=Purpose.CREATE) as opened, new_staging() as staging:
        create_or_migrate(opened, opened.path)
        staging.add(found("/m/a.gguf"))
        assert merge(opened, staging, now=NOW).added == 1
        assert count_present(opened.db, staging) == staging.expected() == 1
    assert opened.checkpoint is not None
    assert opened.checkpoint.left == 0
