from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelstore.catalogue.foreign import Foreign, expose
from modelstore.catalogue.lookup import companions, lookup_model
from modelstore.catalogue.query import Query, count, json_lines, select
from modelstore.database.sqlite import sqlite3
from modelstore.database.sqlite_errors import primary_code
from modelstore.errors import UsageError
from modelstore.locator import file_locator, model_id
from modelstore.model import MODEL_COLUMNS
from tests.catalogue.making import as_objects, handle

if TYPE_CHECKING:
    from pathlib import Path

OLD = """
CREATE TABLE models (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, status TEXT
    CHECK (status IN ('running', 'stopped', 'loading', 'error')), model_path TEXT, hf_repo TEXT,
    hf_file TEXT, hf_token TEXT, file_size_bytes INTEGER, ctx_size INTEGER DEFAULT 0,
    created_at INTEGER, updated_at INTEGER);
CREATE TABLE model_fit_params (model_id INTEGER, quantization_type TEXT, parameter_count INTEGER,
    architecture TEXT, context_window INTEGER);
INSERT INTO models VALUES (1, 'one', 'running', '/m/one.gguf', NULL, NULL, 'hf_SECRET', 5, 0,
    1700000000000, 1700000001000);
INSERT INTO models VALUES (7, 'two', 'stopped', '', 'org/two', 'two.gguf', 'hf_SECRET', 0, 0,
    1700000000000, NULL);
INSERT INTO model_fit_params VALUES (1, 'Q4_K_M', 8030261312, 'llama', 131072);
INSERT INTO model_fit_params VALUES (1, 'Q8_0', 8030261312, 'llama', 131072);
"""

NEW = """
CREATE TABLE models (id TEXT PRIMARY KEY, name TEXT, model_path TEXT, architecture TEXT,
    params TEXT, quantization TEXT, ctx_size INTEGER DEFAULT 4096, embedding_size INTEGER
    DEFAULT 0, block_count INTEGER DEFAULT 0, head_count INTEGER, favorite INTEGER DEFAULT 0,
    parameters TEXT, hf_token TEXT, file_size INTEGER, status TEXT, created_at INTEGER,
    updated_at INTEGER);
INSERT INTO models VALUES ('model_1700_x', 'one', '/m/one.gguf', 'llama', '7B', 'Q4_K_M', 4096,
    4096, 32, 0, 1, '{"temp":1,"api_key":"hf_SECRET","deep":{"hf-token":"hf_SECRET"}}',
    'hf_SECRET', 5, 'idle', 1700000000, 1700000001);
INSERT INTO models VALUES ('model_1701_y', '', '/m/two.gguf', '', '', NULL, 8192, 0, 0, NULL, 0,
    '{}', 'hf_SECRET', 0, 'loaded', 0, NULL);
"""


def database(directory: Path, script: str) -> Path:
    path = directory / "other.db"
    conn = sqlite3.connect(str(path))
    conn.executescript(script)
    conn.commit()
    conn.close()
    return path


def reading(path: Path) -> sqlite3.Connection:
    conn = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)
    conn.execute("PRAGMA trusted_schema = OFF")
    return conn


def rows(conn: sqlite3.Connection) -> list[dict[str, Any]]:
    exposed = [dict(zip(MODEL_COLUMNS, row, strict=True)) for row in select(handle(conn), Query())]
    assert len(exposed) == count(handle(conn), Query())
    return exposed


def known(row: dict[str, Any]) -> dict[str, Any]:
    return {column: value for column, value in row.items() if value is not None}


def test_the_old_generation(tmp_path: Path) -> None:
    path = database(tmp_path, OLD)
    before = path.read_bytes()
    conn = reading(path)
    exposed = expose(handle(conn), host="box")
    assert isinstance(exposed, Foreign)
    assert exposed.generation == "dashboard, old"
    one, two = rows(conn)
    locator = file_locator("box", "/m/one.gguf")
    assert known(one) == {
        "id": model_id(locator),
        "name": "one",
        "source": "dashboard",
        "locator": locator,
        "path": "/m/one.gguf",
        "architecture": "llama",
        "status": "missing",
        "parameter_count": 8030261312,
        "quantization": "Q8_0",
        "context_length": 131072,
        "file_size": 5,
        "tags": "[]",
        "host": "box",
        "source_id": "1",
        "created_at": "2023-11-14T22:13:20Z",
        "updated_at": "2023-11-14T22:13:21Z",
    }
    assert known(two) == {
        "id": model_id("hf:org/two:two.gguf"),
        "name": "two",
        "source": "dashboard",
        "locator": "hf:org/two:two.gguf",
        "status": "remote",
        "tags": "[]",
        "host": "box",
        "source_id": "7",
        "created_at": "2023-11-14T22:13:20Z",
    }
    conn.close()
    assert path.read_bytes() == before


def test_the_new_generation(tmp_path: Path) -> None:
    conn = reading(database(tmp_path, NEW))
    exposed = expose(handle(conn), host="box")
    assert exposed is not None
    assert exposed.generation == "dashboard, new"
    one, two = rows(conn)
    assert (one["size_label"], one["parameter_count"]) == ("7B", None)
    assert (one["context_length"], two["context_length"]) == (None, 8192)
    assert (one["embedding_length"], one["block_count"], one["head_count"]) == (4096, 32, None)
    assert (one["tags"], two["tags"]) == ('["favorite"]', "[]")
    assert (one["parameters"], two["parameters"]) == ('{"temp":1,"deep":{}}', None)
    assert (one["source_id"], one["created_at"]) == ("model_1700_x", "2023-11-14T22:13:20Z")
    assert (two["name"], two["created_at"], two["file_size"]) == ("two", None, None)


@pytest.mark.parametrize("script", [OLD, NEW])
def test_a_token_is_never_read(tmp_path: Path, script: str) -> None:
    conn = reading(database(tmp_path, script))
    read: set[str | None] = set()

    def note(action: int, _table: str | None, column: str | None, *_rest: str | None) -> int:
        if action == sqlite3.SQLITE_READ:
            read.add(column)
        return int(sqlite3.SQLITE_OK)

    expose(handle(conn), host="box")
    conn.set_authorizer(note)
    assert "SECRET" not in "".join(json_lines(handle(conn), Query()))
    assert "name" in read
    assert "hf_token" not in read


@pytest.mark.parametrize("encoding", ["UTF-16le", "UTF-16be"])
def test_a_database_in_utf_16(tmp_path: Path, encoding: str) -> None:
    path = database(tmp_path, f"PRAGMA encoding='{encoding}';" + OLD)
    conn = reading(path)
    assert expose(handle(conn), host="box") is not None
    one, two = rows(conn)
    assert (one["name"], one["path"], one["quantization"]) == ("one", "/m/one.gguf", "Q8_0")
    assert (two["name"], two["source_id"]) == ("two", "7")
    conn.close()
    odd = sqlite3.connect(str(path))
    odd.execute("UPDATE models SET name = CAST(x'410041d8' AS TEXT) WHERE id = 7")
    odd.execute("UPDATE models SET name = CAST(x'410042' AS TEXT) WHERE id = 1")
    odd.commit()
    odd.close()
    conn = reading(path)
    assert expose(handle(conn), host="box") is not None
    assert len(rows(conn)) == 2


def test_every_question_works_on_it(tmp_path: Path) -> None:
    conn = reading(database(tmp_path, NEW))
    expose(handle(conn), host="box")
    conn.execute("PRAGMA query_only = ON")
    asked = Query(
        text="one", filters={"tag": ["favorite"]}, where="block_count = 32", sort=("-name",)
    )
    (made,) = as_objects(json_lines(handle(conn), asked))
    assert (made["name"], made["tags"]) == ("one", ["favorite"])
    assert made["parameters"] == {"temp": 1, "deep": {}}
    assert lookup_model(handle(conn), "one") == made["id"]
    assert companions(handle(conn), str(made["id"])).files == ()
    with pytest.raises(UsageError, match="hf_token"):
        select(handle(conn), Query(where="hf_token LIKE 'hf%'"))


def test_a_file_that_is_there_is_available_under_its_real_path(tmp_path: Path) -> None:
    real = tmp_path / "real.gguf"
    real.write_bytes(b"GGUF")
    link = tmp_path / "link.gguf"
    try:
        link.symlink_to(real)
    except OSError:
        pytest.skip("no symbolic links here")
    path = database(tmp_path, "CREATE TABLE models (file_path TEXT)")
    writer = sqlite3.connect(str(path))
    writer.execute("INSERT INTO models VALUES (?)", (str(link),))
    writer.commit()
    writer.close()
    conn = reading(path)
    exposed = expose(handle(conn), host="box", source="models")
    assert exposed is not None
    assert exposed.generation == "models table"
    (row,) = rows(conn)
    assert (row["path"], row["name"], row["status"]) == (str(real), "link", "available")
    assert (row["locator"], row["source"]) == (file_locator("box", str(real)), "models")


@pytest.mark.parametrize(
    "script",
    [
        "CREATE TABLE other (id)",
        "CREATE TABLE models (id, colour)",
        "CREATE VIEW other AS SELECT 1 AS name",
    ],
)
def test_what_has_no_models_is_told_so(tmp_path: Path, script: str) -> None:
    assert expose(handle(reading(database(tmp_path, script))), host="box") is None


def test_tables_without_rowid_and_views_are_read_too(tmp_path: Path) -> None:
    script = """CREATE TABLE kept ("Model_Name" TEXT PRIMARY KEY, "SIZE" INTEGER) WITHOUT ROWID;
        INSERT INTO kept VALUES ('b', 2), ('a', 1);
        CREATE VIEW models AS SELECT * FROM kept;"""
    conn = reading(database(tmp_path, script))
    expose(handle(conn), host="it's")
    sizes = list(select(handle(conn), Query(columns=("name", "file_size", "host"))))
    assert sorted(sizes) == [("a", 1, "it's"), ("b", 2, "it's")]


def test_the_order_holds_for_tables_without_rowid(tmp_path: Path) -> None:
    script = """CREATE TABLE models (name TEXT PRIMARY KEY, size) WITHOUT ROWID;
        INSERT INTO models VALUES ('b', 2), ('a', 1), ('c', 3);"""
    conn = reading(database(tmp_path, script))
    expose(handle(conn), host="box")
    asked = Query(columns=("name",), sort=("-file_size",), limit=2)
    assert list(select(handle(conn), asked)) == [("c",), ("b",)]


_cells = (
    st.none()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.binary(max_size=9)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
    | st.sampled_from(["0", "12", "1e9", "7B", "2024-01-02", "2024-01-02T03:04:05Z", "[1]", "{}"])
)
_COLUMNS = ("name", "path", "params", "file_size", "created_at", "tags", "parameters", "favorite")


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cells=st.tuples(*[_cells] * len(_COLUMNS)), bad=st.binary(min_size=1, max_size=6))
def test_whatever_the_cells_hold_rows_come_out(cells: tuple[object, ...], bad: bytes) -> None:
    conn = sqlite3.connect(":memory:", isolation_level=None)
    conn.execute(f"CREATE TABLE models ({', '.join(_COLUMNS)})")
    marks = ", ".join("?" * len(_COLUMNS))
    conn.execute(f"INSERT INTO models VALUES ({marks})", cells)
    # Text that is no UTF-8, which SQLite stores without a word.
    casts = ", ".join(["CAST(? AS TEXT)"] * len(_COLUMNS))
    conn.execute(f"INSERT INTO models VALUES ({casts})", [b"\xff" + bad] * len(_COLUMNS))
    expose(handle(conn), host="box")
    exposed = rows(conn)
    assert len(exposed) == len(as_objects(json_lines(handle(conn), Query(sort=("name",))))) == 2
    for row in exposed:
        assert row["name"]
        assert row["id"] == model_id(row["locator"])
        assert row["file_size"] is None or row["file_size"] > 0
        assert row["created_at"] is None or len(row["created_at"]) == len("2024-01-02T03:04:05Z")
    conn.close()


def test_a_connection_that_may_only_query_stays_so(tmp_path: Path) -> None:
    conn = sqlite3.connect(tmp_path / "app.db", isolation_level=None)
    conn.executescript(NEW)
    conn.execute("PRAGMA query_only = ON")
    assert expose(handle(conn), host="box") is not None
    assert (
        count(handle(conn), Query())
        == conn.execute("SELECT count(*) FROM main.models").fetchone()[0]
    )
    with pytest.raises(sqlite3.OperationalError) as caught:
        conn.execute("DELETE FROM main.models")
    assert primary_code(caught.value) == sqlite3.SQLITE_READONLY
