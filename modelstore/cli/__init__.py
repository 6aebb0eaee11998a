"""The command line: the only package that prints, asks and exits.

- `main` runs one command line and returns its exit code; `app` lists the commands.
- A module for each command: `import_`, `list_`, `show`, `tag`, `forget`, `checkpoint`,
  `inspect_wal` (with `watching` and `watch_screen`), `verify`. `changes` holds what `tag` and
  `forget` share.
- `options` declares the options that several commands share.
- `session` chooses, opens and folds the database; `catalogue_session` finds the models in it.
- `output` is the only writer to stdout and stderr. `reporting` writes reports, `progress` a live
  line, `result_files` the files of ``--junit`` and ``--report``.
- `completion` answers shells. `vendored_click` holds all that is used of Typer's private Click.

It may import every other package. Commands import at call time, inside functions, so that each
starts fast; `tests/cli/test_startup.py` pins the modules that the quick ones load. To add a
command, write a module with a function `command`, and add one line to `app.COMMANDS`.
"""
