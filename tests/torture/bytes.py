"""Bytes: what the commands do with files, logs and replies that somebody or something mutated.

Each case makes one thing wrong, runs one or two commands on it under 512 MB and 10 s, and then
looks with another SQLite. A failure is a traceback, a hang, more memory, a changed input, an exit
code that is none of the documented ones, or a silently wrong answer.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.cli.program import ROOT
from tests.forkserver import MEMORY, PROGRAM, ForkServer, Ran, fork_server
from tests.render.samples import unsafe_characters
from tests.sources.servers.fake_server import FakeServer, raw, serving
from tests.torture import seeds
from tests.torture.attack import Failure, Plan, Result, SimpleAttack, Twin
from tests.torture.looks import Look, hides_commits, in_memory, look, missing_rows
from tests.torture.mutate import mutated, mutated_database, mutated_index, mutated_log, mutated_text
from tests.waiting import PATIENCE

CODES = frozenset((0, 2, 3, 4, 5, 6, 7))
SILENT = frozenset((2, 3, 7))  # stdout stays empty
FORMATS = ("table", "json", "jsonl", "csv", "tsv")
_HAS_VERIFY = (ROOT / "modelstore" / "cli" / "verify.py").exists()


@dataclass
class Bench:
    """What the cases of one run share."""

    server: ForkServer
    scratch: Path
    databases: Sequence[seeds.Files]
    fake: FakeServer
    program: str = PROGRAM
    runs: int = 0
    seen: dict[str, int] = field(default_factory=dict)

    @property
    def place(self) -> Path:
        return self.scratch / "case"

    def fresh(self) -> Path:
        """Give an empty directory."""
        shutil.rmtree(self.place, ignore_errors=True)
        self.place.mkdir()
        return self.place

    def run(self, *arguments: str | Path, stdin: bytes = b"", **env: str) -> tuple[Ran, list[str]]:
        """Run a command; return with it what is wrong with any run that looks so."""
        ran = self.server.run(
            *arguments,
            stdin=stdin,
            cwd=self.place,
            program=self.program,
            env={"TMPDIR": str(self.scratch), **env},
        )
        self.runs += 1
        return ran, [f"{_short(arguments) or 'completion'}: {fault}" for fault in conduct(ran)]

    def look(self, path: Path, *, log: bool = True) -> Look:
        return look(path, self.scratch / "look", log=log)


def _short(arguments: Sequence[str | Path]) -> str:
    return " ".join(os.path.basename(str(argument))[:60] for argument in arguments)


def conduct(ran: Ran) -> list[str]:
    """Name what no run may do, whatever it was given."""
    faults = []
    if ran.timed_out:
        faults.append(f"ran for more than {PATIENCE:.0f} s")
    elif ran.code not in CODES:
        faults.append(f"exit {ran.code}: {ran.said[-700:]!r}")
    if "Traceback" in ran.said or "this is a bug" in ran.said:
        faults.append(f"a traceback: {ran.said[-700:]!r}")
    if (
        "check who owns the database, its -wal and its directory" in ran.said
    ):  # nothing is read-only here
        faults.append(f"failed over its own way of reading: {ran.said[-300:]!r}")
    if ran.peak > MEMORY:
        faults.append(f"took {ran.peak >> 20} MB")
    if ran.code in SILENT and ran.out:
        faults.append(f"exit {ran.code} with an answer: {ran.out[:200]!r}")
    if ran.code in SILENT and not ran.err.startswith(b"error: ") and b"\nerror: " not in ran.err:
        faults.append(f"exit {ran.code} without a reason: {ran.said[:200]!r}")
    unsafe = unsafe_characters(ran.said) + unsafe_characters(
        ran.out.decode("utf-8", "surrogateescape"), allowed="\n\t"
    )
    if unsafe:
        faults.append(f"wrote {unsafe[:5]!r} to a terminal")
    return faults


def _sources(bench: Bench, rng: random.Random) -> list[str]:
    """Import one mutated file of a source, and see that it is told truly."""
    kind, suffix, make = rng.choice(_SOURCES)
    data = make(rng)
    directory = bench.fresh()
    source = directory / f"model{suffix}"
    source.write_bytes(data)
    forced = ["--from", kind] if rng.random() < 0.5 else []
    stdin = rng.random() < 0.15 and kind in {"json", "jsonl", "csv", "tsv"}
    options = ["--from", kind] if stdin else forced
    database = directory / "m.db"
    ran, faults = bench.run(
        *("import", "-" if stdin else source, *options, "--db", database, "--json"),
        stdin=data if stdin else b"",
    )
    if source.read_bytes() != data:
        faults.append("the source was changed")
    return faults + _imported(bench, ran, database, kind if options else None, data)


def _imported(bench: Bench, ran: Ran, database: Path, kind: str | None, data: bytes) -> list[str]:
    """Compare what an import said with what another SQLite finds in the main file alone."""
    if ran.code not in {0, 6}:
        return []
    said = ran.json
    alone = bench.look(database, log=False)
    count = alone.count() if database.exists() else 0
    if said["added"] != said["found"] - said["unchanged"] - said["updated"]:
        return [f"found {said['found']}, added {said['added']}"]
    if count != said["added"] or (database.exists() and not alone.sound):
        return [f"said {said['added']} added, {count} are in the main file: {alone.problem}"]
    told = said["found"] + said["skipped"]
    records = _records(kind, data)
    if records is not None and told != records:
        return [f"{records} records came to {told} models and skips"]
    return []


def _records(kind: str | None, data: bytes) -> int | None:
    """Return how many different models and faults a text has; None where it is hard to say."""
    if not _is_text(data) or kind not in {"json", "jsonl"} or (kind == "jsonl" and b"\r" in data):
        return None
    values = (
        [_loaded(data)]
        if kind == "json"
        else [_loaded(line) for line in data.split(b"\n") if line.strip()]
    )
    if kind == "json":
        if not isinstance(values[0], list):
            return None
        values = values[0]
    models = [value for value in values if isinstance(value, dict)]
    for field_name in ("name", "path"):
        if len({str(model.get(field_name)) for model in models}) != len(models):
            return None  # one model twice
    return len(values)


def _loaded(data: bytes) -> object:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _is_text(data: bytes) -> bool:
    try:
        return not data.startswith(b"\xef\xbb\xbf") and "\0" not in data.decode()
    except UnicodeDecodeError:
        return False


def _trees(bench: Bench, rng: random.Random) -> list[str]:
    """Import a directory in which files are mutated or have each other's names."""
    directory = bench.fresh() / "tree"
    (directory / "sub").mkdir(parents=True)
    contents = [*seeds.ggufs(), *seeds.safetensors(), seeds.JSON, seeds.YAML, b""]
    names = ["a-00001-of-00002.gguf", "a-00002-of-00002.gguf", "mmproj-b.gguf", "b.gguf"]
    names += ["sub/model.safetensors", "sub/config.json", "sub/model.safetensors.index.json"]
    names += ["sub/adapter_config.json", "sub/tokenizer.json"]
    kept = {}
    for name in names:
        data = rng.choice(contents)
        if rng.random() < 0.6:
            data = mutated(rng, data, contents)
        (directory / name).write_bytes(data)
        kept[name] = data
    database = bench.place / "m.db"
    ran, faults = bench.run("import", directory, "--db", database, "--json")
    for name, data in kept.items():
        if (directory / name).read_bytes() != data:
            faults.append(f"{name} was changed")
    return faults + _imported(bench, ran, database, None, b"")


def _stores(bench: Bench, rng: random.Random) -> list[str]:
    """Import what other programs keep, with files of it mutated: manifests, links, blobs."""
    root = bench.fresh() / "store"
    kind = rng.choice(tuple(seeds.STORES))
    kept = {}
    for name, sound in seeds.store(kind).items():
        change = rng.random()
        if change < 0.1:
            continue  # it is missing
        data = sound
        if change < 0.5 and sound.startswith(b"GGUF"):
            data = mutated(rng, sound, seeds.ggufs())
        elif change < 0.5:
            data = mutated_text(rng, sound)
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        kept[path] = data
    options = ["--from", kind] if rng.random() < 0.8 else []
    database = bench.place / "m.db"
    root.mkdir(exist_ok=True)
    ran, faults = bench.run("import", root, *options, "--db", database, "--json")
    faults += [f"{path.name} was changed" for path in kept if path.read_bytes() != kept[path]]
    return faults + _imported(bench, ran, database, None, b"")


_SOURCES: tuple[tuple[str, str, Callable[[random.Random], bytes]], ...] = (
    ("gguf", ".gguf", lambda rng: mutated(rng, rng.choice(seeds.ggufs()), seeds.ggufs())),
    ("safetensors", ".safetensors", lambda rng: mutated(rng, rng.choice(seeds.safetensors()))),
    ("json", ".json", lambda rng: mutated_text(rng, seeds.JSON, [seeds.CSV, seeds.JSONL])),
    ("jsonl", ".jsonl", lambda rng: mutated_text(rng, seeds.JSONL, [seeds.JSON, seeds.CSV])),
    ("csv", ".csv", lambda rng: mutated_text(rng, seeds.CSV, [seeds.JSONL])),
    ("tsv", ".tsv", lambda rng: mutated_text(rng, seeds.CSV.replace(b",", b"\t"))),
    ("llama-swap", ".yaml", lambda rng: mutated_text(rng, seeds.YAML, [seeds.INI])),
    ("preset", ".ini", lambda rng: mutated_text(rng, seeds.INI, [seeds.YAML])),
)


def _replies(bench: Bench, rng: random.Random) -> list[str]:
    """Import from a server whose replies are mutated: their JSON, their headers, or all bytes."""
    bench.fresh()
    fake = bench.fake
    fake.answers.clear()
    kept = rng.choice((("/props", "/models"), ("/v1/models",), ("/api/version", "/api/tags")))
    also = ("/api/show", "/api/v0/models", "/v1/models")
    for path in (*kept, *(name for name in also if rng.random() < 0.4)):
        body = json.dumps(seeds.REPLIES[path]).encode()
        if rng.random() < 0.8:
            body = mutated_text(rng, body, [seeds.JSON])
        fake.answers[path] = _reply(rng, body)
    kind = rng.choice(("server", "llama-server", "ollama-server", "lmstudio-server"))
    options = ["--from", kind] if rng.random() < 0.7 else []
    database = bench.place / "m.db"
    last: list[str | Path] = ["--db", database, "--json", "--timeout", "1s"]
    ran, faults = bench.run("import", fake.url, *options, *last)
    return faults + _imported(bench, ran, database, None, b"")


def _reply(rng: random.Random, body: bytes) -> object:
    kind = rng.randrange(8)
    if kind <= 3:
        return body
    size = len(body)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    whole = head + b"Content-Length: %d\r\n\r\n" % size + body
    if kind == 4:
        return raw(mutated(rng, whole))
    if kind == 5:
        zipped = gzip.compress(b" " * (200 << 20) if rng.random() < 0.1 else body)
        zipped = mutated(rng, zipped) if rng.random() < 0.5 else zipped
        return raw(head + b"Content-Encoding: gzip\r\n\r\n" + zipped)
    if kind == 6:
        length = rng.choice((b"-1", b"99999999999999", b"0", b"x", b"5, 6", b"9" * 500))
        return raw(head + b"Content-Length: " + length + b"\r\n\r\n" + body)
    chunk = rng.choice((b"%x" % size, b"ffffffffffffffff", b"-5", b"zz", b""))
    return raw(head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk + b"\r\n" + body, again=b" ")


def _of_database(bench: Bench, rng: random.Random) -> list[str]:
    """Run a command on a database of which one file is wrong, and hold its word to the bytes."""
    files = rng.choice(bench.databases)
    others = [other for other in bench.databases if other is not files]
    other = rng.choice(others)
    database, log, index = files.database, files.log, b""
    kind = rng.randrange(11)
    if kind <= 2:
        database = mutated_database(rng, database, [other.database])
    elif kind <= 6:
        log = mutated_log(rng, log, [other.log])
    elif kind == 7:
        index = mutated_index(rng, files.index)
    elif kind == 8:
        log = other.log
    elif kind == 9:
        database, log = mutated_database(rng, database), mutated_log(rng, log)
    else:  # files with each other's names, or a model's
        strange = (database, log, files.index, rng.choice(seeds.ggufs()), seeds.JSON, b"")
        database, log, index = (rng.choice(strange) for _ in range(3))
    directory = bench.fresh()
    path = directory / "some.db"
    path.write_bytes(database)
    if rng.random() < 0.9:
        Path(f"{path}-wal").write_bytes(log)
    if index or rng.random() < 0.2:
        Path(f"{path}-shm").write_bytes(index or files.index)
    whole = rng.random()
    if whole < 0.06:
        return _completed(bench, rng, path)
    return _taken(bench, path) if whole < 0.16 else _commanded(bench, rng, path)


def _completed(bench: Bench, rng: random.Random, path: Path) -> list[str]:
    """Ask for what a shell would offer: that fails in silence, and changes nothing."""
    kept = {file: file.read_bytes() for file in path.parent.iterdir() if file.suffix != ".db-shm"}
    line = rng.choice(("show --db {} M", "list --db {} --tag ", "tag --db {} Model-1 -r "))
    ran, faults = bench.run(
        _MODELSTORE_COMPLETE=rng.choice(("bash", "zsh", "fish")),
        _MODELSTORE_LINE="modelstore " + line.format(path),
    )
    if ran.code or ran.err:
        faults.append(f"completion: exit {ran.code}: {ran.said[:300]!r}")
    changed = [file.name for file in kept if file.read_bytes() != kept[file]]
    faults += [f"completion changed {name}" for name in changed]
    return faults


def _taken(bench: Bench, path: Path) -> list[str]:
    """Import a database's models into another: the source keeps its bytes, its rows come over."""
    before = bench.look(path)
    log = Path(f"{path}-wal")
    kept = {file: file.read_bytes() for file in (path, log) if file.exists()}
    hidden = hides_commits(kept.get(log, b""))
    database = path.parent / "m.db"
    ran, faults = bench.run("import", path, "--db", database, "--json", "--timeout", "300ms")
    faults += [
        f"import of it: {file.name} was changed"
        for file, data in kept.items()
        if not file.exists() or file.read_bytes() != data
    ]
    faults += _imported(bench, ran, database, None, b"")
    if "the database alone is read" in ran.said:
        before, hidden = bench.look(path, log=False), False
    if ran.code == 0 and hidden:
        faults.append("import of it: commits that SQLite hides were passed over")
    if ran.code == 0 and before.problem is None and "models" in before.tables:
        paths = before.column("path")
        names = {
            name
            for name, path in zip(before.column("name"), paths, strict=False)
            if isinstance(name, str) and name.isprintable() and paths.count(path) == 1
        }
        come = set(map(str, bench.look(database).column("name")))
        if missing := names - come - {""}:
            faults.append(f"import of it: exit 0 without {sorted(missing)[:3]}")
    return faults


def _commanded(bench: Bench, rng: random.Random, path: Path) -> list[str]:
    before = bench.look(path)
    log = Path(f"{path}-wal").read_bytes() if Path(f"{path}-wal").exists() else b""
    hidden = hides_commits(log)
    main = path.read_bytes()
    name, *options = rng.choice(_COMMANDS)
    if name == "verify" and not _HAS_VERIFY:
        name, options = "inspect-wal", ["--json"]
    given = [option.replace("ROWS", str(seeds.MODELS)) for option in options]
    arguments = [name, *given, "--db", str(path), "--timeout", "300ms"]
    stdin = seeds.JSONL if name == "import" else b""
    ran, faults = bench.run(*arguments, stdin=stdin)
    bench.seen[f"{name} {ran.code}"] = bench.seen.get(f"{name} {ran.code}", 0) + 1
    kept_main = path.read_bytes() == main
    kept_log = Path(f"{path}-wal").exists() and Path(f"{path}-wal").read_bytes() == log
    may_write = not ("--no-checkpoint" in given or (hidden and "--discard-damaged" not in given))
    if not may_write and not (kept_main and (kept_log or not log)):
        faults.append(f"{name} {given}: exit {ran.code}, and the files were changed")
    if "--discard-damaged" in given and ran.code == 0:
        saved = sorted(path.parent.glob(f"{path.name}.damaged-*"))
        if [one.read_bytes() for one in saved] != [main, log]:
            faults.append(f"gave up a log, and saved {[one.name for one in saved]}")
    after = bench.look(path)
    known = Look(
        tables={name: after.tables[name] for name in after.tables if name in before.tables}
    )
    if ran.code in {2, 3, 7} and missing_rows(known, before):
        faults.append(f"{name} {given}: exit {ran.code}, and the rows were changed")
    judged = _judge(
        name, given, ran, before, after, hidden=hidden, alone=lambda: bench.look(path, log=False)
    )
    return faults + [f"{name} {' '.join(given)}: exit {ran.code}: {fault}" for fault in judged]


_COMMANDS: tuple[tuple[str, ...], ...] = (
    ("list", "--json"),
    ("list", "--json", "--no-checkpoint"),
    *(("list", "-f", form) for form in (*FORMATS, "preset")),
    ("list", "--count"),
    ("list", "-f", "csv", "--columns", "all", "--limit", "3", "--offset", "1"),
    ("list", "--sort", "-name", "--where", "name LIKE 'Model%'", "--json"),
    ("show", "Model-1", "--json"),
    ("show", "Model-3"),
    ("show", "Model-3", "--field", "name", "--no-checkpoint"),
    ("tag", "Model-1", "--add", "x"),
    ("forget", "Model-2", "--yes"),
    ("checkpoint", "--json"),
    ("checkpoint", "--json", "--mode", "passive"),
    ("checkpoint", "--discard-damaged", "--yes"),
    ("inspect-wal", "--json"),
    ("inspect-wal", "--json", "--no-checkpoint"),
    ("inspect-wal", "--json", "--deep", "--no-checkpoint"),
    ("inspect-wal", "--frames"),
    ("inspect-wal", "--transactions", "-f", "jsonl"),
    ("verify", "--json"),
    ("verify", "--json"),
    ("verify", "--json", "--expect-count", "ROWS"),
    ("verify", "--json", "--expect-count", "ROWS"),
    ("verify", "--json", "--no-checkpoint"),
    ("verify", "--quick", "-f", "table"),
    ("verify", "--strict", "--hash", "--min-count", "ROWS", "--max-wal-size", "1GB"),
    ("verify", "--json", "--no-checkpoint", "--expect-count", "ROWS"),
    ("verify", "--deep", "--junit", "v.xml", "--report", "v.html"),
    ("import", "-", "--from", "jsonl", "--json"),
)


def _judge(
    name: str,
    given: Sequence[str],
    ran: Ran,
    before: Look,
    after: Look,
    *,
    hidden: bool,
    alone: Callable[[], Look],
) -> list[str]:
    """Hold a command's word to what SQLite reads before and after it."""
    faults = []
    given_up = "--discard-damaged" in given and ran.code == 0  # that is what was asked for
    if before.problem is None and name not in {"tag", "forget", "import"} and not given_up:
        gone = missing_rows(before, after)
        if gone and not (hidden and after.problem):
            faults.append(f"rows are gone: {gone[:3]}, {after.problem}")
    if ran.code != 0:
        return faults
    if hidden and name in {"verify", "inspect-wal", "tag", "forget", "import"}:
        faults.append("commits that SQLite hides were passed over")
    if name == "list" and "--json" in given and "--where" not in given:
        faults += _judge_list(ran, before, alone)
    elif name == "verify":
        faults += _judge_verify(given, before, alone)
    elif name == "inspect-wal" and "--json" in given and ran.json["raced"]:
        faults.append("says that files changed which nobody touched")
    elif name == "import":
        faults += _judge_import(before, alone())
    return faults


def _judge_verify(given: Sequence[str], before: Look, alone: Callable[[], Look]) -> list[str]:
    faults = []
    if "--quick" not in given and (before.problem is not None or not before.sound):
        faults.append(f"passed, but SQLite says: {before.problem or 'not sound'}")
    counts = "--expect-count" in given
    if "--min-count" in given and (before.count() or 0) < seeds.MODELS:
        faults.append(f"passed, but SQLite counts {before.count()}")
    if counts and before.count() != seeds.MODELS:
        faults.append(f"passed, but SQLite counts {before.count()}")
    if "--no-checkpoint" not in given:
        main = alone()
        if (not main.sound and "--quick" not in given) or (counts and main.count() != seeds.MODELS):
            faults.append(f"passed, but the main file alone: {main.problem}, {main.count()}")
    return faults


def _judge_import(before: Look, main: Look) -> list[str]:
    names = set(main.column("name"))
    lost = [one for one in ("Model-1", "Model-5") if one not in names]
    if lost or missing_rows(_other_rows(before), main):
        return [f"is not whole in the main file alone: {lost}, {main.problem}"]
    return []


def _other_rows(before: Look) -> Look:
    """Leave out what an import may change: rows of its own names, and the catalogue's notes."""
    rows = before.tables.get("models", {})
    kept = {key: row for key, row in rows.items() if not key or not _is_ours(row)}
    return Look(tables={"models": kept})


def _is_ours(row: Sequence[object]) -> bool:
    return any(f"Model-{n}" in row for n in range(1, 6))


def _judge_list(ran: Ran, before: Look, alone: Callable[[], Look]) -> list[str]:
    try:
        said = sorted(str(model["name"]) for model in ran.json)
    except ValueError as error:
        return [f"is no JSON: {error}"]
    if "the database alone is read" in ran.said:
        before = alone()
    if "models" not in before.tables:
        return [f"lists {len(said)} models, but SQLite says {before.problem}"]
    found = sorted(map(str, before.column("name")))
    return [] if said == found else [f"lists {said[:3]}, SQLite reads {found[:3]}"]


_ATTACKS = (
    *(_of_database, _of_database, _of_database, _of_database),
    *(_sources, _sources, _trees, _stores, _replies),
)


def attack(
    plan: Plan,
    *,
    program: str = PROGRAM,
    kinds: Sequence[Callable[[Bench, random.Random], list[str]]] = _ATTACKS,
) -> Result:
    """Run mutants through a program."""
    if not hasattr(os, "pidfd_open"):
        return Result(0, skipped="needs Linux")
    failures = []
    cases = 0
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(in_memory("modelstore-bytes-")))
        bench = Bench(
            fork_server(),
            scratch,
            seeds.databases(),
            stack.enter_context(serving(FakeServer())),
            program,
        )
        for number, rng in plan.cases():
            kind = rng.choice(kinds)
            cases += 1
            try:
                faults = kind(bench, rng)
            except (ValueError, KeyError, TypeError) as error:
                faults = [f"gave an answer that nobody can read: {error!r}"]
            failures += [Failure(number, f"{kind.__name__[1:]}: {fault}") for fault in faults]
        figures = {"runs": bench.runs}
    return Result(cases, tuple(failures), figures)


def _twin(name: str, kind: Callable[[Bench, random.Random], list[str]], cases: int) -> Twin:
    program = f"tests.torture.broken_bytes:{name}"
    return Twin(
        name.replace("_", " "),
        lambda seed: attack(Plan(seed, cases, quick=True), program=program, kinds=(kind,)),
    )


ATTACK = SimpleAttack(
    name="bytes",
    summary="mutated files, logs and replies through every command, under 512 MB and 10 s",
    quick=40,
    full=2500,
    attack=attack,
    twins=(
        _twin("prints_tracebacks", _sources, 10),
        _twin("trusts_lengths", _sources, 10),
        _twin("folds_what_it_finds", _of_database, 20),
        _twin("believes_any_database", _of_database, 25),
    ),
)
