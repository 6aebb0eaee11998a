"""The answer of `loss.analyse_loss`: tables, rows and pages that the log alone holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from modelstore.wal.main_file import MainFile, MainState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelstore.wal.file_difference import FileDifference
    from modelstore.wal.frames import WalScan
    from modelstore.wal.index import WalIndex
    from modelstore.wal.page_owners import PageOwner, PageOwners, PageRole
    from modelstore.wal.rows import RowKey
    from modelstore.wal.schema import SchemaObject


class Fate(Enum):
    """The change to a table, or another object of the schema, if the log goes."""

    STAYS = "stays"
    VANISHES = "vanishes"
    RETURNS = "returns"
    RENAMED = "renamed"  # it gets its former name back
    REVERTS = "reverts"  # its definition does


@dataclass(frozen=True, slots=True)
class RowSet:
    """Some rows of a table: their `count`, and keys and texts of the first of them.

    `keys` are rowids, ascending, or the primary keys of a WITHOUT ROWID table. `texts` are the
    values of the requested column, one for each key; None for a value that is not text.
    """

    count: int
    keys: tuple[RowKey, ...] = ()
    texts: tuple[str | None, ...] = ()


@dataclass(frozen=True, slots=True)
class TableLoss:
    """The rows that one table loses. Rows are matched by rowid or primary key.

    `lost` rows vanish, `reverted` rows get older content back, `returning` rows were deleted and
    come back. If `is_exact` is False the counts are lower bounds: exact ones need `deep`. `problem`
    gives the reason if the table cannot be compared. A column that the main file alone has counts
    in no row.
    """

    name: str
    fate: Fate
    lost: RowSet
    reverted: RowSet
    returning: RowSet
    former_name: str | None = None
    is_exact: bool = True
    problem: str | None = None
    new_rowids: bool = False
    """True if the rows have other rowids in the main file: a VACUUM numbered them anew."""

    @property
    def is_loss(self) -> bool:
        """True if anything would change, or may change."""
        rows = self.lost.count + self.reverted.count + self.returning.count
        is_changed = rows > 0 or self.new_rowids or not self.is_exact
        return is_changed or self.fate is not Fate.STAYS


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """A table, index, view or trigger that would vanish, return, or revert to older SQL."""

    type: str
    name: str
    fate: Fate


@dataclass(frozen=True, slots=True)
class ObjectPages:
    """The pages of one table or index in the log; of no object if `object` is None.

    `pages` counts distinct pages, `differing` those whose newest version the main file lacks;
    `roles` counts the pages by role.
    """

    object: SchemaObject | None
    frames: int
    pages: int
    differing: int
    roles: Mapping[PageRole, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class LossReport:
    """The loss if the log vanished now. Numbers count frames, pages or rows.

    `raced` is True if the files changed during each of `attempts` looks: then nothing here is
    certain. `live_problem` gives the reason if the database cannot be read with its log: damage, or
    a log of another database. `unattributed` counts pages of the log without a known owner; rows in
    them are not counted, and `is_exact` is False. `encrypted` is True if the pages look like
    random bytes. `holds_all_pages`: the log has every page of the database. `ends_cleanly`: an
    index that nobody holds confirms that no commit follows the last valid one.
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
    file_differences: tuple[FileDifference, ...] = ()
    live_problem: str | None = None
    encrypted: bool = False
    holds_all_pages: bool = False
    ends_cleanly: bool = False
    pages_read: int = 0
    held: bytes = field(default=b"", repr=False)
    """One byte for each committed frame: 1 if the main file holds this version of its page."""
    owners: PageOwners | None = field(default=None, repr=False, compare=False)

    @property
    def lost(self) -> int:
        """Rows of all tables that would vanish."""
        return sum(table.lost.count for table in self.tables)

    @property
    def reverted(self) -> int:
        """Rows of all tables that would get older content back."""
        return sum(table.reverted.count for table in self.tables)

    @property
    def returning(self) -> int:
        """Deleted rows of all tables that would come back."""
        return sum(table.returning.count for table in self.tables)

    @property
    def is_exact(self) -> bool:
        """True if every figure is certain."""
        return (
            self.is_known
            and not self.unattributed
            and not (self.pages and self.main.is_no_database and not self.holds_all_pages)
            and all(table.is_exact and table.problem is None for table in self.tables)
        )

    @property
    def is_known(self) -> bool:
        """True if the figures of rows say anything: both views could be read, in peace."""
        return not (
            self.raced
            or self.encrypted
            or self.live_problem
            or self.scan.fault_hides_frames
            or not (self.main.readable or self.main.is_no_database)
        )

    @property
    def is_same(self) -> bool:
        """True if the main file has the newest version of each page in the log, byte for byte."""
        return (
            self.is_known
            and not self.differing
            and not (self.scan.is_damaged and not self.ends_cleanly)
            and self.main.readable
            and self.main.state is MainState.CONSISTENT
            and self.main.page_count == self.scan.page_count
            and not self.main.is_cut
        )

    @property
    def has_row_changes(self) -> bool:
        """True if a row changes."""
        return self.lost + self.reverted + self.returning > 0

    @property
    def has_schema_changes(self) -> bool:
        """True if a table, or another object of the schema, changes."""
        is_changed = any(table.fate is not Fate.STAYS for table in self.tables)
        return is_changed or bool(self.schema_changes)

    def owner(self, page_number: int) -> PageOwner | None:
        """Return the owner of a page of the committed frames; None for any other page."""
        return self.owners.owner(page_number) if self.owners else None
