from __future__ import annotations

import json
import os

from hypothesis import given
from hypothesis import strategies as st

from modelstore.database.sqlite import sqlite3
from modelstore.database.sqlite_text import (
    LEAD,
    from_sqlite_json,
    from_sqlite_text,
    signed,
    to_sqlite_text,
)

# Every text but one that holds what marks a kept surrogate, which is no character.
texts = st.text(st.characters(exclude_characters=LEAD) | st.characters(categories=["Cs"]))


@given(texts)
def test_any_text_can_be_stored_and_comes_back(text: str) -> None:
    conn = sqlite3.connect(":memory:")
    (kept,) = conn.execute("SELECT ?", (to_sqlite_text(text),)).fetchone()
    conn.close()
    assert from_sqlite_text(kept) == text


@given(st.binary())
def test_a_file_name_that_is_no_text_comes_back(name: bytes) -> None:
    kept = to_sqlite_text(os.fsdecode(name))
    kept.encode()
    assert os.fsencode(from_sqlite_text(kept)) == name


@given(texts.filter(lambda text: "\x00" not in text))
def test_json_made_by_sqlite_reads_as_the_text(text: str) -> None:
    conn = sqlite3.connect(":memory:")
    (made,) = conn.execute("SELECT json_array(?)", (to_sqlite_text(text),)).fetchone()
    conn.close()
    (read,) = json.loads(from_sqlite_json(made))
    # Two halves of a pair that stood side by side are one character in JSON, as in UTF-16.
    assert read == text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_ordinary_text_is_stored_as_it_is(text: str) -> None:
    assert to_sqlite_text(text) == text


@given(st.integers(0, 2**64 - 1))
def test_an_inode_keeps_its_64_bits(number: int) -> None:
    kept = signed(number)
    assert kept is not None
    assert -(2**63) <= kept < 2**63
    assert kept % 2**64 == number
