"""The part of CREATE TABLE that locates a column in a record.

https://www.sqlite.org/lang_createtable.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from modelstore.text import ascii_lower
from modelstore.wal.defaults import Default, Literal, affinity, constant_default

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


@cache
def _token() -> re.Pattern[str]:
    """Return the pattern of a token of SQL. It takes 2 ms to compile: most logs need none."""
    return re.compile(
        r"""[ \t\n\f\r]+ | --[^\n]* | /\*.*?(?:\*/|\Z)
        | (?P<quoted>'(?:[^']++|'')*+(?:'|\Z) | "(?:[^"]++|"")*+(?:"|\Z)
                    | `(?:[^`]++|``)*+(?:`|\Z) | \[[^\]]*+(?:\]|\Z))
        | (?P<word>[\w$\x80-\U0010ffff]+)
        | (?P<sign>.)""",
        re.VERBOSE | re.DOTALL,
    )


_TABLE_CONSTRAINTS = {"CONSTRAINT", "PRIMARY", "UNIQUE", "CHECK", "FOREIGN"}
_COLUMN_CONSTRAINTS = {
    *_TABLE_CONSTRAINTS,
    *("NOT", "NULL", "DEFAULT", "COLLATE", "REFERENCES", "GENERATED", "AS"),
}
_MAX_SQL = 200_000  # characters; two thousand columns, SQLite's default bound, fit


@dataclass(frozen=True, slots=True)
class TableColumns:
    """The order of a table's columns in its records.

    `stored` are the lower-case names of the columns in record order; virtual columns are not
    stored. In a WITHOUT ROWID table the first `key_size` of them are the primary key; otherwise it
    is 0. `rowid_alias` is the INTEGER PRIMARY KEY column, which a record holds as NULL. The columns
    after the first `required` ones have no default but NULL: a record that lacks them, as it is
    older than they are, has NULL there. `defaults` are those of the first `required` columns.
    `reals` are the indexes of a WITHOUT ROWID table's REAL columns: a record holds a whole number
    there as a REAL, or as an integer if it came from the column's default.
    """

    stored: tuple[str, ...]
    key_size: int
    rowid_alias: str | None
    required: int = 0
    defaults: tuple[Default, ...] = ()
    reals: frozenset[int] = frozenset()

    def place(self, column: str) -> int | None:
        """Return the index of `column` in a record; None if it is not stored."""
        name = ascii_lower(column)
        return self.stored.index(name) if name in self.stored else None

    @property
    def alias_place(self) -> int | None:
        """The index of the INTEGER PRIMARY KEY column in a record; None if there is none."""
        return None if self.rowid_alias is None else self.place(self.rowid_alias)


@dataclass(frozen=True, slots=True)
class _Token:
    """A token of SQL: `word` is upper-case, empty if it was quoted; `name` is unquoted.

    `is_text` is True for a text in single quotes.
    """

    word: str
    name: str
    depth: int
    is_text: bool = False


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    is_integer: bool
    is_real: bool
    is_stored: bool
    is_key: bool
    is_descending_key: bool
    has_default: bool
    default: Default


def parse_table(sql: str) -> TableColumns | None:
    """Return the record order of the table that `sql` creates; None if it cannot be parsed."""
    tokens = list(_tokens(sql)) if len(sql) <= _MAX_SQL else []
    body = [token for token in tokens if token.depth > 0]
    if not body or tokens[-1].depth > 0:
        return None
    columns: list[_Column] = []
    key: list[str] = []
    for part in _split(body, depth=1):
        if part[0].word in _TABLE_CONSTRAINTS:
            key = _table_key(part) or key
        else:
            columns.append(_column(part))
    stored = [column.name for column in columns if column.is_stored]
    inline = next((column for column in columns if column.is_key), None)
    names = [inline.name] if inline else [name for name in dict.fromkeys(key) if name in stored]
    options = [token.word for token in tokens if token.depth == 0]
    if "WITHOUT" in options and "ROWID" in options:
        rest = [name for name in stored if name not in names]
        if not names:
            return None
        order = (*names, *rest)
        real = {column.name for column in columns if column.is_real}
        reals = frozenset(place for place, name in enumerate(order) if name in real)
        return TableColumns(order, len(names), None, *_defaults(order, columns), reals)
    alias = next((column for column in columns if [column.name] == names), None)
    is_alias = alias is not None and alias.is_integer and not alias.is_descending_key
    name = alias.name if alias is not None and is_alias else None
    return TableColumns(tuple(stored), 0, name, *_defaults(stored, columns))


def has_other_alias(one: str, two: str) -> bool:
    """Return True if two definitions of a table differ in the column that is the rowid.

    A record holds NULL there, so the same record is another row.
    """
    if one == two:
        return False
    ours, theirs = parse_table(one), parse_table(two)
    return ours is not None and theirs is not None and ours.alias_place != theirs.alias_place


def _defaults(order: Sequence[str], columns: Iterable[_Column]) -> tuple[int, tuple[Default, ...]]:
    """Return number and defaults of the columns up to the last one, in record order, with one."""
    by_name = {column.name: column for column in columns}
    ordered = [by_name[name] for name in order]
    count = max((at for at, column in enumerate(ordered, 1) if column.has_default), default=0)
    return count, tuple(column.default for column in ordered[:count])


def _tokens(sql: str) -> Iterator[_Token]:
    """Yield the tokens of a CREATE TABLE; the outer brackets have depth 0, their content 1."""
    depth = 0
    for match in _token().finditer(sql):
        text = match[0]
        if match["quoted"]:
            name = text[1:-1].replace(text[-1] * 2, text[-1]) if text[0] != "[" else text[1:-1]
            yield _Token("", name, depth, text[0] == "'")
        elif match["word"]:
            yield _Token(text.upper(), text, depth)
        elif match["sign"]:
            depth -= text == ")"
            yield _Token(text, text, depth)
            depth += text == "("


def _split(tokens: list[_Token], depth: int) -> Iterator[list[_Token]]:
    """Split tokens at the commas of `depth`."""
    part: list[_Token] = []
    for token in tokens:
        if token.word == "," and token.depth == depth:
            if part:
                yield part
            part = []
        else:
            part.append(token)
    if part:
        yield part


def _column(part: list[_Token]) -> _Column:
    words = [token.word for token in part[1:] if token.depth == 1]
    type_words: list[str] = []
    for token in part[1:]:
        if token.depth > 1 or token.word in _COLUMN_CONSTRAINTS:
            break
        type_words.append(token.name.upper())
    key = words.index("PRIMARY") if _is_key(words) else -1
    has_default = _has_default(words)
    kind = affinity(" ".join(type_words))
    return _Column(
        name=ascii_lower(part[0].name),
        is_integer=type_words == ["INTEGER"],
        is_real=kind == "REAL",
        is_stored="AS" not in words or "STORED" in words,
        is_key=key >= 0,
        is_descending_key=key >= 0 and words[key + 2 : key + 3] == ["DESC"],
        has_default=has_default,
        default=_default(part, kind) if has_default else (None,),
    )


def _default(part: list[_Token], kind: str) -> Default:
    """Return the default of a column that has one; `kind` is its affinity."""
    words = [token.word if token.depth == 1 else "" for token in part]
    literal: list[Literal] = []
    for token in part[words.index("DEFAULT", 1) + 1 :]:
        if token.depth == 1 and token.word in _COLUMN_CONSTRAINTS:
            break
        literal.append(Literal(token.word, token.name, token.is_text))
    return constant_default(literal, kind)


def _has_default(words: list[str]) -> bool:
    return "DEFAULT" in words and words[words.index("DEFAULT") + 1 :][:1] != ["NULL"]


def _is_key(words: list[str]) -> bool:
    return "PRIMARY" in words and words[words.index("PRIMARY") + 1 :][:1] == ["KEY"]


def _table_key(part: list[_Token]) -> list[str]:
    """Return the columns of a PRIMARY KEY (...) in a table constraint."""
    for at, token in enumerate(part[:-2]):
        if token.word == "PRIMARY" and token.depth == 1 and part[at + 1].word == "KEY":
            inner: list[_Token] = []
            for inside in part[at + 3 :]:
                if inside.depth < 2:
                    break
                inner.append(inside)
            return [ascii_lower(piece[0].name) for piece in _split(inner, depth=2)]
    return []
