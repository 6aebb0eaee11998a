"""The keys that every command's JSON object begins with."""

from __future__ import annotations

from modelstore.errors import ExitCode
from modelstore.render.formats import FORMAT_VERSION, envelope


def test_the_shared_keys_come_first_and_the_report_follows() -> None:
    found = envelope(
        "import",
        {"added": 3},
        database="m.db",
        database_from="--db",
        exit_codes=(ExitCode.BUSY, ExitCode.SKIPPED),
    )
    assert list(found.items()) == [
        ("format_version", FORMAT_VERSION),
        ("command", "import"),
        ("database", "m.db"),
        ("database_from", "--db"),
        ("exit_code", 4),
        ("exit_codes", [4, 6]),
        ("added", 3),
    ]


def test_a_report_may_name_another_database_than_the_one_that_was_given() -> None:
    found = envelope("inspect-wal", {"database": None}, database="m.db-wal", database_from="--db")
    assert (found["database"], found["exit_code"], found["exit_codes"]) == (None, 0, [0])
