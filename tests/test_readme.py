"""The README and the manual say what the program does: their examples are run."""

from __future__ import annotations

import configparser
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from modelstore.cli.app import COMMANDS
from modelstore.database.sqlite import has_wal_reset_bug, sqlite3
from modelstore.model import MODEL_COLUMNS
from tests.cli.program import ROOT
from tests.generate import document_text, run_program
from tests.sessions import DOCUMENTS, README, Block, blocks, normal, play, steps

TEXTS = {path: path.read_text("utf-8") for path in DOCUMENTS}
TEXT = "\n".join(TEXTS.values())
BLOCKS = [(path, block) for path, text in TEXTS.items() for block in blocks(text)]
STORIES = [(path, section) for path, text in TEXTS.items() for section in steps(text)]
_CALL = re.compile(r"\bmodelstore ([a-z-]+)((?:[^|;&<>#`\n]|\\\n>?)*)")
_OPTION = re.compile(r"(?<![\w-])(--[a-z][a-z-]*|-[a-z])\b")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the README shows Linux")
@pytest.mark.skipif(
    has_wal_reset_bug(sqlite3.sqlite_version), reason="this SQLite gets a warning in each session"
)
@pytest.mark.parametrize(("path", "section"), STORIES, ids=lambda part: getattr(part, "stem", part))
def test_a_session_shows_what_the_document_says(path: Path, section: str) -> None:
    text = TEXTS[path]
    typed = [word for step in steps(text)[section] for word in step.command.split()]
    for tool in ("bash", "sqlite3"):
        if (tool == "bash" or tool in typed) and shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    for step, shown in play(text, section):
        where = f"{path.name}:{step.line}: $ {step.command}\n{shown}\n(python -m tests.generate)"
        assert normal(shown) == normal(step.shown), where


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_generated_parts_are_up_to_date(path: Path) -> None:
    assert document_text(path) == TEXTS[path]


def test_the_readme_is_read_in_five_minutes() -> None:
    assert README.read_text("utf-8").count("\n") <= 360


def test_every_block_is_run_or_says_why_not() -> None:
    runs = {"console", "sh", "bash", "powershell", "python"}
    for path, block in BLOCKS:
        if block.language in runs and not block.generated:
            is_run = block.language == "console" or {"file", "run"} & set(block.marks)
            assert is_run or "not run" in block.marks, f"{path}:{block.line}"


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(block, id=f"{path.stem}-{block.line}")
        for path, block in BLOCKS
        if not block.generated
    ],
)
def test_every_block_is_well_formed(block: Block) -> None:
    if block.language == "yaml":
        assert yaml.safe_load(block.text)
    elif block.language == "json":
        json.loads(block.text)
    elif block.language == "ini":
        parser = configparser.ConfigParser(strict=False, interpolation=None)
        parser.read_string(block.text)
        assert parser.sections()
    elif block.language == "python":
        compile(block.text, f"line {block.line}", "exec")
    elif block.language in ("sh", "console", "dockerfile"):
        if shutil.which("bash") is None or sys.platform == "win32":
            pytest.skip("there is no bash here")
        script = {
            "sh": block.text,
            "console": "".join(re.findall(r"^(?:\$|>) (.*\n)", block.text, re.MULTILINE)),
            "dockerfile": block.text.partition("CMD ")[2],
        }[block.language]
        assert script
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    else:
        pytest.fail(f"nobody checks {block.language}")


def test_every_option_exists() -> None:
    known = {
        name: set(_OPTION.findall(run_program(name, "--help"))) | {"--help"} for name in COMMANDS
    }
    generated = [block.text for _, block in BLOCKS if block.generated]
    text = TEXT
    for made in generated:
        text = text.replace(made, "")
    calls = [call for call in _CALL.findall(text) if call[0] in COMMANDS]
    assert len(calls) > 50
    for command, arguments in calls:
        for option in _OPTION.findall(re.sub(r'"[^"]*"', "", arguments)):
            assert option in known[command], f"modelstore {command} {option}"


def test_every_column_and_every_variable_is_listed() -> None:
    named = set(re.findall(r"`(\w+)`", TEXT))
    assert set(MODEL_COLUMNS) <= named
    read = set()
    for path in (ROOT / "modelstore").rglob("*.py"):
        found = re.findall(r"environ(?:\.get\(|\[)\s*\"(\w+)\"", path.read_text("utf-8"))
        read.update(found)
    assert len(read) >= 10
    assert read <= named | {"TERM"}
    assert "`TERM=dumb`" in TEXT


def test_it_names_no_place_of_one_machine() -> None:
    for path in ("/root/", "/tmp/", str(ROOT), "/home/runner"):
        assert path not in TEXT
