"""Restored: an old log lies beside a new database, or a log beside its own that looks old.

Nobody is at work. SQLite reads the main file alone and both together before and after a command:
what could be read must still be there, in place or in a copy, or be folded as SQLite folds it. The
log of another database is folded by nobody; the database's own log gives no alarm.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from tests.torture import shim
from tests.torture.attack import Failure, Plan, Result, SimpleAttack, Twin
from tests.torture.client import Outcome, Server
from tests.torture.oracle import workplace

Rows = dict[str, frozenset[str]]
_COMMANDS = (
    ("checkpoint",),
    ("checkpoint",),
    ("checkpoint", "--mode", "passive"),
    ("checkpoint", "--yes"),
    ("inspect-wal",),
    ("inspect-wal", "--no-checkpoint"),
    ("verify", "--skip", "environment"),
    ("verify", "--skip", "environment"),
    ("verify", "--no-checkpoint", "--skip", "environment"),
    ("list",),
)
_JUDGES = ("checkpoint", "verify")
_HOUR = 3600
_COPYING = 3  # seconds; a copy of two files writes one after the other


class Label(Enum):
    """Whose the log is."""

    OWN = "own"
    FOREIGN = "foreign"
    EITHER = "either"  # nothing proves it


@dataclass(frozen=True, slots=True)
class View:
    """What SQLite reads: rows by table, or the reason why it cannot."""

    rows: Rows
    problem: str | None = None

    @property
    def count(self) -> int:
        """The number of rows; -1 if the database is not sound."""
        return -1 if self.problem else sum(map(len, self.rows.values()))


@dataclass(frozen=True, slots=True)
class Views:
    """The main file alone, and with its log."""

    alone: View
    both: View


Build = Callable[[Path, random.Random], None]


# -- databases and their logs ------------------------------------------------------------------


def _connect(path: Path, rng: random.Random | None = None) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    if rng is not None:
        connection.execute(f"PRAGMA page_size={rng.choice((512, 1024, 4096, 4096))}")
        connection.execute(f"PRAGMA encoding='{rng.choice(('UTF-8', 'UTF-8', 'UTF-16le'))}'")
        connection.execute(f"PRAGMA auto_vacuum={rng.choice((0, 0, 1, 2))}")
        connection.execute("PRAGMA journal_mode=WAL").fetchall()
    connection.execute("PRAGMA wal_autocheckpoint=0").fetchall()
    connection.execute("PRAGMA synchronous=OFF")
    return connection


def _fill(connection: sqlite3.Connection, word: str, count: int) -> None:
    connection.execute("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, x)")
    connection.execute("CREATE INDEX IF NOT EXISTS by_x ON t (x)")
    connection.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
        " INSERT INTO t (x) SELECT ? || ' ' || i FROM n",
        (count, word),
    )


def _fold(connection: sqlite3.Connection, mode: str = "TRUNCATE") -> None:
    connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()


def _take(source: Path, target: Path, *suffixes: str) -> None:
    for suffix in suffixes:
        if os.path.exists(f"{source}{suffix}"):
            shutil.copyfile(f"{source}{suffix}", f"{target}{suffix}")


_OWN_WORK: tuple[tuple[str, ...], ...] = (
    ("INSERT INTO t (x) VALUES ('more')",),
    ("UPDATE t SET x = x || '!' WHERE id % 7 = 0",),
    ("DELETE FROM t WHERE id > 3",),
    ("DELETE FROM t WHERE id > 3", "VACUUM"),
    ("DROP TABLE t", "CREATE TABLE u (y)", "INSERT INTO u VALUES ('only')"),
    ("CREATE TABLE u (y)", "INSERT INTO u SELECT x FROM t"),
    ("PRAGMA user_version = 7",),
    ("INSERT INTO t (x) VALUES (zeroblob(50000))", "DELETE FROM t WHERE id % 2"),
)


def _own(path: Path, rng: random.Random) -> None:
    """Leave a log beside its own database, as a crash does."""
    work = path.with_name("work.db")
    with closing(_connect(work, rng)) as connection:
        _fill(connection, "old", rng.choice((5, 60, 900)))
        if rng.random() < 0.8:
            _fold(connection, rng.choice(("TRUNCATE", "RESTART", "PASSIVE")))
        for statements in rng.sample(_OWN_WORK[:3] + _OWN_WORK[5:], rng.randint(1, 3)):
            for statement in statements:
                _try(connection, statement)
        if rng.random() < 0.2:
            _fold(connection, "PASSIVE")
            connection.execute("CREATE TABLE last (z)")
        if rng.random() < 0.3:
            for statement in rng.choice(_OWN_WORK[3:5]):
                _try(connection, statement)
        _take(work, path, "", "-wal", *(["-shm"] if rng.random() < 0.5 else []))


def _try(connection: sqlite3.Connection, statement: str) -> None:
    try:
        connection.execute(statement).fetchall()
    except sqlite3.OperationalError:  # of a table that was dropped before
        connection.execute("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, x)")


def _own_copied(path: Path, rng: random.Random) -> None:
    """Copy database and log of a quiet moment; the copies' times say nothing of their content."""
    _own(path, rng)
    now = time.time()
    for suffix in ("", "-wal"):
        os.utime(f"{path}{suffix}", (now, now - rng.choice((0, 1, _HOUR))))


def _beside(log_of: Path, path: Path, backup: Path, rng: random.Random) -> None:
    """Restore `backup` at a path where the log of another database was left."""
    _take(log_of, path, "-wal", *(["-shm"] if rng.random() < 0.3 else []))
    shutil.copyfile(backup, path)


def _backup(connection: sqlite3.Connection, path: Path, rng: random.Random) -> None:
    """Make a backup in one of three ways."""
    way = rng.choice(("vacuum", "api", "copy"))
    if way == "vacuum":
        connection.execute("VACUUM INTO ?", (str(path),))
    elif way == "api":
        with closing(sqlite3.connect(path)) as target:
            connection.backup(target)
    else:
        _fold(connection)
        (file,) = connection.execute("SELECT file FROM pragma_database_list LIMIT 1").fetchone()
        shutil.copyfile(file, path)


def _fresh_install(path: Path, rng: random.Random) -> None:
    """Restore a backup over the database of an installation that crashed after its first rows."""
    old, work, backup = (path.with_name(name) for name in ("precious.db", "work.db", "backup"))
    with closing(_connect(old, rng)) as connection:
        _fill(connection, "precious", rng.choice((200, 1_000)))
        _backup(connection, backup, rng)
    with closing(_connect(work, rng)) as connection:
        _fill(connection, "fresh", rng.choice((3, 30)))
        _beside(work, path, backup, rng)


def _older_backup(path: Path, rng: random.Random) -> None:
    """Restore yesterday's backup beside the log of today."""
    work, backup = path.with_name("work.db"), path.with_name("backup")
    with closing(_connect(work, rng)) as connection:
        _fill(connection, "old", rng.choice((50, 600)))
        _backup(connection, backup, rng)
        connection.execute("DELETE FROM t WHERE id % 2")
        _fill(connection, "since", rng.choice((3, 400)))
        if rng.random() < 0.7:
            connection.execute("VACUUM")
        _fold(connection)
        connection.execute("UPDATE t SET x = x || '!' WHERE id % 5 = 0")
        _beside(work, path, backup, rng)


def _newer_backup(path: Path, rng: random.Random) -> None:
    """Restore the newest backup beside the log of a crash long before it was made."""
    work, backup, crashed = (path.with_name(n) for n in ("work.db", "backup", "crashed.db"))
    with closing(_connect(work, rng)) as connection:
        _fill(connection, "old", rng.choice((5, 60)))
        if rng.random() < 0.5:
            _fold(connection)
            connection.execute("UPDATE t SET x = x || '!' WHERE id % 3 = 0")
        _take(work, crashed, "-wal", "-shm")
        _fold(connection)
        _fill(connection, "since", rng.choice((200, 1_000)))
        connection.execute("UPDATE t SET x = x || ' today'")
        _backup(connection, backup, rng)
    _beside(crashed, path, backup, rng)


def _rollback_backup(path: Path, rng: random.Random) -> None:
    """Restore a database that is not in WAL mode."""
    work, backup = path.with_name("work.db"), path.with_name("backup")
    with closing(_connect(work, rng)) as connection:
        _fill(connection, "old", 20)
        with closing(sqlite3.connect(backup, isolation_level=None)) as other:
            size = connection.execute("PRAGMA page_size").fetchone()[0]
            other.execute(f"PRAGMA page_size={size}")
            _fill(other, "restored", rng.choice((5, 100)))
        _beside(work, path, backup, rng)


def _two_moments(path: Path, rng: random.Random) -> None:
    """Copy a database before a checkpoint, and its log after later commits."""
    work = path.with_name("work.db")
    with closing(_connect(work, rng)) as connection:
        _fill(connection, "old", rng.choice((100, 900)))
        _fold(connection)
        _take(work, path, "")
        connection.execute("DELETE FROM t WHERE id % 2")
        connection.execute(rng.choice(("VACUUM", "UPDATE t SET x = x || ' changed'")))
        _fold(connection)
        connection.execute("UPDATE t SET x = 'newest ' || id WHERE id < 400")
        _take(work, path, "-wal")


_SHAPES: tuple[tuple[str, Build, bool], ...] = (
    ("its own log", _own, True),
    ("its own log", _own, True),
    ("its own log, copied", _own_copied, True),
    ("the log of a fresh installation", _fresh_install, False),
    ("an older backup", _older_backup, False),
    ("a newer backup", _newer_backup, False),
    ("a backup in rollback mode", _rollback_backup, False),
    ("two moments", _two_moments, False),
)


# -- views, and what is wrong ------------------------------------------------------------------


def _read(path: Path, parameters: str) -> View:
    rows: Rows = {}
    try:
        with closing(sqlite3.connect(f"file:{path}?{parameters}", uri=True)) as connection:
            connection.text_factory = bytes
            ((verdict,),) = connection.execute("PRAGMA integrity_check(1)").fetchall()
            if verdict != b"ok":
                return View({}, repr(verdict))
            names = connection.execute("SELECT name FROM sqlite_schema WHERE type='table'")
            for (name,) in names.fetchall():
                found = connection.execute(f'SELECT * FROM "{name.decode()}"')
                rows[name.decode()] = frozenset(map(repr, found))
    except (sqlite3.Error, UnicodeDecodeError) as error:
        return View({}, str(error))
    return View(rows)


def _views(path: Path, scratch: Path) -> Views:
    """Read copies, without an index: SQLite makes its own."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    _take(path, scratch / "alone.db", "")
    _take(path, scratch / "both.db", "", "-wal")
    return Views(_read(scratch / "alone.db", "immutable=1"), _read(scratch / "both.db", "mode=rw"))


def _label(is_own: bool, path: Path, before: Views) -> Label:
    """Return whose the log is, as far as the files tell; SQLite itself takes it for its own.

    A copy may be newer than the log beside it, and the log may delete rows on purpose.
    """
    is_newer = os.stat(path).st_mtime > os.stat(f"{path}-wal").st_mtime + _COPYING
    if is_own:
        return Label.EITHER if is_newer and before.both.count < before.alone.count else Label.OWN
    is_ruin = before.both.count < before.alone.count / 2
    return Label.FOREIGN if is_newer and is_ruin else Label.EITHER


def _faults(
    label: Label, command: tuple[str, ...], outcome: Outcome, place: Path, before: Views
) -> Iterator[str]:
    path, scratch = place / "app.db", place.with_name("views")
    after = _views(path, scratch)
    if outcome.code not in {0, 2, 3, 4, 5, 7} or "Traceback" in outcome.err:
        yield f"exits {outcome.code}: {outcome.err[-300:]!r}"
    copies = [_views(one, scratch) for one in _databases(place)]
    is_kept = after == before or ("--yes" in command and _has(copies, before.alone))
    is_folded = not before.both.problem and after.alone == before.both == after.both
    if not is_kept and not is_folded:
        yield f"harm (exit {outcome.code}): {_told(before)} before, {_told(after)} after"
    elif label is Label.FOREIGN and not is_kept and not _has(copies, before.alone):
        yield f"harm (exit {outcome.code}): the old log was folded: {_told(before)}"
    says_safe = '"in_main_file": true' in outcome.out or outcome.code == 0
    if command[0] in _JUDGES and "--yes" not in command:
        if label is Label.FOREIGN and says_safe:
            yield f"false safe (exit {outcome.code}): {_told(before)}"
        if label is Label.OWN and "--no-checkpoint" not in command and outcome.code != 0:
            yield f"false alarm (exit {outcome.code}): {(outcome.err or outcome.out)[-400:]!r}"
    if "--no-checkpoint" not in command and label is Label.OWN and not is_folded:
        yield f"false alarm (exit {outcome.code}): not folded: {(outcome.err)[-400:]!r}"


def _databases(place: Path) -> list[Path]:
    names = [one for one in place.iterdir() if one.is_file()]
    return [one for one in names if not one.name.endswith(("-wal", "-shm", "-journal"))]


def _has(copies: Sequence[Views], wanted: View) -> bool:
    return any(wanted in (one.alone, one.both) for one in copies)


def _told(views: Views) -> str:
    return f"{views.alone.count} rows alone, {views.both.count} with the log"


# -- the attack --------------------------------------------------------------------------------


def attack(plan: Plan, program: str = "modelstore", *, own: bool | None = None) -> Result:
    """Build each case's files, run one command, and compare."""
    reason = shim.why_not()
    if reason is not None:
        return Result(0, skipped=reason)
    shapes = [shape for shape in _SHAPES if own in (None, shape[2])]
    failures: list[Failure] = []
    figures: Counter[str] = Counter()
    cases = 0
    with ExitStack() as stack:
        root = stack.enter_context(workplace(shim.workplace()))
        server = stack.enter_context(Server(root / "server", program))
        for number, rng in plan.cases():
            name, build, is_own = rng.choice(shapes)
            place = _built(root, build, rng)
            before = _views(place / "app.db", root / "views")
            label = _label(is_own, place / "app.db", before)
            command = rng.choice(_COMMANDS)
            outcome = server.run([*command, "--db", place / "app.db", "--timeout", "200ms"])
            cases += 1
            figures[label.value] += 1
            failures += [
                Failure(number, f"{' '.join(command)} [{name}, {label.value}]: {fault}")
                for fault in _faults(label, command, outcome, place, before)
            ]
    return Result(cases, tuple(failures), figures)


def _built(root: Path, build: Build, rng: random.Random) -> Path:
    """Build a case's files in an empty directory, with the log the older where it is a relic."""
    place, work = root / "case", root / "work"
    for one in (place, work):
        shutil.rmtree(one, ignore_errors=True)
        one.mkdir()
    build(work / "app.db", rng)
    for suffix in ("", "-wal", "-shm"):
        if os.path.exists(f"{work}/app.db{suffix}"):
            os.rename(f"{work}/app.db{suffix}", f"{place}/app.db{suffix}")
    if build not in (_own, _own_copied):
        ago = time.time() - rng.choice((1, 10, _HOUR, 90 * 24 * _HOUR))
        os.utime(place / "app.db-wal", (ago, ago))
        if rng.random() < 0.3:  # a tool that keeps the backup's own time
            os.utime(place / "app.db", (ago, ago - _HOUR))
    return place


def _twin(program: str, because: str, *, own: bool) -> Twin:
    def run(seed: int) -> Result:
        return attack(Plan(seed=seed, count=8, quick=True), program, own=own).of(because)

    return Twin(program, run)


ATTACK = SimpleAttack(
    name="restored",
    summary="old logs beside new databases of every shape, and logs beside their own",
    quick=16,
    full=2_000,
    attack=attack,
    twins=(
        _twin("folds-regardless", "harm", own=False),
        _twin("cries-wolf", "false alarm", own=True),
    ),
)
