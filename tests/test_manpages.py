"""The man pages: groff reads each without a complaint, and each says what the manual says."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.manpages import pages

PAGES = pages()


def shown(text: str) -> str:
    """Return a page as groff shows it."""
    done = subprocess.run(
        ["groff", "-k", "-man", "-Tutf8", "-ww", "-rLL=200n", "-P-cbou"],
        input=text,
        capture_output=True,
        text=True,
        check=True,
        encoding="utf-8",
    )
    assert done.stderr == ""
    return done.stdout


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_every_page_is_read_without_a_complaint_and_is_not_empty() -> None:
    for name, text in PAGES.items():
        drawn = shown(text)
        title, section = name.rsplit(".", 1)
        assert f"{title.upper()}({section})" in drawn, name
        assert "DESCRIPTION" in drawn, name


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_options_exit_codes_and_quoted_text_are_there() -> None:
    drawn = shown(PAGES["modelstore-list.1"])
    assert "-n, --limit N" in drawn
    assert "xargs modelstore forget --yes" in drawn
    program = shown(PAGES["modelstore.1"])
    assert "modelstore-inspect-wal(1)" in program
    assert "130" in program
