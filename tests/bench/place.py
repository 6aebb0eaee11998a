"""Where a run of the benchmarks works, how large its data are, and the programs that it runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

CHILDREN = Path(__file__).resolve().parent / "children"
PEERS = ("sqlite-utils", "gguf", "huggingface_hub")  # each in an environment of its own


@dataclass(slots=True)
class Place:
    """A scratch directory for data, one for the peers' environments, and the size of the run."""

    directory: Path
    cache: Path
    quick: bool
    _peers: dict[str, Path | None] = field(default_factory=dict)

    def size(self, full: int, quick: int) -> int:
        """Return a size for this run."""
        return quick if self.quick else full

    def limit(self, budget: float) -> float | None:
        """Return a budget that holds at full size only: on little data, starting is most of it."""
        return None if self.quick else budget

    @property
    def rounds(self) -> int:
        """How many pairs are run."""
        return self.size(5, 2)

    def fresh(self, name: str) -> Path:
        """Return a path in the scratch directory that holds nothing, nor a log beside it."""
        path = self.directory / name
        remove_database(path)
        return path

    def peer(self, distribution: str, program: str) -> Path | None:
        """Return a program of a peer, installed now if need be; None where it cannot be had.

        sqlite-utils imports numpy where it is installed, and starts slower for it: each peer has
        an environment of its own, so that none suffers from another's dependencies.
        """
        if distribution not in self._peers:
            self._peers[distribution] = self._install(distribution)
        home = self._peers[distribution]
        found = None if home is None else home / "bin" / program
        return found if found is not None and found.exists() else None

    def _install(self, distribution: str) -> Path | None:
        home = self.cache / distribution
        done = home / "installed"
        if not done.exists():
            shutil.rmtree(home, ignore_errors=True)
            venv.create(home, with_pip=True)
            pip = [str(home / "bin" / "python"), "-m", "pip", "install", "-q", distribution]
            if subprocess.run(pip, capture_output=True, check=False).returncode:
                return None
            done.touch()
        return home


def remove_database(path: Path) -> None:
    """Remove a database with its log."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


@cache
def program() -> tuple[str, ...]:
    """Return the command that runs this program, as it was installed."""
    script = Path(sys.executable).parent / "modelstore"
    return (str(script),) if script.exists() else (sys.executable, "-m", "modelstore")


def python() -> str:
    """Return the interpreter that runs this program."""
    return sys.executable


@cache
def shell() -> str | None:
    """Return the system's ``sqlite3`` shell."""
    return shutil.which("sqlite3")


def versions(place: Place) -> dict[str, str]:
    """Return what was compared, as far as it is installed."""
    found = {"python": sys.version.split()[0]}
    ours = subprocess.run([*program(), "--version"], capture_output=True, text=True, check=False)
    found["modelstore"] = " ".join(ours.stdout.split())
    sqlite = shell()
    if sqlite is not None:
        said = subprocess.run([sqlite, "--version"], capture_output=True, text=True, check=False)
        found["sqlite3 shell"] = said.stdout.split()[0]
    for name in PEERS:
        metadata = (place.cache / name).glob("lib/*/site-packages/*.dist-info")
        wanted = name.replace("-", "_") + "-"
        for entry in metadata:
            if entry.name.startswith(wanted):
                found[name] = entry.name.removeprefix(wanted).removesuffix(".dist-info")
    return found


def machine() -> dict[str, object]:
    """Return what kind of machine this is, without its name."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cores": os.cpu_count() or 0,
        "memory_gib": round(memory / (1 << 30)),
        "system": f"{os.uname().sysname} {os.uname().machine}",
        "load": os.getloadavg()[0],
    }
