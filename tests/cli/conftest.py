from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.shelf import MODELS, fill


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalogue of eight models that no test may change."""
    return fill(tmp_path_factory.mktemp("shelf") / "models.db", MODELS)


@pytest.fixture
def shelf(filled: Path, tmp_path: Path) -> Path:
    """A catalogue of eight models of this test's own."""
    copy = tmp_path / "models.db"
    shutil.copy(filled, copy)
    return copy
