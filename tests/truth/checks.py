"""Holds verify and the commands that fold to the facts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.truth.claims import FINDINGS
from tests.truth.facts import CONTENT, Facts, Oracles
from tests.truth.life import Files
from tests.truth.program import Ran

_ALONE = frozenset({"log.foreign", "log.foreign-log", "log.older-log"})
"""Findings with which only the main file is read."""

_FOLDED = frozenset(
    {"persistence.same", "integrity.alone"}
)  # these are about the files after the run


def hold_verify(told: Ran, facts: Facts, *, folds: bool) -> Iterator[str]:
    """Yield a complaint for each finding of verify that is not so, and for its exit code."""
    if told.code not in (0, 3, 5):
        yield f"exit {told.code}: {told.first_line}"
        return
    if told.code == 3:
        if facts.is_alarm_false:
            yield f"refused, though SQLite reads all of it: {told.first_line}"
        return
    found = told.json
    codes = {finding["code"] for finding in found["findings"]}
    for finding in found["findings"]:
        is_of_both = not finding["code"].startswith("integrity.alone")
        if finding["code"].startswith("integrity.") and codes & _ALONE and is_of_both:
            continue  # the main file alone was checked, and it says so
        if folds and finding["code"] in _FOLDED:
            continue
        yield from _finding(finding, facts)
    yield from _codes(told, found, facts, folds=folds)


def _finding(finding: dict[str, Any], facts: Facts) -> Iterator[str]:
    code = finding["code"]
    if code.endswith((".skipped", ".not-checked")):
        return
    meaning = FINDINGS.get(code)
    if meaning is None:
        yield f"harness: no meaning is known for the finding {code!r}"
    elif not meaning(facts, finding):
        yield f"{code} ({finding['result']}), which is not so: {finding['measured'][:200]}"


def _codes(told: Ran, found: dict[str, Any], facts: Facts, *, folds: bool) -> Iterator[str]:
    failing = [f["code"] for f in found["findings"] if f["result"] == "fail"]
    if bool(failing) != (told.code == 5):
        yield f"exit {told.code} with failures {failing}"
    if told.code == 0 and not facts.both.is_sound and facts.both.is_unsound:
        yield f"exit 0, but with the log SQLite says: {facts.both.trouble}"
    if told.code == 0 and not folds and facts.is_agreed and not facts.is_same_content:
        yield f"exit 0, but the main file alone is another: {_what_differs(facts)}"
    is_clean = facts.is_identical and facts.is_same_content and not facts.has_journal
    if told.code == 5 and facts.is_alarm_false and (is_clean or folds) and not facts.has_journal:
        told_of = [(f["code"], f["measured"][:150]) for f in found["findings"]]
        yield f"false alarm: {[words for words in told_of if words[0] in failing]}"


def hold_to_inspection(checked: Ran, inspected: Ran) -> Iterator[str]:
    """Hold the figures of verify to those of inspect-wal, of the same state."""
    if not checked.json.get("checkpoint") or not inspected.json.get("log"):
        return
    told = tuple(checked.json[name] for name in ("log", "checkpointed", "left"))
    found = inspected.json
    right = found["log"]["committed"], found["checkpointed"], found["left"]
    if told != right:
        yield f"log, checkpointed and left are {told}, inspect-wal: {right}"


def _what_differs(facts: Facts) -> str:
    words = [name for name in facts.header_changes if name in CONTENT]
    if facts.both.digest != facts.alone.digest:
        words.append("rows or schema")
    if not facts.alone.is_sound:
        words.append(facts.alone.trouble)
    return ", ".join(words)


def hold_text(plain: Ran, told: Ran) -> Iterator[str]:
    """Hold the text of verify to its JSON: the same code, and each finding's sentence."""
    if plain.code != told.code:
        yield f"exit {plain.code} as text, {told.code} as JSON"
    from modelstore.text import visible

    text = "".join(plain.out.split())
    for finding in told.json.get("findings", ()):
        if "".join(visible(finding["measured"]).split()) not in text:
            yield f"the text lacks a finding of the JSON: {finding['measured']!r}"


def hold_fold(ran: Ran, before: Facts, after: Files, oracles: Oracles) -> Iterator[str]:
    """Hold a command that folds to what is on disk afterwards: true success, and no harm."""
    files = before.state.files
    if ran.code not in (0, 3, 4, 5):
        yield f"exit {ran.code}: {ran.first_line}"
    is_unchanged = all(
        after.get(suffix) == files.get(suffix) for suffix in ("", "-wal", "-journal")
    )
    if not before.is_agreed or not before.both.is_sound:
        is_harm = before.both.is_unsound and not before.is_identical
        if not is_unchanged and is_harm:
            said = before.both.trouble
            yield f"exit {ran.code}, and it changed files of which SQLite says: {said}"
        return
    if ran.code != 0 and before.is_alarm_false and not before.has_journal:
        yield f"false alarm, exit {ran.code}: {(ran.err or ran.out).strip()[:300]!r}"
    if is_unchanged and not _claims_folded(ran):
        return
    seen = oracles.look(after)
    if seen["digests"][0] != before.both.digest or seen["both"]["integrity"] != "ok":
        yield f"exit {ran.code}, and database and log hold something else than before"
    if _claims_folded(ran) and (
        seen["digests"][1] != before.both.digest
        or any(seen["alone"]["header"].get(n) != before.both.header[n] for n in CONTENT)
    ):
        yield f"exit {ran.code} claims that all is in the main file, and it is not"


def _claims_folded(ran: Ran) -> bool:
    found = ran.json
    if ran.arguments[0] == "inspect-wal":
        done = found.get("on_exit")
        return bool(done and done["in_main_file"] and not done["left"] and not found["not_folded"])
    return ran.code == 0
