"""Fixtures: SQLite's own logs, and each way to check frames."""

from __future__ import annotations

import pytest

from tests.wal.scanning import (
    Samples,
    choose,
)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    return Samples(tmp_path_factory.mktemp("samples"))


@pytest.fixture(params=["plain", "numpy", "numpy, reading ahead"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    choose(str(request.param), monkeypatch)
    return str(request.param)
