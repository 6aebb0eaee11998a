"""``python -m modelstore.cli.pre_commit [OPTION]... FILE...``: verify each file, for pre-commit.

pre-commit names many files in one call, after the options; `verify` takes one.
"""

from __future__ import annotations

import subprocess
import sys
from itertools import takewhile

from modelstore.errors import ExitCode


def main() -> int:
    """Verify each file in a process of its own, and return the first exit code that is not 0."""
    words = sys.argv[1:]
    options = list(takewhile(lambda word: word.startswith("-"), words))
    files = words[len(options) :]
    if not files:
        sys.stderr.write("error: no file is named\nhint: write options as --name=value\n")
        return ExitCode.USAGE
    command = [sys.executable, "-m", "modelstore", "verify", *options]
    codes = [
        subprocess.run([*command, f"--db={file}"], check=False).returncode  # noqa: S603  # our own
        for file in files
    ]
    return next(filter(None, codes), ExitCode.OK)


if __name__ == "__main__":
    sys.exit(main())
