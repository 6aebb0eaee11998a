"""Check a person's SQL expression over the columns of ``models``, and limit its running time.

It must be one expression: brackets closed, no second statement, no parameter. SQLite's authorizer
lets it read the columns of ``models`` and call pure functions whose result is bounded, and
refuses a subquery. A progress handler stops it when its time is up.
"""

from __future__ import annotations

import difflib
import re
import time
from contextlib import contextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING

from modelstore.catalogue.memory import COLUMNS as MEMORY_COLUMNS
from modelstore.database.handle import Database, quote_identifier
from modelstore.database.sqlite import sqlite3
from modelstore.database.sqlite_errors import SQLITE_INTERRUPT, primary_code
from modelstore.errors import UsageError
from modelstore.model import ACCESSED, MEMORY, MODEL_COLUMNS, column_definition
from modelstore.text import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_HINT = (
    "write one SQL expression over the columns, such as "
    "\"parameter_count > 7e9 AND architecture LIKE 'qwen%'\""
)
_MAX_LENGTH = 20_000  # characters of an expression

# Pure, and none makes a long text of a short one (as hex, printf, replace and zeroblob do).
_FUNCTIONS = frozenset(
    (
        *("abs", "ceil", "ceiling", "floor", "ln", "log", "log10", "log2", "max", "min", "mod"),
        *("pow", "power", "round", "sign", "sqrt", "trunc"),
        *("coalesce", "ifnull", "iif", "nullif", "typeof"),
        *("glob", "instr", "length", "like", "lower", "ltrim", "octet_length", "rtrim", "substr"),
        *("substring", "trim", "unicode", "upper"),
        *("json", "json_array_length", "json_extract", "json_type", "json_valid", "->", "->>"),
        *("date", "datetime", "julianday", "strftime", "time", "unixepoch"),
        *(ACCESSED, MEMORY),
    )
)

# The tokens that tell where an expression ends: texts and quoted names, comments, brackets, tokens
# that have no place in it (a text without an end, a parameter, a query), and all others.
_TOKEN = re.compile(
    r"""'(?:[^']|'')*' | "(?:[^"]|"")*" | `(?:[^`]|``)*` | \[[^\]]*\]
    | --[^\n]* | /\*.*?\*/ | (?P<open>\() | (?P<close>\))
    | (?P<bad>['"`\[;?@$\#\0]|/\*|:\w|\b(?:select|values|with)\b)
    | \w+ | .""",
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
_WORD = re.compile(r"[^\W\d]\w*")
_NO_NAMES = "'\"-/"  # the first characters of texts and comments; SQLite may take "word" for a text
_MAX_WORDS = 500
_FEW = 12  # names that a hint can list
_ALLOW: int = sqlite3.SQLITE_OK
_DENY: int = sqlite3.SQLITE_DENY
_OPERATIONS_PER_TICK = 20_000  # of SQLite's virtual machine: about a millisecond


def near(word: str, known: tuple[str, ...] = MODEL_COLUMNS) -> str:
    """Return a hint that names the known words most like `word`, or all of them if they are few."""
    close = difflib.get_close_matches(word.lower(), known, n=3, cutoff=0.6)
    if close:
        return "did you mean " + " or ".join(close) + "?"
    return f"one of {', '.join(known)}" if len(known) <= _FEW else "see modelstore help columns"


def check_expression(expression: str) -> None:
    """Raise `UsageError` unless `expression` is one harmless expression over ``models``.

    It is compiled against an empty table of that name in a database of its own in memory, where
    it can reach nothing else.
    """
    _check_shape(expression)
    reader = _Reader()
    try:
        reader.compile(expression)
    except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
        raise _why_not(expression, error, reader) from None


def _why_not(expression: str, error: Exception, reader: _Reader) -> UsageError:
    """Return the refusal of an expression that SQLite or the authorizer did not accept."""
    if reader.has_refused:
        return _refusal(expression, "it may read the columns of a model and nothing else")
    missing = _missing_column(expression)
    if missing is not None:
        return _refusal(expression, f"there is no column '{missing}'", near(missing))
    return _refusal(expression, str(error))


def _missing_column(expression: str) -> str | None:
    """Return the first column that an expression reads and ``models`` lacks; None if none.

    The expression is compiled once more, against a table that has each of its words as a column.
    """
    known = {column.lower() for column in MODEL_COLUMNS}
    words = {
        word.lower(): word
        for token in _TOKEN.finditer(expression)
        if token[0][0] not in _NO_NAMES
        for word in _WORD.findall(token[0])
        if word.lower() not in known
    }
    reader = _Reader(tuple(islice(words.values(), _MAX_WORDS)))
    with suppress(sqlite3.Error, sqlite3.Warning, ValueError):
        reader.compile(expression)
    return next(iter(reader.missing), None)


class _Reader:
    """Compiles an expression over ``models``, with further columns that it must not read."""

    def __init__(self, further: tuple[str, ...] = ()) -> None:
        self._further = further
        self._selects = 0
        self.missing: list[str] = []  # of the further columns, in the order they are read
        self.has_refused = False

    def compile(self, expression: str) -> None:
        """Compile an expression in a database of its own in memory. Raises SQLite's errors."""
        columns = [column_definition(column) for column in MODEL_COLUMNS]
        columns += [quote_identifier(column) for column in self._further]
        db = Database(memory=True, recursive_triggers=False, execute_plugins=False)
        try:
            # plain SQL: the definitions are those of the catalogue, affinities included
            db.execute(f"CREATE TABLE models ({', '.join(columns)})")
            db.register_function(lambda _path, _host: None, name=ACCESSED)
            # register_function would count the parameters of the signature: one.
            db.conn.create_function(MEMORY, len(MEMORY_COLUMNS), lambda *_values: None)
            db.conn.set_authorizer(self._authorize)
            # plain SQL: db.query would wrap it in a savepoint, which the authorizer refuses
            db.execute(f"EXPLAIN SELECT 1 FROM models WHERE (\n{expression}\n)")
        finally:
            db.close()

    def _authorize(self, action: int, first: str | None, second: str | None, *_: str | None) -> int:
        if self._is_allowed(action, first, second):
            return _ALLOW
        self.has_refused = True
        if action == sqlite3.SQLITE_READ and first == "models" and second in self._further:
            self.missing.append(str(second))
        return _DENY

    def _is_allowed(self, action: int, first: str | None, second: str | None) -> bool:
        if action == sqlite3.SQLITE_SELECT:
            self._selects += 1
            return self._selects == 1
        if action == sqlite3.SQLITE_READ:
            return first == "models" and second in _READABLE
        if action == sqlite3.SQLITE_FUNCTION:
            return second is not None and second.lower() in _FUNCTIONS
        return False


_READABLE = frozenset(("", *MODEL_COLUMNS))


def _check_shape(expression: str) -> None:
    if not expression.strip():
        raise UsageError("the --where expression is empty", hint=_HINT)
    if len(expression) > _MAX_LENGTH:
        raise UsageError(
            f"the --where expression has more than {_MAX_LENGTH} characters", hint=_HINT
        )
    depth = 0
    for token in _TOKEN.finditer(expression):
        if token["bad"]:
            raise _refusal(expression, f"{visible(token['bad'])} has no place or no end in it")
        depth += bool(token["open"]) - bool(token["close"])
        if depth < 0:
            break
    if depth:
        raise _refusal(expression, "its brackets are not closed one by one")
    try:
        expression.encode()
    except UnicodeEncodeError:
        raise _refusal(expression, "it is not all text") from None


def _refusal(expression: str, reason: str, hint: str = _HINT) -> UsageError:
    reason = visible(reason, 200)
    return UsageError(f"--where {visible(expression, 200)} cannot be used: {reason}", hint=hint)


class TimeBudget:
    """A limit on the seconds that a statement itself runs; pauses of its reader do not count."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.left = seconds
        self._deadline = float("inf")

    def expired(self) -> bool:
        """Return True to make SQLite stop the statement (the progress handler)."""
        return time.monotonic() > self._deadline

    @contextmanager
    def running(self, db: Database) -> Iterator[None]:
        """Count the time of this block. Raises `UsageError` when the budget is used up."""
        begun = time.monotonic()
        self._deadline = begun + self.left
        handler: Callable[[], bool] = self.expired
        db.conn.set_progress_handler(handler, _OPERATIONS_PER_TICK)
        try:
            yield
        except sqlite3.OperationalError as error:
            if primary_code(error) == SQLITE_INTERRUPT and self.expired():
                raise UsageError(
                    f"the --where expression ran for more than {self.seconds:g} seconds",
                    hint="make it simpler, or filter with --arch, --quant, --type, --tag first",
                ) from None
            raise
        finally:
            db.conn.set_progress_handler(None, 0)
            self.left -= time.monotonic() - begun
