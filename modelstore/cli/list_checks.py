"""The checks of ``modelstore list`` that only some calls need."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelstore.errors import UsageError
from modelstore.model import TYPES
from modelstore.render.formats import EXPORTS, Format
from modelstore.text import visible

if TYPE_CHECKING:
    from modelstore.cli.list_ import Listing
    from modelstore.database.handle import Database


def refuse_beside_reclaim(others: object, form: str | None, *, filtered: bool) -> None:
    """Raise `UsageError` for an option that does not fit a report on duplicates or freed space."""
    if others:
        raise UsageError(
            "--duplicates and --reclaim show a report, not the models",
            hint="leave out the option that chooses or orders columns or rows; -f json has all",
        )
    if filtered:
        raise UsageError(
            "--reclaim shows what belongs to no model, so it takes no filter",
            hint="for some models use --duplicates",
        )
    if form in EXPORTS:
        raise UsageError(f"--format {form} shows models", hint=f"one of {', '.join(Format)}")


def check_filters(listing: Listing, db: Database) -> None:
    """Note a value that no model has. Raises `UsageError` for a type that nothing knows."""
    from modelstore.catalogue.filter_values import absent_values, known_values

    for absent in absent_values(db, listing.query.filters):
        value = visible(absent.value, 80)
        if absent.column == "type" and absent.value.lower() not in TYPES:
            known = dict.fromkeys((*TYPES, *known_values(db, "type")))
            names = ", ".join(visible(name, 40) for name in known)
            raise UsageError(f"there is no type '{value}'", hint=f"one of {names}")
        name = {"tags": "tag", "capabilities": "capability"}.get(absent.column, absent.column)
        near = " or ".join(f"{visible(text, 80)} ({count:,})" for text, count in absent.near)
        listing.out.note(f"no {name} '{value}'" + (f"; did you mean {near}?" if near else ""))


def note_long_context(listing: Listing, db: Database) -> None:
    """Note how many of the models are trained for a shorter context than is asked for."""
    from modelstore.catalogue.query import count
    from modelstore.text import plural

    query = listing.query
    if query.cache is None or query.cache.context is None:
        return
    shorter = f"context_length < {query.cache.context}"
    where = f"{shorter} AND ({query.where}\n)" if query.where else shorter
    number = count(db, query._replace(where=where))
    if number:
        trained = "is trained" if number == 1 else "are trained"
        listing.out.note(
            f"{plural(number, 'model')} {trained} for fewer tokens than {query.cache.context:,}"
        )
