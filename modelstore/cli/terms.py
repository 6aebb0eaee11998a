"""The words in which people name columns and values: aliases, and figures with a unit."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from modelstore.errors import UsageError
from modelstore.model import COMPUTED_COLUMNS, MODEL_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Sequence

_OPERATORS = r"<=|>=|<>|!=|==|<|>|="
_COMPARISON = re.compile(rf"(?P<name>[A-Za-z_]\w*)\s*(?P<sign>{_OPERATORS})\s*(?P<value>.+)")
_FIGURE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")
# Texts, quoted names and comments stay as they are; then a comparison with a figure, or a word.
_PIECE = re.compile(
    r"""(?P<kept>'(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`|\[[^\]]*\]|--[^\n]*|/\*.*?\*/)
    | (?P<name>[A-Za-z_]\w*)(?P<sign>\s*(?:<=|>=|<>|!=|==|<|>|=)\s*)
      (?P<figure>\d+(?:\.\d+)?[A-Za-z]+)\b
    | (?P<word>[A-Za-z_]\w*)""",
    re.VERBOSE | re.DOTALL,
)
_AGE = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)\s*(min|[hdwy])", re.IGNORECASE)
_AGE_SECONDS = {"min": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400, "y": 365 * 86_400}
_FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_THOUSANDS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "G": 10**9, "T": 10**12}


def column_named(name: str) -> str | None:
    """Return the column of this name or alias; None if there is none."""
    if name in MODEL_COLUMNS or name in COMPUTED_COLUMNS:
        return name
    from modelstore.render.columns import HEADED

    return HEADED.get(name.upper().replace("_", " "))


def aliases() -> dict[str, str]:
    """Return the aliases of columns: ``size`` for ``file_size``, ``params``, ``ctx``, ..."""
    from modelstore.render.columns import HEADED

    named = {header.lower().replace(" ", "_"): name for header, name in HEADED.items()}
    return {alias: name for alias, name in named.items() if alias != name}


def near_columns(name: str, known: Sequence[str] = MODEL_COLUMNS) -> str:
    """Return a hint that names the columns and aliases most like `name`."""
    from modelstore.catalogue.expression import near

    return near(name, (*known, *aliases()))


def is_comparison(word: str) -> bool:
    """Tell whether a word of a search compares a column with something: ``size>5GB``."""
    match = _COMPARISON.fullmatch(word)
    return match is not None and column_named(match["name"]) is not None


def comparison_sql(word: str) -> str:
    """Return the SQL of ``size>5GB``, ``ctx>=32k``, ``modified>30d`` or ``arch=llama``.

    Raises `UsageError` for a figure that does not fit its column.
    """
    match = _COMPARISON.fullmatch(word)
    column = match and column_named(match["name"])
    if match is None or column is None:
        raise UsageError(f"'{word}' compares no column", hint="write size>5GB or ctx>=32k")
    figure = _FIGURE.fullmatch(match["value"])
    term = _term(column)
    if figure and _is_numeric(column):
        return f"{term} {match['sign']} {figure_of(column, match['value'])}"
    if _is_numeric(column):
        raise _no_figure(column, match["value"])
    if _is_time(column) and _AGE.fullmatch(match["value"]):
        return _age_sql(term, match["sign"], match["value"])
    text = match["value"].replace("'", "''")
    return f"{term} {match['sign']} '{text}' COLLATE NOCASE"


def expand_expression(expression: str) -> str:
    """Return an SQL expression with columns for aliases, and plain numbers for figures."""

    def piece(match: re.Match[str]) -> str:
        if match["kept"] is not None:
            return match[0]
        if match["figure"] is not None:
            column = column_named(match["name"])
            if column is not None and _is_time(column) and _AGE.fullmatch(match["figure"]):
                return _age_sql(_term(column), match["sign"].strip(), match["figure"])
            if column is None or not _is_numeric(column):
                return match[0]
            return f"{_term(column)}{match['sign']}{figure_of(column, match['figure'])}"
        word = match["word"].lower()
        return _term(column_named(word) or word) if word in known else match["word"]

    known = {*aliases(), *COMPUTED_COLUMNS}
    return _PIECE.sub(piece, expression)


def _term(column: str) -> str:
    """Return the SQL of a column: its name, or the expression that computes it."""
    computed = COMPUTED_COLUMNS.get(column)
    return column if computed is None else f"({computed.format('')})"


def _is_numeric(column: str) -> bool:
    from modelstore.model import INTEGER_COLUMNS

    return column in INTEGER_COLUMNS or column in ("bpw", "memory")


def _is_time(column: str) -> bool:
    return column.endswith("_at")


def _age_sql(term: str, sign: str, text: str) -> str:
    """Return the SQL of an age: older than 30 days is a time before that."""
    from modelstore.text import utc_text

    match = _AGE.fullmatch(text)
    if match is None or sign not in _FLIPPED:
        raise UsageError(f"'{text}' is an age", hint="compare it with < or >: modified>30d")
    age = float(match[1]) * _AGE_SECONDS[match[2].lower()]
    return f"{term} {_FLIPPED[sign]} '{utc_text(max(0.0, time.time() - age))}'"


def figure_of(column: str, text: str) -> float:
    """Return the number of a figure with a unit: bytes, tokens of ``32k``, ``7B`` parameters.

    Sizes take ``5GB`` (10^9) and ``5GiB`` (2^30). In a context length, ``k`` is 1,024 as tables
    show it. Raises `UsageError`.
    """
    from modelstore.text import parse_size

    if column in ("file_size", "memory"):
        return parse_size(text)
    match = _FIGURE.fullmatch(text)
    if column == "bpw" and match is not None and not match[2]:
        return float(text)
    unit = match[2].upper() if match else "?"
    if match is None or unit not in _THOUSANDS or column == "bpw":
        raise _no_figure(column, text)
    if column == "context_length":
        factor = {"": 1, "K": 1024, "M": 1024**2}.get(unit, _THOUSANDS[unit])
    else:
        factor = _THOUSANDS[unit]
    return round(float(match[1]) * factor)


def _no_figure(column: str, text: str) -> UsageError:
    from modelstore.text import visible

    return UsageError(
        f"'{visible(text, 40)}' is not a number for {column}",
        hint="write size>5GB, ctx>=32k, params<10B, or a plain number",
    )
