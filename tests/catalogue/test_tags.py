from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.catalogue.tags import MAX_TAG, change_tags, check_tag, delete_models, tags_from_json
from modelstore.errors import UsageError
from tests.catalogue.making import LATER, Opened, catalogue, counts, found, table, take

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(name="opened")
def _opened(tmp_path: Path) -> Opened:
    opened = catalogue(tmp_path)
    take(opened, found("/m/a.gguf", tags=("x",)), found("/m/b.gguf"))
    return opened


def ids(opened: Opened) -> list[str]:
    return [str(row[0]) for row in opened.conn.execute("SELECT id FROM models ORDER BY path")]


def test_tags_are_added_and_removed_and_changes_counted(opened: Opened) -> None:
    both = ids(opened)
    with opened.write() as db:
        assert change_tags(db, both, add=["é", "a"], remove=["x"], now=LATER) == 2
        assert change_tags(db, both, add=["a"], remove=["x"], now=LATER) == 0
        assert change_tags(db, both, add=["b"], remove=["b"], now=LATER) == 2
        assert change_tags(db, both[:1], remove=["a", "b"], now=LATER) == 1
        assert change_tags(db, ["no such id"], add=["a"], now=LATER) == 0
    assert table(opened, "path, tags, updated_at") == [
        ("/m/a.gguf", '["é"]', LATER),
        ("/m/b.gguf", '["a","b","é"]', LATER),
    ]


def test_the_users_tags_survive_the_next_import(opened: Opened) -> None:
    with opened.write() as db:
        change_tags(db, ids(opened), add=["favorite"], now=LATER)
    assert counts(take(opened, found("/m/a.gguf", tags=("x",)))) == (0, 0, 1)
    assert table(opened, "tags") == [('["favorite","x"]',), ('["favorite"]',)]


@pytest.mark.parametrize(
    "tag", ["", " ", "a,b", " a", "a ", "a\nb", "a\x1b[0m", "\u202ea", "\udcff", "x" * 65]
)
def test_what_is_no_tag_is_refused(opened: Opened, tag: str) -> None:
    for change in ({"add": [tag]}, {"remove": [tag]}):
        with opened.write() as db, pytest.raises(UsageError, match="is no tag") as refused:
            change_tags(db, ids(opened), now=LATER, **change)
        assert str(MAX_TAG) in str(refused.value.hint)
    assert table(opened, "tags") == [('["x"]',), ("[]",)]


@given(st.text(max_size=80))
def test_a_tag_that_passes_is_printable_and_short(tag: str) -> None:
    try:
        check_tag(tag)
    except UsageError:
        return
    assert tag.isprintable()
    assert "," not in tag
    assert 1 <= len(tag) <= MAX_TAG


@pytest.mark.parametrize("enforced", ["ON", "OFF"])
def test_forgetting_takes_the_companions_along(opened: Opened, enforced: str) -> None:
    opened.conn.execute(f"PRAGMA foreign_keys = {enforced}")
    first = ids(opened)[0]
    with opened.write() as db:
        assert delete_models(db, [first, first, "no such id"]) == 1
    assert table(opened, "path") == [("/m/b.gguf",)]
    assert table(opened, "path", "model_files") == [("/m/b.gguf",)]
    assert table(opened, "locator", "model_places") == [("/m/b.gguf",)]
    assert take(opened, found("/m/a.gguf")).added == 1


@pytest.mark.parametrize("text", ["favorite", "", "[", "7", '{"a": 1}', '"x"', "null"])
def test_tags_that_are_no_array_count_as_one_tag(opened: Opened, text: str) -> None:
    """Another program, or an edit by hand, left them; nothing of it is lost."""
    opened.conn.execute("UPDATE models SET tags = ?", (text,))
    both = ids(opened)
    with opened.write() as db:
        assert change_tags(db, both[:1], add=["big"], now=LATER) == 1
    item = found("/m/b.gguf", tags=("big",))
    assert counts(take(opened, item, tags=("new",))) == (0, 1, 0)
    assert {frozenset(tags_from_json(str(row[0]))) for row in table(opened, "tags")} == {
        frozenset((text, "big")),
        frozenset((text, "big", "new")),
    }
