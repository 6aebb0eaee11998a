"""Real processes whose files are looked at from outside, through the kernel's tables alone."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from modelstore.database import holders
from modelstore.database.holders import HolderProblem, Role, look_at_holders
from modelstore.database.probe import probe
from modelstore.errors import ExitCode
from modelstore.wal.files import real_path
from modelstore.wal.processes import open_files, process_ids
from tests.cli.inside import run_here
from tests.cli.program import ROOT, environment
from tests.database.situations import HARMFUL, INSERT, SETUP, WAL, LiveApp, Situation
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells")


@pytest.mark.parametrize("situation", HARMFUL, ids=lambda situation: situation.name)
def test_sees_what_a_process_uses(situation: Situation, tmp_path: Path) -> None:
    if not all(map(shutil.which, situation.needs)) or (situation.needs and os.geteuid()):
        pytest.skip("needs unshare, and root")
    app, path = situation.make(tmp_path)
    with app:
        found = look_at_holders(str(path))
        assert [holder.pid for holder in found.troubled] == [app.pid]
        assert set(found.troubled[0].problems) == situation.problems


def test_finds_nothing_wrong_with_users_that_lock(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    with LiveApp.start(path) as writer, LiveApp.start(path, "BEGIN", "SELECT * FROM t") as reader:
        writer.do(INSERT)
        found = look_at_holders(str(path))
        assert not found.troubled
        assert {holder.pid for holder in found.users} == {writer.pid, reader.pid}
        assert all(holder.is_attached for holder in found.users)


def test_deleted_file_keeps_size_and_descriptor(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    with LiveApp.start(path) as app:
        size = os.path.getsize(f"{path}-wal")
        content = Path(f"{path}-wal").read_bytes()
        os.remove(f"{path}-wal")
        (holder,) = look_at_holders(str(path)).troubled
        (log,) = holder.of(Role.LOG)
        assert (log.is_deleted, log.is_current, log.size) == (True, False, size)
        assert Path(f"/proc/{app.pid}/fd/{log.descriptor}").read_bytes() == content


def test_sentence_about_very_many_files_is_short(tmp_path: Path) -> None:
    """A clean-up job deletes the log each night, and the application opens another one."""
    path = tmp_path / "app.db"
    again = (
        f"py:kept = []\nfor _ in range(50):\n"
        f"  kept.append(os.open({f'{path}-wal'!r}, os.O_RDWR | os.O_CREAT))\n"
        f"  os.remove({f'{path}-wal'!r})"
    )
    with LiveApp.start(path, *SETUP, again):
        (reason,) = probe(str(path)).reasons
        assert "47 more" in reason.text
        assert len(reason.text) + len(reason.hint) < 2_000


@pytest.mark.parametrize("name", ["new\nline.db", "back\\slash.db", "x (deleted)", "é\udcff.db"])
def test_strange_names_match_as_the_kernel_shows_them(name: str, tmp_path: Path) -> None:
    path = os.path.join(tmp_path, name)
    with LiveApp.start(tmp_path / "plain.db") as app:
        for suffix in ("", "-wal", "-shm"):
            os.rename(f"{tmp_path}/plain.db{suffix}", f"{path}{suffix}")
        assert not look_at_holders(path).troubled
        os.remove(f"{path}-wal")
        found = look_at_holders(path)
        assert [holder.pid for holder in found.troubled] == [app.pid]
        assert found.troubled[0].problems == (HolderProblem.OTHER_LOG,)


def test_readers_of_raw_bytes_are_no_users(tmp_path: Path) -> None:
    """A backup that reads a log which its owner then removes holds nothing of worth."""
    path = tmp_path / "app.db"
    with LiveApp.start(path) as app, LiveApp.start(tmp_path / "own.db") as backup:
        backup.do(f"py:kept = [open({str(path)!r} + end, 'rb') for end in ('', '-wal', '-shm')]")
        app.end("close")
        found = look_at_holders(str(path))
        assert not found.troubled
        assert not found.users


def test_fork_that_inherits_descriptors_is_no_stranger(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    fork = "py:child = os.fork()\nif not child:\n  import time; time.sleep(60); os._exit(0)"
    with LiveApp.start(path, *SETUP, fork) as app:
        assert not look_at_holders(str(path)).troubled
        app.do("py:import signal; os.kill(child, signal.SIGKILL); os.waitpid(child, 0)")


def test_other_databases_of_the_same_name_are_not_ours(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with LiveApp.start(tmp_path / "one" / "app.db"), LiveApp.start(tmp_path / "two/app.db") as two:
        os.remove(tmp_path / "one" / "app.db-wal")
        found = look_at_holders(str(tmp_path / "two" / "app.db"))
        assert not found.troubled
        assert [holder.pid for holder in found.users] == [two.pid]


def test_database_moved_away_is_missed_where_its_log_still_is(tmp_path: Path) -> None:
    """A restore: the application's log would be folded into a copy of its own database."""
    path = tmp_path / "app.db"
    (tmp_path / "attic").mkdir()
    with LiveApp.start(path) as app:
        shutil.copy2(path, tmp_path / "copy")
        os.rename(path, tmp_path / "attic" / "broken")
        os.rename(tmp_path / "copy", path)
        (holder,) = look_at_holders(str(path)).troubled
        assert (holder.pid, holder.problems) == (app.pid, (HolderProblem.OTHER_DATABASE,))
        (reason,) = probe(str(path)).reasons
        assert "uses another database" in reason.text


@pytest.mark.parametrize("setup", [SETUP, SETUP[2:]], ids=["WAL", "rollback"])
def test_own_files_that_are_named_like_a_log_are_no_log(
    setup: tuple[str, ...], tmp_path: Path
) -> None:
    names = [str(tmp_path / name) for name in ("store-wal", "store-shm", "queue-wal", "x-shm")]
    with LiveApp.start(
        tmp_path / "app.db", *setup, f"py:kept = [open(name, 'w+') for name in {names!r}]"
    ):
        assert not look_at_holders(str(tmp_path / "app.db")).troubled


# A namespace of its own: a file system in memory, where the application and the look are.
_NAMESPACE = 'mount -t tmpfs none "$1" && cd "$1" && mkdir a b c d && shift && exec "$@"'
_LOOK_WITHIN = """
import os, subprocess, sys
from modelstore.database.holders import look_at_holders
from tests.database.situations import LiveApp
from pathlib import Path
mount, name, mischief, path = sys.argv[1:]
subprocess.run(mount.split(), check=True)
with LiveApp.start(Path.cwd() / name) as app:
    exec(mischief)
    found = look_at_holders(os.path.join(os.getcwd(), path)).troubled
    (problems,) = [holder.problems for holder in found if holder.pid == app.pid]
    print([str(problem) for problem in problems])
"""


@pytest.mark.parametrize(
    ("mount", "name", "mischief", "path", "problems"),
    [
        (
            "mount -t overlay none -o lowerdir=a,upperdir=b,workdir=c d",
            *("d/app.db", "", "b/app.db"),
            ["other-name", "other-log", "other-index"],
        ),
        (
            "mount --bind a b",
            *("b/app.db", "open('new', 'w'); os.replace('new', 'a/app.db')", "a/app.db"),
            ["other-database"],
        ),
        (
            "mount --bind a b",
            *("b/app.db", "[os.remove(f'a/app.db{end}') for end in ('', '-wal')]", "a/app.db"),
            ["other-database", "other-log"],
        ),
    ],
    ids=["below an overlay", "replaced", "deleted"],
)
def test_other_mounts_show_the_same_files(
    mount: str, name: str, mischief: str, path: str, problems: list[str], tmp_path: Path
) -> None:
    if shutil.which("unshare") is None or os.geteuid():
        pytest.skip("needs unshare, and root")
    words = ("unshare", "--mount", "sh", "-c", _NAMESPACE, "sh", str(tmp_path))
    done = subprocess.run(
        [*words, sys.executable, "-c", _LOOK_WITHIN, mount, name, mischief, path],
        env=environment({"PYTHONPATH": str(ROOT)}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == f"{problems}\n", done.stderr


def test_path_into_another_namespace_is_not_taken_for_one_of_ours(tmp_path: Path) -> None:
    """Python and SQLite follow /proc/PID/root as a link to "/", and come to another file."""
    if shutil.which("unshare") is None or os.geteuid():
        pytest.skip("needs unshare, and root")
    path = tmp_path / "app.db"
    assert real_path(f"/proc/self/root{path}") == str(path)
    script = 'mount -t tmpfs none "$1" && shift && exec "$@"'
    prefix = ("unshare", "-m", "sh", "-c", script, "sh", str(tmp_path))
    with LiveApp.start(path, *SETUP, prefix=prefix) as app:
        for command in ("checkpoint", "inspect-wal", "verify", "recover"):
            assert run_here([command, f"/proc/{app.pid}/root{path}"]) == ExitCode.REFUSED


HIDING = """
import os, sys
from modelstore.database.holders import look_at_holders
from modelstore.wal.processes import describe_process
os.setgroups([])  # of group 0, nothing is hidden
os.setgid(int(sys.argv[2]))
os.setuid(int(sys.argv[2]))
found = look_at_holders(sys.argv[1])
print(len(found.holders), found.complete, describe_process(int(sys.argv[3])).command)
"""


@pytest.mark.parametrize(
    ("mount", "user"),
    [("proc -o hidepid=2", 65534), ("tmpfs", 0)],
    ids=["hidepid", "no /proc"],
)
def test_what_the_system_hides_is_unknown(mount: str, user: int, tmp_path: Path) -> None:
    if shutil.which("unshare") is None or os.geteuid():
        pytest.skip("needs unshare, and root")
    path = tmp_path / "app.db"
    script = f'mount -t {mount} none /proc && exec "$@"'
    look = (sys.executable, "-c", HIDING, str(path), str(user))
    with LiveApp.start(path) as app:
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", script, "sh", *look, str(app.pid)],
            env=environment({"PYTHONPATH": str(ROOT)}),
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.stdout == "0 False process that the system hides\n", done.stderr


LINKS = """
import os, sys
from modelstore.wal.processes import open_files
os.setgroups([]), os.setgid(65534), os.setuid(65534)
print(open_files(int(sys.argv[1]), lambda *_: True))
"""


def test_process_that_shows_the_numbers_of_its_descriptors_alone_is_hidden(tmp_path: Path) -> None:
    """A service of the same user with one right more: its links may not be read."""
    if shutil.which("setpriv") is None or os.geteuid():
        pytest.skip("needs setpriv, and root")
    user = ("--reuid", "65534", "--regid", "65534", "--clear-groups")
    right = ("--inh-caps", "+net_bind_service", "--ambient-caps", "+net_bind_service")
    service = subprocess.Popen(
        ["setpriv", *user, *right, "sh", "-c", "echo ready; exec sleep 60"], stdout=subprocess.PIPE
    )
    try:
        assert service.stdout is not None
        assert service.stdout.readline() == b"ready\n"
        shown = subprocess.run(
            [sys.executable, "-c", LINKS, str(service.pid)],
            env=environment({"PYTHONPATH": str(ROOT)}),
            capture_output=True,
            text=True,
            check=True,
        )
        assert shown.stdout == "None\n"
    finally:
        service.kill()
        service.communicate()


def test_process_is_hidden_from_one_that_can_open_no_more_files() -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, before[1]))
        assert open_files(os.getpid(), lambda *_: True) is None
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_stopped_process_is_called_stopped(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    with LiveApp.start(path) as app:
        os.kill(app.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, app.pid, os.WSTOPPED | os.WNOWAIT)
        (holder,) = look_at_holders(str(path)).users
        assert holder.is_stopped


def test_process_whose_first_thread_has_ended_keeps_its_files(tmp_path: Path) -> None:
    """The kernel shows no descriptor of such a process, but those of its other threads."""
    path = tmp_path / "app.db"
    leave = (
        "py:import ctypes, threading\n"
        "threading.Thread(target=lambda: (print('ok', flush=True), sys.stdin.read())).start()\n"
        "ctypes.CDLL(None).pthread_exit(None)"
    )
    with LiveApp.start(path) as app:
        assert app.do(leave.replace("\n", "; "))
        stat = Path(f"/proc/{app.pid}/stat")
        wait_until(lambda: stat.read_text().rpartition(") ")[2].startswith("Z"))
        (holder,) = look_at_holders(str(path)).users
        assert (holder.pid, holder.is_attached, holder.problems) == (app.pid, True, ())
        os.remove(f"{path}-wal")
        (holder,) = look_at_holders(str(path)).troubled
        (log,) = holder.of(Role.LOG)
        assert Path(f"/proc/{holder.task}/fd/{log.descriptor}").stat().st_size == log.size


def test_litestream_without_its_read_lock(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    rename = "py:open('/proc/self/comm', 'w').write('litestream')"
    with LiveApp.start(path, *SETUP, rename) as replica:
        assert not look_at_holders(str(path)).troubled  # it does not replicate this database
        (tmp_path / ".app.db-litestream").mkdir()
        (holder,) = look_at_holders(str(path)).troubled
        assert holder.problems == (HolderProblem.REPLICA_LOCK,)
        replica.do("BEGIN")
        replica.do("SELECT * FROM t")
        assert not look_at_holders(str(path)).troubled


def test_locks_of_a_process_are_told(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    with LiveApp.start(path, *WAL, "BEGIN EXCLUSIVE") as app:
        (holder,) = look_at_holders(str(path)).users
        assert holder.locks_database()
        assert not holder.locks_database(exclusively=True)
        app.do("ROLLBACK")
    with LiveApp.start(tmp_path / "old.db", "CREATE TABLE t (x)", "BEGIN EXCLUSIVE"):
        (holder,) = look_at_holders(str(tmp_path / "old.db")).users
        assert holder.locks_database(exclusively=True)


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="needs files in memory")
def test_database_in_memory_has_holders() -> None:
    with TemporaryDirectory(dir="/dev/shm") as place:
        path = Path(place, "app.db")
        with LiveApp.start(path) as app:
            assert [holder.pid for holder in look_at_holders(str(path)).users] == [app.pid]


def test_second_look_reads_the_holders_and_new_processes_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look at every descriptor of a large machine is dear, and a command needs several."""
    path = tmp_path / "app.db"
    with LiveApp.start(path) as app, LiveApp.start(tmp_path / "other.db"):
        known = look_at_holders(str(path))
        looked: list[int] = []

        def noted(pid: int, is_sought: Callable[[str, os.stat_result], bool]) -> object:
            looked.append(pid)
            return open_files(pid, is_sought)

        monkeypatch.setattr(holders, "open_files", noted)
        for suffix in ("-wal", "-shm"):
            os.remove(f"{path}{suffix}")
        with LiveApp.start(path, *WAL, "CREATE TABLE n (x)") as new:
            found = look_at_holders(str(path), known=known)
            assert [holder.pid for holder in found.troubled] == [app.pid]
            assert {holder.pid for holder in found.users} == {app.pid, new.pid}
            assert not known.seen & set(looked) - {app.pid}
            assert look_at_holders(str(path), known=known._replace(looked=-1e9)).troubled
            assert set(looked) >= known.seen & set(process_ids()) - {os.getpid()}


@pytest.mark.parametrize("command", ["checkpoint", "inspect-wal", "verify", "list", "import"])
def test_command_looks_at_each_process_once(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "app.db"
    lines = tmp_path / "models.jsonl"
    lines.write_text('{"name": "one"}\n')
    words = [command, "--db", str(path)]
    if command == "import":
        words.append(str(lines))
    else:
        assert run_here(["import", str(lines), "--db", str(path)]) == 0
    looked: list[int] = []

    def noted(pid: int, is_sought: Callable[[str, os.stat_result], bool]) -> object:
        looked.append(pid)
        return open_files(pid, is_sought)

    with LiveApp.start(tmp_path / "other.db") as other:
        monkeypatch.setattr(holders, "open_files", noted)
        assert run_here(words) == 0
        assert looked.count(other.pid) == 1
