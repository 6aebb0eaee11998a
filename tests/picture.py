"""Draw the picture of the README from what the program shows: ``python -m tests.picture``.

The listing and the log are invented; every line is the program's own.
"""

from __future__ import annotations

import io
import json
import re
import tempfile
from contextlib import chdir
from pathlib import Path

from rich.console import Console
from rich.text import Text

from tests.cli.program import ROOT, modelstore
from tests.cli.terminal import on_terminal

_MODELS = (
    ("Qwen3-30B-A3B-Instruct-2507-UD-Q4_K_XL", "qwen3moe", 30_530_000_000, 262_144, 17_715_000_000),
    ("gemma-3-27b-it-Q4_0", "gemma3", 27_010_000_000, 131_072, 15_630_000_000),
    ("Llama-3.1-8B-Instruct-Q8_0", "llama", 8_030_000_000, 131_072, 8_540_000_000),
    ("nomic-embed-text-v1.5-F16", "nomic-bert", 136_700_000, 2_048, 274_300_000),
)
_WIDTH = 92


def main() -> None:
    """Write the picture."""
    with tempfile.TemporaryDirectory() as directory:
        where = Path(directory)
        lines = [
            json.dumps(
                {
                    "name": name,
                    "architecture": architecture,
                    "parameter_count": parameters,
                    "context_length": context,
                    "file_size": size,
                    "quantization": re.split(r"-(?=[^-]*$|UD-)", name)[-1],
                }
            )
            for name, architecture, parameters, context, size in _MODELS
        ]
        modelstore("import", "-", "--db", where / "models.db", stdin="\n".join(lines).encode())
        text = ""
        for arguments in (["list"], ["verify", "--only", "log", "--only", "persistence"]):
            with chdir(where):
                shown = on_terminal(*arguments, columns=_WIDTH, env={"MODELSTORE_DB": "models.db"})
            text += f"$ modelstore {' '.join(arguments)}\n{shown.text}"
    console = Console(record=True, width=_WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(text))
    svg = console.export_svg(title="modelstore", unique_id="modelstore")
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)  # it loads nothing
    (ROOT / ".github" / "picture.svg").write_text(svg)


if __name__ == "__main__":
    main()
