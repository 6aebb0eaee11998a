from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelstore.catalogue import expression
from modelstore.catalogue import query as queries
from modelstore.catalogue.query import (
    CELL,
    ROW,
    Query,
    cell_blocks,
    count,
    json_lines,
    select,
    separated_blocks,
)
from modelstore.database.handle import connect
from modelstore.database.sqlite_text import LEAD
from modelstore.errors import UsageError
from modelstore.model import MODEL_COLUMNS
from tests.catalogue.making import as_objects, catalogue, model, take_rows

if TYPE_CHECKING:
    from pathlib import Path

    from tests.catalogue.making import Opened

MODELS = [
    model(
        "/m/Qwen3-8B.gguf",
        architecture="qwen3",
        quantization="Q4_K_M",
        parameter_count=8_000_000_000,
        tags=("favorite", "chat, really"),
        parameters='{"temp": 0.5}',
    ),
    model("/m/llama_100%.gguf", architecture="llama", quantization="q8_0", file_size=10),
    model("/m/llamaX100x.gguf", architecture="llama", type="embedding", file_size=7),
    model("/srv/Phi.gguf", host="rack", status="missing", tags=("favorite",), file_size=10),
    model("/m/\udcff.gguf", file_size=1),
]


@pytest.fixture(name="opened")
def _opened(tmp_path: Path) -> Opened:
    opened = catalogue(tmp_path)
    take_rows(opened, MODELS)
    return opened


def names(opened: Opened, **asked: Any) -> list[object]:
    return [row[0] for row in select(opened.db, Query(columns=("name",), **asked))]


def test_all_columns_come_in_order(opened: Opened) -> None:
    rows = list(select(opened.db, Query()))
    assert len(rows) == count(opened.db, Query()) == 5
    assert {len(row) for row in rows} == {len(MODEL_COLUMNS)}
    by_name = {row[1]: row for row in rows}
    assert by_name["\udcff.gguf"][4] == "/m/\udcff.gguf"


def test_json_lines_say_what_rows_say(opened: Opened) -> None:
    columns = tuple(reversed(MODEL_COLUMNS))
    objects = as_objects(json_lines(opened.db, Query(columns=columns)))
    for made, row in zip(objects, select(opened.db, Query(columns=columns)), strict=True):
        assert tuple(made) == columns
        plain = dict(zip(columns, row, strict=True))
        plain["tags"] = json.loads(str(plain["tags"]))
        if plain["parameters"] is not None:
            plain["parameters"] = json.loads(str(plain["parameters"]))
        assert made == plain


def test_blocks_of_cells_say_what_rows_say(opened: Opened) -> None:
    query = Query(sort=("-name",))
    cells = [row for block in cell_blocks(opened.db, query) for row in json.loads(f"[{block}]")]
    rows = select(opened.db, query)
    assert cells == [["" if value is None else value for value in row] for row in rows]
    assert len(cells) > 1


@pytest.mark.parametrize("name", ["a\x1fb", "a\x1eb", "a\x1f\x1eb", "z"])
def test_separated_blocks_say_what_rows_say(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """From the first block on that has a separator in a cell, the rows come by themselves."""
    monkeypatch.setattr(queries, "_CHUNK", 2)
    opened.conn.execute("UPDATE models SET name = ? WHERE file_size = 7", (name,))
    for query in (Query(), Query(sort=("name",), limit=4, offset=1), Query(columns=("name",))):
        rows: list[list[str]] = []
        for block in separated_blocks(opened.db, query):
            lines = block.split(ROW) if isinstance(block, str) else None
            rows += (
                [line.split(CELL) for line in lines]
                if lines is not None
                else [["" if value is None else str(value) for value in row] for row in block]
            )
        assert rows == [
            ["" if value is None else str(value) for value in row]
            for row in select(opened.db, query)
        ]
    assert not opened.conn.in_transaction


def test_the_rest_of_separated_blocks_is_of_the_same_state(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit between two blocks changes nothing in what is read, also by the second statement."""
    monkeypatch.setattr(queries, "_CHUNK", 3)
    opened.conn.execute("UPDATE models SET name = 'z' || char(31) WHERE name LIKE 'l%0X%'")
    blocks = separated_blocks(opened.db, Query(columns=("name",), sort=("name",)))
    first = next(blocks)
    with closing(connect(opened.path, "rw")) as other:
        other.execute("UPDATE models SET name = 'a' || name")
    rest = [row for block in blocks for row in block]
    assert isinstance(first, str)
    assert first.split(ROW)[0] == "llama_100%.gguf"
    assert rest == [("z\x1f",), ("\udcff.gguf",)]


def test_json_of_a_broken_cell_is_the_text_that_it_is(opened: Opened) -> None:
    opened.conn.execute("UPDATE models SET tags = '[oops', parameters = '{'")
    for line in json_lines(opened.db, Query(columns=("tags", "parameters"))):
        assert json.loads(line) == {"tags": "[oops", "parameters": "{"}
    assert count(opened.db, Query(filters={"tag": ["oops"]})) == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("QWEN", ["Qwen3-8B.gguf"]),
        ("_100%", ["llama_100%.gguf"]),
        ("LLAMA-100", ["llama_100%.gguf"]),
        ("llama", ["llama_100%.gguf", "llamaX100x.gguf"]),
        ("/srv/", ["Phi.gguf"]),
        ("\udcff", ["\udcff.gguf"]),
        ("\\", []),
        ("", [m.name for m in MODELS]),
    ],
)
def test_a_text_is_searched_in_names_paths_and_architectures(
    opened: Opened, text: str, expected: list[str]
) -> None:
    assert sorted(map(str, names(opened, text=text))) == sorted(expected)
    assert count(opened.db, Query(text=text)) == len(expected)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"arch": ["LLAMA"]}, 2),
        ({"arch": ["llama", "qwen3"]}, 3),
        ({"arch": ["llama"], "type": ["embedding"]}, 1),
        ({"quant": ["Q8_0"]}, 1),
        ({"status": ["missing"]}, 1),
        ({"tag": ["favorite"]}, 2),
        ({"tag": ["chat, really"]}, 1),
        ({"tag": ["chat"]}, 0),
        ({"tag": ["favorite"], "host": ["box"]}, 1),
        ({"host": ["BOX"]}, 0),
        ({"arch": []}, 5),
    ],
)
def test_filters(opened: Opened, filters: dict[str, list[str]], expected: int) -> None:
    assert count(opened.db, Query(filters=filters)) == expected
    assert len(list(select(opened.db, Query(filters=filters)))) == expected


def test_the_order_puts_the_unknown_last_and_keeps_equals_in_place(opened: Opened) -> None:
    sizes = list(select(opened.db, Query(sort=("file_size",), columns=("file_size",))))
    assert sizes == [(1,), (7,), (10,), (10,), (None,)]
    sizes = list(select(opened.db, Query(sort=("-file_size",), columns=("file_size",))))
    assert sizes == [(10,), (10,), (7,), (1,), (None,)]
    by_name = ["llama_100%.gguf", "llamaX100x.gguf", "Phi.gguf", "Qwen3-8B.gguf", "\udcff.gguf"]
    assert names(opened, sort=("name",)) == by_name
    assert names(opened, sort=("name:desc",)) == by_name[::-1]
    assert names(opened, sort=("file_size:desc", "-name"))[:2] == ["Phi.gguf", "llama_100%.gguf"]


def test_limit_and_offset_cut_the_order(opened: Opened) -> None:
    everything = names(opened, sort=("name",))
    assert names(opened, sort=("name",), limit=2, offset=1) == everything[1:3]
    assert names(opened, sort=("name",), offset=3) == everything[3:]
    assert names(opened, limit=0) == []
    assert count(opened.db, Query(limit=1, offset=1)) == 5


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.sampled_from(["file_size", "architecture", "id", "host"]), st.booleans()),
        min_size=1,
        max_size=3,
        unique_by=lambda key: key[0],
    )
)
def test_any_order_is_as_python_sorts(opened: Opened, keys: list[tuple[str, bool]]) -> None:
    sort = tuple(("-" if descending else "") + column for column, descending in keys)
    rows = [dict(zip(MODEL_COLUMNS, row, strict=True)) for row in select(opened.db, Query())]
    rows.sort(key=lambda row: str(row["id"]))
    for column, descending in reversed(keys):
        known = [row for row in rows if row[column] is not None]
        unknown = [row for row in rows if row[column] is None]
        known.sort(key=lambda row: row[column], reverse=descending)  # type: ignore[arg-type, return-value]
        rows = known + unknown
    ids = [row[0] for row in select(opened.db, Query(columns=("id",), sort=sort))]
    assert ids == [row["id"] for row in rows]


@pytest.mark.parametrize(
    ("asked", "message", "hint"),
    [
        ({"columns": ("nam",)}, "no column 'nam'", "name"),
        ({"columns": ()}, "no column is named", "id, name"),
        ({"sort": ("size",)}, "no column 'size'", "file_size"),
        ({"sort": ("name:up",)}, "not a sort order", "COLUMN:desc"),
        ({"sort": ("-name:desc",)}, "not a sort order", "COLUMN:desc"),
        ({"filters": {"architecture": ["x"]}}, "no filter", "arch"),
        ({"where": "parametercount > 1"}, "no column 'parametercount'", "parameter_count"),
        ({"where": "models.parametercount > 1"}, "no column 'parametercount'", "parameter_count"),
        ({"where": "[nmae] = 'hots'"}, "no column 'nmae'", "name"),
        ({"where": 'name = "hots" AND archtecture > 1'}, "no column 'archtecture'", "architec"),
        ({"where": "rowid > 1"}, "the columns of a model and nothing else", "one SQL expression"),
        ({"where": "hex(name) > 1"}, "the columns of a model and nothing else", "one SQL"),
        ({"where": "nofunction(name)"}, "nofunction", "one SQL expression"),
        ({"where": "name nmae"}, "--where name nmae cannot be used", "one SQL expression"),
        ({"columns": ("name\x1b[31m; DROP",)}, r"\\x1b", "help columns"),
    ],
)
def test_wrong_questions_are_usage_errors(
    opened: Opened, asked: dict[str, Any], message: str, hint: str
) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        select(opened.db, Query(**asked))
    assert refused.value.hint is not None
    assert hint in refused.value.hint


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("parameter_count > 7e9", ["Qwen3-8B.gguf"]),
        ("architecture LIKE 'LLA%' AND file_size < 8", ["llamaX100x.gguf"]),
        ("name = 'Phi.gguf' -- a comment with ) and '", ["Phi.gguf"]),
        ("parameters ->> '$.temp' = 0.5", ["Qwen3-8B.gguf"]),
        ("json_array_length(tags) = 2", ["Qwen3-8B.gguf"]),
        ("name IN ('select', 'Phi.gguf') /* ) */", ["Phi.gguf"]),
        ("iif(file_size = 10, length(name) > 10, 0)", ["llama_100%.gguf"]),
        ("[name] = 'Phi.gguf' OR `name` = \"name\" AND 0", ["Phi.gguf"]),
        ("NULL", []),
    ],
)
def test_an_expression_of_a_persons_own(
    opened: Opened, expression: str, expected: list[str]
) -> None:
    assert names(opened, where=expression) == expected
    assert count(opened.db, Query(where=expression)) == len(expected)


@pytest.mark.parametrize(
    "expression",
    [
        "",
        " ",
        "1) OR (1",
        "1; DROP TABLE models",
        "1)) UNION SELECT ((1",
        "1) UNION SELECT (sql) FROM sqlite_master WHERE (1",
        "EXISTS (SELECT 1 FROM models)",
        "(SELECT count(*) FROM model_files)",
        "id IN (VALUES ('x'))",
        "id IN models",
        "id IN pragma_table_info('models')",
        "(WITH RECURSIVE c(x) AS (VALUES (1) UNION ALL SELECT x FROM c) SELECT x FROM c)",
        "load_extension('x')",
        "readfile('/etc/passwd')",
        "randomblob(1e9) IS NULL",
        "length(zeroblob(1000000000))",
        "length(printf('%1000000000d', 1))",
        "replace(name, 'a', name)",
        "hex(name)",
        "random() > 0",
        "count(*) > 1",
        "row_number() OVER () > 1",
        "sqlite_version() = '3'",
        "modelstore_status(path) = 'x'",
        "rowid > 1",
        "_rowid_ > 1",
        "models.oid > 1",
        "name MATCH 'x'",
        "RAISE(ABORT, 'x')",
        "name = ?",
        "name = ?1",
        "name = :name",
        "name = @name",
        "name = $name",
        "'open",
        '"open',
        "[open",
        "`open",
        "1 /* open",
        "1 \x00",
        "(1, 2)",
        "1 LIMIT 1",
        "1 ORDER BY 1",
        "name = '\udcff'",
        "1" + " " * 30_000,
    ],
)
def test_an_expression_that_could_do_harm_is_refused(opened: Opened, expression: str) -> None:
    with pytest.raises(UsageError, match="--where") as refused:
        select(opened.db, Query(where=expression, filters={"arch": ["nothing"]}))
    assert len(refused.value.message) < 500
    assert refused.value.hint


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.sampled_from(
            ["(", ")", "'", '"', "1", " OR ", " AND ", "--", "\n", "/*", "*/", "[", "]", "`", ";"]
        ),
        max_size=10,
    )
)
def test_no_expression_gets_out_of_its_brackets(opened: Opened, parts: list[str]) -> None:
    try:
        rows = list(select(opened.db, Query(where="".join(parts), filters={"arch": ["nothing"]})))
    except UsageError:
        return
    assert rows == []


def test_an_endless_expression_is_stopped(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expression, "_OPERATIONS_PER_TICK", 1)
    monkeypatch.setattr(queries, "WHERE_SECONDS", -1.0)
    with pytest.raises(UsageError, match="ran for more than"):
        select(opened.db, Query(where="file_size > 1"))
    assert names(opened, text="phi") == ["Phi.gguf"]


def test_patience_counts_the_statement_and_not_its_reader(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 1.0])  # the statement begins and ends; nobody asks in between
    patience = expression.TimeBudget(5.0)
    monkeypatch.setattr("modelstore.catalogue.expression.time.monotonic", lambda: next(clock))
    with patience.running(opened.db):
        pass
    assert patience.left == 4.0


def test_a_character_that_marks_kept_bytes_is_shown_as_it_is(opened: Opened) -> None:
    take_rows(opened, [model("/x/" + LEAD)])
    assert names(opened, text="/x/") == [LEAD]


def test_large_results_are_streamed(opened: Opened) -> None:
    take_rows(opened, (model(f"/n/{n}") for n in range(3000)))
    rows = select(opened.db, Query(columns=("id",)))
    next(rows)
    opened.conn.execute("DELETE FROM models WHERE path LIKE '/n/2%'")
    assert len(list(rows)) < 3004
