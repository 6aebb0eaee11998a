"""Entry point of the ``modelstore`` command and of ``python -m modelstore``."""

import sys


def main() -> None:
    """Run the command line and exit with its documented code."""
    from modelstore.cli.main import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
