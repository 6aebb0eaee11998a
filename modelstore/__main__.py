"""Entry point of the ``modelstore`` command and of ``python -m modelstore``."""

import gc
import sys

_GARBAGE = 100_000  # objects between two collections; Python's default of 700 costs 5 %


def main() -> None:
    """Run the command line and exit with its documented code."""
    gc.set_threshold(_GARBAGE, 20, 20)
    from modelstore.cli.main import run

    code = run(sys.argv[1:])
    gc.freeze()  # else Python searches all objects for cycles at exit: a sixth of a short run
    sys.exit(code)


if __name__ == "__main__":
    main()
