"""Random histories: the setting of a database, and the steps of its life, as plain data."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from enum import Enum

from tests.truth import schemas
from tests.truth.schemas import Table, quoted


class Verb(Enum):
    """A kind of step. The value is the word in a printed history."""

    SQL = "sql"  # on the connection `on`
    OPEN = "open"  # one more connection
    CLOSE = "close"
    CRASH = "crash"  # go on with copies of the files, as after a crash of all processes
    RESTORE = "restore"  # a backup, made by the SQL in `text`, through SQLite's backup interface
    RESERVE = "reserve"  # `text` reserved bytes on each page from the next VACUUM on
    RESET = "reset"  # SQLITE_DBCONFIG_RESET_DATABASE and VACUUM


@dataclass(frozen=True, slots=True)
class Step:
    """One step, on one of three connections: 0 and 2 write, 1 reads."""

    verb: Verb
    text: str = ""
    on: int = 0


@dataclass(frozen=True, slots=True)
class History:
    """A life of a database. `player` is the SQLite that plays it, `parameters` those of its URI."""

    player: str
    parameters: str
    steps: tuple[Step, ...]

    def without(self, first: int, count: int) -> History:
        """Return the same history without `count` steps."""
        return replace(self, steps=self.steps[:first] + self.steps[first + count :])


def history(rng: random.Random) -> History:
    """Return a random history."""
    player = rng.choice(("stdlib", "apsw"))
    page = rng.choice((512, 512, 1024, 1024, 4096, 4096, 4096, 8192, 65536))
    parameters = "psow=0" if rng.random() < 0.05 else ""
    return History(player, parameters, tuple(_Author(rng, player, page).steps()))


class _Author:
    """Writes the steps, and keeps the tables that exist if all of them succeed."""

    def __init__(self, rng: random.Random, player: str, page: int) -> None:
        self._rng = rng
        self._player = player
        self._page = page
        self._tables: list[Table] = []
        self._indexes: list[str] = []
        self._made = 0
        self._next = 1
        self._in_transaction = False
        self._reading = False

    def steps(self) -> list[Step]:
        rng = self._rng
        steps = [Step(Verb.OPEN)]
        if self._player == "apsw" and rng.random() < 0.1:
            steps.append(Step(Verb.RESERVE, str(rng.choice((4, 8, 32)))))
        steps += map(_sql, self._setting())
        for _ in range(rng.randint(1, 3)):
            steps += self._create() + self._insert()
        if rng.random() < 0.7:
            steps.append(_sql("PRAGMA wal_checkpoint(TRUNCATE)"))
        for _ in range(rng.randint(1, 9)):
            steps += self._any()
        return steps

    def _setting(self) -> list[str]:
        rng = self._rng
        vacuum = rng.choice((0, 0, 0, 1, 2))
        encoding = rng.choice(("UTF-8", "UTF-8", "UTF-8", "UTF-16le", "UTF-16be"))
        journal = rng.choices(("WAL", "DELETE", "PERSIST"), (30, 1, 1))[0]
        synchronous = rng.choice(("NORMAL", "NORMAL", "FULL", "OFF"))
        automatic = rng.choice((0, 0, 0, 0, 4, 20, 1000))
        return [
            f"PRAGMA page_size={self._page}",
            f"PRAGMA encoding='{encoding}'",
            f"PRAGMA auto_vacuum={vacuum}",
            f"PRAGMA journal_mode={journal}",
            f"PRAGMA synchronous={synchronous}",
            f"PRAGMA wal_autocheckpoint={automatic}",
        ]

    # -- steps that need a table -----------------------------------------------------------------

    def _create(self) -> list[Step]:
        taken = {_folded(table.name) for table in self._tables}
        free = [name for name in schemas.NAMES if _folded(name) not in taken]
        made = schemas.table(self._rng, self._rng.choice(free), virtual=self._rng.random() < 0.3)
        self._tables.append(made)
        steps = [_sql(made.sql)]
        if not made.virtual and self._rng.random() < 0.4:
            steps.append(self._index(made))
        return steps

    def _index(self, on: Table) -> Step:
        self._made += 1
        name = self._rng.choice((f"i{self._made}", f"index {self._made}"))
        self._indexes.append(name)
        return _sql(schemas.index(self._rng, on, name))

    def _insert(self, table: Table | None = None) -> list[Step]:
        table = table or self._table()
        count = self._rng.choice((1, 1, 2, 3, 10, 40, 150))
        first, self._next = self._next, self._next + count
        columns = ", ".join(map(quoted, table.columns))
        rows = (
            f"WITH RECURSIVE n(i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM n LIMIT {count})"
        )
        into = f"INSERT OR IGNORE INTO {quoted(table.name)}({columns})"
        if table.virtual:
            into = into.replace(" OR IGNORE", "")
        return [_sql(f"{into} {rows} SELECT {', '.join(table.fill)} FROM n", self._writer())]

    def _update(self) -> list[Step]:
        table, rng = self._table(), self._rng
        where = f"{table.key} % {rng.choice((1, 2, 3, 7, 50))} = 0"
        new = table.change if rng.random() < 0.15 else table.value
        change = f"{quoted(table.change)} = {new}"
        return [_sql(f"UPDATE OR IGNORE {quoted(table.name)} SET {change} WHERE {where}")]

    def _delete(self) -> list[Step]:
        table = self._table()
        where = f"{table.key} % {self._rng.choice((1, 2, 3, 5, 40))} = 0"
        return [_sql(f"DELETE FROM {quoted(table.name)} WHERE {where}")]

    def _drop(self) -> list[Step]:
        table = self._table()
        if len(self._tables) > 1:
            self._tables.remove(table)
        steps = [_sql(f"DROP TABLE {quoted(table.name)}")]
        if self._rng.random() < 0.4:  # a table of the same shape often gets the same root page
            steps += [_sql(table.sql), *self._insert(table)]
            if table not in self._tables:
                self._tables.append(table)
        return steps

    def _alter(self) -> list[Step]:
        table, rng = self._table(), self._rng
        name = quoted(table.name)
        if table.virtual:
            return []
        self._made += 1
        change = rng.choice(("add", "add", "rename", "column", "drop"))
        if change == "add":
            default = rng.choice(("", " DEFAULT 5", " TEXT DEFAULT 'x DEFAULT y'", " DEFAULT NULL"))
            return [_sql(f"ALTER TABLE {name} ADD COLUMN new{self._made}{default}")]
        if change == "rename":
            new = f"renamed {self._made}"
            self._tables[self._tables.index(table)] = replace(table, name=new)
            return [_sql(f"ALTER TABLE {name} RENAME TO {quoted(new)}")]
        if change == "column":
            column = quoted(table.columns[-1])
            return [_sql(f"ALTER TABLE {name} RENAME COLUMN {column} TO c{self._made}")]
        return [_sql(f"ALTER TABLE {name} DROP COLUMN {quoted(table.columns[-1])}")]

    def _other_object(self) -> list[Step]:
        table = self._table()
        self._made += 1
        choice = self._rng.choice(("index", "index", "view", "trigger", "drop", "drop"))
        if choice == "view":
            return [_sql(schemas.view(f"v{self._made}", table))]
        if choice == "drop" and self._indexes:
            name = self._indexes.pop(self._rng.randrange(len(self._indexes)))
            return [_sql(f"DROP INDEX {quoted(name)}")]
        if table.virtual:
            return []
        if choice == "trigger":
            return [_sql(schemas.trigger(f"g{self._made}", table))]
        return [self._index(table)]

    # -- steps that need none --------------------------------------------------------------------

    def _any(self) -> list[Step]:
        chosen = self._rng.choices(
            (
                self._insert,
                self._update,
                self._delete,
                self._create,
                self._drop,
                self._alter,
                self._other_object,
                self._upkeep,
                self._pragma,
                self._checkpoint,
                self._reader,
                self._transaction,
                self._rare,
            ),
            (16, 10, 7, 5, 4, 5, 6, 6, 5, 12, 5, 6, 3),
        )[0]
        return chosen()

    def _upkeep(self) -> list[Step]:
        words = ("VACUUM", "VACUUM", "REINDEX", "ANALYZE", "PRAGMA incremental_vacuum(3)")
        return [_sql(self._rng.choice(words))]

    def _pragma(self) -> list[Step]:
        rng = self._rng
        number = rng.randint(0, 99)
        name = rng.choice(("user_version", "application_id", "user_version", "auto_vacuum"))
        if name == "auto_vacuum":
            return [_sql(f"PRAGMA auto_vacuum={rng.choice((1, 2))}")]
        return [_sql(f"PRAGMA {name}={number}")]

    def _checkpoint(self) -> list[Step]:
        mode = self._rng.choice(("PASSIVE", "PASSIVE", "PASSIVE", "FULL", "RESTART", "TRUNCATE"))
        return [_sql(f"PRAGMA wal_checkpoint({mode})")]

    def _reader(self) -> list[Step]:
        """Begin or end a read transaction, which keeps checkpoints from going beyond it."""
        self._reading = not self._reading
        if not self._reading:
            return [_sql("COMMIT", 1), Step(Verb.CLOSE, on=1)]
        return [
            Step(Verb.OPEN, on=1),
            _sql("BEGIN", 1),
            _sql("SELECT count(*) FROM sqlite_schema", 1),
        ]

    def _transaction(self) -> list[Step]:
        """Begin, end, spill or take back a transaction, or a part of one."""
        rng = self._rng
        if not self._in_transaction:
            self._in_transaction = True
            spill = [_sql("PRAGMA cache_size=3")] if rng.random() < 0.5 else []
            return [*spill, _sql("BEGIN IMMEDIATE"), *self._insert(), *self._update()]
        if rng.random() < 0.4:
            end = rng.choice(("ROLLBACK TO s", "RELEASE s"))
            return [_sql("SAVEPOINT s"), *self._insert(), *self._delete(), _sql(end)]
        self._in_transaction = False
        return [_sql(rng.choice(("COMMIT", "COMMIT", "ROLLBACK")))]

    def _rare(self) -> list[Step]:
        rng = self._rng
        choice = rng.choice(("crash", "reopen", "restore", "mode", "reserve", "reset"))
        if choice == "crash":
            self._in_transaction = self._reading = False
            return [Step(Verb.CRASH)]
        if choice == "reopen":
            self._in_transaction = False
            return [Step(Verb.CLOSE), Step(Verb.OPEN)]
        if choice == "restore":
            encoding = rng.choice(("UTF-8", "UTF-16"))
            size = rng.choice((self._page, self._page, 4096))
            rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 30)"
            made = self._table()
            text = (
                f"PRAGMA page_size={size}; PRAGMA encoding='{encoding}'; {made.sql};"
                f" CREATE TABLE restored(a); INSERT INTO restored {rows} SELECT {schemas.text(rng)}"
                " FROM n"
            )
            return [Step(Verb.RESTORE, text)]
        if choice == "mode":
            return [
                _sql("PRAGMA journal_mode=DELETE"),
                *self._insert(),
                _sql("PRAGMA journal_mode=WAL"),
            ]
        if choice == "reserve":
            return [Step(Verb.RESERVE, str(rng.choice((0, 8, 24)))), _sql("VACUUM")]
        return [Step(Verb.RESET)]

    # --------------------------------------------------------------------------------------------

    def _table(self) -> Table:
        return self._rng.choice(self._tables)

    def _writer(self) -> int:
        return 2 if not self._in_transaction and self._rng.random() < 0.1 else 0


def _sql(text: str, on: int = 0) -> Step:
    return Step(Verb.SQL, text, on)


def _folded(name: str) -> str:
    """Return a name as SQLite compares it: ASCII letters in lower case."""
    return "".join(char.lower() if char.isascii() else char for char in name)
