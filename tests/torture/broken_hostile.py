"""Programs that are wrong on purpose, for the attack by hostile text to catch."""

from __future__ import annotations

import json
import sqlite3
import sys
from contextlib import closing, suppress
from pathlib import Path


def _option(name: str) -> str:
    return sys.argv[sys.argv.index(name) + 1]


def _kept() -> list[dict[str, object]]:
    text = Path(_option("--db")).read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


def prints_what_it_reads() -> None:
    """Keep records, and print them as they are."""
    if sys.argv[1:2] == ["import"] and sys.argv[2] == "-":
        Path(_option("--db")).write_text(sys.stdin.read(), "utf-8")
    elif sys.argv[1:2] == ["list"] and "--count" in sys.argv:
        print(len(_kept()))
    elif sys.argv[1:3] == ["list", "--json"]:
        print(json.dumps(_kept()))
    elif sys.argv[1:2] == ["list"]:
        for record in _kept():
            sys.stdout.buffer.write(f"{record['name']}\n".encode("utf-8", "backslashreplace"))


def pastes_reports_together() -> None:
    """Write XML, HTML and workflow commands from strings."""
    if sys.argv[1] != "verify":
        return
    table = _option("--expect-count")
    Path(_option("--junit")).write_text(f"<testsuite><testcase name='{table}'/></testsuite>")
    Path(_option("--report")).write_text(f"<table><tr><td>{table}</td></tr></table>")
    print(f"::error::{table}")
    sys.exit(5)


def puts_names_into_sql() -> None:
    """Build statements from what was read."""
    with closing(sqlite3.connect(_option("--db"))) as connection:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS models (name, locator, license, architecture)"
        )
        if sys.argv[1] == "import":
            for line in sys.stdin:
                name = json.loads(line)["name"]
                with suppress(sqlite3.Error):
                    connection.executescript(f"INSERT INTO models (name) VALUES ('{name}')")
        if "--count" in sys.argv:
            print(connection.execute("SELECT count(*) FROM models").fetchone()[0])
