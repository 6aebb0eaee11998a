"""A pager for an answer that is longer than the screen: ``PAGER``, else ``less``."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from contextlib import suppress


def pager_command() -> list[str] | None:
    """Return the command of the pager; None if there is none, or it is ``cat``."""
    words = shlex.split(os.environ.get("MODELSTORE_PAGER") or os.environ.get("PAGER") or "less")
    if not words or os.path.basename(words[0]) == "cat" or shutil.which(words[0]) is None:
        return None
    return words


def show_in_pager(text: str) -> bool:
    """Show `text` in the pager and wait until it ends; return False if there is no pager.

    Ctrl-C belongs to the pager meanwhile.
    """
    command = pager_command()
    if command is None:
        return False
    environment = {"LESS": "FRX", "LV": "-c", **os.environ}
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with (
            subprocess.Popen(command, stdin=subprocess.PIPE, env=environment) as process,  # noqa: S603  # the person's own
            suppress(OSError),  # the person left it
        ):
            process.communicate(text.encode("utf-8", "backslashreplace"))
    except OSError:
        return False
    finally:
        signal.signal(signal.SIGINT, before)
    return True
