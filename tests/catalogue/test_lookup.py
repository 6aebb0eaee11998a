from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from modelstore.catalogue.lookup import Companions, companions, lookup_model
from modelstore.catalogue.schema import APPLICATION_ID
from modelstore.database.sqlite import sqlite3
from modelstore.database.sqlite_errors import translate_sqlite_error
from modelstore.errors import AmbiguousModelError, DamageError, ModelNotFoundError
from tests.catalogue.making import Opened, catalogue, file, found, handle, model, take, take_rows

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(name="opened")
def _opened(tmp_path: Path) -> Opened:
    opened = catalogue(tmp_path)
    models = [model("/a/Qwen3-8B.gguf"), model("/b/Qwen3-8B.gguf"), model("/c/phi-4.gguf")]
    models.append(model("/c/\udcff.gguf"))
    ids = ("aaaa000000000001", "aaaa000000000002", "bbbb000000000003", "cccc000000000004")
    take_rows(opened, [m._replace(id=i) for m, i in zip(models, ids, strict=True)])
    return opened


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("aaaa000000000002", 2),
        ("bbbb", 3),
        ("BBBB0000", 3),
        ("aaaa000000000001", 1),
        ("phi-4.gguf", 3),
        ("/b/Qwen3-8B.gguf", 2),
        ("file://box/a/Qwen3-8B.gguf", 1),
        ("\udcff.gguf", 4),
        ("/c/\udcff.gguf", 4),
    ],
)
def test_what_means_one_model(opened: Opened, text: str, number: int) -> None:
    assert lookup_model(opened.db, text).endswith(f"00{number}")


@pytest.mark.parametrize("text", ["b/Qwen3-8B.gguf", "./b/../b/Qwen3-8B.gguf"])
def test_a_path_may_be_relative(opened: Opened, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert lookup_model(opened.db, text).endswith("002")


@pytest.mark.parametrize("text", ["aaaa", "Qwen3-8B.gguf"])
def test_what_means_several_names_them(opened: Opened, text: str) -> None:
    with pytest.raises(AmbiguousModelError) as refused:
        lookup_model(opened.db, text)
    assert refused.value.message.count("aaaa000 Qwen3-8B.gguf") == 2
    places = opened.db.query("SELECT coalesce(path, locator) AS place FROM models")
    assert sum(row["place"] in refused.value.message for row in places) == 2
    assert refused.value.hint


def test_a_prefix_that_is_a_name_too_is_ambiguous(opened: Opened) -> None:
    take_rows(opened, [model("/x", name="bbbb")])
    with pytest.raises(AmbiguousModelError, match="phi-4"):
        lookup_model(opened.db, "bbbb")


def test_only_a_few_of_many_candidates_are_named(opened: Opened) -> None:
    take_rows(opened, [model(f"/x/{n}", name="same\x1b[2J") for n in range(50)])
    with pytest.raises(AmbiguousModelError, match="; …") as refused:
        lookup_model(opened.db, "same\x1b[2J")
    assert "\x1b" not in refused.value.message
    assert len(refused.value.message) < 300


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("phi-4.ggu", "'phi-4.gguf'"),
        ("qwen3-9b.gguf", "'Qwen3-8B.gguf'"),
        ("bbb", "modelstore list"),  # shorter than a prefix may be
        ("%", "modelstore list"),
        ("", "modelstore list"),
        ("x" * 100_000, "modelstore list"),
    ],
)
def test_what_means_none_names_what_is_near(opened: Opened, text: str, hint: str) -> None:
    with pytest.raises(ModelNotFoundError) as refused:
        lookup_model(opened.db, text)
    assert refused.value.hint is not None
    assert hint in refused.value.hint
    assert len(refused.value.message) < 300


def test_a_models_files_and_places_are_told(opened: Opened) -> None:
    item = found("/m/\udcfe.gguf")
    item = replace(item, files=(*item.files, file("/m/mmproj.gguf", role="projector")))
    take(opened, item)
    told = companions(opened.db, item.model.id)
    assert told.files == item.files
    assert told.places == (item.place,)


@pytest.mark.parametrize(
    "change",
    ["DROP TABLE model_files", "DROP TABLE model_places", "ALTER TABLE model_places DROP state"],
)
def test_a_catalogue_without_a_table_or_a_column_is_damaged(opened: Opened, change: str) -> None:
    opened.conn.execute(change)
    with pytest.raises(DamageError, match="not as modelstore makes them") as caught:
        companions(opened.db, "aaaa000000000001")
    assert caught.value.hint


def test_a_name_is_not_looked_up_in_places_that_are_gone(opened: Opened) -> None:
    opened.conn.execute("DROP TABLE model_places")
    assert lookup_model(opened.db, "bbbb").endswith("003")
    with pytest.raises(DamageError, match="not as modelstore makes them"):
        lookup_model(opened.db, "no-such-model")


def test_another_programs_tables_of_these_names_are_not_read() -> None:
    conn = sqlite3.connect(":memory:")
    conn.execute("CREATE TABLE models (id, name, path, locator)")
    conn.execute("CREATE TABLE model_places (other)")
    conn.execute("CREATE TABLE model_files (other)")
    assert companions(handle(conn), "m") == Companions((), ())
    with pytest.raises(ModelNotFoundError):
        lookup_model(handle(conn), "m")


@pytest.mark.parametrize("value", [None, 5, 1.5, b"raw"])
@pytest.mark.parametrize("column", ["path", "role", "size", "root", "name"])
def test_rows_that_no_catalogue_can_hold_are_damage(column: str, value: object) -> None:
    if column == "size" and value in (None, 5):
        return
    conn = sqlite3.connect(":memory:")
    conn.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    conn.execute(
        "CREATE TABLE model_files (model_id DEFAULT 'm', path DEFAULT '/m', role DEFAULT 'model',"
        " size DEFAULT 1, mtime_ns DEFAULT 1, sha256, device, inode, weights DEFAULT 1)"
    )
    conn.execute(
        "CREATE TABLE model_places (model_id DEFAULT 'm', root DEFAULT '/', locator DEFAULT '/m',"
        " source DEFAULT 'gguf', name DEFAULT 'm', state)"
    )
    table = "model_places" if column in ("root", "name") else "model_files"
    conn.execute(f"INSERT INTO {table} ({column}) VALUES (?)", (value,))
    with pytest.raises(sqlite3.DatabaseError, match="a row holds") as raised:
        companions(handle(conn), "m")
    assert isinstance(translate_sqlite_error(raised.value, "m.db"), DamageError)
    conn.execute(f"DELETE FROM {table}")
    conn.execute(f"INSERT INTO {table} DEFAULT VALUES")
    found = companions(handle(conn), "m")
    assert len(found.files) + len(found.places) == 1
