"""Hostile text: names, paths, tags, tables, processes and replies that want to be more than text.

Whatever a stranger wrote may reach a terminal, a shell's completion, CSV, XML, HTML, Markdown or a
CI runner as text alone, and comes back from JSON as it went in. What is typed is never taken for
an option or for SQL.
"""

from __future__ import annotations

import csv
import io
import json
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

from tests.cli.terminal import STYLES, on_terminal
from tests.forkserver import PROGRAM, ForkServer, Ran, fork_server
from tests.render.samples import HOSTILE, unsafe_characters
from tests.sources.servers.fake_server import FakeServer, serving
from tests.torture import seeds
from tests.torture.attack import Failure, Plan, Result, SimpleAttack, Twin
from tests.torture.looks import in_memory

OUR_STYLES = frozenset(("\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[1;31m", "\x1b[33m", "\x1b[32m"))
PAYLOADS = (
    *(text for text in HOSTILE.values() if text),
    *("'; DROP TABLE models; --", '"); DELETE FROM models; --', "' OR 1=1 --", "%' ESCAPE '"),
    *("-rf", "--db=/tmp/x.db", "--help", "-", "--", "--yes", "@file", "*", "?", "~root"),
    *("=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(1)", "\t=1", "\r=1", "\uff1d1"),
    *("$(touch pwned)", "`touch pwned`", "; touch pwned", "| touch pwned", "\ntouch pwned\n"),
    *("<img src=x onerror=alert(1)>", "</td></table><script>alert(1)</script>", "&lt;b&gt;"),
    *("]]>", "<![CDATA[", "--></style><svg onload=alert(1)>", '" onmouseover="x', "javascript:x"),
    *("\n::error::pwned", "::set-env name=A::b", "\r\n::stop-commands::x", "##[error]pwned", "%0A"),
    *("| a | b |\n|---|---|", "[x](http://evil.example)", "![](http://evil.example/x.png)", "# h"),
    *("${GITHUB_TOKEN}", "${{ secrets.X }}", "%s%n%d", "{0.__class__}", "{{7*7}}", "../../etc/x"),
    *("\udcff\udc80", "\ud800", "\U000e0041", "\ufffe\uffff", "\u2028\u2029", "\x00", "\x7f\x80"),
    *("\u202eabc", "a" * 3000, "Z" + "\u0335" * 80, "\ufdfd", "\u034f" * 50),
    "\U0001f469\u200d\U0001f469\u200d\U0001f467",
)


def hostile(rng: random.Random) -> str:
    """Return a text that wants to be more than that."""
    parts = [rng.choice(PAYLOADS) for _ in range(rng.choice((1, 1, 2, 3)))]
    if rng.random() < 0.3:
        parts.append("".join(chr(rng.randrange(0x110000)) for _ in range(rng.randrange(12))))
    return rng.choice(("", "model ", "a/")).join(parts)


@dataclass
class Bench:
    """What the cases of one run share."""

    server: ForkServer
    scratch: Path
    fake: FakeServer
    program: str
    quick: bool
    is_obeyed: bool = False  # by a runner of GitHub, which reads what is printed

    def fresh(self) -> Path:
        place = self.scratch / "case"
        shutil.rmtree(place, ignore_errors=True)
        (place / "cwd").mkdir(parents=True)
        return place

    def run(
        self, place: Path, *arguments: str | Path, stdin: bytes = b"", **env: str
    ) -> tuple[Ran, list[str]]:
        """Run a command in an empty directory of its own; say what is wrong with how it went."""
        if self.is_obeyed:
            env["GITHUB_ACTIONS"] = "true"
        ran = self.server.run(
            *arguments,
            stdin=stdin,
            cwd=place / "cwd",
            env={"TMPDIR": str(self.scratch), **env},
            program=self.program,
        )
        faults = _commands(ran) if "GITHUB_ACTIONS" in env else []
        if ran.code not in {0, 2, 3, 4, 5, 6, 7} or "Traceback" in ran.said:
            faults.append(f"exit {ran.code}: {ran.said[-500:]!r}")
        if os.listdir(place / "cwd"):
            faults.append(f"left {os.listdir(place / 'cwd')} behind")
        faults += _on_lines(ran.said, "stderr")
        return ran, [f"{arguments[0] if arguments else env}: {fault}" for fault in faults]


def _commands(ran: Ran) -> list[str]:
    """Name the lines that GitHub's runner would obey, but for our own annotations.

    It takes ``::name::`` at the beginning of a line, and ``##[name]`` anywhere in one.
    """
    said = ran.out + b"\n" + ran.err
    lines = re.split(r"[\r\n]", said.decode("utf-8", "replace"))
    return [
        f"a workflow command: {line[:200]!r}"
        for line in lines
        if not line.startswith(("::error title=modelstore", "::warning title=modelstore"))
        and (line.lstrip().startswith("::") or "##[" in line)
    ]


def _on_lines(text: str, where: str, *, allowed: str = "\n") -> list[str]:
    faults = []
    if not set(STYLES.findall(text)) <= OUR_STYLES:
        faults.append(f"{where}: styles of strangers: {set(STYLES.findall(text)) - OUR_STYLES}")
    unsafe = unsafe_characters(STYLES.sub("", text), allowed=allowed)
    if unsafe:
        faults.append(f"{where}: {unsafe[:5]!r} in {text[:300]!r}")
    return faults


def _records(rng: random.Random) -> list[dict[str, object]]:
    return [
        {
            "name": hostile(rng).replace("\0", "") or "x",
            "locator": f"name:{number}",
            "path": f"/srv/{number}/" + hostile(rng).replace("\0", ""),
            "architecture": hostile(rng).replace("\0", "") or None,
            "license": hostile(rng).replace("\0", "") or None,
            "tags": [f"t{number}", "plain", hostile(rng).replace("\0", "")],
            "parameters": {hostile(rng).replace("\0", ""): hostile(rng).replace("\0", "")},
        }
        for number in range(4)
    ]


def _listed(bench: Bench, rng: random.Random) -> list[str]:
    """Import records, and read them back in every format."""
    place = bench.fresh()
    made = _records(rng)
    if rng.random() < 0.05:
        made[0]["name"] = "\x1b]0;x\x07" * 200_000
    lines = _lines(rng, made)
    refused = rng.random() < 0.1
    lines += b'\n{"name": "a\\u0000b"}\n{"name": "\0"}\n\xff\xfe\x00' if refused else b""
    db = place / "m.db"
    ran, faults = bench.run(place, "import", "-", "--from", "jsonl", "--db", db, stdin=lines)
    if ran.code != (6 if refused else 0):
        return [*faults, f"import: exit {ran.code}: {ran.said[:300]!r}"]
    ran, more = bench.run(place, "list", "--json", "--db", db)
    faults += more + _on_lines(ran.out.decode(), "list --json")
    back = {model["locator"]: model for model in ran.json} if ran.code == 0 else {}
    for record in made:
        got = back.get(str(record["locator"]), {})
        wrong = [key for key in ("name", "architecture", "license") if got.get(key) != record[key]]
        if wrong:
            faults.append(f"list --json: {wrong} did not come back: {record} {got}")
    if rng.random() < 0.3:
        faults += _come_back(bench, place, ran.out, "json")
        ran, more = bench.run(place, "list", "-f", "tsv", "--columns", "all", "--db", db)
        faults += more + _come_back(bench, place, ran.out, "tsv")
    form = rng.choice(("table", "csv", "tsv", "jsonl", "preset"))
    columns = [] if form == "preset" else ["--columns", "all"]
    ran, more = bench.run(place, "list", "-f", form, *columns, "--db", db)
    faults += more + _on_lines(ran.out.decode(), f"list -f {form}", allowed="\n\t")
    if form == "csv" and ran.code == 0:
        csv.field_size_limit(1 << 30)
        cells = [
            cell for row in csv.reader(io.StringIO(ran.out.decode(), newline="")) for cell in row
        ]
        formulas = [cell for cell in cells if cell[:1] in set("=+-@\t\r")]
        faults += [f"list -f csv: a formula: {formula[:80]!r}" for formula in formulas[:1]]
    name = str(rng.choice(made)["name"])
    faults += _asked(bench, rng, place, db, name)
    ran, more = bench.run(place, "list", "--count", "--db", db)
    if ran.out != b"4\n":
        faults.append(f"four models came to {ran.out!r}")
    return faults + more


def _lines(rng: random.Random, made: Sequence[Mapping[str, object]]) -> bytes:
    """Return records as JSON lines, with escapes or with raw bytes that are no UTF-8."""
    if rng.random() < 0.5:
        return "\n".join(json.dumps(record) for record in made).encode()
    texts = [json.dumps(record, ensure_ascii=False) for record in made]
    lines = [
        text.encode("utf-8", "surrogateescape")
        if not re.search("[\ud800-\udc7f\udd00-\udfff]", text)
        else json.dumps(record).encode()
        for text, record in zip(texts, made, strict=True)
    ]
    return b"\n".join(lines)


def _come_back(bench: Bench, place: Path, listed: bytes, kind: str) -> list[str]:
    """Import what was listed into another catalogue, which then holds the same."""
    (place / "listed").write_bytes(listed)
    db = place / f"{kind}.db"
    ran, faults = bench.run(place, "import", place / "listed", "--from", kind, "--db", db)
    if ran.code != 0:
        return [*faults, f"import of {kind}: exit {ran.code}: {ran.said[:300]!r}"]
    again, more = bench.run(place, "list", "--json", "--db", db)
    before, _ = bench.run(place, "list", "--json", "--db", place / "m.db")
    pairs = zip(before.json, again.json, strict=True)
    wrong = [(key, a[key], b[key]) for a, b in pairs for key in a if a[key] != b[key]]
    return [*faults, *more, *(f"by {kind}, {str(one)[:300]}" for one in wrong[:3])]


def _asked(bench: Bench, rng: random.Random, place: Path, db: Path, name: str) -> list[str]:
    """Type a hostile text wherever one may be typed."""
    text = name if "\ud800" not in name and len(name) < 5000 else "-rf"
    text = "".join(char for char in text if not "\ud800" <= char <= "\udc7f")
    text = "".join(char for char in text if not "\udd00" <= char <= "\udfff").replace("\0", "")
    # A text with a lone "\udcXX" is a byte that is no text; but not where the bytes are UTF-8.
    text = os.fsdecode(os.fsencode(text))
    ways: tuple[Sequence[str | Path], ...] = (
        ("show", "--db", db, "--json", "--", text),
        ("list", "--db", db, "--", text),
        ("list", "--db", db, "--arch", text),
        ("list", "--db", db, "--tag", text),
        ("list", "--db", db, "--where", text),
        ("list", "--db", db, "--columns", text),
        ("list", "--db", db, "--sort", text),
        ("list", "--db", place / "none" / text[:100]),
        ("tag", "--db", db, "--add", text, "--", "name:1"),
        ("forget", "--db", db, "--yes", "--", text + "?"),
        ("import", "--db", db, "--", text + "?/"),
        ("import", "--db", db, "--from", text, "/"),
        ("import", "--db", db, "--host", text, "--dry-run", "/dev/null"),
        ("verify", "--db", db, "--expect-count", f"{text}=4"),
        ("verify", "--db", db, "--min-count", f"models={text}"),
        ("inspect-wal", "--db", place / f"no{text[:80]}"),
        ("checkpoint", "--mode", text, "--db", db),
    )
    faults = []
    for arguments in rng.sample(ways, 2 if bench.quick else 4):
        ran, more = bench.run(place, *arguments)
        faults += more + _on_lines(
            ran.out.decode("utf-8", "surrogateescape"), str(arguments[0]), allowed="\n\t"
        )
    typed = f"modelstore {rng.choice(('show', 'list --arch', 'list --tag', 'forget'))} "
    for shell in ("zsh", "fish", "powershell"):
        line = f"{typed}--db {db} " if shell != "powershell" else f"modelstore\nshow\n--db\n{db}\n"
        ran, more = bench.run(place, _MODELSTORE_COMPLETE=shell, _MODELSTORE_LINE=line)
        faults += more + _on_lines(ran.out.decode(), f"completion in {shell}", allowed="\n\t")
        # The shell shows what follows a word, and takes the word alone into its line.
        words = re.findall(r"^[^\t:]*", ran.out.decode(), re.MULTILINE)
        if ran.code or ran.err or set("".join(words)) & set("$`;|&<>"):
            faults.append(f"completion in {shell}: exit {ran.code}, {ran.out[:200]!r}")
    typed = f"modelstore show --db {db} "
    ran, more = bench.run(place, _MODELSTORE_COMPLETE="bash", _MODELSTORE_LINE=typed)
    faults += more if ran.code else []
    kind, *offers = ran.out.decode().splitlines() or [""]
    for line in offers if kind == "words" else []:
        if set(line) & set("\\$`;|&<>()*?!~'\"#{}\n\t ") or not line.isprintable():
            faults.append(f"completion offers {line!r}")
    return faults


def _shown(bench: Bench, rng: random.Random) -> list[str]:
    """Read on a real terminal."""
    place = bench.fresh()
    made = _records(rng)
    if rng.random() < 0.1:
        made[1]["name"] = "\x1b[31m\u202e" * 100_000
    lines = _lines(rng, made)
    (place / "more.jsonl").write_bytes(_lines(rng, _records(rng)))
    db = place / "m.db"
    _, faults = bench.run(place, "import", "-", "--from", "jsonl", "--db", db, stdin=lines)
    arguments: Sequence[str] = rng.choice(
        (
            *(["list"], ["list", "-f", "csv"], ["list", "--columns", "all"]),
            *(["show", "name:1"], ["show", "name:1", "--field", "name"], ["verify"]),
            *(["import", str(place / "more.jsonl")], ["inspect-wal"], ["checkpoint"]),
            *(["forget", "name:1", "name:2"], ["tag", "name:1", "name:2", "--add", "x"]),
        )
    )
    answer = "n\n" if arguments[0] == "forget" else None
    screen = on_terminal(*arguments, "--db", db, columns=rng.choice((20, 80, 200)), answer=answer)
    if screen.code != 0 and answer is None:
        faults.append(f"{arguments}: exit {screen.code}: {screen.text[-300:]!r}")
    return faults + _on_lines(screen.text, f"{arguments} on a terminal", allowed="\n\x07\x08")


def _trees(bench: Bench, rng: random.Random) -> list[str]:
    """Import files and directories of hostile names, in a database of such a name."""
    place = bench.fresh()
    tree = os.fsencode(place) + b"/tree"
    os.mkdir(tree)
    for number in range(3):
        raw = hostile(rng).encode("utf-8", "surrogatepass" if rng.random() < 0.5 else "replace")
        raw = raw if rng.random() < 0.7 else rng.randbytes(12)
        name = raw.replace(b"/", b"_").replace(b"\0", b"_")[:180] + b"%d" % number
        directory = os.path.join(tree, name)
        os.mkdir(directory)
        with open(os.path.join(directory, name + b".gguf"), "wb") as file:
            file.write(rng.choice(seeds.ggufs()) if rng.random() < 0.7 else b"no model")
    db = os.fsdecode(os.path.join(tree, name, b"m.db"))
    ran, faults = bench.run(place, "import", os.fsdecode(tree), "--db", db)
    faults += _on_lines(ran.out.decode(), "import")
    if ran.code not in {0, 6}:
        return [*faults, f"import of a tree: exit {ran.code}: {ran.said[:300]!r}"]
    form = rng.choice(("table", "csv", "tsv", "json", "preset"))
    for arguments in (["list", "-f", form], ["verify"], ["inspect-wal"]):
        ran, more = bench.run(place, *arguments, "--db", db)
        faults += more + _on_lines(ran.out.decode(), arguments[0], allowed="\n\t")
    ran, more = bench.run(place, "list", "--json", "--db", db)
    for model in ran.json:
        if not os.path.exists(os.fsdecode(model["path"].encode("utf-8", "surrogateescape"))):
            faults.append(f"a path that did not come back: {model['path']!r}")
    return faults + more


class _Tags(HTMLParser):
    """The tags and attributes of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in {"script", "img", "svg", "iframe", "a", "object", "link"}:
            self.faults.append(f"<{tag} {attrs}>")
        self.faults += [f"{key}={value}" for key, value in attrs if key.startswith("on")]


def _reported(bench: Bench, rng: random.Random) -> list[str]:
    """Verify a database whose tables have hostile names, with every report there is."""
    place = bench.fresh()
    safe = hostile(rng).encode("utf-8", "replace").decode().replace("/", "_").replace("\0", "")
    path = place / f"db{safe[:40]}"
    log = _with_tables(path, rng)
    Path(f"{path}-wal").write_bytes(log)
    reports = place / "out"
    reports.mkdir()
    table = hostile(rng).replace("\0", "").encode("utf-8", "replace").decode()[:200] or "t"
    ran, faults = bench.run(
        place,
        *("verify", "--db", path, "--no-checkpoint", "--expect-count", f"{table}=4"),
        *("--junit", reports / "j.xml", "--report", reports / "r.html"),
        GITHUB_ACTIONS="true",
        GITHUB_STEP_SUMMARY=str(reports / "s.md"),
    )
    text = ran.out.decode()
    faults += _on_lines(text, "verify", allowed="\n")
    if not (reports / "j.xml").exists():
        return [*faults, f"no report was written: exit {ran.code}: {ran.said[:300]!r}"]
    junit = (reports / "j.xml").read_text("utf-8")
    ET.fromstring(junit)
    faults += _on_lines(junit, "JUnit", allowed="\n\t")
    for name in ("r.html", "s.md"):
        if (reports / name).exists():
            tags = _Tags()
            tags.feed((reports / name).read_text("utf-8"))
            faults += [f"{name}: {fault}" for fault in tags.faults[:2]]
            faults += _on_lines((reports / name).read_text("utf-8"), name, allowed="\n\t\ufe0f")
    for options in (["--json"], ["-f", "table"], ["--frames"], ["--transactions"]):
        ran, more = bench.run(place, "inspect-wal", *options, "--no-checkpoint", "--db", path)
        faults += more + _on_lines(ran.out.decode(), "inspect-wal", allowed="\n\t")
    for command in (("import", path, "--db", place / "x.db"), ("list", "--db", path)):
        ran, more = bench.run(place, *command)
        faults += more + _on_lines(ran.out.decode(), str(command[0]), allowed="\n\t")
    return faults


def _with_tables(path: Path, rng: random.Random) -> bytes:
    """Make a database with tables of hostile names; return its log, which holds some of them."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE models (id INTEGER PRIMARY KEY, name TEXT)")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        for number in range(3):
            name = hostile(rng).replace("\0", "").encode("utf-8", "replace").decode()
            quoted = '"' + f"{name}{number}".replace('"', '""') + '"'
            connection.execute(f"CREATE TABLE {quoted} (a, {quoted} TEXT)")
            connection.execute(f"INSERT INTO {quoted} VALUES (1, ?)", (name,))
            connection.execute("INSERT INTO models (name) VALUES (?)", (name,))
        return Path(f"{path}-wal").read_bytes()


_BLOCKER = """
import ctypes, sqlite3, sys
ctypes.CDLL(None).prctl(15, sys.argv[2].encode("utf-8", "surrogateescape")[:15], 0, 0, 0)
conn = sqlite3.connect(sys.argv[1], isolation_level=None)
conn.execute("BEGIN")
conn.execute("SELECT count(*) FROM models").fetchone()
other = sqlite3.connect(sys.argv[1], isolation_level=None)
other.execute("UPDATE models SET license = 'new'")
print("ready", flush=True)
sys.stdin.readline()
"""


def _blocked(bench: Bench, rng: random.Random) -> list[str]:
    """Be in the way of a checkpoint, under a hostile name."""
    place = bench.fresh()
    db = place / "m.db"
    _, faults = bench.run(place, "import", "-", "--db", db, stdin=seeds.JSONL)
    name = hostile(rng).replace("\0", "").encode("utf-8", "replace").decode()[:3000]
    process = subprocess.Popen(
        [name or "x", "-c", _BLOCKER, str(db), name],
        executable=sys.executable,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        if process.stdout.readline() != b"ready\n":
            return [*faults, "the blocker could not begin"]
        for arguments in (
            ["checkpoint", "--timeout", "0.1s"],
            ["inspect-wal", "--no-checkpoint"],
            ["verify", "--timeout", "0.1s"],
        ):
            form = rng.choice(("table", "json", "csv", "tsv"))
            ran, more = bench.run(place, *arguments, "-f", form, "--db", db)
            faults += more + _on_lines(ran.out.decode(), arguments[0], allowed="\n\t")
            if form == "json" and arguments[0] == "checkpoint":
                (blocker,) = [one for one in ran.json["blockers"] if one["pid"] == process.pid]
                if ran.code != 4 or not blocker["command"]:
                    faults.append(f"checkpoint: exit {ran.code}, {blocker}")
    finally:
        process.kill()
        process.communicate()
    return faults


def _served(bench: Bench, rng: random.Random) -> list[str]:
    """Import from a server that says hostile things."""
    place = bench.fresh()
    fake = bench.fake
    fake.answers.clear()
    models = [
        {
            "id": hostile(rng),
            "aliases": [hostile(rng)],
            "tags": [hostile(rng)],
            "meta": {"n_params": 5, hostile(rng): hostile(rng)},
            "status": {"value": hostile(rng), "args": ["-m", hostile(rng)]},
            "owned_by": hostile(rng),
        }
        for _ in range(3)
    ]
    fake.answers["/models"] = fake.answers["/v1/models"] = {"object": "list", "data": models}
    fake.answers["/props"] = {"role": "router", "model_path": hostile(rng)}
    if rng.random() < 0.3:
        fake.answers["/models"] = 500
        fake.answers["/v1/models"] = {"error": {"message": hostile(rng)}}
    db = place / "m.db"
    ran, faults = bench.run(place, "import", fake.url, "--db", db, "--timeout", "2s")
    faults += _on_lines(ran.out.decode(), "import from a server")
    if db.exists():
        ran, more = bench.run(place, "list", "--columns", "all", "--db", db)
        faults += more + _on_lines(ran.out.decode(), "list", allowed="\n\t")
    return faults


Channel = Callable[[Bench, random.Random], list[str]]
_CHANNELS: tuple[Channel, ...] = (_listed, _listed, _trees, _reported, _blocked, _served, _shown)


def attack(
    plan: Plan, *, program: str = PROGRAM, channels: Sequence[Channel] = _CHANNELS
) -> Result:
    """Say hostile things through each channel in turn."""
    if not hasattr(os, "pidfd_open"):
        return Result(0, skipped="needs Linux")
    failures = []
    cases = 0
    with ExitStack() as stack:
        bench = Bench(
            fork_server(),
            Path(stack.enter_context(in_memory("modelstore-hostile-"))),
            stack.enter_context(serving(FakeServer())),
            program,
            plan.quick,
        )
        for number, rng in plan.cases():
            channel = channels[number % len(channels)]
            bench.is_obeyed = rng.random() < 0.5
            cases += 1
            try:
                faults = channel(bench, rng)
            except (ValueError, KeyError, TypeError, ET.ParseError) as error:
                faults = [f"an answer that nobody can read: {error!r}"]
            failures += [Failure(number, f"{channel.__name__[1:]}: {fault}") for fault in faults]
    return Result(cases, tuple(failures))


def _twin(name: str, channel: Channel) -> Twin:
    program = f"tests.torture.broken_hostile:{name}"
    return Twin(
        name.replace("_", " "),
        lambda seed: attack(Plan(seed, 3, quick=True), program=program, channels=(channel,)),
    )


ATTACK = SimpleAttack(
    name="hostile",
    summary="names, paths, tables, processes and replies that want to be more than text",
    quick=2 * len(_CHANNELS),
    full=2100,
    attack=attack,
    twins=(
        _twin("prints_what_it_reads", _listed),
        _twin("pastes_reports_together", _reported),
        _twin("puts_names_into_sql", _listed),
    ),
)
