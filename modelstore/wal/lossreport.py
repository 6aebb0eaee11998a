"""The values that `loss.analyse` answers with."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from modelstore.wal.mainfile import MainFile, MainState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelstore.wal.frames import WalScan
    from modelstore.wal.index import WalIndex
    from modelstore.wal.ownership import Ownership, PageOwner, PageRole
    from modelstore.wal.rows import Key
    from modelstore.wal.schema import SchemaObject


class Fate(Enum):
    """What happens to a table, or to another object of the schema, if the log goes."""

    STAYS = "stays"
    VANISHES = "vanishes"
    RETURNS = "returns"
    RENAMED = "renamed"  # it gets its former name back
    REVERTS = "reverts"  # its definition does


@dataclass(frozen=True, slots=True)
class RowSet:
    """Some rows of a table: their `count`, and the first of them, as many as were asked for.

    `keys` are rowids, ascending, or the primary keys of a WITHOUT ROWID table. `texts` are the
    values of the column that was asked for, one for each key; None for a value that is no text.
    """

    count: int
    keys: tuple[Key, ...] = ()
    texts: tuple[str | None, ...] = ()


@dataclass(frozen=True, slots=True)
class TableLoss:
    """What one table loses. Rows are compared as they are stored, by rowid or primary key.

    `lost` rows are gone, `reverted` ones get older content back, `returning` ones were deleted
    and are there again. Counts are lower bounds where `is_exact` is False (more of the database
    would have to be read: `deep`); `problem` says why a table could not be compared at all.
    """

    name: str
    fate: Fate
    lost: RowSet
    reverted: RowSet
    returning: RowSet
    former_name: str | None = None
    is_exact: bool = True
    problem: str | None = None

    @property
    def is_loss(self) -> bool:
        """Whether anything would change, or may change."""
        rows = self.lost.count + self.reverted.count + self.returning.count
        return rows > 0 or self.fate is not Fate.STAYS or not self.is_exact


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """A table, index, view or trigger that would vanish, return, or revert to an older SQL."""

    type: str
    name: str
    fate: Fate


@dataclass(frozen=True, slots=True)
class ObjectPages:
    """What a table, an index, or (`object` is None) a list of the database has in the log.

    `pages` counts distinct ones, `differing` those whose newest version the main file lacks,
    `roles` the pages by what they are for.
    """

    object: SchemaObject | None
    frames: int
    pages: int
    differing: int
    roles: Mapping[PageRole, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class LossReport:
    """The answer of `loss.analyse`. Frames and pages are counted; nothing is in bytes.

    `raced` means that the files changed while they were read, at each of `attempts` looks, so
    that nothing here is certain. `live_problem` tells why the database with its log cannot be
    read: damage, or the log of another database. `unattributed` pages of the log belong to
    nobody that was found; rows in them are not counted, and `is_exact` is False.
    """

    scan: WalScan
    index: WalIndex | None
    main: MainFile
    raced: bool
    attempts: int
    pages: int = 0
    differing: int = 0
    unattributed: int = 0
    objects: tuple[ObjectPages, ...] = ()
    tables: tuple[TableLoss, ...] = ()
    schema_changes: tuple[SchemaChange, ...] = ()
    live_problem: str | None = None
    pages_read: int = 0
    held: bytes = field(default=b"", repr=False)
    """One byte for each committed frame: 1 where the main file holds that version of its page."""
    ownership: Ownership | None = field(default=None, repr=False, compare=False)

    @property
    def lost(self) -> int:
        """Rows that would be gone, in all tables."""
        return sum(table.lost.count for table in self.tables)

    @property
    def reverted(self) -> int:
        """Rows that would get older content back, in all tables."""
        return sum(table.reverted.count for table in self.tables)

    @property
    def returning(self) -> int:
        """Deleted rows that would come back, in all tables."""
        return sum(table.returning.count for table in self.tables)

    @property
    def is_exact(self) -> bool:
        """Whether every figure is certain."""
        return not (self.raced or self.unattributed or self.live_problem) and all(
            table.is_exact and table.problem is None for table in self.tables
        )

    @property
    def is_harmless(self) -> bool:
        """Whether it is certain that nothing at all would be lost without the log."""
        return (
            self.is_exact
            and not (self.tables or self.schema_changes or self.scan.is_damaged)
            and self.main.readable
            and self.main.state in (MainState.CONSISTENT, MainState.EMPTY)
        )

    def owner(self, page_number: int) -> PageOwner | None:
        """Return what a page of the committed frames belongs to; None if it is in none."""
        return self.ownership.of(page_number) if self.ownership else None
