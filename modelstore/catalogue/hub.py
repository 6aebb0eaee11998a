"""References to the Hugging Face hub, and the models in the hub's caches that they mean.

A presets file, a llama-swap configuration and a server name a model as ``org/repo:QUANT``. If a
cache on the same machine holds that model, both are one row.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING

from modelstore.database.sqlite_text import from_sqlite_text
from modelstore.locator import choose_hub_file, parse_hub_locator

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelstore.database.handle import Database

CACHES = ("huggingface", "llama-cache")
"""The kinds of source whose places are named ``org/repo``, or ``org/repo/PATH`` for one file."""

_PLACES = f"SELECT host, name, model_id FROM model_places WHERE source IN {CACHES}"
# A server on this machine names a file of a cache that was not imported itself.
_FILES = """SELECT ifnull(host, '') AS host, path, id FROM models
WHERE path LIKE '%models--%snapshots%' ORDER BY rowid"""
_SNAPSHOT = re.compile(
    r".*[/\\]models--([^/\\]+)[/\\]snapshots[/\\][0-9a-f]{40}[/\\](.+)", re.DOTALL
)
_UNFINISHED = ".incomplete"


class CachedModels:
    """The models in the hub's caches, by host and repository; read when first asked for."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._repositories: Mapping[tuple[str, str], dict[str, str]] | None = None

    def find(self, locator: str, host: str | None) -> str | None:
        """Return the id of the model that a reference means; None if it is not certain.

        Without a file or tag, and with no GGUF file in the repository, it means all of that.
        """
        reference = parse_hub_locator(locator)
        if reference is None or reference.revision is not None:
            return None
        if self._repositories is None:
            self._repositories = self._read()
        paths = self._repositories.get((host or "", reference.repository), {})
        if (path := choose_hub_file(paths, reference.part)) is not None:
            return paths[path]
        if reference.part is None and not any(path.endswith(".gguf") for path in paths):
            return paths.get("")
        return None

    def _read(self) -> Mapping[tuple[str, str], dict[str, str]]:
        """Return the id of each model by its path in its repository; "" if it is all of that."""
        repositories: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
        for row in self._db.query(_PLACES):
            parts = from_sqlite_text(row["name"]).removesuffix(_UNFINISHED).split("/", 2)
            path = parts[2] if len(parts) > 2 else ""
            repositories[row["host"], "/".join(parts[:2])][path] = row["model_id"]
        for row in self._db.query(_FILES):
            if match := _SNAPSHOT.fullmatch(from_sqlite_text(row["path"])):
                repository, path = match[1].replace("--", "/", 1), match[2].replace("\\", "/")
                repositories[row["host"], repository].setdefault(path, row["id"])
        return repositories
