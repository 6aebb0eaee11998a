"""Scenes played twice: with a command of the program, and without. The second is the control.

After the command the applications go on committing, then crash or close. Each row that is on disk
after the control must be there after the play, and integrity_check must be no worse. Nothing is
called safe that an application sees and the main file alone does not have. An application that is
well gives no alarm: the exit code is the one of the same program that sees nobody.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from tests.cli.program import modelstore
from tests.torture import applications, shim
from tests.torture.applications import COUNT, Nursery
from tests.torture.attack import Failure, Plan, Result, Twin
from tests.torture.client import HANGS, Outcome, Server, Setting
from tests.torture.live import JUDGES, Kind, Label, Scene, Stage, draw
from tests.torture.oracle import workplace
from tests.torture.shim import Action, Control, Op, Trap

Rows = frozenset[tuple[str, str]]
"""Table and row of each."""

_CODES = frozenset((0, 2, 3, 4, 5, 6, 7))


@dataclass(frozen=True, slots=True)
class Played:
    """What came of a play. `rows` and `integrity` are by the names of files."""

    pid: int
    outcome: Outcome | None
    rows: dict[str, Rows]
    integrity: dict[str, str]
    done: int  # later statements that succeeded
    seen: int | None  # rows that the application saw at its end
    views: tuple[int | None, ...]  # rows that each application saw after the command
    alone: int | None  # rows of the main file alone, after the command
    changed: tuple[str, ...] = ()  # files that the command changed


class Theater:
    """What all plays share: applications, loaded programs, and a place for files."""

    def __init__(self, place: Path, stack: ExitStack, program: str) -> None:
        self._stack = stack
        self._place = place
        self._root = place / "play"
        self._control = place / "control"
        self._models = place / "models.jsonl"
        self._models.write_text('{"name": "Imported"}\n')
        self._catalogue = place / "base.db"
        made = modelstore("import", "-", "--db", self._catalogue, stdin=b'{"name": "Base"}\n')
        assert made.code == 0, made
        self.nursery = stack.enter_context(Nursery())
        self.server = stack.enter_context(Server(place / "server", program))

    @cached_property
    def unaware(self) -> Server:
        """The same program, as if nobody else were on the machine."""
        return self._stack.enter_context(Server(self._place / "unaware", "sees-nobody"))

    @classmethod
    @contextmanager
    def opened(cls, program: str) -> Iterator[Theater]:
        """Open it for one attack."""
        with ExitStack() as stack:
            yield cls(stack.enter_context(workplace(shim.workplace())), stack, program)

    def play(self, scene: Scene, server: Server | None) -> Played:
        """Play a scene, with the program of `server`, or without one."""
        shutil.rmtree(self._root, ignore_errors=True)
        place = self._root / "home"
        place.mkdir(parents=True)
        stage = Stage(self.nursery, scene, place, place / "app.db")
        if scene.is_catalogue:
            shutil.copyfile(self._catalogue, stage.path)
        try:
            scene.kind.start(stage)
            self._add_company(stage)
            return self._act(stage, server)
        finally:
            for app in stage.cast:
                app.end("crash")

    def _add_company(self, stage: Stage) -> None:
        for name in stage.scene.company:
            begin = ("BEGIN",) if name == "reader" else ()
            stage.start(stage.path, *begin, COUNT, library="sqlite3")

    def _act(self, stage: Stage, server: Server | None) -> Played:
        scene = stage.scene
        pid = stage.app.pid
        path = stage.go_wrong() if scene.moment is None else None
        outcome: Outcome | None = None
        changed: tuple[str, ...] = ()
        if server is not None:
            before = _contents(stage.place)
            outcome, path = self._run(stage, server, path)
            changed = _differences(before, _contents(stage.place))
        path = path or stage.go_wrong()
        views = tuple(app.count() for app in stage.cast if app not in stage.aside)
        alone = _count_alone(path, self._root / "alone.db")
        done = stage.app.run(*stage.first, *scene.later)
        for name, app in zip(scene.company, stage.cast[1:], strict=False):
            done += app.run("INSERT INTO t (x) VALUES ('company')") if name == "writer" else 0
        seen = stage.app.count()
        for app in stage.cast:
            app.end(scene.end)
        files = sorted(one for one in self._root.rglob("*.db") if one.is_file())
        found = {str(one.relative_to(self._root)): _on_disk(one) for one in files}
        return Played(
            pid,
            outcome,
            {name: rows for name, (rows, _) in found.items()},
            {name: integrity for name, (_, integrity) in found.items()},
            done,
            seen,
            views,
            alone,
            changed,
        )

    def _run(self, stage: Stage, server: Server, path: Path | None) -> tuple[Outcome, Path | None]:
        """Run the command; let the scene go wrong at its moment."""
        words = [str(self._models) if word == "MODELS" else word for word in stage.scene.command]
        words += ["--db", str(path or stage.path), "--timeout", "100ms"]
        if stage.scene.moment is None:
            return server.run(words), path
        control = Control(self._control, stage.path)
        control.set(Trap(ops=frozenset(Op), nth=stage.scene.moment, action=Action.STOP))
        spoiled: list[Path] = []
        setting = Setting(control=control, when_stopped=lambda: spoiled.append(stage.go_wrong()))
        outcome = server.run(words, setting)
        return outcome, spoiled[0] if spoiled else None


def _contents(place: Path) -> dict[str, str]:
    """Return the hash of each file that is not an index."""
    return {
        str(one.relative_to(place)): hashlib.sha256(one.read_bytes()).hexdigest()
        if not one.name.endswith("-shm")
        else ""
        for one in place.rglob("*")
        if one.is_file()
    }


def _differences(before: dict[str, str], after: dict[str, str]) -> tuple[str, ...]:
    return tuple(sorted(n for n in before | after if before.get(n) != after.get(n)))


def _count_alone(path: Path, scratch: Path) -> int | None:
    """Return how many rows of `t` a copy of the main file alone has."""
    if not path.exists():
        return None
    shutil.copyfile(path, scratch)
    try:
        with closing(sqlite3.connect(f"file:{scratch}?immutable=1", uri=True)) as connection:
            return int(connection.execute(COUNT).fetchone()[0])
    except sqlite3.Error:
        return 0
    finally:
        scratch.unlink()


def _on_disk(path: Path) -> tuple[Rows, str]:
    """Return the rows and the integrity as the next program finds them: it recovers, and folds."""
    rows: set[tuple[str, str]] = set()
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            (integrity,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
            for table in ("t", "n"):
                with suppress(sqlite3.OperationalError):
                    for row in connection.execute(f"SELECT * FROM {table}"):
                        rows.add((table, repr(row)))
    except sqlite3.Error as error:
        integrity = str(error)
    return frozenset(rows), integrity


# -- judging -----------------------------------------------------------------------------------


def faults_of(scene: Scene, played: Played, control: Played) -> Iterator[str]:
    """Yield what was wrong with a play."""
    outcome = played.outcome
    assert outcome is not None
    if outcome.code not in _CODES or "Traceback" in outcome.err:
        what = "does not end" if outcome.code == HANGS else f"exits {outcome.code}"
        yield f"{what}: {outcome.err[-300:]!r}"
    yield from _harm(played, control)
    if "--no-checkpoint" in scene.command and played.changed and scene.moment is None:
        yield f"--no-checkpoint changes {', '.join(played.changed)}"
    if scene.moment is None:
        yield from _untruths(scene, played, outcome)


def _harm(played: Played, control: Played) -> Iterator[str]:
    exit_code = played.outcome.code if played.outcome else None
    for name, rows in control.rows.items():
        missing = _missing(rows, played.rows.get(name, frozenset()))
        if missing:
            yield (
                f"harm (exit {exit_code}): {name} lacks {len(missing)} of {len(rows)} rows, such "
                f"as {min(missing)}; {played.integrity.get(name, 'it is gone')[:60]!r}"
            )
        elif control.integrity[name] == "ok" != played.integrity.get(name):
            yield f"harm (exit {exit_code}): {name}: {played.integrity.get(name)!r}"
    if played.done < control.done or (played.seen or 0) < (control.seen or 0):
        yield (
            f"harm (exit {exit_code}): the application did {played.done} of {control.done} later "
            f"statements, and saw {played.seen} of {control.seen} rows"
        )


def _missing(rows: Rows, kept: Rows) -> Rows:
    """Return the rows that are not kept; an update adds to a value, and is no loss."""
    gone = rows - kept
    return frozenset(
        (table, row)
        for table, row in gone
        if not any(table == other and new.startswith(row[:-2]) for other, new in kept)
    )


def _untruths(scene: Scene, played: Played, outcome: Outcome) -> Iterator[str]:
    label, command = scene.kind.label, scene.command[0]
    claims = '"in_main_file": true' in outcome.out
    says_safe = claims or (outcome.code == 0 and command in JUDGES)
    most = max((view for view in played.views if view is not None), default=0)
    if says_safe and (played.alone or 0) < most and "--no-checkpoint" not in scene.command:
        yield (
            f"false safe (exit {outcome.code}): the main file alone has {played.alone} rows, an "
            f"application sees {most}"
        )
    if label in (Label.DANGER, Label.GONE) and (
        says_safe or (command == "import" and not outcome.code)
    ):
        yield f"false safe: exits {outcome.code}, in_main_file={claims}"
    said = outcome.out + outcome.err
    if (
        label is Label.DANGER
        and command in (*JUDGES, "inspect-wal")
        and not re.search(rf"(?<!\d){played.pid}(?!\d)", said)
    ):
        yield f"does not name pid {played.pid} (exit {outcome.code}): {_gist(outcome)!r}"


def _gist(outcome: Outcome) -> str:
    lines = (outcome.err or outcome.out).strip().splitlines() or [""]
    return lines[0][:200]


def alarm_of(played: Played, unaware: Played) -> str | None:
    """Return the false alarm, compared with the same program that sees nobody."""
    assert played.outcome is not None
    assert unaware.outcome is not None
    if played.outcome.code == unaware.outcome.code:
        return None
    said = played.outcome.err.strip() or played.outcome.out[-300:]
    return (
        f"false alarm: exits {played.outcome.code}, and without the look at the processes "
        f"{unaware.outcome.code}: {said[:300]!r}"
    )


def attack_with(
    plan: Plan,
    kinds: Sequence[Kind],
    program: str = "modelstore",
    *,
    only: Label | None = None,
    until: tuple[str, ...] = (),
) -> Result:
    """Play the cases, each of which draws its scene, to a failure that says a word of `until`."""
    reason = applications.why_not() or shim.why_not()
    if reason is not None:
        return Result(0, skipped=reason)
    if not applications.can_mount():
        kinds = [kind for kind in kinds if "mounted" not in kind.name]
    kinds = [kind for kind in kinds if only in (None, kind.label)]
    if not applications.has_node():
        kinds = [replace(kind, libraries=_without_node(kind)) for kind in kinds]
    failures: list[Failure] = []
    figures: Counter[str] = Counter()
    cases = 0
    with Theater.opened(program) as theater:
        for number, rng in plan.cases():
            scene = draw(rng, kinds)
            cases += 1
            figures[scene.kind.label.value] += 1
            faults = _judged(theater, scene)
            failures += [Failure(number, f"{scene}: {fault}") for fault in faults]
            if any(word in failure.what for failure in failures for word in until):
                break
    return Result(cases, tuple(failures), figures)


def _without_node(kind: Kind) -> tuple[str, ...]:
    return tuple(library for library in kind.libraries if library != applications.NODE)


def _judged(theater: Theater, scene: Scene) -> Iterator[str]:
    control = theater.play(scene, None)
    played = theater.play(scene, theater.server)
    yield from faults_of(scene, played, control)
    if scene.kind.label is Label.WELL and scene.moment is None:
        alarm = alarm_of(played, theater.play(scene, theater.unaware))
        if alarm is not None:
            yield alarm


def twin_of(kinds: Sequence[Kind], program: str, label: Label, *because: str) -> Twin:
    """Return a broken program that is attacked with the kinds of one label until it is caught."""

    def run(seed: int) -> Result:
        plan = Plan(seed=seed, count=60, quick=True)
        return attack_with(plan, kinds, program, only=label, until=because).of(*because)

    return Twin(program, run)
