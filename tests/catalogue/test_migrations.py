"""Catalogues of every earlier schema, read and written by this program and by the next one.

The next program is a copy of the package with one more column: one line in ``model.py`` and one
step in ``schema.py``. That these two suffice is a part of what is tested.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Protocol

import pytest

import modelstore as package
from modelstore import model
from modelstore.catalogue import schema
from modelstore.catalogue.schema import SCHEMA_VERSION
from modelstore.database.handle import Database
from modelstore.locator import model_id
from modelstore.model import MODEL_COLUMNS
from tests.cli.program import Result, modelstore, run_by
from tests.forkserver import ForkServer
from tests.sources.stores.making import write_gguf

SCHEMAS = Path(__file__).parent / "schemas"
"""The literal SQL of each schema, as released: ``1.sql``, ``2.sql`` and so on."""

VERSIONS = range(1, SCHEMA_VERSION + 1)
WHOLE_ID = model_id("file://box/m/a.gguf")


class Program(Protocol):
    def __call__(self, *arguments: str | Path) -> Result: ...


def released(version: int) -> str:
    return (SCHEMAS / f"{version}.sql").read_text(encoding="utf-8")


def objects(conn: sqlite3.Connection) -> list[tuple[str, ...]]:
    return conn.execute("SELECT type, name, tbl_name, sql FROM sqlite_master").fetchall()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_released_schema_stays_as_it_was(version: int) -> None:
    db = Database(memory=True)
    schema._apply_steps(db, version)
    with closing(sqlite3.connect(":memory:")) as conn:
        conn.executescript(released(version))
        assert objects(conn) == objects(db.conn)
        for mark in ("application_id", "user_version"):
            query = f"PRAGMA {mark}"
            assert conn.execute(query).fetchone() == db.conn.execute(query).fetchone()
    db.close()


def test_the_newest_schema_has_the_columns_of_a_model() -> None:
    db = Database(memory=True)
    schema._apply_steps(db, SCHEMA_VERSION)
    types = {column.name: column.type for column in db.table("models").columns}
    assert types == {
        column.split()[0]: column.split()[1]
        for column in map(model.column_definition, MODEL_COLUMNS)
    }
    db.close()


def older_catalogue(path: Path, version: int) -> Path:
    """Make a catalogue of an earlier schema with two models, one of them with file and place."""
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("PRAGMA journal_mode = WAL")
        conn.executescript(released(version))
        for name in ("a", "b"):
            locator = f"file://box/m/{name}.gguf"
            conn.execute(
                "INSERT INTO models (id, name, source, locator, path, status, tags, host, "
                "created_at, updated_at) VALUES (?, ?, 'gguf', ?, ?, 'available', '[\"mine\"]', "
                "'box', '2026-01-01T00:00:00Z', '2026-01-01T00:00:00Z')",
                (model_id(locator), f"Model {name}", locator, f"/m/{name}.gguf"),
            )
        conn.execute(
            "INSERT INTO model_files (model_id, weights, path, role, size, mtime_ns) "
            "VALUES (?, '/m/a.gguf', '/m/a.gguf', 'model', 1, 1)",
            (WHOLE_ID,),
        )
        conn.execute(
            "INSERT INTO model_places (host, root, locator, model_id, source, name) "
            "VALUES ('box', '/m', '/m/a.gguf', ?, 'gguf', 'alias')",
            (WHOLE_ID,),
        )
        conn.commit()
    return path


@pytest.fixture(name="older", params=VERSIONS)
def _older(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return older_catalogue(tmp_path / "models.db", request.param)


@pytest.fixture(name="following", scope="module")
def _following(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """The next program: this one with the column ``modality``."""
    place = tmp_path_factory.mktemp("next")
    shutil.copytree(Path(package.__file__).parent, place / "modelstore")
    for module, before, after in (
        (
            "model.py",
            "    license: str | None = None\n",
            "    license: str | None = None\n    modality: str | None = None\n",
        ),
        (
            "catalogue/schema.py",
            f"_STEP_{SCHEMA_VERSION})\n",
            f"_STEP_{SCHEMA_VERSION}, ('ALTER TABLE models ADD COLUMN modality TEXT',))\n",
        ),
    ):
        path = place / "modelstore" / module
        text = path.read_text(encoding="utf-8")
        assert text.count(before) == 1
        path.write_text(text.replace(before, after), encoding="utf-8")
    server = ForkServer(place)
    yield partial(run_by, server, cwd=place)
    server.close()
    shutil.rmtree(place)


def version_of(path: Path) -> int:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as conn:
        return int(conn.execute("PRAGMA user_version").fetchone()[0])


def rows(program: Program, path: Path, *options: str) -> list[dict[str, object]]:
    done = program("list", "--db", path, "--json", *options)
    assert done.code == 0, done.err
    return json.loads(done.out)  # type: ignore[no-any-return]


READING = (
    ("list",),
    ("list", "--json"),
    ("list", "--columns", "all", "-f", "csv"),
    ("list", "--where", "modality IS NULL", "--sort", "modality,name"),
    ("list", "--sort", "name:desc", "--limit", "1", "--no-checkpoint"),
    ("show", "Model a"),
    ("show", "alias", "--json"),
    ("show", WHOLE_ID[:6], "--field", "modality"),
    ("inspect-wal",),
    ("checkpoint",),
    ("verify", "--skip", "models", "--expect-count", "2"),
)


@pytest.mark.parametrize("command", READING, ids=" ".join)
def test_reading_an_older_catalogue_does_not_write_to_it(
    following: Program, older: Path, command: tuple[str, ...]
) -> None:
    before = older.read_bytes()
    done = following(*command, "--db", older)
    assert done.code == 0, done.err
    assert older.read_bytes() == before


def test_an_older_catalogue_has_the_new_column_unknown(following: Program, older: Path) -> None:
    found = rows(following, older, "--columns", "name,modality,tags", "--sort", "name")
    assert found == [
        {"name": "Model a", "modality": None, "tags": ["mine"]},
        {"name": "Model b", "modality": None, "tags": ["mine"]},
    ]
    done = following("show", "Model a", "--db", older, "--json")
    assert [file["path"] for file in done.json["files"]] == ["/m/a.gguf"]
    assert [place["name"] for place in done.json["places"]] == ["alias"]


def test_a_command_that_writes_brings_an_older_catalogue_forward(
    following: Program, older: Path, tmp_path: Path
) -> None:
    before = version_of(older)
    copies = [shutil.copy(older, tmp_path / f"{name}.db") for name in ("tag", "forget", "import")]
    records = tmp_path / "records.jsonl"
    records.write_text('{"name": "New", "modality": "text"}\n', encoding="utf-8")
    for path, command in zip(
        map(Path, copies),
        (("tag", "Model a", "--add", "big"), ("forget", "Model b", "--yes"), ("import", records)),
        strict=True,
    ):
        done = following(*command, "--db", path)
        assert done.code == 0, done.err
        assert version_of(path) == SCHEMA_VERSION + 1 > before
    tagged, forgotten, imported = (rows(following, Path(path)) for path in copies)
    assert {"big", "mine"} in [set(map(str, row["tags"])) for row in tagged]  # type: ignore[call-overload]
    assert [row["name"] for row in forgotten] == ["Model a"]
    assert {row["name"]: row["modality"] for row in imported} == {
        "Model a": None,
        "Model b": None,
        "New": "text",
    }


def test_models_of_an_older_catalogue_are_imported(
    following: Program, older: Path, tmp_path: Path
) -> None:
    before = older.read_bytes()
    done = following("import", older, "--db", tmp_path / "new.db")
    assert done.code == 0, done.err
    assert older.read_bytes() == before
    found = rows(following, tmp_path / "new.db", "--sort", "name")
    assert [(row["name"], row["tags"]) for row in found] == [
        ("Model a", ["mine"]),
        ("Model b", ["mine"]),
    ]


WRITING = (
    ("tag", "Model a", "--add", "x"),
    ("forget", "Model a", "--yes"),
    ("import", str(Path(__file__))),
)


@pytest.mark.parametrize(
    "command",
    [("list",), ("show", "Model a"), ("checkpoint",), ("verify",), *WRITING],
    ids=" ".join,
)
def test_a_newer_catalogue_is_refused(tmp_path: Path, command: tuple[str, ...]) -> None:
    path = older_catalogue(tmp_path / "models.db", SCHEMA_VERSION)
    with closing(sqlite3.connect(path)) as conn:
        conn.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    before = path.read_bytes()
    done = modelstore(*command, "--db", path)
    assert (done.code, done.out) == (3, "")
    assert f"schema {SCHEMA_VERSION + 1}" in done.err
    assert "upgrade" in done.err
    assert path.read_bytes() == before


def test_the_log_of_a_newer_catalogue_may_be_looked_at(tmp_path: Path) -> None:
    path = older_catalogue(tmp_path / "models.db", SCHEMA_VERSION)
    with closing(sqlite3.connect(path)) as conn:
        conn.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    before = path.read_bytes()
    done = modelstore("inspect-wal", "--db", path)
    assert done.code == 0
    assert f"schema {SCHEMA_VERSION + 1}" in done.out
    assert path.read_bytes() == before


def test_a_newer_catalogue_is_refused_as_a_source(tmp_path: Path) -> None:
    path = older_catalogue(tmp_path / "models.db", SCHEMA_VERSION)
    with closing(sqlite3.connect(path)) as conn:
        conn.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    done = modelstore("import", path, "--db", tmp_path / "new.db")
    assert (done.code, done.out) == (3, "")
    assert f"schema {SCHEMA_VERSION + 1}" in done.err


def test_a_catalogue_of_no_known_schema_is_damaged(tmp_path: Path) -> None:
    path = older_catalogue(tmp_path / "models.db", SCHEMA_VERSION)
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("PRAGMA user_version = 0")
    before = path.read_bytes()
    for command in (("list",), *WRITING):
        done = modelstore(*command, "--db", path)
        assert (done.code, "user_version is 0" in done.err) == (5, True)
    assert path.read_bytes() == before


def test_models_of_an_older_catalogue_are_read_again_once(tmp_path: Path) -> None:
    """They get the columns that they lack, and keep their tags and hashes."""
    models, db = tmp_path / "models", tmp_path / "models.db"
    write_gguf(models / "a.gguf")
    assert modelstore("import", models, "--tag", "mine", "--db", db).code == 0
    with closing(sqlite3.connect(db)) as conn:
        conn.execute("UPDATE models SET parameters = json_remove(parameters, '$.tensor_bytes')")
        conn.execute("UPDATE model_files SET sha256 = ?", ("ab" * 32,))
        conn.execute("ALTER TABLE models DROP COLUMN capabilities")
        conn.execute("ALTER TABLE models DROP COLUMN revision")
        conn.execute("ALTER TABLE roots DROP COLUMN position")
        conn.execute("PRAGMA user_version = 1")
        conn.commit()
    first, again = (modelstore("import", models, "--db", db, "--json").json for _ in range(2))
    assert (first["updated"], again["unchanged"]) == (1, 1)
    [row] = rows(modelstore, db, "--columns", "tags,capabilities,bpw")
    assert row == {"tags": ["mine"], "capabilities": [], "bpw": 32.0}
    with closing(sqlite3.connect(db)) as conn:
        assert conn.execute("SELECT sha256 FROM model_files").fetchall() == [("ab" * 32,)]
