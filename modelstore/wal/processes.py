"""Facts of Linux about processes: command, user, start, state, and open files.

Nothing here opens a file that another process has open: links and their targets are only looked
at, because closing such a file would drop the locks of this process on it.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MAX_READ = 4096  # bytes; a command line may have megabytes
_MAX_FDINFO = 1 << 16  # bytes of one fdinfo
_MAX_ANCESTORS = 32  # a bound for a table that changes while it is read
_KERNEL_THREAD = 0x00200000  # PF_KTHREAD of the kernel's sched.h
_INITIAL_PID_NAMESPACE = 0xEFFFFFFC  # PROC_PID_INIT_INO of the kernel
_NO_DATABASE = ("/dev/null", "/dev/pts/", "/dev/tty", "/dev/urandom", "/proc/", "/sys/", "/memfd:")
"""Names that no database has, and that most descriptors have; one may well lie in /dev/shm."""

_HAS_ENDED = (FileNotFoundError, ProcessLookupError)

DELETED = " (deleted)"
"""The kernel's mark behind the name of a file that has lost it."""


class Process(NamedTuple):
    """A process. `command` is outside text: escape it before it is shown.

    `since` is its start in seconds since the epoch, `user` the numeric id of its owner, `state` the
    letter of proc_pid_stat(5): T is stopped, Z is a zombie.
    """

    pid: int | None
    command: str
    since: float | None = None
    user: int | None = None
    state: str = ""

    @property
    def is_stopped(self) -> bool:
        """True if a signal or a debugger has stopped it: it frees nothing until it goes on."""
        return self.state in ("T", "t")


def describe_process(pid: int) -> Process:
    """Return the known facts of process `pid`; the command of an ended process says so."""
    command = _read(f"/proc/{pid}/cmdline").rstrip(b"\0").replace(b"\0", b" ")
    name = _read(f"/proc/{pid}/comm").rstrip(b"\n")
    if not command:
        command = b"[" + name + b"]" if name else _nameless(pid)
    fields = _stat_fields(pid)
    state = fields[0].decode("ascii", "replace") if fields else ""
    return Process(pid, os.fsdecode(command), _started(fields), _user(pid), state)


def _nameless(pid: int) -> bytes:
    """Say why a process has no name: a mount of /proc with hidepid shows only one's own."""
    try:
        os.kill(pid, 0)  # no signal: a question
    except ProcessLookupError:
        return b"process that has ended"
    except OSError:
        pass
    return b"process that the system hides"


def ancestors(pid: int) -> Iterator[int]:
    """Yield the parent of a process, its parent, and so on."""
    for _ in range(_MAX_ANCESTORS):
        fields = _stat_fields(pid)
        pid = int(fields[1]) if len(fields) > 1 else 0
        if not pid:
            return
        yield pid


def runs_program(pid: int, name: str) -> bool:
    """Tell whether a process runs a program of this name, or of one that begins with it.

    A process may change the name that the kernel has for it; its file keeps its own.
    """
    try:
        file = os.path.basename(os.readlink(f"/proc/{pid}/exe"))
    except OSError:  # another user's, or it has ended
        file = ""
    called = os.fsdecode(_read(f"/proc/{pid}/comm"))
    return called.startswith(name) or file.startswith(name)


def _read(path: str, limit: int = _MAX_READ) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read(limit) or b""
    except OSError:
        return b""


def _stat_fields(pid: int) -> list[bytes]:
    """Return the fields of proc_pid_stat(5) that follow the name, the state first."""
    # The name, in parentheses, may hold spaces and parentheses of its own.
    return _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()


def _started(fields: list[bytes]) -> float | None:
    """Return the epoch second of a process's start: field 22 of its stat, in clock ticks."""
    if len(fields) < 20:
        return None
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return round(booted + int(fields[19]) / os.sysconf("SC_CLK_TCK"), 2)


def _user(pid: int) -> int | None:
    for line in _read(f"/proc/{pid}/status").splitlines():
        if line.startswith(b"Uid:"):
            return int(line.split()[1])
    return None


# -- open files ----------------------------------------------------------------------------------


class Descriptor(NamedTuple):
    """An open descriptor of a process, with the name that the kernel shows for its file.

    `target` ends in " (deleted)" for a file without that name; `status` is the file's ``stat``.
    `task` is the process, or another thread of it if the first has ended: ``/proc/TASK`` shows it.
    """

    task: int
    number: int
    target: str
    status: os.stat_result

    @property
    def identity(self) -> tuple[int, int]:
        """The device and inode of its file."""
        return self.status.st_dev, self.status.st_ino

    @property
    def is_deleted(self) -> bool:
        """True if its file has lost the name that the kernel shows."""
        if not self.target.endswith(DELETED):
            return False
        try:
            return not os.path.samestat(os.stat(self.target), self.status)
        except OSError:
            return True

    @property
    def name(self) -> str:
        """The name of its file without the kernel's mark, which may be part of a real name."""
        return self.target.removesuffix(DELETED) if self.is_deleted else self.target


def sees_all_processes() -> bool:
    """Tell whether this is the first PID namespace, from which every process is visible."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino == _INITIAL_PID_NAMESPACE
    except OSError:
        return False


def process_ids() -> list[int]:
    """Return the processes that are visible here; none where /proc is not mounted."""
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []


def open_files(
    pid: int, is_sought: Callable[[str, os.stat_result], bool]
) -> list[Descriptor] | None:
    """Return the descriptors of a process on files with a path, if one of the files is sought.

    `is_sought` is asked once for each name, with the name that the kernel shows and its ``stat``.
    None if the descriptors may not be seen; a process that has ended has none.

    Takes 3 microseconds a descriptor, sockets and pipes included; 2.5 of them are the kernel's, for
    a program in C as well. https://man7.org/linux/man-pages/man5/proc_pid_fd.5.html
    """
    task, found = pid, _named_files(pid)
    if not found:
        for task in _other_threads(pid):
            found = _named_files(task)
            if found or found is None:
                break
    if not found:
        return None if found is None else []
    if not any(is_sought(target, status) for _, target, status in found):
        return []
    return [
        Descriptor(task, int(number), target, status)
        for numbers, target, status in found
        for number in numbers
    ]


def _named_files(task: int) -> list[tuple[list[str], str, os.stat_result]] | None:
    """Return the files with a path that a thread has open; None if they may not be seen."""
    try:
        directory = os.open(f"/proc/{task}/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except _HAS_ENDED:
        return []
    except OSError:
        return None
    try:
        return list(_statuses(directory, _names(directory)))
    except PermissionError:  # the kernel says that of one that has ended, too
        return None if os.path.exists(f"/proc/{task}") else []
    except OSError:  # it has ended
        return []
    finally:
        os.close(directory)


def _other_threads(pid: int) -> list[int]:
    """Return the threads of a process whose first thread has ended: they keep its files.

    None of a process that is another user's. https://man7.org/linux/man-pages/man3/pthread_exit.3.html
    """
    try:
        status = os.stat(f"/proc/{pid}/task")
        if status.st_nlink <= 3 or os.geteuid() not in (0, status.st_uid):  # 2 and its threads
            return []
        if _stat_fields(pid)[:1] != [b"Z"]:
            return []
        return [int(name) for name in os.listdir(f"/proc/{pid}/task") if name != str(pid)]
    except OSError:
        return []


def _names(directory: int) -> dict[str, list[str]]:
    """Return the numbers of the descriptors for each name in a process's table of descriptors.

    Raises PermissionError if only the numbers may be seen: the process has rights that we lack.
    """
    names: dict[str, list[str]] = {}
    read_link = os.readlink
    for number in os.listdir(directory):
        try:
            target = read_link(number, dir_fd=directory)
        except PermissionError:
            raise
        except OSError:  # closed meanwhile
            continue
        if target in names:
            names[target].append(number)
        elif target[0] == "/" and not target.startswith(_NO_DATABASE):
            names[target] = [number]
    return names


def _statuses(
    directory: int, names: dict[str, list[str]]
) -> Iterator[tuple[list[str], str, os.stat_result]]:
    """Yield descriptors, their name and its ``stat``: once for each name that is one file."""
    for target, numbers in names.items():
        is_one_file = not target.endswith(DELETED)
        for group in [numbers] if is_one_file else [[number] for number in numbers]:
            with suppress(OSError):  # closed meanwhile
                yield group, target, os.stat(group[0], dir_fd=directory)


def is_kernel_thread(pid: int) -> bool:
    """Tell whether a process is a thread of the kernel, which has no files open."""
    fields = _stat_fields(pid)
    return len(fields) > 6 and bool(int(fields[6]) & _KERNEL_THREAD)


def descriptor_info(task: int, number: int) -> list[bytes]:
    """Return the lines of a descriptor's fdinfo: its flags, and the locks taken through it.

    https://man7.org/linux/man-pages/man5/proc_pid_fdinfo.5.html
    """
    return _read(f"/proc/{task}/fdinfo/{number}", _MAX_FDINFO).splitlines()


def is_opened_to_write(lines: list[bytes]) -> bool:
    """Tell from the lines of a descriptor's fdinfo whether it can write."""
    for line in lines:
        if line.startswith(b"flags:"):
            return int(line.split()[1], 8) & os.O_ACCMODE != os.O_RDONLY
    return False


def namespace(task: int | str, kind: str) -> str | None:
    """Return the name of a namespace of a process: equal names are one namespace."""
    try:
        return os.readlink(f"/proc/{task}/ns/{kind}")
    except OSError:
        return None


def shows_other_files(device: int, task: int | str = "self") -> bool:
    """Tell whether a device, as a process has it mounted, shows the files of another one.

    An overlay does so, in which a container sees its files, and a file system in user space.
    https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html
    """
    wanted = f"{os.major(device)}:{os.minor(device)}".encode()
    try:
        with open(f"/proc/{task}/mountinfo", "rb") as table:
            for line in table:
                before, _, after = line.partition(b" - ")
                if before.split(b" ", 3)[2] == wanted:
                    return after.startswith((b"overlay ", b"fuse"))
    except (OSError, IndexError):
        pass
    return False


def descriptor_infos(status: os.stat_result) -> Iterator[tuple[int, list[bytes]]]:
    """Yield process id and fdinfo lines of each open descriptor on the file with this ``stat``.

    Skips processes of other users unless this one is privileged.
    """
    for pid in process_ids():
        for descriptor in open_files(pid, lambda _, found: os.path.samestat(found, status)) or ():
            if os.path.samestat(descriptor.status, status):
                yield pid, descriptor_info(descriptor.task, descriptor.number)
