"""Another modelstore catalogue: its models with their hosts, tags, files and places."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modelstore.catalogue.schema import ownership, show_current_schema
from modelstore.catalogue.tags import tags_from_json
from modelstore.errors import SourceError
from modelstore.found import Found, ModelFile, Place
from modelstore.model import ARRAY_COLUMNS, MODEL_COLUMNS, Model
from modelstore.sources.base import BATCH, Rows
from modelstore.sources.records.foreign_file import log_notes, opened_source

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from modelstore.database.handle import Database
    from modelstore.sources.base import Context, Item, Target

KIND = "catalogue"

_MODELS = f"""SELECT {", ".join(f"m.{column}" for column in MODEL_COLUMNS)},
    EXISTS (SELECT 1 FROM model_files AS f WHERE f.model_id = m.id)
    OR EXISTS (SELECT 1 FROM model_places AS p WHERE p.model_id = m.id)
FROM models AS m WHERE m.host IS NULL OR m.host NOT IN (SELECT value FROM json_each(?))
ORDER BY m.rowid"""
_HOSTS = "SELECT DISTINCT host FROM models WHERE host IS NOT NULL ORDER BY host LIMIT ?"
_MOST_HOSTS = 10_000
# If a model has several copies: the one at its path, else the first.
_FILES = """SELECT path, role, size, mtime_ns, sha256, device, inode FROM model_files
WHERE model_id = :id AND weights = (
    SELECT weights FROM model_files WHERE model_id = :id
    ORDER BY weights IS NOT :path, weights LIMIT 1
) ORDER BY role = 'shard' DESC, role = 'model' DESC, path"""
_PLACES = """SELECT root, locator, source, name, state FROM model_places
WHERE model_id = :id ORDER BY root, locator"""


def read(target: Target, context: Context) -> Iterator[Item]:
    """Yield the models of a catalogue, including those that are only in its log.

    Raises `SourceError` if it is not a catalogue, too new, or unreadable.
    """
    with opened_source(target.real_path, context.timeout) as opened:
        begin_to_read(opened.db, opened.probe.name)
        yield from log_notes(opened, opened.db.table("models").count)
        yield from models_of(opened.db)


def begin_to_read(db: Database, name: str) -> None:
    """Begin a transaction, so that one state of a catalogue is read from beginning to end.

    Raises `SourceError` for a database that is none.
    """
    if ownership(db) != "catalogue":
        raise SourceError(
            f"'{name}' is not a modelstore catalogue",
            hint="leave out --from to detect its kind",
        )
    show_current_schema(db)
    db.begin()


def hosts_of(db: Database) -> list[str]:
    """Return the hosts that the models of a catalogue have, by name. Outside text.

    Raises `SourceError` for more than a catalogue has.
    """
    # plain SQL: sqlite-utils has no DISTINCT
    rows = db.execute(_HOSTS, [_MOST_HOSTS + 1]).fetchall()
    if len(rows) > _MOST_HOSTS:
        raise SourceError(f"its models have more than {_MOST_HOSTS:,} hosts")
    return [host for (host,) in rows if isinstance(host, str)]


def models_of(db: Database, *, but: Sequence[str] = ()) -> Iterator[Item]:
    """Yield the models of a catalogue with their files and places; none of the hosts `but`."""
    rows: list[tuple[object, ...]] = []
    # plain SQL: tuples stream twice as fast as the dicts of db.query()
    for *row, has_companions in db.execute(_MODELS, [json.dumps(but)]):
        if has_companions:
            yield from _with_companions(db, _Row(row))
        else:
            rows.append(tuple(row))
        if len(rows) >= BATCH:
            yield Rows(rows)
            rows = []
    if rows:
        yield Rows(rows)


@dataclass(frozen=True, slots=True)
class _Row:
    values: list[Any]

    def model(self) -> Model:
        columns = dict(zip(MODEL_COLUMNS, self.values, strict=True))
        for column in ARRAY_COLUMNS:
            if columns[column] is not None:
                columns[column] = tags_from_json(columns[column])
        return Model(**columns)


def _with_companions(db: Database, row: _Row) -> Iterator[Found]:
    """Yield a model with its files, once for each of its places."""
    model = row.model()
    key = {"id": model.id, "path": model.path}
    files = tuple(ModelFile(**file) for file in db.query(_FILES, key))
    places: list[Place | None] = [Place(**place) for place in db.query(_PLACES, key)]
    for place in places or [None]:
        yield Found(model, files, place)
