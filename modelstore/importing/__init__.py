"""Importing: read sources into the catalogue, fold the log, and prove that the rows are safe.

- `targets` chooses what to read: the sources that were named, or the usual places.
- `importer` reads each target, merges it in transactions, and marks the models that are gone.
- `result` holds the counts, the exit codes and the facts that the command line shows.

This package may import `sources`, `catalogue` and `database`. It knows no terminal: the caller
passes a `Listener`. A new step of an import is a method of `Importer`, with its count in `Tally`.
"""
