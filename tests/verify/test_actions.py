"""GitHub Actions: annotations, the job's summary, and the composite action."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from hypothesis import given
from markdown_it import MarkdownIt

from modelstore.render.github import annotation_lines, job_summary
from modelstore.text import visible
from tests.cli.program import ROOT, environment, modelstore, records
from tests.render.samples import HOSTILE, TEXTS
from tests.verify.samples import BAD, GOOD, WARNED, finding, hostile, verification

_ATTACKS = {
    "second command": "::warning::x",
    "old command": "##[set-output name=result]pass",
    "escaped newline": "%0A::set-output name=result::pass",
    "property": "x,file=/etc/passwd,line=1::",
    "stop": "::stop-commands::x",
    "percent": "100%25 %0D%0A",
    "html": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "cell": "</td></tr></table>\n\n# heading\n\n[link](http://evil.example)",
    "markdown": "**bold** `code` [a](http://b.c) ![p](http://b.c/d.png) | x | @user #1 :x: $x$",
}
_TITLE = "modelstore verify:"
_ALL = HOSTILE | _ATTACKS
ACTION = ROOT / ".github" / "actions" / "verify"


def command_of(line: str) -> tuple[str, dict[str, str], str]:
    """Return the name, properties and data of a workflow command, read as the runner does.

    https://github.com/actions/runner/blob/main/src/Runner.Common/ActionCommand.cs
    """
    assert line.startswith("::")
    info, separator, data = line[2:].partition("::")
    assert separator
    name, _, rest = info.partition(" ")
    properties = dict(pair.split("=", 1) for pair in rest.split(",") if pair)
    decoded = {key: _decode(value, "\r\n:,%") for key, value in properties.items()}
    return name, decoded, _decode(data, "\r\n%")


def _decode(text: str, signs: str) -> str:
    for sign in signs:
        text = text.replace(f"%{ord(sign):02X}", sign)
    return text


def test_each_failure_and_each_warning_is_annotated() -> None:
    found = [command_of(line) for line in annotation_lines(BAD)]
    assert [(name, properties["title"], data) for name, properties, data in found] == [
        ("error", f"{_TITLE} checkpoint.x", "250 left; busy: yes (pid 4121): end it"),
        ("error", f"{_TITLE} persistence.x", "18 rows are lost (models): do not copy"),
        ("error", f"{_TITLE} persistence.x", "2 rows are old (tags): do not copy"),
        ("warning", f"{_TITLE} log.x", "18 rows were only in the WAL (models): fold it"),
    ]


def test_a_sound_database_is_not_annotated() -> None:
    assert list(annotation_lines(GOOD)) == []


def test_a_warning_is_an_error_where_it_fails_the_run() -> None:
    strict = verification(*WARNED.findings, strict=True)
    assert [command_of(line)[0] for line in annotation_lines(WARNED)] == ["warning"]
    assert [command_of(line)[0] for line in annotation_lines(strict)] == ["error"]


def test_what_github_would_drop_is_counted() -> None:
    many = [finding("models", "fail", f"file {n} is gone") for n in range(4000)]
    ten = list(annotation_lines(verification(*many[:10])))
    lines = list(annotation_lines(verification(*many)))
    assert (len(ten), len(lines)) == (10, 10)
    assert command_of(ten[-1])[2] == "file 9 is gone"
    assert command_of(lines[-1])[2] == "3,991 more: see the job summary"


@pytest.mark.parametrize("text", _ALL.values(), ids=_ALL.keys())
def test_no_text_of_others_is_a_command(text: str) -> None:
    _check_commands(text)


@given(TEXTS)
def test_no_text_at_all_is_a_command(text: str) -> None:
    _check_commands(f"{text}::%0a,")


def _check_commands(text: str) -> None:
    lines = list(annotation_lines(hostile(text)))
    assert [command_of(line)[0] for line in lines] == ["error", "warning"]
    for line in lines:
        assert line.isprintable()
        assert len(line) < 2000
        _, properties, data = command_of(line)
        assert properties == {"title": f"{_TITLE} models.x"}
        assert visible(text) in data


class Summary(HTMLParser):
    """The summary as GitHub's page would have it, after Markdown."""

    def __init__(self, markdown: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.cells: list[str] = []
        self.outside_code = ""
        self.feed(MarkdownIt("commonmark", {"html": True}).render(markdown))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert attrs in ([], [("colspan", "3")])
        self.tags.append(tag)
        if tag in ("td", "th", "p", "h3"):
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        if self.cells:
            self.cells[-1] += data.removesuffix("\n")
        if self.tags and self.tags[-1] != "code":
            self.outside_code += data


_TAGS = {"h3", "p", "table", "tr", "th", "td", "code", "br", "b"}


def test_the_summary_is_a_table_of_all_findings() -> None:
    summary = Summary(job_summary(BAD))
    assert set(summary.tags) <= _TAGS
    assert summary.cells[0] == "❌ modelstore verify: FAIL, 3 failures, 1 warning"
    assert summary.cells[2:5] == ["Check", "Result", "Measured"]
    assert summary.cells[5:7] == ["log", "⚠️ warn"]
    assert summary.cells[7] == "18 rows were only in the WALmodelsTo do: fold it"
    assert summary.tags.count("tr") == 5
    assert "WAL pages: 377 in log, 127 checkpointed, 250 left; busy: yes" in summary.cells[-1]


@pytest.mark.parametrize("text", _ALL.values(), ids=_ALL.keys())
def test_no_text_of_others_is_markdown_or_html(text: str) -> None:
    _check_summary(text)


@given(TEXTS)
def test_no_text_at_all_is_markdown_or_html(text: str) -> None:
    _check_summary(f"{text}\n\n# <b>")


def _check_summary(text: str) -> None:
    summary = Summary(job_summary(hostile(text)))
    assert set(summary.tags) <= _TAGS
    assert summary.tags.count("h3") == summary.tags.count("table") == 1
    assert summary.tags.count("tr") == 4
    assert sum(visible(text) in cell for cell in summary.cells) >= 4
    for active in ("@user", "#1", ":x:", "$x$", "http://", "**"):
        assert active not in summary.outside_code


def test_a_summary_stays_below_what_github_takes() -> None:
    text = '"' * 9000
    worst = finding("drill", "fail", text, where=text + "'", advice=text)
    many = [finding("models", "pass", "there")] * 300 + [worst] * 300
    summary = job_summary(verification(*many))
    assert len(summary.encode()) < 1 << 20
    assert "520 more findings" in summary
    assert "there" not in summary


def without_room(text: str) -> str:
    """Leave out the free bytes of the disk, which others change between two runs."""
    return re.sub(r"[\d.]+ .?i?B free", "", text)


def test_the_program_annotates_under_github_alone(tmp_path: Path) -> None:
    database, summary = tmp_path / "m.db", tmp_path / "summary.md"
    modelstore("import", "-", "--db", database, stdin=records(2))
    arguments = ("verify", database, "--expect-count", "3")
    quiet = modelstore(*arguments, env={"GITHUB_STEP_SUMMARY": str(summary)})
    assert quiet.code == 5
    assert "::error" not in quiet.err
    assert not summary.exists()
    told = modelstore(
        *arguments, env={"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary)}
    )
    assert told.code == 5
    assert without_room(told.out) == without_room(quiet.out)
    assert [line.split(" ")[0] for line in told.err.splitlines()] == ["::error"]
    assert "<td>expectations</td><td>❌ fail</td>" in summary.read_text("utf-8")


def definition() -> dict[str, Any]:
    return cast("dict[str, Any]", yaml.safe_load((ACTION / "action.yml").read_text("utf-8")))


def steps() -> Iterator[dict[str, Any]]:
    yield from definition()["runs"]["steps"]


def test_the_action_is_what_github_takes_for_one() -> None:
    action = definition()
    assert set(action) == {"name", "description", "inputs", "outputs", "runs"}
    assert action["runs"]["using"] == "composite"
    for name, value in action["inputs"].items():
        assert re.fullmatch(r"[a-z-]+", name)
        assert value["description"]
        assert isinstance(value.get("default", ""), str)
    for step in steps():
        assert ("uses" in step) != ("run" in step)
        assert "run" not in step or step["shell"] == "bash"


def test_no_input_is_text_of_a_script_and_every_input_is_used() -> None:
    used = set()
    for step in steps():
        assert "${{" not in step.get("run", "")
        for value in (*step.get("env", {}).values(), *step.get("with", {}).values()):
            used |= set(re.findall(r"\$\{\{ inputs\.([a-z-]+) \}\}", str(value)))
    assert used == set(definition()["inputs"])


def test_the_callers_python_stays_the_one_on_the_path() -> None:
    setup = next(step for step in steps() if step.get("uses", "").startswith("actions/setup-"))
    assert setup["with"]["update-environment"] is False
    install = next(step for step in steps() if step.get("id") == "install")
    assert install["env"]["PYTHON"] == "${{ steps.python.outputs.python-path }}"


def run_step(name: str, home: Path, **env: str) -> tuple[int, str, dict[str, str]]:
    """Run a step's script as the runner does; return its code, what it said, and its outputs."""
    step = next(step for step in steps() if step.get("id") == name)
    outputs = home / "outputs"
    outputs.write_text("")
    given = dict.fromkeys(step["env"], "")
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
        env=environment(
            {
                **given,
                "RUNNER_TEMP": str(home),
                "GITHUB_ACTIONS": "true",
                "GITHUB_OUTPUT": str(outputs),
                "GITHUB_STEP_SUMMARY": str(home / "summary.md"),
                "GITHUB_ACTION_PATH": str(ACTION),
                **env,
            }
        ),
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    pairs = (line.split("=", 1) for line in outputs.read_text().splitlines())
    return done.returncode, done.stdout, dict(cast("Iterator[tuple[str, str]]", pairs))


needs_bash = pytest.mark.skipif(
    os.name == "nt" or shutil.which("bash") is None, reason="the stand-ins are shell scripts"
)


@pytest.fixture
def program(tmp_path: Path) -> str:
    """The program as a script that an installation would have made."""
    path = tmp_path / "modelstore"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m modelstore "$@"\n')
    path.chmod(0o755)
    return str(path)


@needs_bash
def test_the_action_says_by_exit_code_and_output_what_came_out(
    program: str, tmp_path: Path
) -> None:
    modelstore("import", "-", "--db", tmp_path / "my models.db", stdin=records(18))
    run = {"PROGRAM": program, "DATABASE": "my models.db", "STRICT": "true", "JUNIT": "j u.xml"}
    code, said, outputs = run_step("verify", tmp_path, **run, EXPECT_COUNT="18\nmodels=18\n")
    assert (code, outputs) == (0, {"exit-code": "0", "result": "pass"}), said
    assert (tmp_path / "j u.xml").read_text("utf-8").startswith("<?xml")
    code, said, outputs = run_step("verify", tmp_path, **run, EXPECT_COUNT="19", ARGS="--quick")
    assert (code, outputs) == (5, {"exit-code": "5", "result": "fail"})
    assert "::error title=modelstore verify%3A expectations" in said
    assert "quick_check" in said
    code, said, outputs = run_step("verify", tmp_path, PROGRAM=program, DATABASE="none.db")
    assert (code, outputs) == (3, {"exit-code": "3", "result": "error"})
    assert "❌" in (tmp_path / "summary.md").read_text("utf-8")


@needs_bash
def test_inputs_are_arguments_and_never_code(tmp_path: Path) -> None:
    echo = tmp_path / "echo"
    echo.write_text('#!/bin/sh\nprintf "<%s>\\n" "$@"\n')
    echo.chmod(0o755)
    evil = "$(touch owned) `touch owned` ; touch owned"
    code, said, _ = run_step(
        "verify",
        tmp_path,
        PROGRAM=str(echo),
        DATABASE=evil,
        EXPECT_COUNT=f"{evil}\n*",
        MIN_COUNT="a=1",
        EXPECT="e f",
        MAX_WAL_SIZE="1MB",
        STRICT="true",
        NO_CHECKPOINT="false",
        DRILL="true",
        REPORT="-r",
        ARGS="--only\nlog\n\n--deep",
    )
    assert code == 0
    assert said.splitlines() == [
        "<verify>",
        f"<--db={evil}>",
        f"<--expect-count={evil}>",
        "<--expect-count=*>",
        "<--min-count=a=1>",
        "<--expect=e f>",
        "<--max-wal-size=1MB>",
        "<--report=-r>",
        "<--strict>",
        "<--drill>",
        "<--only>",
        "<log>",
        "<--deep>",
    ]
    assert not (tmp_path / "owned").exists()


@needs_bash
def test_a_switch_that_is_neither_true_nor_false_is_refused(tmp_path: Path) -> None:
    code, said, outputs = run_step("verify", tmp_path, PROGRAM="/bin/false", STRICT="yes")
    assert (code, outputs) == (2, {})
    assert said == "::error::strict is neither true nor false\n"


@needs_bash
def test_no_output_of_the_program_is_a_command_of_the_old_kind(tmp_path: Path) -> None:
    loud = tmp_path / "loud"
    loud.write_text("#!/bin/sh\necho 'models ##[set-output name=result]pass'; exit 5\n")
    loud.chmod(0o755)
    code, said, outputs = run_step("verify", tmp_path, PROGRAM=str(loud), DATABASE="x")
    assert (code, outputs["result"]) == (5, "fail")
    assert "##[" not in said


@needs_bash
def test_the_action_installs_itself_or_what_is_asked_for(tmp_path: Path) -> None:
    """A stand-in for Python notes what is installed: a real installation wants a network."""
    stub = tmp_path / "bin" / "python3"
    stub.parent.mkdir()
    stub.write_text(
        "#!/bin/sh\n"
        'if [ "$2" = venv ]; then mkdir -p "$3/bin" && cp "$0" "$3/bin/python"; exit; fi\n'
        'for last; do :; done; echo "$last" >> installed\n'
    )
    stub.chmod(0o755)
    path = f"{stub.parent}{os.pathsep}{os.environ['PATH']}"
    for wanted in ("", "modelstore-wal==0.1.0"):
        code, said, outputs = run_step("install", tmp_path, PATH=path, INSTALL=wanted)
        assert code == 0, said
        assert outputs == {"program": f"{tmp_path}/modelstore-verify/bin/modelstore"}
    chosen = tmp_path / "chosen"
    stub.rename(chosen)
    code, said, _ = run_step("install", tmp_path, PYTHON=str(chosen), INSTALL="chosen-one")
    assert code == 0, said
    own, asked, last = (tmp_path / "installed").read_text().splitlines()
    assert (Path(own) / "pyproject.toml").samefile(ROOT / "pyproject.toml")
    assert (asked, last) == ("modelstore-wal==0.1.0", "chosen-one")
