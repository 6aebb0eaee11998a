"""Entry point of the ``modelstore`` command and of ``python -m modelstore``."""

import gc
import sys

_GARBAGE = 100_000  # objects between two looks for cycles; Python's 700 cost a start-up 5 %


def main() -> None:
    """Run the command line and exit with its documented code."""
    gc.set_threshold(_GARBAGE, 20, 20)
    from modelstore.cli.main import run

    code = run(sys.argv[1:])
    gc.freeze()  # as it ends Python would look through all for cycles: a sixth of a short run
    sys.exit(code)


if __name__ == "__main__":
    main()
