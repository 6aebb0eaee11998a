from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from modelstore.catalogue.merge import merge
from modelstore.catalogue.schema import SCHEMA_VERSION, create_or_migrate
from modelstore.database.open import Purpose, open_database
from modelstore.database.sqlite import sqlite3
from modelstore.errors import SourceError
from modelstore.found import Found, Place
from modelstore.locator import file_locator, model_id
from modelstore.model import Model
from modelstore.sources.base import BATCH, Rows, Target
from modelstore.sources.detect import detect
from modelstore.sources.files.directory import read_tree
from modelstore.sources.records.catalogue import read
from tests.catalogue.making import new_staging
from tests.sources.reading import models, notes
from tests.sources.records.databases import contents, in_the_log
from tests.sources.stores.making import NOW, context, found, unprivileged, write_gguf

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from modelstore.sources.base import Item


def model(name: str, host: str = "far", **fields: object) -> Model:
    locator = file_locator(host, f"/m/{name}")
    plain = Model(
        id=model_id(locator), name=name, source="gguf", locator=locator, path=f"/m/{name}"
    )
    return plain._replace(host=host, **fields)  # type: ignore[arg-type]


def fill(path: Path, items: Iterable[Item]) -> None:
    with open_database(str(path), purpose=Purpose.CREATE) as opened, new_staging() as staging:
        create_or_migrate(opened, str(path))
        for item in items:
            if isinstance(item, Found):
                assert staging.add(item) is None
            elif isinstance(item, Rows):
                assert staging.add_rows(item.rows, is_authoritative=True) == []
        merge(opened, staging, now=NOW)


def dump(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Every row of a catalogue, but for when it was changed."""
    conn = sqlite3.connect(path)
    try:
        tables = ("models", "model_files", "model_places")
        return {table: sorted(conn.execute(f"SELECT * FROM {table}"), key=repr) for table in tables}
    finally:
        conn.close()


def read_from(path: Path) -> list[Item]:
    return list(read(Target(str(path)), context()))


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """A catalogue of another machine, of one real model in two places and one bare record."""
    write_gguf(tmp_path / "models" / "tiny.gguf")
    real = found(read_tree(str(tmp_path / "models"), context(host="far")))
    path = tmp_path / "there.db"
    one = replace(real[0], model=real[0].model._replace(tags=("favorite",), created_at=NOW))
    again = replace(one, place=Place("/other", "/other/x", "ollama", "x", "loaded"))
    bare = Found(
        model("bare", parameters='{"a":1}', tags=("t",), created_at="2020-01-01T00:00:00Z")
    )
    fill(path, [one, again, bare])
    return path


def test_hosts_tags_files_and_places_are_carried(there: Path, tmp_path: Path) -> None:
    assert detect(Target(str(there))) == "catalogue"
    items = read_from(there)
    fill(tmp_path / "here.db", items)
    here, source = dump(tmp_path / "here.db"), dump(there)
    assert here["models"] == source["models"]
    assert here["model_files"] == source["model_files"]
    assert here["model_places"] == source["model_places"]
    assert {row["host"] for row in models(items)} == {"far"}
    assert notes(items) == ""


def test_reading_changes_nothing(there: Path) -> None:
    before = contents(there)
    read_from(there)
    assert contents(there) == before


def test_rows_that_are_only_in_the_log_are_read_and_said(there: Path) -> None:
    with in_the_log(there) as conn:
        conn.execute("UPDATE models SET name = 'renamed' WHERE name = 'bare'")
        conn.execute(
            "INSERT INTO models (id, name, source, locator, status, created_at, updated_at) "
            "VALUES ('1', 'late', 'json', 'name:late', 'available', ?, ?)",
            (NOW, NOW),
        )
    before = contents(there)
    items = read_from(there)
    assert {str(row["name"]) for row in models(items)} == {"tiny", "renamed", "late"}
    assert "of the 3 models" in notes(items)
    assert ", 2 are in its main file" in notes(items)
    assert contents(there) == before


def test_a_young_catalogue_is_known_by_its_log_alone(tmp_path: Path) -> None:
    whole = tmp_path / "whole.db"
    fill(whole, [Found(model("a"))])
    path = tmp_path / "young.db"
    with in_the_log(path) as conn, sqlite3.connect(whole) as source:
        for (statement,) in source.execute("SELECT sql FROM sqlite_master WHERE sql NOTNULL"):
            conn.execute(statement)
        for pragma in ("application_id", "user_version"):
            (value,) = source.execute(f"PRAGMA {pragma}").fetchone()
            conn.execute(f"PRAGMA {pragma} = {value}")
        conn.execute("ATTACH ? AS whole", (str(whole),))
        conn.execute("INSERT INTO models SELECT * FROM whole.models")
    assert detect(Target(str(path))) == "catalogue"
    items = read_from(path)
    assert [row["name"] for row in models(items)] == ["a"]
    assert "0 are in its main file" in notes(items)


def test_a_newer_schema_is_refused(there: Path) -> None:
    conn = sqlite3.connect(there)
    conn.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    conn.close()
    with pytest.raises(SourceError, match="schema"):
        read_from(there)
    with pytest.raises(SourceError, match="schema"):
        detect(Target(str(there)))


def test_what_is_no_catalogue_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    conn = sqlite3.connect(path)
    conn.execute("CREATE TABLE models (id INTEGER PRIMARY KEY, name TEXT)")
    conn.close()
    with pytest.raises(SourceError, match="not a modelstore catalogue"):
        read_from(path)
    (tmp_path / "text.db").write_text("hello")
    with pytest.raises(SourceError):
        read_from(tmp_path / "text.db")
    with pytest.raises(SourceError, match="does not exist"):
        read_from(tmp_path / "absent.db")


@pytest.mark.skipif(sys.platform == "win32", reason="permissions are other there")
def test_a_catalogue_in_a_directory_that_takes_no_files_is_read(there: Path) -> None:
    with in_the_log(there) as conn:
        conn.execute("UPDATE models SET name = 'renamed' WHERE name = 'bare'")
    whole = contents(there)
    with unprivileged() as directory:
        path = directory / "there.db"
        for suffix, content in zip(("", "-wal"), whole, strict=True):
            (directory / f"there.db{suffix}").write_bytes(content)
        directory.chmod(0o500)
        try:
            items = read_from(path)
            assert {str(row["name"]) for row in models(items)} == {"tiny", "renamed"}
            assert not (directory / "there.db-shm").exists()
        finally:
            directory.chmod(0o700)


def test_many_bare_rows_come_in_batches(tmp_path: Path) -> None:
    path = tmp_path / "many.db"
    fill(path, (Found(model(f"m{n}", path=None)) for n in range(5)))
    conn = sqlite3.connect(path, isolation_level=None)
    conn.execute("DELETE FROM model_files")
    conn.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) "
        "INSERT INTO models (id, name, source, locator, status, created_at, updated_at) "
        "SELECT 'id' || i, 'n' || i, 'json', 'name:n' || i, 'available', '', '' FROM n"
    )
    conn.close()
    items = read_from(path)
    assert len(models(items)) == 5005
    assert len(items) == -(-5005 // BATCH)


def test_text_that_is_no_utf8_is_carried(tmp_path: Path) -> None:
    odd = model("odd\udcff", tags=("t\udcff",))
    fill(tmp_path / "a.db", [Found(odd)])
    fill(tmp_path / "b.db", read_from(tmp_path / "a.db"))
    assert dump(tmp_path / "a.db")["models"] == dump(tmp_path / "b.db")["models"]
