"""The result of a recovery: tables, their rows and sources, and what no longer exists."""

from __future__ import annotations

from dataclasses import dataclass, field

from modelstore.errors import ExitCode


@dataclass(frozen=True, slots=True)
class RecoveredTable:
    """A table of the new file, with rows counted.

    `only_in_log` counts rows whose key the main file lacks; None if that is unknown. `fitted` are
    rows beyond the recovered state that were put into the table, and marked. `set_aside` counts the
    rows in tables of their own. `missing_pages` counts the pages of the table that cannot be read,
    and `unreadable_pages` names those of them that a file holds, 100 at most;
    `missing_rows` is the least number of rows that are gone: one for each page or cell whose rows
    are found nowhere else, or those that an index names. `sources` counts the added rows by file,
    `fitted_from` those of them that are `fitted`.
    """

    name: str
    rows: int
    only_in_log: int | None = None
    fitted: int = 0
    set_aside: dict[str, int] = field(default_factory=dict)
    missing_pages: int = 0
    missing_rows: int = 0
    unreadable_pages: tuple[int, ...] = ()
    sources: dict[str, int] = field(default_factory=dict)
    fitted_from: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """A recovery that was made, or that would be made if `into` is None.

    `how` is "pages" for a file whose pages are exactly those of the evidence, "rows" for a new
    database built from rows. `commit` is the frame of the commit that the state shows, 0 for the
    main file alone; `is_exact` is False if a page of it may be older. `lost_frames` are damaged
    frames whose pages nothing else holds, `mended_frames` frames put right by their checksum.
    `held` says which process holds which file, `is_wal` that the new file is in WAL mode, as the
    old one was; it has no log. `provenance_lines` counts the lines of `modelstore_recovered`; if
    there are none, "pages" has the old pages alone. `searched_deleted` is True if deleted rows were
    looked for.
    """

    database: str
    into: str | None
    evidence: tuple[str, ...]
    held: tuple[str, ...]
    main: str | None
    log: str | None
    how: str
    is_whole: bool
    messages: tuple[str, ...]
    commit: int
    is_exact: bool
    tables: tuple[RecoveredTable, ...]
    mended_frames: int = 0
    lost_frames: tuple[int, ...] = ()
    lost_pages: tuple[int, ...] = ()
    bad_rows: int = 0
    notes: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    is_raced: bool = False
    saved_to: str | None = None
    saved: tuple[str, ...] = ()
    size: int = 0
    is_wal: bool = False
    provenance_lines: int = 0
    searched_deleted: bool = False

    @property
    def rows(self) -> int:
        """The rows in all tables, without those set aside."""
        return sum(table.rows for table in self.tables)

    @property
    def set_aside(self) -> int:
        """The rows in tables of their own."""
        return sum(sum(table.set_aside.values()) for table in self.tables)

    @property
    def missing_rows(self) -> int:
        """The least number of rows that no evidence holds."""
        return sum(table.missing_rows for table in self.tables)

    @property
    def is_complete(self) -> bool:
        """True if the new file has everything that the database is known to have had."""
        has_pages = not self.lost_pages and not any(table.missing_pages for table in self.tables)
        return has_pages and not (self.missing_rows or self.lost_frames) and self.is_whole

    @property
    def exit_code(self) -> ExitCode:
        """4 if some evidence could not be read now, 5 if rows are known to be missing, else 0."""
        if self.is_raced or self.unread:
            return ExitCode.BUSY
        return ExitCode.OK if self.is_complete else ExitCode.FAILED
