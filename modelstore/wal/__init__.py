"""The bytes of a database and its write-ahead log, read without SQLite.

From the file up:

- `files` opens regular files and reads at an offset; `format` has the headers, constants and
  checksums of the database and ``-wal`` files; `index` reads the wal-index in the ``-shm`` file.
- `frames` checks frames and names their states; `vector` does the same check with numpy for large
  logs; `scan` reads a whole ``-wal`` into a `WalScan`.
- `pages` is the database seen through its log: page versions, b-trees, cells, overflow chains.
  `record` decodes records, `schema` the schema table, `schema_columns` CREATE TABLE; `freelist`
  lists the pages that hold nothing.
- `page_owners` finds the table or index of each page in the log; `main_file` compares the log with
  the main file; `rows` reads the rows of a table; `difference` compares tables, `row_difference`
  their rows, `file_difference` everything else; `encryption` recognises pages that nobody can read
  without a key; `loss` puts it together and `loss_report` holds the answer. `stillness` proves that
  nobody wrote meanwhile; `capture` copies the pages of a busy database within such a moment.
- `journal` reads a rollback journal.
- `processes` describes a process, `locks` lists lock holders and what each of them blocks.
- `inspection` combines the loss report, the locks and the blockers for one database; `glance` does
  without the frames, so that it costs a millisecond.

The package imports `errors`, `later` and `text`, the standard library, and numpy in `vector` alone.
It never imports SQLite, a sibling package or anything that writes to a terminal. Every byte it
reads is hostile: a new reader checks each offset, size and count before it uses them, bounds its
work by the file's size, and gets a property-based test with damaged input. Frame numbers and page
numbers begin at 1, as in SQLite.
"""
