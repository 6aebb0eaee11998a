"""Coverage-guided fuzzing of the parsers: ``python -m tests.torture.fuzz PARSER [DIRECTORY...]``.

Needs atheris, which is no dependency of the tests (``pip install atheris``, CPython 3.11 to 3.13).
Options of libFuzzer go behind the parser's name, such as ``-max_total_time=600``; inputs that
reach new code are kept in the first DIRECTORY. Those worth keeping are in ``tests/torture/corpus``.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path


def main() -> None:
    """Fuzz one parser until libFuzzer has enough, or a fault is found."""
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["modelstore"]):
        targets = importlib.import_module("tests.torture.targets")
    parsers = {parser.name: parser for parser in targets.PARSERS}
    if len(sys.argv) < 2 or sys.argv[1] not in parsers:
        sys.exit(f"usage: python -m tests.torture.fuzz {'|'.join(parsers)} [DIRECTORY...]")
    parser = parsers[sys.argv.pop(1)]

    def feed(data: bytes) -> None:
        parser.feed(bytes(data))

    atheris.Setup(sys.argv, feed)
    atheris.Fuzz()


def plant(parser: str, directory: str, count: int = 20) -> None:
    """Write mutants for libFuzzer to begin with."""
    import random

    targets = importlib.import_module("tests.torture.targets")
    (chosen,) = (one for one in targets.PARSERS if one.name == parser)
    for number in range(count):
        data = chosen.make(random.Random(f"fuzz:{number}"))
        (Path(directory) / f"seed-{number}").write_bytes(data)


if __name__ == "__main__":
    main()
