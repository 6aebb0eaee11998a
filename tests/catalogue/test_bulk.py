"""Many records at once: the same outcome whether the catalogue was empty or not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from modelstore.catalogue.merge import count_present, merge
from modelstore.catalogue.staging import model_row
from modelstore.database.handle import Database
from modelstore.model import Model
from tests.catalogue.making import (
    LATER,
    NOW,
    Opened,
    catalogue,
    counts,
    model,
    new_staging,
    table,
    take_rows,
)

_RECORDS = [
    model("/r/a.gguf", license="mit", vocab_size=5, tags=("old",), created_at="2020-01-01"),
    model("/r/b.gguf"),
    model("/r/a.gguf", source="catalogue", name="other", license="gpl", tags=("new",)),
]


def without_unrelated(opened: Opened) -> list[tuple[object, ...]]:
    return [row for row in table(opened) if row[1] != "unrelated"]


@pytest.mark.parametrize("fill", [False, True])
def test_of_records_of_one_model_the_last_counts_in_an_empty_catalogue_too(
    tmp_path: Path, fill: bool
) -> None:
    outcomes = []
    for name in ("empty", "filled"):
        (tmp_path / name).mkdir()
        opened = catalogue(tmp_path / name)
        if name == "filled":
            take_rows(opened, [model("/r/z.gguf")._replace(name="unrelated")])
        assert counts(take_rows(opened, _RECORDS, fill=fill)) == (2, 0, 0)
        outcomes.append(without_unrelated(opened))
        assert counts(take_rows(opened, _RECORDS, fill=fill, now=LATER)) == (0, 0, 2)
    assert outcomes[0] == outcomes[1]
    assert sorted(str(row[1]) for row in outcomes[0]) == ["b.gguf", "other"]


class Racing(Opened):
    """Another process fills the empty catalogue just before the lock is had."""

    rival: list[Model]

    @contextmanager
    def write(self) -> Iterator[Database]:
        rival, self.rival = self.rival, []
        if rival:
            take_rows(Opened(self.path), rival)
        with super().write() as db:
            yield db


def test_a_catalogue_that_is_filled_meanwhile_keeps_what_it_knows(tmp_path: Path) -> None:
    catalogue(tmp_path)
    racing = Racing(str(tmp_path / "models.db"))
    racing.rival = [model("/r/a.gguf", architecture="llama"), model("/r/c.gguf")]
    with new_staging() as staging:
        staging.add_rows([model_row(one) for one in _RECORDS], is_authoritative=True)
        assert counts(merge(racing, staging, now=LATER)) == (1, 1, 0)
        assert staging.expected() == count_present(racing.db, staging) == 2
    rows = table(racing, "path, architecture, license, updated_at")
    assert rows == [
        ("/r/a.gguf", "llama", "gpl", LATER),
        ("/r/b.gguf", None, None, LATER),
        ("/r/c.gguf", None, None, NOW),
    ]


def test_the_proof_counts_what_is_there_and_not_what_was_staged(tmp_path: Path) -> None:
    opened = catalogue(tmp_path)
    with new_staging() as staging:
        staging.add_rows(
            [model_row(model(f"/r/{n}.gguf")) for n in range(10)], is_authoritative=True
        )
        merge(opened, staging, now=NOW)
        staging.clear()
        take_rows(Opened(opened.path), [model("/r/another's.gguf")])
        assert staging.expected() == count_present(opened.db, staging) == 10
        opened.conn.execute("DELETE FROM models WHERE path = '/r/3.gguf'")
        assert (staging.expected(), count_present(opened.db, staging)) == (10, 9)
        staging.add_rows([model_row(model(f"/r/{n}.gguf")) for n in (5, 11)], is_authoritative=True)
        merge(opened, staging, now=NOW)
        assert (staging.expected(), count_present(opened.db, staging)) == (11, 10)


def test_what_was_never_merged_is_not_expected(tmp_path: Path) -> None:
    opened = catalogue(tmp_path)
    with new_staging() as staging:
        staging.add_rows([model_row(model("/r/lost.gguf"))], is_authoritative=True)
        staging.clear()
        assert staging.expected() == count_present(opened.db, staging) == 0
        staging.add_rows([model_row(model("/r/kept.gguf"))], is_authoritative=True)
        assert counts(merge(opened, staging, now=NOW)) == (1, 0, 0)
        assert staging.expected() == count_present(opened.db, staging) == 1
