"""Lockless: applications that hold none of SQLite's locks, or one that no other program can pass.

They run without locks, lost them to a stray `close()` or to a second SQLite in their process, or
keep the database for themselves. See `play` for how a play is judged.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from tests.torture.applications import COUNT, LIBRARIES, NODE, SHELL, Python
from tests.torture.attack import Plan, Result, SimpleAttack
from tests.torture.live import (
    App,
    Kind,
    Label,
    Stage,
    leave_alone,
    start_plainly,
)
from tests.torture.play import attack_with, twin_of

_EXCLUSIVE = ("PRAGMA locking_mode=EXCLUSIVE", "PRAGMA journal_mode=WAL")
_JOURNAL = ("PRAGMA journal_mode=DELETE",)
_SPILL = (
    "PRAGMA cache_size=1",
    "BEGIN",
    "INSERT INTO t (x) SELECT hex(zeroblob(2000)) FROM t LIMIT 20",
)


def _kind(
    name: str,
    spoil: Callable[[Stage], Path] = leave_alone,
    start: Callable[[Stage], App] = start_plainly,
    *,
    label: Label = Label.DANGER,
    libraries: tuple[str, ...] | None = None,
    setup: tuple[str, ...] = (),
    parameters: str = "",
    has_company: bool = False,
    has_moment: bool = True,
) -> Kind:
    return Kind(
        name=name,
        label=label,
        start=start,
        spoil=spoil,
        # Node's SQLite knows no URI
        libraries=libraries or (*LIBRARIES, SHELL, *([] if parameters else [NODE])),
        setup=setup,
        parameters=parameters,
        has_company=has_company,
        has_moment=has_moment,
    )


def _touch(*suffixes: str) -> Callable[[Stage], Path]:
    """Let the application open and close its own files, as a backup thread does."""

    def spoil(stage: Stage) -> Path:
        assert isinstance(stage.app, Python)
        stage.app.tell("touch", *(f"{stage.path}{suffix}" for suffix in suffixes))
        return stage.path

    return spoil


def _second_library(stage: Stage) -> Path:
    """Let the application's process use another SQLite for a moment: two copies share no list."""
    assert isinstance(stage.app, Python)
    other = "sqlite3" if stage.scene.library == "pysqlite3" else "pysqlite3"
    stage.app.try_to("open", "other", other, f"file:{stage.path}", [COUNT])
    stage.app.try_to("close", "other")
    return stage.path


def _spill(stage: Stage) -> Path:
    """Leave a transaction half-written, with its journal beside it."""
    stage.app.run(*_SPILL)
    stage.first = ("COMMIT",)
    stage.aside = [stage.app]
    return stage.path


def _leave_lock_file(stage: Stage) -> Path:
    """Leave the lock of `unix-dotfile` behind: a directory that a crash did not remove."""
    lock = Path(f"{stage.path}.lock")
    if not lock.exists():
        os.mkdir(lock)
    return stage.path


_NO_LOCK = "nolock=1"  # keeps SQLite from WAL as well: an idle application has nothing to lose
_PARAMETERS = ("vfs=unix-none", "vfs=unix-dotfile", _NO_LOCK)
_KINDS = (
    *(_kind(f"{one}, exclusive", setup=_EXCLUSIVE, parameters=one,
            label=Label.OPEN if one == _NO_LOCK else Label.DANGER) for one in _PARAMETERS),
    *(_kind(f"{one}, half-written", _spill, setup=_JOURNAL, parameters=one, label=Label.OPEN)
      for one in _PARAMETERS),
    *(_kind(f"{one}, idle", setup=_JOURNAL, parameters=one, label=Label.OPEN)
      for one in _PARAMETERS),
    _kind("exclusive", setup=_EXCLUSIVE),
    _kind("unix-excl", parameters="vfs=unix-excl"),
    _kind("opened and closed its index", _touch("-shm"), libraries=LIBRARIES, has_company=True),
    _kind("opened and closed its files", _touch("", "-wal", "-shm"), libraries=LIBRARIES,
          has_company=True),
    _kind("opened and closed its database", _touch(""), libraries=LIBRARIES, has_company=True,
          label=Label.OPEN),
    _kind("a second library", _second_library, libraries=LIBRARIES),
    _kind("half-written", _spill, setup=_JOURNAL, label=Label.WELL, has_moment=False),
    _kind("a lock file left behind", _leave_lock_file, label=Label.WELL),
    _kind("opened and closed its log", _touch("-wal"), libraries=LIBRARIES, label=Label.WELL),
)  # fmt: skip


def attack(plan: Plan) -> Result:
    """Play them all."""
    return attack_with(plan, _KINDS)


ATTACK = SimpleAttack(
    name="lockless",
    summary="applications without SQLite's locks, or with one that nobody else can pass",
    quick=8,
    full=1_000,
    attack=attack,
    twins=(
        twin_of(_KINDS, "folds-regardless", Label.DANGER, "harm"),
        twin_of(_KINDS, "sees-nobody", Label.DANGER, "false safe", "harm"),
        twin_of(_KINDS, "cries-wolf", Label.WELL, "false alarm"),
    ),
)
