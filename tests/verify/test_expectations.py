"""What is expected is looked for in the main file alone, and what is not met is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from modelstore.errors import UsageError
from modelstore.finding import Verification
from modelstore.verify.expected import Expected, RowCount, parse_count, read_models
from tests.cli.program import modelstore, records
from tests.verify.examining import (
    connect,
    contents,
    crashed,
    examine,
    incident,
    settled,
    severities,
    the,
)


def counting(path: Path, *counts: RowCount, **orders: bool) -> Verification:
    return examine(path, expected=Expected(counts), **orders)


def test_counts_that_are_met_and_that_are_not(tmp_path: Path) -> None:
    path = settled(tmp_path / "a.db")
    found = counting(path, RowCount("models", 400), RowCount("MODELS", 399, at_least=True))
    assert [f.severity for f in found.findings if f.check == "expectations"] == ["pass", "pass"]
    found = counting(path, RowCount("models", 401))
    assert the(found, "expectations.count").data["found"] == 400
    assert found.failed
    assert counting(path, RowCount("models", 401, at_least=True)).failed
    assert "no such table" in the(counting(path, RowCount("m", 0)), "expectations.count").measured


def test_what_is_only_in_the_log_does_not_count_but_is_told(tmp_path: Path) -> None:
    path = incident(tmp_path / "a.db")
    before = contents(path)
    found = counting(path, RowCount("models", 18), fold=False)
    assert contents(path) == before
    count = the(found, "expectations.count")
    assert (count.severity, count.data["found"], count.data["with_log"]) == ("fail", 0, 18)
    assert not counting(path, RowCount("models", 18)).failed


def test_a_table_that_is_only_in_the_log_is_no_missing_table(tmp_path: Path) -> None:
    path = crashed(tmp_path / "a.db", ["CREATE TABLE models(name)", "INSERT INTO models VALUES(1)"])
    for number, shortfall in ((0, "too-many"), (1, "only-in-log"), (2, "too-few")):
        count = the(counting(path, RowCount("models", number), fold=False), "expectations.count")
        assert count.data["shortfall"] == shortfall
        assert count.data["with_log"] == 1


def test_the_advice_does_not_contradict_that_of_a_damaged_log(tmp_path: Path) -> None:
    path = incident(tmp_path / "a.db")
    with Path(f"{path}-wal").open("r+b") as log:
        log.seek(32 + 24 + 100)
        log.write(b"damage")
    expected = Expected((RowCount("models", 18), RowCount("gone", 1)), max_wal_size=1)
    found = examine(path, expected=expected)
    advice = {f.advice for f in found.findings if f.check == "expectations"}
    assert len(advice) == 2
    assert all(words is not None and "modelstore" not in words for words in advice)
    fine = settled(tmp_path / "b.db")
    assert "import" in str(
        the(counting(fine, RowCount("models", 999)), "expectations.count").advice
    )


def test_the_size_of_the_log_before_the_run(tmp_path: Path) -> None:
    path = incident(tmp_path / "a.db")
    size = Path(f"{path}-wal").stat().st_size
    too_big = examine(path, expected=Expected(max_wal_size=size - 1), fold=False)
    assert the(too_big, "expectations.wal-size").severity == "fail"
    fits = examine(path, expected=Expected(max_wal_size=size))
    assert the(fits, "expectations.wal-size").severity == "pass"
    assert not fits.failed


def expecting(path: Path, file: Path, text: str) -> Verification:
    file.write_text(text, encoding="utf-8")
    return examine(path, expected=Expected(models=read_models(str(file))))


def test_names_that_must_be_there(tmp_path: Path) -> None:
    path = incident(tmp_path / "a.db")
    found = expecting(path, tmp_path / "names", "Model-1\r\nModel-18\n\nModel-99\n")
    models = the(found, "expectations.models")
    assert models.severity == "fail"
    assert models.data["missing"] == ["Model-99"]
    assert models.data["met"] == 2
    assert not expecting(path, tmp_path / "names", "\ufeffModel-1\nModel-2").failed


def test_records_are_compared_field_by_field(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    assert modelstore("import", "-", "--db", path, "--tag", "x", stdin=records(3)).code == 0
    listing = modelstore("list", "--db", path, "--format", "jsonl").out
    assert not expecting(path, tmp_path / "e.jsonl", listing).failed
    array = modelstore("list", "--db", path, "--json").out
    assert not expecting(path, tmp_path / "e.json", array).failed
    rows = [json.loads(line) for line in listing.splitlines()]
    rows[0]["parameter_count"] = 7
    rows[1]["tags"] = ["y"]
    rows[2]["colour"] = None
    changed = "\n".join(json.dumps(row) for row in rows)
    models = the(expecting(path, tmp_path / "e.jsonl", changed), "expectations.models")
    different = models.data["different"]
    assert isinstance(different, list)
    assert len(different) == 3
    assert any("parameter_count is 1, not 7" in text for text in different)
    assert any("tags is ['x'], not ['y']" in text for text in different)
    assert any("there is no colour" in text for text in different)


def test_of_two_models_of_one_name_the_one_that_fits_counts(tmp_path: Path) -> None:
    path = settled(tmp_path / "a.db", 1)
    conn = connect(path)
    conn.execute("INSERT INTO models (name, note) VALUES ('twin', 'a'), ('twin', 'b')")
    conn.close()
    for note in "ab":
        wanted = json.dumps({"name": "twin", "note": note})
        assert not expecting(path, tmp_path / "e", wanted).failed
    assert expecting(path, tmp_path / "e", json.dumps({"name": "twin", "note": "c"})).failed


def test_models_are_expected_of_a_database_that_has_none(tmp_path: Path) -> None:
    conn = connect(tmp_path / "a.db")
    conn.execute("CREATE TABLE t (v)")
    conn.close()
    found = expecting(tmp_path / "a.db", tmp_path / "e", "Model-1")
    assert severities(found)["expectations.models"] == "fail"


def test_expectations_of_what_cannot_be_read_fail(tmp_path: Path) -> None:
    path = settled(tmp_path / "a.db")
    with path.open("r+b") as file:
        file.truncate(8192)
    found = counting(path, RowCount("models", 400))
    assert {f.severity for f in found.findings if f.check == "expectations"} == {"fail"}


@pytest.mark.parametrize("text", ["", "x", "-1", "=3", "a=", "1.5", "models=x", "9" * 30, "٣"])
def test_what_is_no_count(text: str) -> None:
    with pytest.raises(UsageError):
        parse_count(text, "--expect-count", at_least=False)


def test_a_table_may_have_any_name() -> None:
    assert parse_count("a=b=3", "x", at_least=True) == RowCount("a=b", 3, at_least=True)
    assert parse_count("0", "x", at_least=False) == RowCount("models", 0)


@pytest.mark.parametrize(
    "content",
    [b"{not json", b'{"id": 3}', b'{"path": "x"}', b'["name"]', b"[" * 100_000, b"\xff\xfe\0"],
)
def test_a_file_that_says_nothing_useful(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "e").write_bytes(content)
    with pytest.raises(UsageError):
        read_models(str(tmp_path / "e"))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        read_models(str(tmp_path / "e"))
