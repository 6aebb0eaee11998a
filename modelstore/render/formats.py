"""The formats of an answer, and the keys that begin every command's JSON object.

Light on purpose: the command line imports this to describe its options.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FORMAT_VERSION = 1
"""The version of the JSON objects. Keys may be added within a version; none changes or goes."""


class Format(StrEnum):
    """The formats in which every command can write its answer."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    TSV = "tsv"


EXPORTS: dict[str, str] = {"preset": "preset", "cyclonedx": "cyclonedx"}
"""More formats of ``list``, each with its module in this package.

The module has ``export_models(db, query, write, note)``: it writes the models of a query, and
notes the models that the format cannot hold.
"""


def named_database(path: str, origin: str) -> str:
    """Return a database with the origin of its choice in words: ``models.db (from --db)``."""
    if origin == "DATABASE":
        return path
    return f"{path} (the default)" if origin == "default" else f"{path} (from {origin})"


def envelope(
    command: str,
    report: Mapping[str, object],
    *,
    database: str | None,
    database_from: str | None,
    exit_codes: Sequence[int] = (0,),
) -> dict[str, object]:
    """Return a command's JSON object: the keys that all commands share, then its own report.

    `command` is the command's name. `database` is the path as it was given, `database_from` the
    origin of that choice. `exit_codes` holds every code that applies, the one that the process
    ends with first. A key of the report replaces a shared key of the same name.
    """
    codes = [int(code) for code in exit_codes] or [0]
    return {
        "format_version": FORMAT_VERSION,
        "command": command,
        "database": database,
        "database_from": database_from,
        "exit_code": codes[0],
        "exit_codes": codes,
        **report,
    }
