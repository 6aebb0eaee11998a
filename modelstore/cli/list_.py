"""``modelstore list``: the models, streamed in any format; nothing holds all of them."""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, NamedTuple

from modelstore.cli.completion.values import (
    complete_capability,
    complete_columns,
    complete_sort,
    complete_status,
    complete_tag,
    complete_values,
)
from modelstore.cli.options import (
    CACHE_TOGETHER,
    DEFAULT_TIMEOUT,
    OUTPUT,
    CacheTypeKOption,
    CacheTypeVOption,
    CtxOption,
    DbOption,
    JsonOption,
    NoCheckpointOption,
    ParallelOption,
    TimeoutOption,
    argument,
    cache_options,
    chosen_format,
    option,
    seconds,
    split_commas,
)
from modelstore.errors import ExitCode, RefusedError, UsageError
from modelstore.model import CAPABILITIES, COMPUTED_COLUMNS, MEMORY, MODEL_COLUMNS, STATUSES
from modelstore.render.formats import EXPORTS, Format
from modelstore.text import visible

if TYPE_CHECKING:
    from modelstore.catalogue.memory import CacheOptions
    from modelstore.catalogue.query import Query
    from modelstore.cli.output import Output
    from modelstore.cli.session import DatabaseChoice
    from modelstore.database.handle import Database


_FILTERS = "Filters"

EXAMPLES = (
    "modelstore list qwen 30b 'size<20GB'       words and a comparison",
    "modelstore list --tag favorite -c name,size --sort -size",
    "modelstore list -q --status missing | xargs modelstore forget --yes",
)

TOGETHER = {
    ("--limit", "--offset"): "Show at most N models. --offset N skips the first.",
    ("--reclaim", "--duplicates"): "Show what could be freed. --duplicates: copies.",
    ("--ctx", "--cache-type-k", "--cache-type-v", "--parallel"): CACHE_TOGETHER,
    ("--arch", "--quant", "--type", "--tag", "--host"): "Only this architecture; A,B is A or B. "
    "Likewise: --quant, --type, --tag, --host NAME.",
}


def command(
    text: Annotated[
        list[str] | None,
        argument(
            "[TEXT]...",
            "Words, patterns (*q4*), comparisons ('size>5GB').",
        ),
    ] = None,
    columns: Annotated[
        list[str] | None,
        option(
            "--columns",
            "-c",
            group=OUTPUT,
            metavar="A,B",
            about="The columns in this order, or all; see help columns.",
            complete=complete_columns,
        ),
    ] = None,
    sort: Annotated[
        list[str] | None,
        option(
            "--sort",
            "-s",
            group=OUTPUT,
            metavar="A,-B",
            about="Sort keys; -B: descending; none: the order on disk.",
            complete=complete_sort,
        ),
    ] = None,
    arch: Annotated[
        list[str] | None,
        option(
            "--arch",
            group=_FILTERS,
            metavar="NAME",
            about="Only this architecture; A,B is A or B.",
            complete=complete_values("architecture"),
        ),
    ] = None,
    quant: Annotated[
        list[str] | None,
        option(
            "--quant",
            group=_FILTERS,
            metavar="NAME",
            about="Only this quantization.",
            complete=complete_values("quantization"),
        ),
    ] = None,
    kind: Annotated[
        list[str] | None,
        option(
            "--type",
            group=_FILTERS,
            metavar="NAME",
            about="Only this type: model, embedding, adapter ...",
            complete=complete_values("type"),
        ),
    ] = None,
    status: Annotated[
        list[str] | None,
        option(
            "--status",
            group=_FILTERS,
            metavar="NAME",
            about=f"{', '.join(STATUSES)}.",
            complete=complete_status,
        ),
    ] = None,
    capability: Annotated[
        list[str] | None,
        option(
            "--capability",
            group=_FILTERS,
            metavar="NAME",
            about=f"{', '.join(CAPABILITIES)}.",
            complete=complete_capability,
        ),
    ] = None,
    tag: Annotated[
        list[str] | None,
        option(
            "--tag",
            metavar="TAG",
            about="Only models with this tag.",
            complete=complete_tag,
            group=_FILTERS,
        ),
    ] = None,
    host: Annotated[
        list[str] | None,
        option(
            "--host",
            group=_FILTERS,
            metavar="NAME",
            about="Only models on this machine.",
            complete=complete_values("host"),
        ),
    ] = None,
    where: Annotated[
        str | None,
        option(
            "--where",
            group=_FILTERS,
            metavar="SQL",
            about='Only where this holds: "params<10B AND ctx>=32k".',
        ),
    ] = None,
    limit: Annotated[
        int | None,
        option("--limit", "-n", group=OUTPUT, metavar="N", least=0, about="Show at most N models."),
    ] = None,
    offset: Annotated[
        int,
        option("--offset", group=OUTPUT, metavar="N", least=0, about="Skip the first N models."),
    ] = 0,
    count: Annotated[
        bool, option("--count", group=OUTPUT, about="Show only the number of models.")
    ] = False,
    quiet: Annotated[
        bool, option("--quiet", "-q", group=OUTPUT, about="Show only the ids, one a line.")
    ] = False,
    duplicates: Annotated[
        bool, option("--duplicates", group=OUTPUT, about="Show what is on the disk twice.")
    ] = False,
    reclaim: Annotated[
        bool,
        option(
            "--reclaim",
            group=OUTPUT,
            about="Show what could be freed, and the commands for it.",
        ),
    ] = False,
    print0: Annotated[
        bool,
        option("--print0", group=OUTPUT, about="Show only paths, each ended by a NUL: xargs -0."),
    ] = False,
    no_truncate: Annotated[
        bool, option("--no-truncate", group=OUTPUT, about="Shorten nothing in a table.")
    ] = False,
    no_header: Annotated[
        bool, option("--no-header", group=OUTPUT, about="Leave out the first line of CSV and TSV.")
    ] = False,
    formulas: Annotated[
        bool,
        option(
            "--formulas",
            about="Leave CSV cells that begin with = + - @ as they are.",
            group=OUTPUT,
        ),
    ] = False,
    ctx: CtxOption = None,
    cache_type_k: CacheTypeKOption = None,
    cache_type_v: CacheTypeVOption = None,
    parallel: ParallelOption = None,
    db: DbOption = None,
    output_format: Annotated[
        str | None,
        option(
            "--format",
            "-f",
            choices=(*Format, *EXPORTS),
            group=OUTPUT,
            about=f"{', '.join((*Format, *EXPORTS))}.",
        ),
    ] = None,
    as_json: JsonOption = False,
    timeout: TimeoutOption = DEFAULT_TIMEOUT,
    no_checkpoint: NoCheckpointOption = False,
) -> ExitCode:
    """Show the models for which all words and filters hold. A pipe gets TSV."""
    from modelstore.cli.output import current

    if quiet and columns:
        raise UsageError("-q shows ids alone", hint="leave out -q, or --columns")
    if print0 and (quiet or columns or count or as_json or output_format):
        raise UsageError("--print0 shows paths alone", hint="leave out the other option")
    if where is not None and not where.strip():
        raise UsageError("--where is empty", hint="an unset variable in a script?")
    out = current()
    out.wants_progress = not quiet
    form = chosen_format(output_format, as_json)
    filters = {
        "arch": arch,
        "quant": quant,
        "type": kind,
        "status": status,
        "capability": capability,
        "tag": tag,
        "host": host,
    }
    if duplicates or reclaim:
        from modelstore.cli.list_checks import refuse_beside_reclaim

        refuse_beside_reclaim(
            columns or sort or limit is not None or offset or count or quiet or print0 or ctx,
            form,
            filtered=reclaim and bool(text or where or any(filters.values())),
        )
    listing = Listing(
        out=out,
        query=_query(
            words=tuple(text or ()),
            filters={name: split_commas(values) for name, values in filters.items() if values},
            where=where,
            sort=split_commas(sort),
            columns=("id",) if quiet else ("path",) if print0 else split_commas(columns),
            limit=limit,
            offset=offset,
            cache=cache_options(ctx, cache_type_k, cache_type_v, parallel),
        ),
        form="print0"
        if print0
        else form or ("table" if out.stdout_is_terminal and not quiet else "tsv"),
        header=not (no_header or quiet),
        formulas=formulas,
        only_count=count,
        truncate=not no_truncate,
        reclaim="reclaim" if reclaim else "duplicates" if duplicates else None,
    )
    listing = _with_memory(listing)
    return _run(listing, tuple(text or ()), db, timeout=seconds(timeout), fold=not no_checkpoint)


class Listing(NamedTuple):
    """The models that were asked for, and their form on stdout."""

    out: Output
    query: Query  # without columns: the format chooses them
    form: str
    header: bool
    formulas: bool
    only_count: bool
    truncate: bool
    reclaim: str | None  # "duplicates" alone, or the whole report
    further: tuple[str, ...] = ()  # columns that the default ones are followed by


def _with_memory(listing: Listing) -> Listing:
    """Return the listing with the column ``memory``, if a cache is given that nothing else uses."""
    query = listing.query
    sorted_by = {key.lstrip("-").partition(":")[0] for key in query.sort}
    if (
        query.cache is None
        or "memory" in {*query.columns, *sorted_by}
        or MEMORY in (query.where or "")
    ):
        return listing
    if query.columns or listing.only_count or listing.form in (*EXPORTS, "print0"):
        raise UsageError(
            "--ctx, --cache-type and --parallel are for the column memory",
            hint="name memory in --columns, --sort or --where",
        )
    return listing._replace(further=("memory",))


def _query(
    *,
    words: tuple[str, ...],
    filters: dict[str, tuple[str, ...]],
    where: str | None,
    sort: tuple[str, ...],
    columns: tuple[str, ...],
    limit: int | None,
    offset: int,
    cache: CacheOptions | None,
) -> Query:
    """Return the query of the command line. Raises `UsageError` for a name that is unknown."""
    from modelstore.catalogue.query import BY_NAME, Query

    for name, known in (("status", STATUSES), ("capability", CAPABILITIES)):
        for value in filters.get(name, ()):
            if value.lower() not in known:
                raise UsageError(
                    f"there is no {name} '{visible(value, 40)}'", hint=f"one of {', '.join(known)}"
                )
    conditions = [] if where is None else [where]
    if any(sign in word for word in words for sign in "<>="):
        from modelstore.cli.terms import comparison_sql, is_comparison

        conditions += [comparison_sql(word) for word in words if is_comparison(word)]
        words = tuple(word for word in words if not is_comparison(word))
    if where is not None:
        from modelstore.cli.terms import expand_expression

        conditions[0] = expand_expression(where)
    joined = conditions[0] if len(conditions) == 1 else " AND ".join(f"({c}\n)" for c in conditions)
    return Query(
        text=" ".join(words) or None,
        filters=filters,
        where=joined or None,
        sort=() if sort == ("none",) else tuple(map(_sort_key, sort)) or BY_NAME,
        limit=limit,
        offset=offset,
        columns=MODEL_COLUMNS if "all" in columns else tuple(map(_column, columns)),
        cache=cache,
    )


def _column(name: str) -> str:
    """Return the column of that name or alias."""
    if name in MODEL_COLUMNS or name in COMPUTED_COLUMNS:
        return name
    from modelstore.cli.terms import column_named, near_columns

    column = column_named(name)
    if column is None:
        raise UsageError(f"there is no column '{visible(name, 80)}'", hint=near_columns(name))
    return column


def _sort_key(key: str) -> str:
    sign = "-" if key.startswith("-") else ""
    name, colon, direction = key.removeprefix("-").partition(":")
    return sign + _column(name) + colon + direction


def _run(
    listing: Listing, words: tuple[str, ...], db: str | None, *, timeout: float, fold: bool
) -> ExitCode:
    from modelstore.cli.catalogue_session import models_session
    from modelstore.cli.reporting import write_fold
    from modelstore.cli.session import choose_database

    choice = choose_database(db)
    file = next((word for word in words if os.path.isfile(word)), None)
    try:
        with models_session(listing.out, choice, timeout=timeout, fold=fold) as session:
            if file is not None:
                listing.out.note(
                    f"TEXT searches names, paths and architectures; did you mean --db {file}?"
                )
            if listing.query.filters:
                from modelstore.cli.list_checks import check_filters

                check_filters(listing, session.opened.db)
            if listing.query.cache is not None:
                from modelstore.cli.list_checks import note_long_context

                note_long_context(listing, session.opened.db)
            if listing.reclaim:
                from modelstore.cli.reclaim_report import read_known

                known = read_known(session.opened.db, choice, listing.query)
            else:
                _write(listing, session.opened.db, choice)
    except RefusedError as error:
        if file is None:
            raise
        hint = f"did you mean --db {visible(file, 200)}?"
        raise RefusedError(error.message, hint=hint) from error
    if listing.reclaim:
        from modelstore.cli.reclaim_report import write_reclaim

        whole = listing.reclaim == "reclaim"
        write_reclaim(session, known, listing.form, whole=whole, header=listing.header)
        return session.exit_code("read")
    write_fold(session, on_stdout=listing.form == "table" and not listing.only_count)
    return session.exit_code("read")


def _write(listing: Listing, db: Database, choice: DatabaseChoice) -> None:
    out, query, form = listing.out, listing.query, listing.form
    if listing.only_count:
        from modelstore.catalogue.query import count

        out.stream(f"{count(db, query)}\n")
    elif form == "print0":
        _write_paths(out, db, query)
    elif form == "table":
        from modelstore.cli.list_table import write_table

        write_table(listing, db, choice)
    elif form in EXPORTS:
        from importlib import import_module

        export = import_module(f"modelstore.render.{EXPORTS[form]}").export_models
        export(db, query, out.stream, out.note)
    elif form in ("json", "jsonl"):
        from modelstore.catalogue.query import json_blocks
        from modelstore.render.rows import BETWEEN, write_json_blocks

        query = query._replace(columns=query.columns or (*MODEL_COLUMNS, *listing.further))
        with closing(json_blocks(db, query, BETWEEN[form])) as blocks:
            write_json_blocks(out.stream, form, blocks)
    else:
        _write_cells(listing, db)


def _write_cells(listing: Listing, db: Database) -> None:
    from modelstore.catalogue.query import cell_blocks, separated_blocks
    from modelstore.render.rows import write_cell_blocks, write_separated_blocks

    write, header, columns = listing.out.stream, listing.header, listing.query.columns
    if not columns:
        from modelstore.render.columns import PLAIN_COLUMNS

        columns = (*PLAIN_COLUMNS, *listing.further)
    query = listing.query._replace(columns=columns)
    if listing.form == "tsv":
        with closing(separated_blocks(db, query)) as blocks:
            write_separated_blocks(write, columns, blocks, header=header)
        return
    with closing(cell_blocks(db, query)) as arrays:
        write_cell_blocks(write, columns, arrays, header=header, formulas=listing.formulas)


def _write_paths(out: Output, db: Database, query: Query) -> None:
    from modelstore.catalogue.query import select

    with closing(select(db, query)) as rows:
        for (path,) in rows:
            if path is not None:
                out.stream(f"{path}\0")
