from __future__ import annotations

import re
import shlex

import pytest

from modelstore.cli.app import COMMANDS, EXAMPLES, OTHER_NAMES, SECTIONS, load_command
from modelstore.topics import topic_text, topic_titles
from tests.cli.inside import inside
from tests.cli.program import modelstore
from tests.cli.terminal import STYLES, on_terminal


def test_every_command_has_its_place_in_the_help() -> None:
    assert [name for names in SECTIONS.values() for name in names] == list(COMMANDS)
    assert set(OTHER_NAMES.values()) <= set(COMMANDS)
    assert not set(OTHER_NAMES) & set(COMMANDS)
    text = inside("--help").out
    assert text == inside().out
    assert all(f"  {name} " in text for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_the_same_by_every_way(name: str) -> None:
    text = inside(name, "--help").out
    assert text == inside(name, "-h").out
    chapter = "\n" + topic_text(name) if name in topic_titles() else ""
    assert inside("help", name).out == text + chapter
    assert text.startswith(f"Usage: modelstore {name} ")
    assert all(len(line) <= 80 for line in text.splitlines())
    assert len(text.splitlines()) <= {"verify": 48}.get(name, 42), "it must fit a screen"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_names_every_option(name: str) -> None:
    text = inside(name, "--help").out
    for param in load_command(name).params:
        assert all(re.search(rf"{re.escape(option)}\b", text) for option in param.opts[:1])


@pytest.mark.parametrize("name", [*COMMANDS, "modelstore"])
def test_examples_use_what_there_is(name: str) -> None:
    lines = EXAMPLES if name == "modelstore" else load_command(name).epilog.splitlines()  # type: ignore[union-attr]
    assert lines
    for line in lines:
        for call in re.split(r"\|", re.split(r"\s{2,}", line)[0]):
            words = [word for word in shlex.split(call) if word != "xargs"]
            assert words[0] == "modelstore"
            help_text = inside(words[1], "--help").out.partition("Examples:")[0]
            for option in words:
                if option.startswith("--") or re.fullmatch(r"-\w", option):
                    assert re.search(rf"{re.escape(option)}\b", help_text), line


def test_help_fits_a_narrow_terminal() -> None:
    text = modelstore("list", "--help", env={"COLUMNS": "40"}).out
    head = text.partition("Examples:")[0]
    assert all(len(line) <= 40 for line in head.splitlines())


def test_help_in_colour_is_the_same_text() -> None:
    colored = modelstore("list", "--help", "--color", "never", env={"FORCE_COLOR": "1"})
    plain = modelstore("list", "--help")
    assert STYLES.sub("", colored.out) == plain.out
    assert "\x1b" not in plain.out
    assert STYLES.sub("", on_terminal("tag", "-h").text) == modelstore("tag", "-h").out
    # Rich's own style for code has a black ground, which is hard to read on a white terminal.
    assert "\x1b[1;36mbackfill\x1b[0m" in on_terminal("help", "blockers").text


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("ls", "list"), ("rm", "forget"), ("inspect", "inspect-wal"), ("lst", "list")],
)
def test_an_unknown_command_names_the_one_that_was_meant(typed: str, meant: str) -> None:
    for arguments in ([typed], ["help", typed]):
        result = inside(*arguments)
        assert (result.code, result.out) == (2, "")
        assert f"'{typed}'" in result.err
        assert meant in result.err.splitlines()[1]


def test_an_unknown_command_like_no_other_points_to_the_help() -> None:
    result = inside("zzz\x1b[31m")
    assert (result.code, result.out) == (2, "")
    assert "\x1b" not in result.err
    assert "modelstore help" in result.err


def test_topics_are_listed_and_shown() -> None:
    titles = topic_titles()
    listed = inside("help", "topics").out
    for name, title in titles.items():
        assert name in listed
        assert title
        assert inside("help", name).out.endswith(topic_text(name))
        screen = on_terminal("help", name)
        assert (screen.code, screen.err) == (0, "")
        assert all(len(line) <= 80 for line in screen.lines)


def test_the_version_has_a_short_name() -> None:
    assert inside("-V").out == inside("--version").out
