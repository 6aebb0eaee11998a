from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelstore.catalogue import merge as merging
from modelstore.catalogue.merge import count_present, merge
from modelstore.found import Found, Place
from modelstore.locator import file_locator, model_id
from modelstore.model import Model
from tests.catalogue.making import (
    LATER,
    NOW,
    catalogue,
    counts,
    file,
    found,
    model,
    new_staging,
    served,
    table,
    take,
    take_rows,
)

if TYPE_CHECKING:
    from modelstore.model import Status


def test_records_are_added_updated_and_left_alone(tmp_path: Path) -> None:
    opened = catalogue(tmp_path)
    records = [model(f"/m/{n}.gguf") for n in range(4)]
    assert counts(take_rows(opened, records[:3])) == (3, 0, 0)
    records[1] = records[1]._replace(license="mit")
    assert counts(take_rows(opened, records, now=LATER)) == (1, 1, 2)
    assert table(opened, "path, license, created_at, updated_at") == [
        ("/m/0.gguf", None, NOW, NOW),
        ("/m/1.gguf", "mit", NOW, LATER),
        ("/m/2.gguf", None, NOW, NOW),
        ("/m/3.gguf", None, LATER, LATER),
    ]


def test_what_is_unchanged_writes_no_page(tmp_path: Path) -> None:
    opened = catalogue(tmp_path)
    records = [model(f"/r/{n}.gguf", tags=("x", "y")) for n in range(50)]
    items = [found(f"/m/{n}.gguf", file_sha256=f"{n:064x}", tags=("t",)) for n in range(50)]
    take_rows(opened, records)
    take(opened, *items)
    opened.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    assert counts(take_rows(opened, records, now=LATER)) == (0, 0, 50)
    assert counts(take(opened, *items, now=LATER)) == (0, 0, 50)
    with new_staging() as staging:
        for item in items:
            staging.add_seen(item.model.locator, item.place)
        assert counts(merge(opened, staging, now=LATER)) == (0, 0, 50)
    assert os.stat(opened.path + "-wal").st_size == 0


def test_the_log_holds_little_more_than_the_pages_changed(tmp_path: Path) -> None:
    opened = catalogue(tmp_path)
    opened.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    take_rows(opened, (model(f"/m/{n * 7919 % 20000:05}.gguf") for n in range(20000)))
    written = os.stat(opened.path + "-wal").st_size
    opened.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    assert written <= 1.1 * os.stat(opened.path).st_size


def test_tags_are_only_ever_added(tmp_path: Path) -> None:
    opened = catalogue(tmp_path)
    take(opened, found("/m/a.gguf", tags=("b",)), tags=("zeta",))
    take(opened, found("/m/a.gguf", tags=("a",)))
    take_rows(opened, [model("/m/a.gguf", tags=("é",))])
    assert counts(take(opened, found("/m/a.gguf"), tags=("b",))) == (0, 0, 1)
    assert table(opened, "tags") == [('["a","b","zeta","é"]',)]


def test_tags_reach_unchanged_models_too(tmp_path: Path) -> None:
    opened = catalogue(tmp_path)
    item = found("/m/a.gguf")
    take(opened, item)
    for expected in ((0, 1, 0), (0, 0, 1)):
        with new_staging() as staging:
            staging.add_seen(item.model.locator, item.place)
            assert counts(merge(opened, staging, now=LATER, tags=["mine"])) == expected
            assert staging.expected() == count_present(opened.db, staging) == 1
    assert table(opened, "tags") == [('["mine"]',)]


def test_a_server_fills_what_the_file_did_not_say_and_erases_nothing(tmp_path: Path) -> None:
    opened = catalogue(tmp_path)
    take(opened, found("/m/a.gguf", context_length=8192, name="file name"))
    lists = served("a", path="/m/a.gguf", context_length=4096, license="mit", name="other")
    assert counts(take(opened, lists)) == (0, 1, 0)
    assert counts(take(opened, lists)) == (0, 0, 1)
    assert table(opened, "name, context_length, license, source, status") == [
        ("file name", 8192, "mit", "gguf", "available")
    ]


def test_the_file_overrides_what_a_server_said(tmp_path: Path) -> None:
    opened = catalogue(tmp_path)
    take(opened, served("a", path="/m/a.gguf", context_length=4096, license="mit"))
    item = found("/m/a.gguf", context_length=8192)
    assert counts(take(opened, item)) == (0, 1, 0)
    assert counts(take(opened, item)) == (0, 0, 1)
    assert table(opened, "name, context_length, license, source, status, locator") == [
        ("a.gguf", 8192, "mit", "gguf", "available", "http://localhost:1#a")
    ]


def test_a_persons_record_updates_the_fields_that_it_carries(tmp_path: Path) -> None:
    opened = catalogue(tmp_path)
    take(opened, found("/m/a.gguf", context_length=8192, license="mit"))
    record = model("/m/a.gguf", source="json", context_length=4096)
    assert counts(take_rows(opened, [record])) == (0, 1, 0)
    assert table(opened, "context_length, license, source") == [(4096, "mit", "gguf")]
    assert counts(take_rows(opened, [record])) == (0, 0, 1)


def test_filling_records_update_nothing_that_is_known(tmp_path: Path) -> None:
    opened = catalogue(tmp_path)
    take(opened, found("/m/a.gguf", context_length=8192))
    record = model("/m/a.gguf", source="dashboard", context_length=4096, license="mit")
    assert counts(take_rows(opened, [record], fill=True)) == (0, 1, 0)
    assert table(opened, "context_length, license, source") == [(8192, "mit", "gguf")]


def test_another_store_neither_renames_nor_takes_over_a_model(tmp_path: Path) -> None:
    opened = catalogue(tmp_path)
    take(opened, found("/m/a.gguf", file_sha256="a" * 64))
    other = found("/o/blob", "/o", source="ollama", name="a:latest", file_sha256="a" * 64)
    assert counts(take(opened, replace(other, model=other.model._replace(license="x")))) == (
        0,
        1,
        0,
    )
    assert table(opened, "name, source, path, license") == [("a.gguf", "gguf", "/m/a.gguf", "x")]


def test_a_replaced_file_voids_what_was_read_of_the_old_one(tmp_path: Path) -> None:
    opened = catalogue(tmp_path)
    take(opened, found("/m/a.gguf", license="mit", sha256="a" * 64, file_sha256="a" * 64))
    changed = found("/m/a.gguf", architecture="llama", file_mtime_ns=6)
    assert counts(take(opened, changed)) == (0, 1, 0)
    assert table(opened, "architecture, license, sha256") == [("llama", None, None)]
    assert table(opened, "mtime_ns, sha256", "model_files") == [(6, None)]


def test_a_hash_outlives_a_reading_that_did_not_hash(tmp_path: Path) -> None:
    opened = catalogue(tmp_path)
    take(opened, found("/m/a.gguf", file_sha256="a" * 64))
    take(opened, found("/m/a.gguf"))
    assert table(opened, "path, sha256", "model_files") == [("/m/a.gguf", "a" * 64)]


@pytest.mark.parametrize("status", ["available", "truncated"])
def test_a_missing_model_that_came_back_is_there_again(tmp_path: Path, status: Status) -> None:
    opened = catalogue(tmp_path)
    take(opened, found("/m/a.gguf", source="huggingface"))
    opened.conn.execute("UPDATE models SET status = 'missing'")
    assert counts(take(opened, found("/m/a.gguf", status=status))) == (0, 1, 0)
    assert table(opened, "status, source") == [(status, "huggingface")]


def test_a_server_does_not_bring_a_missing_file_back(tmp_path: Path) -> None:
    opened = catalogue(tmp_path)
    take(opened, found("/m/a.gguf"))
    opened.conn.execute("UPDATE models SET status = 'missing'")
    take(opened, served("a", path="/m/a.gguf"))
    assert table(opened, "status") == [("missing",)]


def test_the_files_of_a_copy_are_those_that_it_was_found_with(tmp_path: Path) -> None:
    opened = catalogue(tmp_path)
    item = found("/m/a.gguf")
    projector = file("/m/mmproj.gguf", role="projector")
    take(opened, replace(item, files=(*item.files, projector)))
    assert len(table(opened, name="model_files")) == 2
    take(opened, served("a", path="/m/a.gguf"))
    assert len(table(opened, name="model_files")) == 2
    take(opened, item)
    assert table(opened, "path, size", "model_files") == [("/m/a.gguf", 100)]


def test_an_error_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = catalogue(tmp_path)

    def fail(*_arguments: object) -> None:
        raise RuntimeError("half-way")

    monkeypatch.setattr(merging, "land_companions", fail)
    with new_staging() as staging:
        staging.add_rows([], is_authoritative=True)
        staging.add(found("/m/a.gguf"))
        with pytest.raises(RuntimeError, match="half-way"):
            merge(opened, staging, now=NOW)
    assert table(opened) == []
    assert not opened.conn.in_transaction
    databases = [row[1] for row in opened.conn.execute("PRAGMA database_list")]
    assert "staged" not in databases


def test_the_times_of_a_record_are_kept(tmp_path: Path) -> None:
    opened = catalogue(tmp_path)
    take_rows(opened, [model("/m/a.gguf", created_at="2020-01-01T00:00:00Z", updated_at=NOW)])
    take_rows(opened, [model("/m/a.gguf", created_at=LATER, updated_at=LATER)], now=LATER)
    assert table(opened, "created_at, updated_at") == [("2020-01-01T00:00:00Z", NOW)]


_names = st.text(max_size=4)
_numbers = st.none() | st.integers(1, 2**63 - 1)
_records = st.builds(
    lambda name, known, tags: Model(
        id=model_id(file_locator("box", "/" + name)),
        name=name,
        source="json",
        locator=file_locator("box", "/" + name),
        path="/" + name,
        **known,
        tags=tuple(tags),
    ),
    _names,
    st.fixed_dictionaries({"license": st.none() | _names, "block_count": _numbers}),
    st.lists(_names, max_size=3),
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.lists(_records, max_size=12, unique_by=lambda record: record.locator).flatmap(
        lambda records: st.tuples(st.just(records), st.permutations(records))
    ),
    st.integers(1, 12),
)
def test_records_in_any_order_and_batches_give_the_same_rows(
    orders: tuple[list[Model], list[Model]], batch: int
) -> None:
    results = []
    for records in orders:
        with TemporaryDirectory() as directory:
            opened = catalogue(Path(directory))
            for start in range(0, len(records), batch):
                take_rows(opened, records[start : start + batch])
            results.append(table(opened))
            size = len(records)
            assert counts(take_rows(opened, records[::-1], now=LATER)) == (0, 0, size)
            assert table(opened) == results[-1]
            opened.conn.close()
        batch = max(1, batch // 2)
    assert results[0] == results[1]
    assert len(results[0]) == len(orders[0])


# What a file is, by its content: two paths of one content share a hash or an inode.
_sources = st.sampled_from(["gguf", "huggingface", "ollama"])
_sightings = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 9), _sources, st.none() | _names),
    max_size=10,
    unique_by=lambda sighting: sighting[:2],
)


def _sighting(content: int, copy: int, source: str, license_name: str | None) -> Found:
    path = f"/{source}/{content}/{copy}"
    linked = content % 2  # odd contents are hard links of one file; even ones carry a hash
    weights = file(
        path,
        size=100 + content,
        inode=content if linked else None,
        device=7 if linked else None,
        sha256=None if linked else f"{content:064x}",
    )
    described = model(path, source=source, license=license_name)
    return Found(described, (weights,), Place(f"/{source}", path, source, path))


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(_sightings.flatmap(lambda s: st.tuples(st.just(s), st.permutations(s))), st.integers(1, 10))
def test_one_content_is_one_row_in_any_order_and_batches(
    orders: tuple[list[tuple[int, int, str, str | None]], ...], batch: int
) -> None:
    for sightings in orders:
        items = [_sighting(*sighting) for sighting in sightings]
        with TemporaryDirectory() as directory:
            opened = catalogue(Path(directory))
            added = 0
            for start in range(0, len(items), batch):
                added += take(opened, *items[start : start + batch]).added
            contents = {content for content, *_ in sightings}
            assert len(table(opened)) == added == len(contents)
            places = table(opened, "model_id, locator", "model_places")
            assert len(places) == len(items)
            by_model: dict[object, set[str]] = {}
            for one, locator in places:
                by_model.setdefault(one, set()).add(str(locator).split("/")[2])
            assert sorted(map(len, by_model.values())) == [1] * len(contents)
            before = [table(opened, name=name) for name in ("models", "model_files")]
            for start in range(0, len(items), batch):
                again = take(opened, *items[start : start + batch], now=LATER)
                assert (again.added, again.updated) == (0, 0)
            assert [table(opened, name=name) for name in ("models", "model_files")] == before
            opened.conn.close()
