"""Keep secrets out of the catalogue: find fields by their name, and values by their form.

A source may hold tokens and keys beside its models (``hf-token`` in a preset, ``apiKeys`` in a
configuration, ``--api-key`` in a command line). They are dropped while reading, never stored.
"""

from __future__ import annotations

import re
from functools import lru_cache

_MAX_DROPPED = 100  # names
MAX_DEPTH = 32  # levels of nesting kept of a value from outside

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_SEPARATORS = re.compile(r"[^a-z0-9]+")
# A whole name, or its end: `api_key` and `openai_api_key`. `eos_token`, `max_tokens` and
# `tokenizer` are no secrets, so a token counts by what stands before it.
_SECRET_NAME = re.compile(
    r"""(?:^|.*_)(?:
        api_?keys?|access_?keys?|secret_?keys?|private_?keys?|ssl_key_file
      | passw(?:or)?d|passphrase|pwd|secrets?|credentials?|authorization|auth|bearer|cookies?
      | (?:hf|hugging_?face|hub|api|access|auth|bearer|refresh|session|security|secret|github
          |client|user|personal|login)_?tokens?
    )$|^tokens?$|^(?:proxy_)?headers$""",
    re.VERBOSE,
)
_SECRET_VALUE = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{20,}|gh[pousr]_[A-Za-z0-9]{20,}"
    r"|github_pat_\w{20,}|xox[abpr]-[\w-]{10,}|AKIA[A-Z0-9]{16})\b"
    r"|\b[Bb]earer\s+[\w.~+/=-]{8,}|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)
_OPTION = re.compile(r"""(?<!\S)-{1,2}([A-Za-z][\w-]{0,63})(?:=|\s++(?!-))("[^"]*"|'[^']*'|\S+)""")
_SETTING = re.compile(r"-{0,2}([A-Za-z_][\w-]{0,63})=")
_USER_INFO = re.compile(r"\b([A-Za-z][A-Za-z0-9+.-]{0,20}://)[^/\s@?#]{1,512}@")


MAX_NAME = 256  # characters of a field's name that are looked at


def snake_case(name: str) -> str:
    """Return a field's name as ``lower_snake_case``: ``apiKey``, ``API-Key``, ``api key``."""
    return _SEPARATORS.sub("_", _CAMEL.sub("_", name).lower()).strip("_")


def is_secret_name(name: str) -> bool:
    """Tell whether a field of this name holds a secret: ``hf_token``, ``apiKey``, ``password``."""
    return _is_secret_name(name[-MAX_NAME:])


@lru_cache(maxsize=4096)
def _is_secret_name(name: str) -> bool:
    return _SECRET_NAME.match(snake_case(name)) is not None


def is_secret_value(text: str) -> bool:
    """Tell whether a text has or contains the form of a known token or key."""
    return _SECRET_VALUE.search(text) is not None


def without_user(text: str) -> str:
    """Return `text` without the user and password of any address in it."""
    return _USER_INFO.sub(r"\1", text) if "@" in text else text


def without_options(text: str) -> str:
    """Return a command line without the values of its secret options: ``--api-key …``."""
    if not (text.startswith("-") or " -" in text or "\n-" in text or "\t-" in text):
        return text
    return _OPTION.sub(
        lambda match: (
            match[0][: match.start(2) - match.start()] + "…"
            if is_secret_name(match[1])
            else match[0]
        ),
        text,
    )


def _without_arguments(items: list[object]) -> list[object]:
    """Return a list without secrets, and without the values that follow secret options.

    ``["--api-key", "…"]``, ``["--api-key=…"]`` and ``["HF_TOKEN=…"]`` are such.
    """
    kept: list[object] = []
    follows = False
    for item in items:
        is_text = isinstance(item, str)
        is_option = is_text and str(item).startswith("-")
        setting = _SETTING.match(item) if isinstance(item, str) else None
        dropped = (follows and not is_option) or (
            isinstance(item, str)
            and (is_secret_value(item) or (setting is not None and is_secret_name(setting[1])))
        )
        follows = is_option and setting is None and is_secret_name(str(item).lstrip("-"))
        if not dropped:
            kept.append(item)
    return kept


def scrub(value: object, dropped: set[str], depth: int = 0) -> object:
    """Return a JSON value without its secrets; add their names to `dropped`.

    Raises `ValueError` for a value that is nested deeper than `MAX_DEPTH`.
    """
    if isinstance(value, str):
        return without_options(without_user(value))
    if depth >= MAX_DEPTH and isinstance(value, dict | list):
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, list):
        return [scrub(item, dropped, depth + 1) for item in _without_arguments(value)]
    if not isinstance(value, dict):
        return value
    kept: dict[object, object] = {}
    for key, item in value.items():
        if is_secret(str(key), item):
            note_dropped(str(key), dropped)
        else:
            kept[key] = scrub(item, dropped, depth + 1)
    return kept


def is_secret(name: str, value: object) -> bool:
    """Tell whether a field is a secret, by its name or value; null and numbers never are."""
    if isinstance(value, str):
        return is_secret_name(name) or is_secret_value(value)
    return isinstance(value, dict | list) and bool(value) and is_secret_name(name)


def note_dropped(name: str, dropped: set[str]) -> None:
    """Add the name of a field that was left out, up to a limit."""
    if len(dropped) < _MAX_DROPPED:
        dropped.add(name[:64])
