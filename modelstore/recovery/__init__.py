"""A new database out of all the evidence that is left of an old one.

The map, in reading order:

- `evidence` finds and opens the files: at the path, given by the user, or held by living processes
  though their names are gone. `history` reads a log's generations, commits and sound frames;
  `rollback` reads the journal of a transaction that never ended.
- `states` lays the pages of a log over a main file, as of a commit, and `choices` puts them in
  order; `tables` turns records into rows.
- `writer` writes a state's pages to the new file and gives it its name; `checks` checks it.
- `salvage` builds a new database from rows if no state is whole: `trees` reads what is left of
  b-trees, with the signs of `damage`; `orphans` finds the table of a page whose parent is gone, and
  `unnamed` tells tables from their pages if the schema is gone; `remains` looks for lost rows in
  stray bytes, `indexes` in the indexes of a damaged table. `doubts` marks rows that lost bytes.
- `additions` adds rows with their provenance; `leftovers` finds the rows that the state lacks:
  `comparison` tells which cells of the main file a log changed, and `owners` knows the table of
  each page of a log, as of each commit.
- `deleted` finds a state's deleted rows: `free_space` says where in a page they may be, `carve`
  takes the likeliest cells, `record_forms` judges what a table's records can look like.
- `recover` does it all; `accounts` counts rows and their sources; `result` is the answer.

Imports `database`, `wal`, `text` and `errors`. No file of the evidence is opened by SQLite or
written: SQLite sees the new file alone.
"""
