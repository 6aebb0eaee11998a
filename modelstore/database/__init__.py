"""Open, fold and close any SQLite database. Nothing here knows of models: it is a library.

From the ground up; each module imports only from those above it:

- ``sqlite``: the SQLite library of this process, its version and its bug; ``sqlite_errors``: what
  its errors mean; ``sqlite_text``: text and numbers that SQLite cannot hold as they are;
- ``handle``: the sqlite-utils handle that the program passes around, and its pragmas;
- ``file_kinds``: what a file is that is no database;
- ``files``: sync, hold, guard and copy the files; ``filesystem``: mounts and owners that endanger a
  log;
- ``holders``: the processes that have a database open, and what is wrong with their files and
  locks; ``evidence``: each reason against a fold, with its code, sentence and advice;
- ``foreign_log``: whether a log belongs to the database beside it; ``older_log``: whether it was
  left over when the database was restored; ``trial``: both tried on a copy;
- ``probe``: the raw look before SQLite comes near the
  files, and the one place that gathers the evidence;
- ``ledger``: true counts of frames; ``checkpoint``: the result of a fold and its exit code;
- ``live_log``: the open log, its locks, and each way to checkpoint it; ``fold``: folding on the
  way out;
- ``connection``: an open database, its write transactions and its close; ``open``: the ways to
  open one;
- ``checkpoint_modes``: the checkpoint that a person asks for; ``proof``: rows counted in the main
  file alone; ``discard``: a damaged log given up after it was saved.

`copying` measures the progress of a checkpoint from outside.

Imports ``wal``, ``text`` and ``errors``. Begin with `open.open_database`: it probes the files,
lets the caller's `Check` look, and returns a `connection.OpenDatabase`. A new reason that forbids
a fold goes into `Probe.reasons`; a new fact about the open log into `LiveLog`.
"""
