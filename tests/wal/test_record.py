"""Records against SQLite's own rules, and against any bytes at all."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.wal.defaults import encode_value
from modelstore.wal.record import (
    RecordError,
    Value,
    decode_record,
    first_values,
    normal_form,
    read_varint,
    record_fields,
    with_reals,
    without_last_nulls,
)


def varint(number: int) -> bytes:
    """Return SQLite's varint of a number below 2^56."""
    parts = [number & 0x7F]
    while number := number >> 7:
        parts.append(number & 0x7F | 0x80)
    return bytes(reversed(parts))


SERIALS = st.lists(st.one_of(st.integers(0, 9), st.integers(12, 70_000)), max_size=12)


@given(SERIALS, st.integers(0, 14))
def test_only_nulls_at_the_end_are_dropped(serials: list[int], keep: int) -> None:
    types = b"".join(map(varint, serials))
    expected = list(serials)
    while len(expected) > keep and expected[-1] == 0:
        expected.pop()
    assert without_last_nulls(types, keep) == b"".join(map(varint, expected))


@pytest.mark.parametrize("size", [58, 122, 186, 8250])
def test_a_type_that_ends_in_a_zero_byte_is_no_null(size: int) -> None:
    types = varint(12 + 2 * size)
    assert types.endswith(b"\0")
    assert without_last_nulls(types + b"\0\0") == types


@given(st.integers(0, (1 << 56) - 1))
def test_varints(number: int) -> None:
    assert read_varint(varint(number), 0) == (number, len(varint(number)))


@given(st.binary(max_size=60), st.integers(0, 5))
def test_any_bytes_have_an_answer(payload: bytes, count: int) -> None:
    with suppress(RecordError):
        types, body = normal_form(payload)
        assert len(first_values(types, body, count)[1]) <= len(body)
        without_last_nulls(types, count)
    with suppress(RecordError):
        list(record_fields(payload))


VALUE = st.one_of(st.none(), st.integers(-(1 << 63), (1 << 63) - 1), st.floats(), st.binary())


@given(st.lists(VALUE, max_size=9), st.sets(st.integers(0, 9)))
def test_whole_numbers_of_real_columns_have_one_form(values: list[Value], places: set[int]) -> None:
    """SQLite 3.54 stores them as REALs in a WITHOUT ROWID table, older ones as integers."""
    parts = [encode_value(value, 1) for value in values]
    types, body = with_reals(
        b"".join(types for types, _ in parts), b"".join(body for _, body in parts), places
    )
    wanted = [
        float(value) if isinstance(value, int) and place in places else value
        for place, value in enumerate(values)
    ]
    found = decode_record(bytes([len(types) + 1]) + types + body)
    assert list(map(repr, found)) == list(map(repr, wanted))
