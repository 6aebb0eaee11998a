"""The locator of a model, which says what it is, and the id that is made of it.

A listing needs neither, so it does not load what hashes them.
"""

from __future__ import annotations

import re
from hashlib import sha256


def model_id(locator: str) -> str:
    """Return the stable id of a locator: the first 16 hex digits (64 bits) of its SHA-256."""
    return sha256(locator.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def file_locator(host: str, path: str) -> str:
    """Return the locator of a file: its host and real path, so that many machines can merge."""
    return f"file://{host}{path if path.startswith('/') else '/' + path}"


def hub_locator(repository: str, *, revision: str | None = None, file: str | None = None) -> str:
    """Return the locator of a model that is only known by its Hugging Face repository.

    `file` may also be the tag of a quantization: ``hf:org/repo@revision:file``.
    """
    return f"hf:{repository}{f'@{revision}' if revision else ''}{f':{file}' if file else ''}"


_MAX_LOCATOR = 8192  # characters
_LOCATOR = re.compile(r"[a-z][a-z0-9+.-]{1,31}:[^\x00]+")  # file names hold control characters
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[\w.-]{1,96}")


def is_locator(text: str) -> bool:
    """Return True for a scheme, a colon, and anything but NUL characters."""
    return len(text) <= _MAX_LOCATOR and _LOCATOR.fullmatch(text) is not None


def is_repository(text: str) -> bool:
    """Return True for the form of a Hugging Face repository: ``org/repo``."""
    return _REPOSITORY.fullmatch(text) is not None
