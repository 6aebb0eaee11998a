"""The command lines that faults are put into, and what each may say and leave behind."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from tests.torture import loads
from tests.torture.bench import Bench, require, require_all, require_alone
from tests.torture.client import Outcome
from tests.torture.images import Disk, Image
from tests.torture.loads import Load
from tests.torture.oracle import look
from tests.torture.shim import Kind, Log

DOCUMENTED = frozenset((0, 3, 4, 5, 7))
_SILENT = frozenset((1, 2, 3, 7))
_BUG = re.compile(r"Traceback|this is a bug|Error:|Exception ignored|File \"")


@dataclass(frozen=True, slots=True)
class Scene:
    """A command line on a base, beside nobody or a reader."""

    name: str
    base: str
    load: Load
    company: str = "none"

    @property
    def imports(self) -> bool:
        return self.load.arguments[0] == "import"


def scenes(bench: Bench, *, simple: bool) -> tuple[Scene, ...]:
    """Return every scene; the simple ones are those that a twin understands."""
    place = bench.place / "scenes"
    place.mkdir()
    few = loads.jsonl(place / "few.jsonl", "New", 30)
    if simple:
        return (Scene("import", "small", few),)
    tree = loads.directory(place / "tree", "New", 6)
    json_list = Load(arguments=("list", "--json"))
    return (
        Scene("create", "none", few),
        Scene("import", "small", few),
        Scene("import-tree", "small", tree),
        Scene("import-pending", "pending", few),
        Scene("import-reader", "small", few, "reader"),
        Scene("tag", "small", Load(arguments=("tag", "Base-1", "--add", "mine"))),
        Scene("forget", "small", Load(arguments=("forget", "Base-1", "--yes"))),
        Scene("checkpoint", "pending", Load(arguments=("checkpoint",))),
        Scene("checkpoint-reader", "pending", Load(arguments=("checkpoint",)), "reader"),
        Scene("list", "small", json_list),
        Scene("list-pending", "pending", json_list),
        Scene("show", "pending", Load(arguments=("show", "Base-1", "--json"))),
        Scene("inspect-wal", "pending", Load(arguments=("inspect-wal",))),
        Scene("verify", "pending", Load(arguments=("verify",))),
    )


def judge(
    bench: Bench, scene: Scene, done: Outcome, what: str, *, codes: frozenset[int] = DOCUMENTED
) -> None:
    """Require that what was said is one clear sentence and true, and that nothing is lost."""
    what = f"{scene.name}: {what}: exit {done.code}"
    _require_clear(done, what, codes)
    kept = _kept(bench, scene)
    found = require_all(bench.database, what, *kept)
    load = scene.load
    require(not load.is_torn(found.names), f"{what}: the load is there in part")
    if done.code == 7 or "nothing was written" in done.err:
        there = load.names & found.names
        require(not there, f"{what}: {len(there)} rows were written, though it says that none was")
    if scene.imports and done.code in {0, 4}:
        require(load.is_whole(found.names), f"{what}: rows are missing")
    if scene.imports and done.code == 0:
        require_alone(bench.database, what, load, *kept)
    if done.code == 0 and "list" in load.arguments:
        listed = {row["name"] for row in json.loads(done.out)}
        require(kept[0].names <= listed, f"{what}: it does not list {kept[0].names - listed}")


def _require_clear(done: Outcome, what: str, codes: frozenset[int]) -> None:
    lines = done.err.splitlines()
    said = f"{what}: {lines[:2]} ... {lines[-2:]}"
    require(done.code in codes, f"{said} {done.out[-300:]}")
    require(_BUG.search(done.err + done.out) is None, f"no sentence for a person: {said}")
    errors = re.findall(r"^error: .+$", done.err, re.MULTILINE)
    hints = re.findall(r"^hint: .+$", done.err, re.MULTILINE)
    if done.code in {3, 7}:
        require(len(errors) == 1, f"{len(errors)} errors instead of one: {said}")
        require(len(hints) == 1, f"{len(hints)} hints instead of one: {said}")
    if done.code in _SILENT:
        require(not done.out, f"stdout is not empty: {what}: {done.out[:300]}")
    if done.code in {4, 5}:
        require(bool(errors or done.out), f"it does not say why: {said}")


def _kept(bench: Bench, scene: Scene) -> list[Load]:
    """Return what the base acknowledged, without what the scene takes away."""
    if scene.base == "none":
        return []
    base = bench.loads[scene.base]
    gone = {scene.load.arguments[1]} if scene.load.arguments[0] == "forget" else set()
    return [replace(base, names=base.names - gone)]


def judge_on_disk(
    bench: Bench, scene: Scene, done: Outcome, what: str, log: Log, inodes: Mapping[Kind, int]
) -> None:
    """Require that what was acknowledged would outlive a power cut at this moment.

    `inodes` tells which file was which before the run.
    """
    if not scene.imports or done.code not in {0, 4}:
        return
    disk = Disk()
    base = bench.place / "bases" / scene.base / "models.db"
    for kind, inode in inodes.items():
        path = base if kind is Kind.DB else base.with_name("models.db-wal")
        disk.seed(kind, inode, path.read_bytes() if path.exists() else b"")
    for record in log.records():
        disk.apply(record)
    image: Image = disk.durable()
    if done.code == 0:
        image = {kind: raw for kind, raw in image.items() if kind is Kind.DB}
    place = bench.place / "durable"
    place.mkdir(exist_ok=True)
    for kind, suffix in ((Kind.DB, ""), (Kind.WAL, "-wal"), (Kind.JOURNAL, "-journal")):
        path = place / f"models.db{suffix}"
        path.unlink(missing_ok=True)
        if kind in image:
            path.write_bytes(image[kind])
    found = look(place / "models.db")
    what = f"{scene.name}: {what}: exit {done.code}, then a power cut"
    require(found.trouble is None, f"{what}: {found.trouble}")
    missing = len(scene.load.names - found.names)
    require(not missing, f"{what}: {missing} rows are gone")


def go_on(bench: Bench, scene: Scene, what: str) -> None:
    """Require that once the fault is over, the next import works and finds everything."""
    if "more" not in bench.loads:
        bench.loads["more"] = loads.jsonl(bench.place / "more.jsonl", "More", 2)
    more = bench.loads["more"]
    done = bench.run(more)
    require(done.code == 0, f"{scene.name}: {what}: the next import says {done.code}: {done.err}")
    require_alone(bench.database, f"{scene.name}: {what}: the next import", more)
    with suppress(IndexError):
        require_alone(bench.database, f"{scene.name}: {what}", _kept(bench, scene)[0])
