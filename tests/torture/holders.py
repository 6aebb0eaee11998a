"""Holders: the files of live applications are deleted, replaced, moved, mounted, linked or copied.

Before a command or at one of its system calls; the applications are Python's with three builds of
SQLite, and the shell. See `play` for how a play is judged.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from itertools import combinations
from pathlib import Path

from tests.torture.applications import COUNT, LIBRARIES, NODE, SHELL, Python
from tests.torture.attack import Plan, Result, SimpleAttack
from tests.torture.live import (
    INSERT,
    App,
    Kind,
    Label,
    Stage,
    leave_alone,
    start_plainly,
)
from tests.torture.play import attack_with, twin_of

_SIDES = ("", "-wal", "-shm")
_JOURNAL = ("PRAGMA journal_mode=DELETE",)


def _kind(
    name: str,
    label: Label,
    spoil: Callable[[Stage], Path] = leave_alone,
    start: Callable[[Stage], App] = start_plainly,
    *,
    libraries: tuple[str, ...] = (*LIBRARIES, SHELL, NODE),
    setup: tuple[str, ...] = (),
    has_company: bool = True,
    has_moment: bool = True,
) -> Kind:
    return Kind(
        name=name,
        label=label,
        start=start,
        spoil=spoil,
        libraries=libraries,
        setup=setup,
        has_company=has_company,
        has_moment=has_moment,
    )


def _delete(*suffixes: str) -> Callable[[Stage], Path]:
    def spoil(stage: Stage) -> Path:
        if stage.scene.moment is None:  # else the command may hold the lock for writers
            stage.app.run(INSERT)
        for suffix in suffixes:
            Path(f"{stage.path}{suffix}").unlink(missing_ok=True)
        return stage.path

    return spoil


def _make(path: Path, mode: str) -> Path:
    """Make a database with one row."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA journal_mode={mode}").fetchall()
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, x)")
        connection.execute("INSERT INTO t (x) VALUES ('restored')")
    return path


def _replace(mode: str, *without: str) -> Callable[[Stage], Path]:
    """Restore another database by renaming it over the one in use."""

    def spoil(stage: Stage) -> Path:
        os.replace(_make(stage.place / "new", mode), stage.path)
        for suffix in without:
            Path(f"{stage.path}{suffix}").unlink(missing_ok=True)
        return stage.path

    return spoil


def _replace_with_copy(stage: Stage) -> Path:
    """Copy the database, and rename the copy over it: an editor, or a tool for synchronizing."""
    shutil.copyfile(stage.path, stage.place / "new")
    os.replace(stage.place / "new", stage.path)
    return stage.path


def _overwrite(stage: Stage) -> Path:
    """Restore with `cp`: other content in the same file."""
    shutil.copyfile(_make(stage.place / "new", "WAL"), stage.path)
    (stage.place / "new").unlink()
    return stage.path


def _move_and_restore(stage: Stage) -> Path:
    """Put the broken database away, and a copy of it in its place: its log stays."""
    shutil.copyfile(stage.path, stage.place / "new")
    stage.place.joinpath("attic").mkdir()
    os.rename(stage.path, stage.place / "attic" / "broken.db")
    os.rename(stage.place / "new", stage.path)
    return stage.path


def _overwrite_log(stage: Stage) -> Path:
    """Restore an older state of the log with `cp`: it lacks frames that its index counts."""
    log = Path(f"{stage.path}-wal")
    older = log.read_bytes()
    stage.app.run(INSERT)
    log.write_bytes(older)
    return stage.path


def _replace_log(data: bytes | None) -> Callable[[Stage], Path]:
    def spoil(stage: Stage) -> Path:
        log = Path(f"{stage.path}-wal")
        new = stage.place / "new-log"
        new.write_bytes(log.read_bytes() if data is None else data)
        os.replace(new, log)
        return stage.path

    return spoil


def _truncate_log(stage: Stage) -> Path:
    os.truncate(f"{stage.path}-wal", 0)
    return stage.path


def _move(*suffixes: str, back: bool = False) -> Callable[[Stage], Path]:
    def spoil(stage: Stage) -> Path:
        new = stage.place / "moved.db"
        for suffix in suffixes:
            os.rename(f"{stage.path}{suffix}", f"{new}{suffix}")
        return stage.path if back else new

    return spoil


def _move_directory(stage: Stage) -> Path:
    new = stage.place.with_name("elsewhere")
    os.rename(stage.place, new)
    new.joinpath("home").mkdir()
    os.rename(new, stage.place.with_name("kept"))
    os.mkdir(stage.place)
    return stage.place.with_name("kept") / stage.path.name


def _swap(stage: Stage) -> Path:
    """Put another database with a log of its own in the place of the one in use."""
    for suffix in _SIDES:
        os.rename(f"{stage.path}{suffix}", f"{stage.place}/blue.db{suffix}")
    stage.aside = list(stage.cast)
    stage.start(_make(stage.path, "WAL"), INSERT, library="sqlite3")
    return stage.path


def _link(stage: Stage) -> Path:
    new = stage.place / "linked.db"
    os.link(stage.path, new)
    return new


def _symlink(stage: Stage) -> Path:
    new = stage.place / "symbolic.db"
    new.symlink_to(stage.path)
    return new


def _copy(*suffixes: str) -> Callable[[Stage], Path]:
    def spoil(stage: Stage) -> Path:
        new = stage.place / "copied"
        new.mkdir()
        for suffix in suffixes:
            shutil.copyfile(f"{stage.path}{suffix}", f"{new}/app.db{suffix}")
        return new / "app.db"

    return spoil


def _mount_file(stage: Stage) -> App:
    """Start the application in a container that has the database's file mounted, and no more."""
    stage.start(stage.path, *stage.setup, library="sqlite3").end("close")
    stage.cast.clear()
    inside = stage.place.with_name("container") / "inside"
    inside.parent.mkdir()
    inside.touch()
    return _start_mounted(stage, stage.path, inside, inside)


def _mount_directory(stage: Stage) -> App:
    inside = stage.place.with_name("container")
    inside.mkdir()
    return _start_mounted(stage, stage.place, inside, inside / stage.path.name)


def _start_mounted(stage: Stage, source: Path, target: Path, path: Path) -> App:
    app = stage.nursery.start_idle()
    stage.cast.append(app)
    app.tell("mount", str(source), str(target))
    app.tell("open", "main", stage.scene.library, f"file:{path}", [*stage.setup, INSERT])
    return app


def _begin(*statements: str) -> Callable[[Stage], Path]:
    def spoil(stage: Stage) -> Path:
        stage.app.run(*statements)
        stage.first = ("COMMIT",)
        stage.aside = [stage.app]
        return stage.path

    return spoil


def _fork(stage: Stage) -> Path:
    assert isinstance(stage.app, Python)
    stage.app.fork()
    return stage.path


def _read_raw(stage: Stage) -> Path:
    """Let a backup have the files open to read."""
    backup = stage.nursery.start_idle()
    stage.cast.append(backup)
    names = [f"{stage.path}{suffix}" for suffix in _SIDES]
    backup.tell("keep", *(name for name in names if os.path.exists(name)))
    return stage.path


def _namesake(stage: Stage) -> Path:
    """Let an application lose the log of another database of the same name."""
    other = stage.place / "other"
    other.mkdir()
    stage.start(other / "app.db", *stage.setup)
    os.remove(other / "app.db-wal")
    return stage.path


def _crash(stage: Stage) -> Path:
    stage.app.end("crash")
    stage.cast[0] = stage.nursery.start("sqlite3", Path(":memory:"), ())
    return stage.path


def _commit(*statements: str) -> Callable[[Stage], Path]:
    def spoil(stage: Stage) -> Path:
        stage.app.run(*statements)
        return stage.path

    return spoil


_DELETED = [
    _kind(f"deleted {' '.join(one or 'database' for one in sides)}", Label.DANGER, _delete(*sides))
    for count in (1, 2, 3)
    for sides in combinations(_SIDES, count)
]
DANGERS = (
    *_DELETED,
    *_DELETED[1:5],  # the incident: drawn more often
    _kind("replaced", Label.DANGER, _replace("WAL"), has_moment=False),
    _kind("replaced by a rollback database", Label.DANGER, _replace("DELETE"), has_moment=False),
    _kind("replaced, log deleted", Label.DANGER, _replace("WAL", "-wal", "-shm"), has_moment=False),
    _kind("replaced by its copy", Label.DANGER, _replace_with_copy, has_moment=False),
    _kind("log replaced by its copy", Label.DANGER, _replace_log(None)),
    _kind("log replaced by an empty one", Label.DANGER, _replace_log(b"")),
    _kind("moved", Label.DANGER, _move("")),
    _kind("moved with its log", Label.DANGER, _move("", "-wal")),
    _kind("linked", Label.DANGER, _link),
    _kind("file mounted", Label.DANGER, start=_mount_file, has_company=False, has_moment=False,
          libraries=LIBRARIES),
    _kind("moved away", Label.GONE, _move("", back=True), has_moment=False),
    _kind("moved, and its copy put there", Label.DANGER, _move_and_restore, has_moment=False),
    _kind("replaced where it is mounted", Label.DANGER, _replace("WAL", "-wal", "-shm"),
          _mount_directory, has_company=False, has_moment=False, libraries=LIBRARIES),
    _kind("overwritten", Label.OPEN, _overwrite, has_moment=False),
    _kind("log overwritten", Label.OPEN, _overwrite_log, has_company=False, has_moment=False),
    # Not in the middle of a command that writes: whoever commits then makes the others read again.
    _kind("log truncated", Label.OPEN, _truncate_log, has_moment=False),
)  # fmt: skip
HEALTHY = (
    _kind("at work", Label.WELL),
    _kind("commits", Label.WELL, _commit(INSERT), has_moment=False),
    _kind(
        "checkpoints",
        Label.WELL,
        _commit("PRAGMA wal_checkpoint(TRUNCATE)", INSERT),
        has_moment=False,
    ),
    _kind("reads", Label.WELL, _begin("BEGIN", COUNT)),
    _kind("writes", Label.WELL, _begin("BEGIN IMMEDIATE", INSERT), has_moment=False),
    _kind("rollback mode", Label.WELL, setup=_JOURNAL),
    _kind(
        "rollback mode, writes",
        Label.WELL,
        _begin("BEGIN IMMEDIATE", INSERT),
        setup=_JOURNAL,
        has_moment=False,
    ),
    _kind("forked", Label.WELL, _fork, libraries=LIBRARIES),
    _kind("read by a backup", Label.WELL, _read_raw),
    _kind("a namesake in trouble", Label.WELL, _namesake),
    _kind("crashed", Label.WELL, _crash, has_company=False, has_moment=False),
    _kind("moved as a whole", Label.WELL, _move(*_SIDES)),
    _kind("swapped", Label.WELL, _swap),
    _kind("by a symbolic link", Label.WELL, _symlink),
    _kind("copied", Label.WELL, _copy("", "-wal"), has_moment=False),
    _kind("copied with its index", Label.WELL, _copy(*_SIDES), has_moment=False),
    _kind("directory mounted", Label.WELL, start=_mount_directory, libraries=LIBRARIES),
)
_KINDS = (*DANGERS, *HEALTHY)


def attack(plan: Plan) -> Result:
    """Play them all."""
    return attack_with(plan, _KINDS)


ATTACK = SimpleAttack(
    name="holders",
    summary="deleted, replaced, moved, mounted, linked and copied files of live applications",
    quick=10,
    full=2_500,
    attack=attack,
    twins=(
        twin_of(_KINDS, "folds-regardless", Label.DANGER, "harm"),
        twin_of(_KINDS, "sees-nobody", Label.DANGER, "false safe", "harm"),
        twin_of(_KINDS, "cries-wolf", Label.WELL, "false alarm"),
    ),
)
