"""Replicas of a database that Litestream keeps elsewhere: restored, and compared row by row.

The map:

- `name` is the name of a replica: a URL, or a configuration of Litestream's that names it.
- `engine` runs the ``litestream`` program: restore, list, replicate once.
- `shadow` reads how far Litestream has copied the log, from the files that it keeps beside the
  database.
- `comparison` compares two databases row by row, and keeps the rows that differ.
- `examination` looks at a replica until it knows: same, behind, lost, or something else;
  `words` says so.
- `fleet` lists the replicas under one URL, with `s3` and `nats` for those two kinds of store.

The engine's exit code and its own check of integrity prove nothing: rows are compared.
"""
