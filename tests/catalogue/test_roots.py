from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from modelstore.catalogue import roots
from modelstore.catalogue.merge import attached_staging, merge
from modelstore.catalogue.roots import (
    Prune,
    Settled,
    Survey,
    count_known,
    known_files,
    prune_models,
    settle_root,
    survey_root,
)
from modelstore.database.handle import Database
from modelstore.database.sqlite import sqlite3
from modelstore.found import Found, Place
from tests.catalogue.making import (
    LATER,
    NOW,
    Opened,
    catalogue,
    file,
    found,
    model,
    new_staging,
    served,
    table,
    take,
)


def import_root(
    opened: Opened,
    root: str,
    items: Sequence[Found] = (),
    *,
    host: str = "box",
    reached: bool = True,
    prune: bool = False,
    meanwhile: Callable[[Survey], None] = lambda _: None,
) -> tuple[int, int]:
    """Import a root in one batch, as `Importer` does; return its missing and pruned models."""
    settled = Settled()
    with new_staging() as staging:
        for item in items:
            staging.add(item)
        survey = survey_root(opened.db, staging, root, host=host, reached=reached)
        meanwhile(survey)

        def settle(db: Database) -> None:
            nonlocal settled
            settled = settle_root(db, survey, source="d", now=LATER, holds_models=bool(items))

        if items:
            merge(opened, staging, now=LATER, then=settle)
        else:
            with attached_staging(opened.db, staging), opened.write() as db:
                settle(db)
    pruned = prune_models(opened, settled.prunable) if prune and not survey.refusal else ()
    return len(settled.missing.difference(pruned)), len(pruned)


class Disk:
    """A directory of models, and its import as a source would do it."""

    def __init__(self, opened: Opened, root: Path, host: str = "box") -> None:
        self.opened, self.root, self.host = opened, str(root), host
        root.mkdir(exist_ok=True)

    def put(self, *names: str) -> None:
        for name in names:
            path = os.path.join(self.root, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "x", encoding="utf-8") as stream:
                stream.write(name)

    def remove(self, *names: str) -> None:
        for name in names:
            os.unlink(os.path.join(self.root, name))

    def items(self) -> list[Found]:
        items = []
        for directory, _, names in os.walk(self.root):
            for name in names:
                path = os.path.join(directory, name)
                status = os.stat(path)
                item = found(
                    path,
                    self.root,
                    host=self.host,
                    file_size=status.st_size,
                    file_mtime_ns=status.st_mtime_ns,
                    file_device=status.st_dev,
                    file_inode=status.st_ino,
                )
                items.append(item)
        return items

    def survey(self) -> Survey:
        with new_staging() as staging:
            for item in self.items():
                staging.add(item)
            return survey_root(self.opened.db, staging, self.root, host=self.host)

    def scan(self, *, prune: bool = False, reached: bool = True) -> tuple[int, int]:
        return import_root(
            self.opened, self.root, self.items(), host=self.host, prune=prune, reached=reached
        )

    def statuses(self) -> dict[str, object]:
        rows = self.opened.conn.execute("SELECT path, status FROM models")
        return {os.path.relpath(path, self.root): status for path, status in rows if path}

    def state(self) -> list[tuple[object, ...]]:
        return table(self.opened, "root, status", "roots")


@pytest.fixture(name="disk")
def _disk(tmp_path: Path) -> Disk:
    disk = Disk(catalogue(tmp_path), tmp_path / "models")
    disk.put("a", "b", "sub/c")
    assert disk.scan() == (0, 0)
    return disk


def test_a_file_that_is_gone_makes_its_model_missing(disk: Disk) -> None:
    disk.remove("b")
    survey = disk.survey()
    assert (survey.seen, len(survey.candidates), len(survey.gone)) == (2, 1, 1)
    assert count_known(disk.opened.db, disk.root, "box") == 3
    assert disk.statuses()["b"] == "available"  # a survey writes nothing
    assert disk.scan() == (1, 0)
    assert disk.statuses() == {"a": "available", "b": "missing", "sub/c": "available"}
    assert disk.scan() == (0, 0)
    disk.put("b")
    assert disk.scan() == (0, 0)
    assert disk.statuses()["b"] == "available"


def test_a_prune_takes_what_is_missing_and_nothing_else(disk: Disk) -> None:
    disk.remove("b")
    disk.scan()
    disk.remove("sub/c")
    assert Prune(disk.root, 3, ("b", "c")).is_most
    assert not Prune(disk.root, 4, ("b", "c")).is_most
    assert disk.scan(prune=True) == (0, 2)
    assert disk.statuses() == {"a": "available"}
    assert table(disk.opened, "path", "model_files") == [(os.path.join(disk.root, "a"),)]
    assert len(table(disk.opened, name="model_places")) == 1


def test_the_models_of_an_empty_root_are_missing_and_never_pruned(disk: Disk) -> None:
    disk.remove("a", "b", "sub/c")
    os.rmdir(os.path.join(disk.root, "sub"))
    survey = disk.survey()
    assert survey.refusal == survey.offline == "it is empty"
    assert disk.scan(prune=True) == (3, 0)
    assert set(disk.statuses().values()) == {"missing"}
    assert disk.state() == [(disk.root, "offline")]
    disk.put("a")
    disk.scan()
    assert disk.statuses()["a"] == "available"
    assert disk.state() == [(disk.root, "online")]


def test_an_empty_root_on_another_device_marks_nothing(disk: Disk) -> None:
    """A disk that is not mounted leaves an empty directory of another device."""
    disk.opened.conn.execute("UPDATE roots SET device = device + 1")
    disk.remove("a", "b", "sub/c")
    os.rmdir(os.path.join(disk.root, "sub"))
    assert disk.scan(prune=True) == (0, 0)
    assert set(disk.statuses().values()) == {"available"}
    assert disk.state() == [(disk.root, "offline")]


def test_a_root_that_is_gone_is_offline(disk: Disk) -> None:
    os.rename(disk.root, disk.root + ".away")
    survey = disk.survey()
    assert survey.offline is not None
    assert "gone" in survey.offline
    assert disk.scan(prune=True, reached=False) == (0, 0)
    assert set(disk.statuses().values()) == {"available"}
    assert disk.state() == [(disk.root, "offline")]


def test_a_root_that_could_not_be_read_is_offline(disk: Disk) -> None:
    with new_staging() as staging:
        plan = survey_root(disk.opened.db, staging, disk.root, host="box", reached=False)
    assert plan.offline == "it could not be read"


def test_a_root_on_another_device_is_offline(disk: Disk) -> None:
    disk.opened.conn.execute("UPDATE roots SET device = device + 1")
    with new_staging() as staging:
        plan = survey_root(disk.opened.db, staging, disk.root, host="box")
    assert plan.offline == plan.refusal == "it is on another device than before"
    assert not plan.candidates


def test_models_on_another_device_than_before_mark_nothing_the_first_time(disk: Disk) -> None:
    disk.opened.conn.execute("UPDATE roots SET device = device + 1")
    disk.remove("b")
    survey = disk.survey()
    assert (survey.offline, survey.refusal) == (None, "it is on another device than before")
    assert disk.scan(prune=True) == (0, 0)
    assert set(disk.statuses().values()) == {"available"}
    assert disk.scan(prune=True) == (0, 1)


def test_a_root_without_a_model_marks_but_does_not_prune(disk: Disk) -> None:
    disk.remove("a", "b")
    disk.remove("sub/c")
    assert disk.survey().refusal == "it holds no model at all"
    assert disk.scan(prune=True) == (3, 0)
    assert set(disk.statuses().values()) == {"missing"}


def test_a_disk_that_is_not_mounted_below_the_root_is_no_deletion(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.opened.conn.execute("UPDATE model_files SET device = device + 5 WHERE path LIKE '%/c'")
    disk.remove("b", "sub/c")
    assert disk.scan(prune=True) == (0, 1)
    assert disk.statuses() == {"a": "available", "sub/c": "available"}
    device = os.stat(disk.root).st_dev + 5
    monkeypatch.setattr(roots, "_device_above", lambda _weights: device)  # mounted: it is not there
    assert disk.scan(prune=True) == (0, 1)
    assert disk.statuses() == {"a": "available"}


@pytest.mark.skipif(
    sys.platform == "win32" or not hasattr(os, "geteuid") or os.geteuid() == 0,
    reason="root reads everything",
)
def test_a_directory_that_may_not_be_read_proves_nothing(disk: Disk) -> None:
    sub = os.path.join(disk.root, "sub")
    os.chmod(sub, 0)
    try:
        assert disk.scan(prune=True) == (0, 0)
    finally:
        os.chmod(sub, 0o700)
    assert disk.statuses()["sub/c"] == "available"


def test_a_file_that_is_there_but_was_skipped_is_not_missing(disk: Disk) -> None:
    before = table(disk.opened), table(disk.opened, name="model_places")
    assert import_root(disk.opened, disk.root, prune=True) == (0, 0)
    assert (table(disk.opened), table(disk.opened, name="model_places")) == before


def test_removing_one_place_does_not_remove_the_model(disk: Disk) -> None:
    os.link(os.path.join(disk.root, "a"), os.path.join(disk.root, "z"))
    disk.scan()
    assert len(table(disk.opened, name="models")) == 3
    disk.remove("a")
    assert disk.scan(prune=True) == (0, 0)
    assert disk.statuses() == {"z": "available", "b": "available", "sub/c": "available"}
    places = [row[0] for row in table(disk.opened, "locator", "model_places")]
    assert os.path.join(disk.root, "a") not in places
    assert os.path.join(disk.root, "z") in places
    disk.remove("z")
    assert disk.scan() == (1, 0)


def test_a_root_below_another_sees_what_is_gone(disk: Disk) -> None:
    sub = Disk(disk.opened, Path(disk.root, "sub"))
    sub.put("d")
    sub.scan()
    disk.remove("sub/c")
    assert sub.scan() == (1, 0)
    assert disk.statuses()["sub/c"] == "missing"
    assert sub.scan(prune=True) == (0, 1)
    assert set(disk.statuses()) == {"a", "b", "sub/d"}


def test_a_model_moved_to_another_root_is_found_again(disk: Disk, tmp_path: Path) -> None:
    other = Disk(disk.opened, tmp_path / "other")
    os.rename(os.path.join(disk.root, "b"), os.path.join(other.root, "b"))
    disk.scan()
    assert disk.statuses()["b"] == "missing"
    assert other.scan() == (0, 0)
    assert len(table(disk.opened)) == 3
    assert other.statuses()["b"] == "available"


def test_rows_of_other_hosts_and_records_are_left_alone(disk: Disk) -> None:
    path = os.path.join(disk.root, "only there")
    take(disk.opened, found(path, disk.root, host="rack"))
    with new_staging() as staging:
        staging.add_rows(
            [tuple(row) for row in table(disk.opened) if row[23] == "rack"], is_authoritative=True
        )
        merge(disk.opened, staging, now=NOW)
    assert disk.scan(prune=True) == (0, 0)
    assert disk.statuses()["only there"] == "available"


def test_what_a_server_no_longer_lists_is_missing(disk: Disk) -> None:
    opened, address = disk.opened, "http://localhost:1"
    take(opened, served("gone"), served("a", path=os.path.join(disk.root, "a")), served("b"))
    assert count_known(opened.db, address, "box") == 3
    assert import_root(opened, address, reached=False, prune=True) == (0, 0)
    assert import_root(opened, address, [served("b")]) == (1, 0)
    status = "SELECT status FROM models WHERE name = 'gone'"
    assert opened.conn.execute(status).fetchall() == [("missing",)]
    assert disk.statuses()["a"] == "available"


def test_a_model_changed_since_the_survey_is_left_alone(disk: Disk) -> None:
    disk.remove("b")

    def change(survey: Survey) -> None:
        assert len(survey.gone) == 1
        disk.put("b")
        disk.opened.conn.execute("UPDATE models SET updated_at = 'now', status = 'truncated'")

    others = disk.items()
    assert import_root(disk.opened, disk.root, others, prune=True, meanwhile=change) == (0, 0)
    assert disk.statuses()["b"] == "truncated"


def test_a_root_is_recorded_with_its_models_or_not_at_all(disk: Disk, tmp_path: Path) -> None:
    """A root that never held a model leaves no trace, and one that fails undoes its models."""
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    (nothing / "notes.txt").write_text("no model")
    before = disk.state()
    assert import_root(disk.opened, str(nothing)) == (0, 0)
    assert disk.state() == before
    other = Disk(disk.opened, tmp_path / "other")
    other.put("d")
    disk.opened.conn.execute(
        "CREATE TRIGGER no_more BEFORE INSERT ON roots BEGIN SELECT raise(ABORT, 'no'); END"
    )
    with pytest.raises(sqlite3.IntegrityError):
        other.scan()
    assert disk.state() == before
    assert not any("other" in str(row) for row in table(disk.opened))
    assert not any("other" in str(row) for row in table(disk.opened, name="model_files"))


def test_a_model_whose_place_shows_another_one_is_looked_at(disk: Disk) -> None:
    """A tag of a store moves on to another blob, and the old blob is deleted, in one import."""
    one, two = (found(os.path.join(disk.root, name), disk.root) for name in ("blob1", "blob2"))
    assert one.place is not None
    tag = replace(one.place, locator="tag")
    disk.put("blob1", "blob2")
    assert import_root(disk.opened, disk.root, [replace(one, place=tag), two]) == (0, 0)
    disk.remove("blob1")
    assert import_root(disk.opened, disk.root, [replace(two, place=tag), two]) == (1, 0)
    assert disk.statuses()["blob1"] == "missing"


def test_known_files_are_those_under_the_root(disk: Disk, tmp_path: Path) -> None:
    opened, root = disk.opened, disk.root
    outside = tmp_path / "linked"
    outside.write_text("x")
    linked = Found(
        model(str(outside)),
        (file(str(outside), sha256="a" * 64), file(root + "-not/mmproj", role="projector")),
        Place(root, root + "/link", "gguf", "link"),
    )
    take(opened, linked, found(root + "x/y", root + "x"), found(root + "/\udcff", root))
    known = known_files(opened.db, root, "box")
    below = {os.path.join(root, name) for name in ("a", "b", "sub/c", "\udcff")}
    assert set(known) == below | {str(outside), root + "-not/mmproj"}
    assert known[str(outside)].sha256 == "a" * 64
    assert known[str(outside)].model_file_count == 2
    status = os.stat(os.path.join(root, "a"))
    a = known[os.path.join(root, "a")]
    assert (a.size, a.mtime_ns) == (status.st_size, status.st_mtime_ns)
    assert a.locator == "file://box" + os.path.join(root, "a")
    assert set(known_files(opened.db, os.path.join(root, "a"), "box")) == {root + "/a"}
    assert known_files(opened.db, root, "rack") == {}
    opened.conn.execute("UPDATE models SET status = 'missing' WHERE path LIKE '%/a'")
    assert os.path.join(root, "a") not in known_files(opened.db, root, "box")
