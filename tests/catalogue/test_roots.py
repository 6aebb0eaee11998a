from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from modelstore.catalogue import roots
from modelstore.catalogue.merge import merge
from modelstore.catalogue.roots import Finished, Plan, finish_root, known_files, survey_root
from modelstore.catalogue.staging import Staging
from modelstore.model import Place
from tests.catalogue.making import (
    LATER,
    NOW,
    Found,
    Opened,
    catalogue,
    file,
    found,
    model,
    served,
    table,
    take,
)


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

    def survey(self, *, reached: bool = True) -> Plan:
        with Staging() as staging:
            for item in self.items():
                staging.add(item)
            merge(self.opened, staging, now=LATER)
            staging.clear()
            return survey_root(
                self.opened.conn, staging, self.root, host=self.host, reached=reached
            )

    def scan(self, *, prune: bool = False) -> Finished:
        return finish_root(self.opened, self.survey(), source="directory", now=LATER, prune=prune)

    def statuses(self) -> dict[str, object]:
        rows = self.opened.conn.execute("SELECT path, status FROM models")
        return {os.path.relpath(path, self.root): status for path, status in rows if path}

    def state(self) -> list[tuple[object, ...]]:
        return table(self.opened, "root, status", "roots")


@pytest.fixture(name="disk")
def _disk(tmp_path: Path) -> Disk:
    disk = Disk(catalogue(tmp_path), tmp_path / "models")
    disk.put("a", "b", "sub/c")
    assert disk.scan() == Finished(0, 0)
    return disk


def test_a_file_that_is_gone_makes_its_model_missing(disk: Disk) -> None:
    disk.remove("b")
    plan = disk.survey()
    assert (plan.known, plan.seen, len(plan.missing), len(plan.prunable)) == (3, 2, 1, 1)
    assert not plan.is_most
    assert disk.statuses()["b"] == "available"  # nothing is written before it is asked for
    assert finish_root(disk.opened, plan, source="directory", now=LATER) == Finished(1, 0)
    assert disk.statuses() == {"a": "available", "b": "missing", "sub/c": "available"}
    assert disk.scan() == Finished(0, 0)
    disk.put("b")
    assert disk.scan() == Finished(0, 0)
    assert disk.statuses()["b"] == "available"


def test_a_prune_takes_what_is_missing_and_nothing_else(disk: Disk) -> None:
    disk.remove("b")
    disk.scan()
    disk.remove("sub/c")
    assert disk.survey().is_most
    assert disk.scan(prune=True) == Finished(0, 2)
    assert disk.statuses() == {"a": "available"}
    assert table(disk.opened, "path", "model_files") == [(os.path.join(disk.root, "a"),)]
    assert len(table(disk.opened, name="model_places")) == 1


def test_an_empty_root_is_offline_and_deletes_nothing(disk: Disk) -> None:
    disk.remove("a", "b", "sub/c")
    os.rmdir(os.path.join(disk.root, "sub"))
    plan = disk.survey()
    assert plan.refusal == plan.offline == "it is empty"
    assert finish_root(disk.opened, plan, source="d", now=LATER, prune=True) == Finished(0, 0)
    assert set(disk.statuses().values()) == {"available"}
    assert disk.state() == [(disk.root, "offline")]
    disk.put("a")
    disk.scan()
    assert disk.state() == [(disk.root, "online")]


def test_a_root_that_is_gone_is_offline(disk: Disk) -> None:
    os.rename(disk.root, disk.root + ".away")
    plan = disk.survey(reached=False)
    assert plan.offline is not None
    assert "gone" in plan.offline
    assert finish_root(disk.opened, plan, source="d", now=LATER, prune=True) == Finished(0, 0)
    assert set(disk.statuses().values()) == {"available"}
    assert disk.state() == [(disk.root, "offline")]


def test_a_root_that_could_not_be_read_is_offline(disk: Disk) -> None:
    with Staging() as staging:
        plan = survey_root(disk.opened.conn, staging, disk.root, host="box", reached=False)
    assert plan.offline == "it could not be read"


def test_a_root_on_another_device_is_offline(disk: Disk) -> None:
    disk.opened.conn.execute("UPDATE roots SET device = device + 1")
    with Staging() as staging:
        plan = survey_root(disk.opened.conn, staging, disk.root, host="box")
    assert plan.offline == plan.refusal == "it is on another device than before"
    assert plan.missing == ()


def test_models_on_another_device_than_before_mark_nothing_the_first_time(disk: Disk) -> None:
    disk.opened.conn.execute("UPDATE roots SET device = device + 1")
    disk.remove("b")
    plan = disk.survey()
    assert (plan.offline, plan.refusal) == (None, "it is on another device than before")
    assert finish_root(disk.opened, plan, source="d", now=LATER, prune=True) == Finished(0, 0)
    assert set(disk.statuses().values()) == {"available"}
    assert disk.scan(prune=True) == Finished(0, 1)


def test_a_root_without_a_model_marks_but_does_not_prune(disk: Disk) -> None:
    disk.remove("a", "b")
    plan = None
    with Staging() as staging:
        disk.remove("sub/c")
        plan = survey_root(disk.opened.conn, staging, disk.root, host="box")
    assert plan.refusal == "it holds no model at all"
    assert plan.is_most
    assert finish_root(disk.opened, plan, source="d", now=LATER, prune=True) == Finished(3, 0)
    assert set(disk.statuses().values()) == {"missing"}


def test_a_disk_that_is_not_mounted_below_the_root_is_no_deletion(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.opened.conn.execute("UPDATE model_files SET device = device + 5 WHERE path LIKE '%/c'")
    disk.remove("b", "sub/c")
    assert disk.scan(prune=True) == Finished(0, 1)
    assert disk.statuses() == {"a": "available", "sub/c": "available"}
    device = os.stat(disk.root).st_dev + 5
    monkeypatch.setattr(roots, "_device_above", lambda _path: device)  # mounted, without the file
    assert disk.scan(prune=True) == Finished(0, 1)
    assert disk.statuses() == {"a": "available"}


@pytest.mark.skipif(
    sys.platform == "win32" or not hasattr(os, "geteuid") or os.geteuid() == 0,
    reason="root reads everything",
)
def test_a_directory_that_may_not_be_read_proves_nothing(disk: Disk) -> None:
    sub = os.path.join(disk.root, "sub")
    os.chmod(sub, 0)
    try:
        assert disk.scan(prune=True) == Finished(0, 0)
    finally:
        os.chmod(sub, 0o700)
    assert disk.statuses()["sub/c"] == "available"


def test_a_file_that_is_there_but_was_skipped_is_not_missing(disk: Disk) -> None:
    with Staging() as staging:
        plan = survey_root(disk.opened.conn, staging, disk.root, host="box")
    assert (plan.missing, plan.dropped, plan.prunable) == ((), (), ())


def test_removing_one_place_does_not_remove_the_model(disk: Disk) -> None:
    os.link(os.path.join(disk.root, "a"), os.path.join(disk.root, "z"))
    disk.scan()
    assert len(table(disk.opened, name="models")) == 3
    disk.remove("a")
    assert disk.scan(prune=True) == Finished(0, 0)
    assert disk.statuses() == {"z": "available", "b": "available", "sub/c": "available"}
    places = [row[0] for row in table(disk.opened, "locator", "model_places")]
    assert os.path.join(disk.root, "a") not in places
    assert os.path.join(disk.root, "z") in places
    disk.remove("z")
    assert disk.scan() == Finished(1, 0)


def test_a_root_below_another_sees_what_is_gone(disk: Disk) -> None:
    sub = Disk(disk.opened, Path(disk.root, "sub"))
    sub.put("d")
    sub.scan()
    disk.remove("sub/c")
    assert sub.scan() == Finished(1, 0)
    assert disk.statuses()["sub/c"] == "missing"
    assert sub.scan(prune=True) == Finished(0, 1)
    assert set(disk.statuses()) == {"a", "b", "sub/d"}


def test_a_model_moved_to_another_root_is_found_again(disk: Disk, tmp_path: Path) -> None:
    other = Disk(disk.opened, tmp_path / "other")
    os.rename(os.path.join(disk.root, "b"), os.path.join(other.root, "b"))
    disk.scan()
    assert disk.statuses()["b"] == "missing"
    assert other.scan() == Finished(0, 0)
    assert len(table(disk.opened)) == 3
    assert other.statuses()["b"] == "available"


def test_rows_of_other_hosts_and_records_are_left_alone(disk: Disk) -> None:
    path = os.path.join(disk.root, "only there")
    take(disk.opened, found(path, disk.root, host="rack"))
    with Staging() as staging:
        staging.add_rows([tuple(row) for row in table(disk.opened) if row[23] == "rack"])
        merge(disk.opened, staging, now=NOW)
    assert disk.scan(prune=True) == Finished(0, 0)
    assert disk.statuses()["only there"] == "available"


def test_what_a_server_no_longer_lists_is_missing(disk: Disk) -> None:
    opened, address = disk.opened, "http://localhost:1"
    take(opened, served("gone"), served("a", path=os.path.join(disk.root, "a")), served("b"))
    item = served("b")
    with Staging() as staging:
        staging.add(item)
        merge(opened, staging, now=LATER)
        plan = survey_root(opened.conn, staging, address, host="box")
        assert (plan.known, plan.seen) == (3, 1)
        down = survey_root(opened.conn, staging, address, host="box", reached=False)
    assert finish_root(opened, down, source="s", now=LATER, prune=True) == Finished(0, 0)
    assert finish_root(opened, plan, source="s", now=LATER) == Finished(1, 0)
    status = "SELECT status FROM models WHERE name = 'gone'"
    assert opened.conn.execute(status).fetchall() == [("missing",)]
    assert disk.statuses()["a"] == "available"


def test_a_model_changed_since_the_plan_is_left_alone(disk: Disk) -> None:
    disk.remove("b")
    plan = disk.survey()
    disk.put("b")
    disk.opened.conn.execute("UPDATE models SET updated_at = 'now', status = 'truncated'")
    assert finish_root(disk.opened, plan, source="d", now=LATER, prune=True) == Finished(0, 0)
    assert set(disk.statuses().values()) == {"truncated"}


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
    known = known_files(opened.conn, root, "box")
    below = {os.path.join(root, name) for name in ("a", "b", "sub/c", "\udcff")}
    assert set(known) == below | {str(outside), root + "-not/mmproj"}
    assert known[str(outside)].sha256 == "a" * 64
    assert known[str(outside)].model_file_count == 2
    status = os.stat(os.path.join(root, "a"))
    a = known[os.path.join(root, "a")]
    assert (a.size, a.mtime_ns) == (status.st_size, status.st_mtime_ns)
    assert a.locator == "file://box" + os.path.join(root, "a")
    assert set(known_files(opened.conn, os.path.join(root, "a"), "box")) == {root + "/a"}
    assert known_files(opened.conn, root, "rack") == {}
    opened.conn.execute("UPDATE models SET status = 'missing' WHERE path LIKE '%/a'")
    assert os.path.join(root, "a") not in known_files(opened.conn, root, "box")
