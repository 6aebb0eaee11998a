"""Metrics, the plugin's line and SARIF, by what their readers make of them."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace

import pytest

from modelstore.errors import DamageError, LockedError
from modelstore.finding import LogFigures, Verification
from modelstore.render.nagios import error_line, nagios_line, nagios_state
from modelstore.render.openmetrics import openmetrics_text
from modelstore.render.sarif import sarif_text
from tests.render.samples import HOSTILE
from tests.verify.samples import BAD, GOOD, WARNED, hostile

RESULTS = {"good": GOOD, "warned": WARNED, "bad": BAD}
_SAMPLE = re.compile(r'(\w+)\{((?:\w+="(?:[^"\\\n]|\\\\|\\"|\\n)*",?)*)\} (\S+)')
# The plugin guidelines: 'label'=value[UOM];[warn];[crit];[min];[max]
_FIGURE = re.compile(r"\w+=-?[\d.]+(?:s|B)?;;;0")


@pytest.mark.parametrize("result", RESULTS.values(), ids=RESULTS)
def test_a_parser_of_openmetrics_accepts_it(result: Verification) -> None:
    parser = pytest.importorskip("prometheus_client.openmetrics.parser")
    families = list(parser.text_string_to_metric_families(openmetrics_text(result)))
    assert {family.name for family in families} >= {"modelstore_verify_success"}


@pytest.mark.parametrize("result", RESULTS.values(), ids=RESULTS)
def test_metrics_follow_the_conventions(result: Verification) -> None:
    lines = openmetrics_text(result).splitlines()
    assert lines[-1] == "# EOF"
    seen = {}
    for line in lines[:-1]:
        if line.startswith("# "):
            assert line.split()[1] in {"TYPE", "UNIT", "HELP"}
            if line.startswith("# UNIT"):
                assert line.split()[2].endswith("_" + line.split()[3])
            continue
        match = _SAMPLE.fullmatch(line)
        assert match, line
        seen[match[1], match[2]] = float(match[3])
    (success,) = (value for (name, _), value in seen.items() if name.endswith("_success"))
    assert success == float(not result.failed)
    checks = [value for (name, _), value in seen.items() if name == "modelstore_verify_check"]
    assert sum(checks) == len(result.by_check())


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_outside_text_stays_within_its_label_line_and_string(text: str) -> None:
    result = hostile(text)
    for line in openmetrics_text(result).splitlines():
        assert line.startswith("# ") or _SAMPLE.fullmatch(line), line
    line = nagios_line(result)
    assert line.count("\n") == line.count("|") == 1
    assert json.loads(sarif_text(result))["version"] == "2.1.0"


@pytest.mark.parametrize(
    ("result", "state", "word"), [(GOOD, 0, "OK"), (WARNED, 1, "WARNING"), (BAD, 2, "CRITICAL")]
)
def test_the_line_of_a_plugin(result: Verification, state: int, word: str) -> None:
    assert nagios_state(result) == state
    line = nagios_line(result)
    assert line.startswith(f"MODELSTORE {word} - ")
    text, _, figures = line.rstrip("\n").partition(" | ")
    assert "|" not in text
    assert all(_FIGURE.fullmatch(figure) for figure in figures.split()), figures


def test_a_run_that_could_not_be_made_is_unknown_and_damage_critical() -> None:
    assert error_line(LockedError("busy|x")) == (3, "MODELSTORE UNKNOWN - busy/x\n")
    assert error_line(DamageError("torn"))[0] == 2


@pytest.mark.parametrize("result", RESULTS.values(), ids=RESULTS)
def test_sarif_has_a_result_for_each_finding_that_is_no_pass(result: Verification) -> None:
    document = json.loads(sarif_text(result))
    (run,) = document["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    for rule in run["tool"]["driver"]["rules"]:  # GitHub's code scanning asks for each of them
        assert all(rule[key]["text"] for key in ("shortDescription", "fullDescription", "help"))
    assert len(rules) == len(set(rules))
    assert len(run["results"]) == sum(f.severity != "pass" for f in result.findings)
    for one in run["results"]:
        assert rules[one["ruleIndex"]] == one["ruleId"]
        assert one["level"] in {"error", "warning", "note"}
        assert one["message"]["text"]


@pytest.mark.skipif(os.name == "nt", reason="the paths are those of POSIX")
@pytest.mark.parametrize(
    ("path", "uri"),
    [("a:b/m #1.db", "a%3Ab/m%20%231.db"), ("/srv/m 1.db", "file:///srv/m%201.db")],
)
def test_sarif_names_a_file_by_a_reference_or_a_whole_uri(path: str, uri: str) -> None:
    (run,) = json.loads(sarif_text(replace(BAD, database=path)))["runs"]
    (location,) = run["results"][0]["locations"]
    assert location["physicalLocation"]["artifactLocation"] == {"uri": uri}


def test_figures_of_the_log_are_there_where_they_are_known() -> None:
    known = replace(GOOD, log=LogFigures(28_872, 1.7e9 + 0.25, 1.6e9))
    lines = openmetrics_text(known).splitlines()
    for name, value in (
        ("modelstore_wal_live_size_bytes", 28_872),
        ("modelstore_last_fold_timestamp_seconds", 1.7e9 + 0.25),
        ("modelstore_wal_oldest_reader_start_timestamp_seconds", 1.6e9),
    ):
        (sample,) = [line for line in lines if line.startswith(name + "{")]
        assert float(sample.split()[-1]) == value
        assert name not in openmetrics_text(GOOD)
