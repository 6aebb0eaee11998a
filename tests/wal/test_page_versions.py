"""Sets of pages, and the versions of pages in a log, against Python's own sets and dicts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

import modelstore.wal.pages as module
from modelstore.wal.format import page_offset
from modelstore.wal.pages import PageSet, PageVersions

NUMBERS = st.lists(st.one_of(st.integers(1, 40), st.integers(1, 2**32 - 1)), max_size=60)


@given(NUMBERS, NUMBERS)
def test_a_page_set_is_a_set(put: list[int], asked: list[int]) -> None:
    pages, model = PageSet(), set[int]()
    for number in put:
        assert pages.add(number) == (number not in model)
        model.add(number)
    assert all((number in pages) == (number in model) for number in put + asked)
    assert pages.isdisjoint(asked) == model.isdisjoint(asked)
    assert pages.add_all(asked) == (len({*asked} - model) == len(asked))


@given(NUMBERS, st.booleans())
def test_versions_of_pages(page_numbers: list[int], many: bool) -> None:
    limit = module._FEW
    module._FEW = -1 if many else limit
    try:
        pages = PageVersions(page_numbers, 512)
    finally:
        module._FEW = limit
    model: dict[int, list[int]] = {}
    for frame, number in enumerate(page_numbers, 1):
        model.setdefault(number, []).append(frame)
    assert list(pages) == sorted(model)
    assert len(pages) == len(model)
    for index, number in enumerate(pages):
        assert number in pages
        assert pages.index(number) == index
        assert list(pages.frames(index)) == model[number]
        assert pages.frame_count(index) == len(model[number])
        assert pages.last_frame(index) == model[number][-1]
        assert pages.offset(number) == page_offset(model[number][-1], 512)
    assert pages.offset(2**32) is None
