"""Rights: who may read what the program leaves, what it writes through, and what it must not say.

Files are never wider than the umask and the existing database; nothing is written through a link;
no key or token comes out anywhere; root at an application's database leaves it to the application.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from tests.cli.program import environment
from tests.forkserver import PROGRAM, ForkServer, Ran, fork_server
from tests.sources.servers.fake_server import Asked, FakeServer, Handler, serving
from tests.torture import seeds
from tests.torture.attack import Failure, Plan, Result, SimpleAttack, Twin
from tests.torture.looks import in_memory
from tests.waiting import PATIENCE
from tests.wal.logfiles import simple_log

_STRANGER = 41_999  # a user that no other program runs as
_IMPORT = (sys.executable, "-m", "modelstore", "import", "-", "--from", "jsonl")
_MODES = (0o600, 0o640, 0o660, 0o644, 0o664)


@dataclass
class Bench:
    """What the cases of one run share."""

    server: ForkServer
    scratch: Path
    fake: FakeServer
    program: str

    def fresh(self) -> Path:
        place = self.scratch / "case"
        shutil.rmtree(place, ignore_errors=True)
        (place / "tmp").mkdir(parents=True)
        return place

    def run(self, *arguments: str | Path, stdin: bytes = b"", umask: int = 0o022) -> Ran:
        """Run a command under a umask."""
        before = self.server.umask
        self.server.umask = umask
        try:
            return self.server.run(
                *arguments,
                stdin=stdin,
                cwd=self.scratch / "case",
                env={"TMPDIR": str(self.scratch / "case" / "tmp"), **self.variables},
                program=self.program,
            )
        finally:
            self.server.umask = before

    variables: dict[str, str]


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _said(ran: Ran, what: str) -> list[str]:
    if ran.code not in {0, 2, 3, 4, 5, 6, 7} or "Traceback" in ran.said:
        return [f"{what}: exit {ran.code}: {ran.said[-400:]!r}"]
    return []


def _wide_files(place: Path, most: int) -> list[str]:
    """Name the files of a database that more people may use than `most` lets."""
    return [
        f"{path.name} has mode {_mode(path):04o}"
        for path in place.glob("m.db*")
        if path.is_file() and _mode(path) & ~most
    ]


def _modes(bench: Bench, rng: random.Random) -> list[str]:
    """Create a catalogue under a umask, and write to a narrow one under none."""
    place = bench.fresh()
    umask = rng.choice((0o077, 0o027, 0o022, 0o002, 0))
    db = place / "m.db"
    ran = bench.run("import", "-", "--db", db, stdin=seeds.JSONL, umask=umask)
    faults = _said(ran, "import") + _wide_files(place, 0o644 & ~umask)
    if os.listdir(place / "tmp"):
        faults.append(f"left in TMPDIR: {os.listdir(place / 'tmp')}")
    db.chmod(0o600)
    blocker = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(db)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert blocker.stdout is not None
        blocker.stdout.readline()
        ran = bench.run(
            "import", "-", "--db", db, "--timeout", "50ms", "--tag", "x", stdin=seeds.JSONL, umask=0
        )
        faults += _said(ran, "import beside a reader") + _wide_files(place, 0o600)
    finally:
        blocker.kill()
        blocker.communicate()
    report = place / "report.html"
    report.touch(mode=0o600)
    ran = bench.run("verify", "--db", db, "--report", report, umask=0o022)
    faults += _said(ran, "verify")
    if _mode(report) & ~0o600:
        faults.append(f"a report of mode 0600 became {_mode(report):04o}")
    return faults


_HOLDER = """
import sqlite3, sys
conn = sqlite3.connect(sys.argv[1], isolation_level=None)
conn.execute("BEGIN")
conn.execute("SELECT count(*) FROM models").fetchone()
print("ready", flush=True)
sys.stdin.readline()
"""


def _scratch_files(bench: Bench, rng: random.Random) -> list[str]:
    """Look at the scratch files while an import waits for its input."""
    place = bench.fresh()
    names = []
    faults = []
    for number in range(2):
        process = subprocess.Popen(
            [*_IMPORT, "--db", str(place / f"m{number}.db")],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment({"TMPDIR": str(place / "tmp")}),
            preexec_fn=lambda: os.umask(0) and None,  # noqa: PLW1509
        )
        try:
            assert process.stdin is not None
            process.stdin.write(seeds.JSONL * 2000)
            process.stdin.flush()
            deadline = time.monotonic() + PATIENCE
            while not (found := os.listdir(place / "tmp")) and time.monotonic() < deadline:
                time.sleep(0.01)
            for name in found:
                names.append(name)
                if _mode(place / "tmp" / name) & 0o077:
                    faults.append(f"{name} has mode {_mode(place / 'tmp' / name):04o}")
        finally:
            process.kill()
            process.communicate()
        shutil.rmtree(place / "tmp")
        (place / "tmp").mkdir()
    if len(set(names)) < len(names) or not names or min(map(len, names)) < 12:
        faults.append(f"names that can be guessed: {names}")
    return faults


def _links(bench: Bench, rng: random.Random) -> list[str]:
    """Lay links where the program writes, and see that nothing is written through them."""
    place = bench.fresh()
    db = place / "m.db"
    faults = _said(bench.run("import", "-", "--db", db, stdin=seeds.JSONL), "import")
    precious = place / "precious"
    precious.write_bytes(b"precious")
    link = place / "link"
    link.symlink_to(precious if rng.random() < 0.7 else place / "nowhere")
    option = rng.choice(("--junit", "--report"))
    ran = bench.run("verify", "--db", db, option, link)
    if ran.code != 2:
        faults.append(f"verify {option} LINK: exit {ran.code}")
    log = simple_log(4096, 5)
    log[32 + 24 + 100] ^= 1  # damage, with commits behind it
    (place / "m.db-wal").write_bytes(log)
    now = time.time()
    for second in range(12):
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now + second))
        for suffix in ("", "-wal"):
            (place / f"m.db.damaged-{stamp}{suffix}").symlink_to(precious)
    ran = bench.run("checkpoint", "--discard-damaged", "--yes", db)
    faults += _said(ran, "checkpoint --discard-damaged")
    (place / "m.db-wal").unlink(missing_ok=True)
    (place / "m.db-wal").symlink_to(precious)
    for command in ("list", "checkpoint", "verify", "inspect-wal"):
        faults += _said(bench.run(command, "--db", db), f"{command} with a link for a log")
    faults += _said(bench.run("import", "-", "--db", db, stdin=seeds.JSONL), "import")
    if precious.read_bytes() != b"precious" or os.path.lexists(place / "nowhere"):
        faults.append("something was written through a link")
    if precious.stat().st_uid != os.getuid() or _mode(precious) != 0o644:
        faults.append("a file behind a link has another owner or mode")
    return faults


def _secrets(bench: Bench, rng: random.Random) -> list[str]:
    """Give keys and tokens in every way there is, and look for them everywhere after."""
    place = bench.fresh()
    secret = rng.choice(("hf_", "")) + rng.randbytes(20).hex()  # a known look, and none
    (place / "key").write_text(secret)
    db = place / "m.db"
    ways = _with_secrets(place, secret)
    fake = bench.fake
    fake.answers.clear()
    fake.key = rng.choice((None, "another"))

    def reflects(handler: Handler, asked: Asked) -> None:
        body = json.dumps({"error": {"message": f"bad key {asked.headers.get('authorization')}"}})
        handler.answer(rng.choice((400, 403, 500)), body.encode())

    args = ["llama-server", "-m", "/m.gguf", "--api-key", secret, f"--hf-token={secret}"]
    data = [{"id": "m", "status": {"value": "loaded", "args": args}}]
    whole = {"data": data, "object": "list"}
    fake.answers["/models"] = rng.choice((whole, reflects, 401))
    fake.answers["/v1/models"] = rng.choice((whole, reflects))
    url = fake.url.replace("//", f"//user:{secret}@") if rng.random() < 0.3 else fake.url
    calls: list[Sequence[str | Path]] = [("import", source) for source in ways]
    calls += [
        ("import", url, "--api-key-file", place / "key", "--timeout", "1s"),
        ("import", f"http://user:{secret}@127.0.0.1:1/x", "--timeout", "1s"),
        ("import", f"http://127.0.0.1:1/x?api_key={secret}", "--timeout", "1s"),
        ("list", "--json"),
        ("show", "--json", "m"),
        ("list", "-f", "preset"),
    ]
    if rng.random() < 0.5:
        bench.variables["MODELSTORE_API_KEY"] = secret
        calls.append(("import", fake.url, "--timeout", "1s"))
    faults = []
    try:
        for call in calls:
            ran = bench.run(*call, "--db", db)
            faults += _said(ran, str(call[0]))
            if secret.encode() in ran.out + ran.err:
                faults.append(f"{[os.path.basename(str(one)) for one in call][:2]} says the secret")
    finally:
        bench.variables.clear()
        fake.key = None
    for path in place.glob("m.db*"):
        if secret.encode() in path.read_bytes():
            faults.append(f"{path.name} holds the secret")
    listed = bench.run("list", "--json", "--no-checkpoint", "--db", place / "dashboard.db")
    if secret.encode() in listed.out + listed.err:
        faults.append("list of another program's table says the secret")
    return faults


def _with_secrets(place: Path, secret: str) -> list[Path]:
    """Write sources of every kind that hold a secret."""
    record = {
        "name": "a",
        "api_key": secret,
        "hf_token": secret,
        "parameters": {"deep": [{"Authorization": f"Bearer {secret}", "token": secret}]},
        "env": {"HF_TOKEN": secret, "OPENAI_API_KEY": secret},
        "args": ["--api-key", secret, f"--hf-token={secret}", f"HF_TOKEN={secret}"],
        "cmd": f"llama-server --api-key {secret} -m /m.gguf",
    }
    texts = {
        "a.json": json.dumps([record]),
        "a.jsonl": json.dumps(record),
        "a.csv": f"name,hf_token,api_key,password\na,{secret},{secret},{secret}\n",
        "a.ini": f"[a]\nmodel = /m.gguf\nhf-token = {secret}\napi-key = {secret}\n"
        f"LLAMA_API_KEY = {secret}\nHF_TOKEN = {secret}\n",
        "a.yaml": f"apiKeys: [{secret}]\nmodels:\n  a:\n    cmd: llama-server -m /m.gguf "
        f"--api-key {secret} --hf-token={secret}\n    env: ['HF_TOKEN={secret}']\n"
        f"    metadata: {{api_key: {secret}}}\n",
    }
    for name, text in texts.items():
        (place / name).write_text(text)
    with closing(sqlite3.connect(place / "dashboard.db")) as connection:
        connection.execute(
            "CREATE TABLE models (id TEXT, name TEXT, hf_token TEXT, favorite, parameters)"
        )
        parameters = json.dumps({**record, "x": {"hf-token": secret}})
        connection.execute("INSERT INTO models VALUES ('1', 'a', ?, 1, ?)", (secret, parameters))
        connection.commit()
    return [*(place / name for name in texts), place / "dashboard.db"]


def _second_user(bench: Bench, rng: random.Random) -> list[str]:
    """As root, work on the database of an application that runs as somebody else."""
    if os.geteuid() != 0 or shutil.which("sqlite3") is None:
        return []
    place = bench.fresh()
    home = place / "app"
    home.mkdir()
    db = home / "m.db"
    faults = _said(bench.run("import", "-", "--db", db, stdin=seeds.JSONL), "import")
    mode = rng.choice(_MODES)
    db.chmod(mode)
    for path in (home, db):
        os.chown(path, _STRANGER, _STRANGER)
    os.chmod(home, 0o750)
    os.chmod(place, 0o755)
    state = rng.choice(("clean", "in use", "left behind"))
    insert = "INSERT INTO models (id, name, source, locator, status, tags, created_at, updated_at)"
    insert += " SELECT hex(randomblob(8)), 'new', source, hex(randomblob(8)), status, tags,"
    insert += " created_at, updated_at FROM models LIMIT 1;"
    app: subprocess.Popen[bytes] | None = None
    if state != "clean":
        app = _as_app(db)
        assert app.stdin is not None
        assert app.stdout is not None
        app.stdin.write(f"PRAGMA wal_autocheckpoint=0; {insert} SELECT 'done';\n".encode())
        app.stdin.flush()
        app.stdout.readline()
        app.stdout.readline()
        if state == "left behind":
            app.kill()
            app.communicate()
    commands: tuple[list[str | Path], ...] = (
        ["import", "-", "--tag", "y"],
        ["list"],
        ["list", "--no-checkpoint"],
        ["show", "Model-1"],
        ["tag", "Model-1", "--add", "x"],
        ["checkpoint"],
        ["checkpoint", "--mode", "passive"],
        ["inspect-wal"],
        ["inspect-wal", "--no-checkpoint"],
        ["verify"],
        ["verify", "--no-checkpoint"],
    )
    command = rng.choice(commands)
    ran = bench.run(*command, "--db", db, stdin=seeds.JSONL, umask=rng.choice((0o077, 0o022, 0)))
    what = f"{command} as root, {state}, {mode:04o}"
    faults += _said(ran, what)
    for path in home.iterdir():
        status = path.stat()
        if (status.st_uid, status.st_gid) != (_STRANGER, _STRANGER):
            faults.append(f"{what}: {path.name} belongs to {status.st_uid}:{status.st_gid}")
        if path.name.startswith("m.db") and stat.S_IMODE(status.st_mode) != mode:
            faults.append(f"{what}: {path.name} has mode {stat.S_IMODE(status.st_mode):04o}")
    if app is not None:
        app.kill()
        app.communicate()
    again = _as_app(db)
    out, err = again.communicate(f"{insert} SELECT 'done';\n".encode(), timeout=PATIENCE)
    if b"done" not in out or err:
        faults.append(f"{what}: then the application cannot write: {err[:200]!r}")
    return faults


def _as_app(db: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["sqlite3", "-batch", str(db)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        user=_STRANGER,
        group=_STRANGER,
        extra_groups=[],
        cwd="/",
        env={"HOME": "/", "PATH": os.environ["PATH"]},
    )


Trial = Callable[[Bench, random.Random], list[str]]
_TRIALS: tuple[Trial, ...] = (_modes, _links, _secrets, _second_user, _second_user, _scratch_files)


def attack(plan: Plan, *, program: str = PROGRAM, trials: Sequence[Trial] = _TRIALS) -> Result:
    """Try each of them in turn."""
    if not hasattr(os, "pidfd_open"):
        return Result(0, skipped="needs Linux")
    failures = []
    cases = 0
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(in_memory("modelstore-rights-")))
        scratch.chmod(0o755)
        bench = Bench(
            fork_server(),
            scratch,
            stack.enter_context(serving(FakeServer())),
            program,
            {},
        )
        for number, rng in plan.cases():
            trial = trials[number % len(trials)]
            cases += 1
            failures += [
                Failure(number, f"{trial.__name__[1:]}: {fault}") for fault in trial(bench, rng)
            ]
    return Result(cases, tuple(failures))


def _twin(name: str, trial: Trial) -> Twin:
    program = f"tests.torture.broken_rights:{name}"
    return Twin(
        name.replace("_", " "),
        lambda seed: attack(Plan(seed, 1, quick=True), program=program, trials=(trial,)),
    )


ATTACK = SimpleAttack(
    name="rights",
    summary="modes, links, secrets, and root at the database of somebody else",
    quick=len(_TRIALS),
    full=50 * len(_TRIALS),
    attack=attack,
    twins=(
        _twin("makes_files_for_all", _modes),
        _twin("writes_through_links", _links),
        _twin("says_what_it_knows", _secrets),
    ),
)
