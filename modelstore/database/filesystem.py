"""The ground that a database stands on: file systems, mount points, owners and modes.

WAL's shared memory must be one and the same for every process that has the database open; on
network file systems and many shared folders it is not (sqlite.org/wal.html#noshm,
sqlite.org/faq.html#q5).
"""

from __future__ import annotations

import os
import re
import stat
from typing import NamedTuple

MOUNT_TABLE = "/proc/self/mountinfo"

_NETWORK = frozenset(
    (
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "virtiofs", "afs", "afpfs", "ceph"),
        *("lustre", "beegfs", "gfs2", "ocfs2", "vboxsf", "prl_fs", "vmhgfs", "drvfs", "webdav"),
    )
)
_OCTAL = re.compile(rb"\\([0-7]{3})")


class Mount(NamedTuple):
    """One line of the mount table: a file system, its type, and the point where it is mounted."""

    point: str
    type: str
    source: str

    @property
    def is_risky(self) -> bool:
        """True if processes may fail to share memory and locks coherently through it."""
        return self.type in _NETWORK or self.type == "fuse" or self.type.startswith("fuse")


def mount_table(text: str | None = None) -> tuple[Mount, ...] | None:
    """Return the mounts of this process in their order; None if the system has no table.

    The format is proc_pid_mountinfo(5), which writes blanks in names as octal escapes.
    """
    if text is None:
        try:
            with open(MOUNT_TABLE, encoding="utf-8", errors="surrogateescape") as table:
                text = table.read()
        except OSError:
            return None
    mounts = []
    for line in text.splitlines():
        fields, separator, rest = line.partition(" - ")
        head, tail = fields.split(" "), rest.split(" ")
        if separator and len(head) >= 5 and len(tail) >= 2:
            mounts.append(Mount(_unescape(head[4]), tail[0], _unescape(tail[1])))
    return tuple(mounts)


def _unescape(text: str) -> str:
    """Undo the octal escapes; a byte that is not text stays a byte, as in Python's file names."""
    if "\\" not in text:
        return text
    raw = _OCTAL.sub(lambda match: bytes((int(match[1], 8) & 0xFF,)), os.fsencode(text))
    return os.fsdecode(raw)


def mount_of(path: str, mounts: tuple[Mount, ...]) -> Mount | None:
    """Return the mount of a real path: the one with the longest point, the last of several."""
    found: Mount | None = None
    for mount in mounts:
        point = mount.point.rstrip("/")
        covers = path == point or path.startswith(point + "/")
        if covers and (found is None or len(mount.point) >= len(found.point)):
            found = mount
    return found


def placement_warnings(path: str, mounts: tuple[Mount, ...] | None = None) -> tuple[str, ...]:
    """Return one sentence for each danger that the location of a database means for its log."""
    mounts = mount_table() if mounts is None else mounts
    mount = mount_of(path, mounts) if mounts else None
    if mount is None:
        return ()
    warnings = []
    if mount.is_risky:
        warnings.append(
            f"the database lies on a {mount.type} file system ({mount.point}), where processes "
            "on different machines or in containers do not share WAL's memory and locks: "
            "let one machine alone open it"
        )
    if mount.point == path:
        warnings.append(
            "the database file is itself a mount point, so its -wal lies on another file system "
            "and is lost with it: mount the directory that holds the database instead"
        )
    return tuple(warnings)


def ownership_warning(name: str, database: os.stat_result, other: os.stat_result) -> str | None:
    """Say how owner or mode of a -wal or -shm differ from the database's; None if they agree.

    SQLite gives both files the mode of the database, and as root its owner too. If they differ,
    one of the programs that share the database may be unable to open it.
    """
    if os.name == "nt":
        return None
    mode, expected = stat.S_IMODE(other.st_mode), stat.S_IMODE(database.st_mode)
    parts = []
    if other.st_uid != database.st_uid:
        parts.append(f"owned by uid {other.st_uid}, the database by uid {database.st_uid}")
    if other.st_gid != database.st_gid and expected & 0o020:
        parts.append(f"of group {other.st_gid}, the database of group {database.st_gid}")
    if mode != expected:
        parts.append(f"of mode {mode:04o}, the database of mode {expected:04o}")
    return f"{name} is {', and '.join(parts)}" if parts else None
