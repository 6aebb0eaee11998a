"""A new database out of all the evidence that is left of an old one.

The map, in reading order:

- `evidence` finds and opens the files: at the path, given by the user, or held by living processes
  though their names are gone; `history` reads a log's generations, commits and sound frames.
- `states` lays a log's pages over a main file, as of a commit; `tables` turns records into rows.
- `rollback` takes an unfinished transaction back. `writer` writes a state's pages to the new file, checks it and gives it its name; `salvage` builds
  a new database from rows if no state is whole.
- `additions` adds rows with their provenance; `leftovers` finds the rows that the state lacks.
- `deleted` finds a state's deleted rows: `free_space` says where in a page they may be, `carve`
  takes the likeliest cells, `record_forms` judges what a table's records can look like.
- `recover` does it all; `result` is its answer.

Imports `database`, `wal`, `text` and `errors`. No file of the evidence is opened by SQLite or
written: SQLite sees the new file alone.
"""
