"""The licence that a model card names, in the YAML that a README begins with.

https://huggingface.co/docs/hub/model-cards#model-card-metadata
"""

from __future__ import annotations

import re
from typing import Any

from modelstore.sources.files.local_files import read_bounded
from modelstore.sources.values import array, text_or_none

_MAX_CARD = 1 << 20  # bytes
# Between two lines of dashes.
_FRONT = re.compile(r"\ufeff?---[ \t]*\r?\n(.*?)^---[ \t]*\r?$", re.DOTALL | re.MULTILINE)
# One key with the lines that belong to it: a list, or a text that goes on.
_ENTRY = re.compile(
    r"^(license(?:_name)?):([^\n]{0,500}(?:\n[ \t-][^\n]{0,500}){0,4})", re.MULTILINE
)


def card_license(path: str) -> str | None:
    """Return the licence that the card at `path` names: ``apache-2.0``; None if it names none.

    A licence that the hub does not know is ``other``, with its name beside it.
    """
    try:
        front = _FRONT.match(read_bounded(path, _MAX_CARD).decode("utf-8", "replace"))
    except (OSError, ValueError):
        return None
    if front is None:
        return None
    found = {key: _scalar(written) for key, written in _ENTRY.findall(front[1])}
    return (found.get("license_name") if found.get("license") == "other" else None) or found.get(
        "license"
    )


def _scalar(written: str) -> str | None:
    """Return the text, or the first of several, that a few lines of YAML hold."""
    import yaml

    loader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        value = yaml.load(written, Loader=loader)  # noqa: S506  # a safe loader
    except (yaml.YAMLError, ValueError, RecursionError):
        return None
    first = next(iter(array(value)), value)
    return text_or_none(str(first) if isinstance(first, (str, int, float)) else None)
