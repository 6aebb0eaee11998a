"""Verification: evidence that the data of a database really persists.

The map:

- `run` makes one verification: it decides in which order the checks look at a database.
- `check` defines a `Check`, the stages of a run, and the options and state that checks share.
- `checks/` holds one module for each check. To add a check, add a module with a `CHECK` there, and
  its test: nothing else has a list of checks.
- `drill/` tries out on a scratch catalogue what a directory does to committed rows.
- Helpers of checks: `subject` reads the raw files, `preconditions` decides what may be opened and
  folded, `content` digests tables, `loss_summary` words a loss, `place` looks at mounts and owners,
  `users` finds the processes that have a file open, `hashing` hashes model files, `expected` reads
  the caller's expectations, `signals` holds signals back.

A check yields values of `modelstore.finding`. This package may import everything below it
(`catalogue`, `database`, `wal`), and neither `render` nor `cli`.
"""
