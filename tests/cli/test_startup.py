"""The modules that the quick commands load: each one more is time that every run takes."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.program import environment

_PROBE = """
import os, sys
before = set(sys.modules)  # what the interpreter and its site-packages load by themselves
sys.argv[0] = "modelstore"
from modelstore.__main__ import main
try:
    main()
finally:
    new = sorted(set(sys.modules) - before)
    ours = [sys.modules[name] for name in new if name.startswith("modelstore")]
    classes = {one for module in ours for one in vars(module).values() if isinstance(one, type)}
    new += ["dataclass:" + one.__name__ for one in classes if hasattr(one, "__dataclass_fields__")]
    names = " ".join(new)
    with open(os.environ["LOADED"], "w") as file:
        file.write(names)
"""

_COMPLETION = {
    "_MODELSTORE_COMPLETE": "complete_bash",
    "COMP_WORDS": "modelstore li",
    "COMP_CWORD": "1",
}

_COMMAND_LINE = {"modelstore", "typer", "annotated_doc", "shellingham", "colorama"}
_DATABASE = _COMMAND_LINE | {"pysqlite3", "sqlite_utils", "sqlite_fts4", "pluggy", "platformdirs"}
# pluggy asks for the distributions' metadata in some versions.
_DATABASE |= {"importlib_metadata", "zipp", "packaging"}

_OF_OURS = {
    "modelstore",
    *(f"modelstore.{name}" for name in ("__main__", "errors", "later", "text")),
}
# Typer and sqlite-utils ask for these, and no quick command uses them.
_PUT_OFF = {
    "decimal",
    "difflib",
    "gettext",
    "pathlib",
    "platform",
    "pluggy",
    "shutil",
    "sqlite_utils.create_table_parser",
    "subprocess",
    "tokenize",
}
_PUT_OFF |= {
    "textwrap",
    "traceback",
    "typer.completion",
    "uuid",
    "ipaddress",
    "sqlite_fts4",
    "urllib.parse",
}
_OF_CLI = {
    "app",
    "completion",
    "completion.scripts",
    "completion.shell",
    "completion.values",
    "main",
    "output",
    "vendored_click",
    "help_text",
}
_OF_LIST = _OF_CLI | {"list_", "options", "catalogue_session", "reporting", "session"}


def loaded(*arguments: str | Path, extra: Mapping[str, str], directory: Path) -> set[str]:
    """Return the modules that one run of the program loads."""
    names = directory / "loaded"
    done = subprocess.run(
        [sys.executable, "-c", _PROBE, *map(str, arguments)],
        capture_output=True,
        env=environment({**extra, "LOADED": str(names)}),
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return set(names.read_text().split())


def top_levels(names: set[str]) -> set[str]:
    """Return the packages that are not Python's own."""
    tops = {name.partition(".")[0] for name in names}
    return {name for name in tops - sys.stdlib_module_names if not name.startswith("_")}


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [(("--version",), {}), (("--help",), {}), ((), {}), ((), _COMPLETION)],
    ids=["version", "help", "no arguments", "completion"],
)
def test_what_needs_no_database_loads_none(
    tmp_path: Path, arguments: tuple[str, ...], extra: Mapping[str, str]
) -> None:
    names = loaded(*arguments, extra=extra, directory=tmp_path)
    version = {"pysqlite3"} if arguments == ("--version",) else set()  # it says which SQLite
    assert top_levels(names) <= _COMMAND_LINE | version
    ours = {name for name in names if name.startswith("modelstore")} - _OF_OURS
    allowed = {"modelstore.cli", *(f"modelstore.cli.{name}" for name in _OF_CLI)}
    allowed |= {"modelstore.database", "modelstore.database.sqlite"} if version else set()
    assert ours <= allowed
    assert not names & {"sqlite3", "asyncio", "email", "http.client", "ssl", "logging"}
    wrapped = {"shutil", "textwrap"} if not extra and arguments != ("--version",) else set()
    assert not names & (_PUT_OFF - wrapped)  # a help has the width of the terminal


def test_a_listing_loads_neither_sources_nor_what_draws(tmp_path: Path) -> None:
    database = tmp_path / "models.db"
    lines = tmp_path / "models.jsonl"
    lines.write_text('{"name": "a", "path": "/m/a.gguf"}\n')
    subprocess.run(
        [sys.executable, "-m", "modelstore", "import", str(lines), "--db", str(database)],
        check=True,
        capture_output=True,
        env=environment(),
    )
    names = loaded("list", "--json", "--db", database, extra={}, directory=tmp_path)
    assert top_levels(names) <= _DATABASE
    ours = {name for name in names if name.startswith("modelstore.")}
    layers = {".".join(name.split(".")[:2]) for name in ours}
    assert layers <= _OF_OURS | {
        f"modelstore.{part}" for part in ("catalogue", "cli", "database", "model", "render", "wal")
    }
    assert {name for name in ours if name.startswith("modelstore.cli.")} <= {
        f"modelstore.cli.{name}" for name in _OF_LIST
    }
    assert {name for name in ours if name.startswith("modelstore.render.")} <= {
        *("modelstore.render.formats", "modelstore.render.rows"),
    }
    # Of a log's bytes no more than the index is looked at, where the log is empty; and the locks of
    # those who have the database open.
    assert {name for name in ours if name.startswith("modelstore.wal.")} <= {
        f"modelstore.wal.{name}" for name in ("files", "format", "index", "locks", "processes")
    }
    # To make a dataclass takes four times as long as to make a NamedTuple, and a listing waits.
    assert not {name for name in names if name.startswith("dataclass:")}
    not_here = {"click", "dateutil", "hashlib", "numpy", "pandas", "rich", "yaml", "urllib3"}
    if "pysqlite3" in names:
        not_here.add("sqlite3")  # a second SQLite in the process
    assert not names & (not_here | _PUT_OFF)


def _with_log(database: Path, size: int) -> Path:
    """Make a database whose log of about `size` bytes nobody has folded."""
    made = database.with_name("made.db")
    with closing(sqlite3.connect(made)) as conn:
        conn.execute("PRAGMA journal_mode=WAL")
        conn.execute("CREATE TABLE t (content BLOB)")
        conn.execute("INSERT INTO t VALUES (zeroblob(?))", [size])
        conn.commit()
        for end in ("", "-wal"):
            shutil.copyfile(f"{made}{end}", f"{database}{end}")
    return database


def test_a_checkpoint_of_a_large_log_loads_no_more_of_numpy_than_it_uses(tmp_path: Path) -> None:
    database = _with_log(tmp_path / "app.db", 3 << 20)
    names = loaded("checkpoint", database, extra={}, directory=tmp_path)
    assert "modelstore.wal.vector" in names
    not_here = {"numpy.linalg", "pickle", "platform"}
    if "numpy._core" in names:
        not_here.add("textwrap")  # numpy 1 uses it while it is loaded
    if "pysqlite3" in names:
        not_here.add("ctypes")  # else it looks for apsw's SQLite
    assert not names & (not_here | {"sqlite_utils.create_table_parser", "rich"})
    ours = {"schema_columns", "defaults", "page_owners", "inspection", "loss"}
    assert not names & {f"modelstore.wal.{name}" for name in ours}


def test_an_import_of_records_loads_no_reader_of_files(tmp_path: Path) -> None:
    lines = tmp_path / "models.jsonl"
    lines.write_text('{"name": "a", "path": "/m/a.gguf"}\n')
    database = tmp_path / "models.db"
    names = loaded("import", lines, "--db", database, extra={}, directory=tmp_path)
    classes = {name for name in names if name.startswith("dataclass:")}
    assert len(classes) <= 15, classes  # each takes 0.3 to 0.9 ms to make
    names -= classes
    assert top_levels(names) <= _DATABASE
    assert not {name for name in names if name.startswith("modelstore.sources.files")}
    assert not names & (_PUT_OFF | {"bz2", "lzma", "platform", "rich", "modelstore.wal.scan"})


@pytest.mark.parametrize(
    ("command", "most"), [("checkpoint", 8), ("inspect-wal", 30), ("verify", 35)]
)
def test_a_look_at_an_empty_log_parses_no_table(tmp_path: Path, command: str, most: int) -> None:
    database = tmp_path / "app.db"
    with closing(sqlite3.connect(database)) as conn:
        conn.execute("CREATE TABLE t (content BLOB)")
    names = loaded(command, database, extra={}, directory=tmp_path)
    not_here = _PUT_OFF | {"rich", "numpy", "secrets", "tempfile"}
    not_here.add("modelstore.sources.files.naming")
    not_here |= {f"modelstore.wal.{name}" for name in ("schema_columns", "defaults", "rows")}
    assert not names & not_here
    classes = {name for name in names if name.startswith("dataclass:")}
    assert len(classes) <= most, classes
