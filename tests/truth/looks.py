"""Holds each claim of ``inspect-wal --no-checkpoint`` to the facts, in text and JSON."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from tests.truth.claims import CLAIMS
from tests.truth.facts import Facts, Oracles
from tests.truth.program import Ran

_PROBLEMS = frozenset(
    {
        *("unreadable-with-log", "log-foreign", "log-older", "main-damaged", "malformed"),
        *("log-header-damaged", "log-newer", "log-empty", "unreadable-alone", "main-alone-damaged"),
    }
)
"""Claims whose sentences name a page or a value that no figure shows."""

_PARTIAL = {"foreign-log", "malformed", "log-replaced", "overwritten"}
"""Reasons against a log for which no figure is certain."""

_ENCODING = re.compile(r"UTF-\d+")
_MORE = re.compile(r"; and \d+ more")
_NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(?![\w.]*\w)")


def hold(told: Ran, facts: Facts, oracles: Oracles) -> Iterator[str]:
    """Yield a complaint for each claim that is not so."""
    if told.code not in (0, 5):
        yield from _refusal(told, facts)
        return
    found = told.json
    yield from _frames(found, facts)
    yield from _folded(found, facts)
    yield from _main_file(found, facts)
    yield from _alarm(told, found, facts)
    yield from _figures(found, facts, oracles)
    yield from _differences(found, facts)
    yield from _objects(found, facts)
    yield from _sentences(found, facts)


def hold_text(plain: Ran, told: Ran) -> Iterator[str]:
    """Hold the text to the JSON of the same state: the same code, and the same sentences."""
    if plain.code != told.code:
        yield f"exit {plain.code} as text, {told.code} as JSON"
    if told.code in (0, 5):
        yield from _same_words(plain, told.json)


def hold_frames(ran: Ran, facts: Facts) -> Iterator[str]:
    """Hold each row of ``--frames`` to the bytes of the log."""
    log = facts.log
    if not log.page_size or log.padding or log.later_padding or ran.code not in (0, 5):
        return
    rows = ran.json["frames"]
    for told, frame in zip(rows, log.frames, strict=False):
        number = told["frame"]
        if (told["page"], told["commit_pages"] or 0) != (frame.page, frame.commit):
            yield f"frame {number} is told as page {told['page']}, right: {frame.page}"
        if (told["state"] == "committed") != (number <= log.committed):
            yield f"frame {number} is {told['state']}, right: {log.committed} are committed"
        is_held = facts.page(frame.page) == frame.content
        if number <= log.committed and told["in_main_file"] not in (is_held, None):
            yield f"frame {number} in_main_file: {told['in_main_file']}, right: {is_held}"
    if len(rows) < log.valid:
        yield f"{len(rows)} frames are listed, right: at least {log.valid}"


def hold_transactions(ran: Ran, facts: Facts) -> Iterator[str]:
    """Hold each row of ``--transactions`` to the bytes of the log."""
    log = facts.log
    if not log.page_size or log.padding or ran.code not in (0, 5):
        return
    rows = [row for row in ran.json["transactions"] if row["state"] == "committed"]
    right = [at for at, frame in enumerate(log.frames[: log.committed], 1) if frame.commit]
    told = [row["last_frame"] for row in rows]
    if told != right:
        yield f"the commits end at frames {told}, right: {right}"
    if [row["page_count"] for row in rows] != [log.frames[at - 1].commit for at in right]:
        yield "the sizes after commits are not those of the frames"
    if sum(row["frames"] for row in rows) != log.committed:
        yield f"the commits do not have {log.committed} frames together"


def is_unknown(told: Ran) -> bool:
    """Tell if the program says that it does not know."""
    found = told.json
    return bool(found) and not found["exact"]


def is_mixed(told: Ran) -> bool:
    """Tell if the program says that a checkpoint may have copied the log in part."""
    return "main-mixed" in told.json.get("claims", ())


def _refusal(told: Ran, facts: Facts) -> Iterator[str]:
    if told.code != 3:
        yield f"exit {told.code}: {told.first_line}"
    elif facts.state.is_own and facts.both.is_sound:
        yield f"refused, though SQLite reads all of it: {told.first_line}"


def _same_words(plain: Ran, found: dict[str, Any]) -> Iterator[str]:
    text = "".join(plain.out.split())
    for line in found["state"]:
        if "".join(_visible(line).split()) not in text:
            yield f"the text lacks a sentence of the JSON: {line!r}"


def _visible(line: str) -> str:
    from modelstore.text import visible

    return visible(line)


def _frames(found: dict[str, Any], facts: Facts) -> Iterator[str]:
    log, told = facts.log, found["log"]
    if not log.page_size:
        return
    if facts.sqlite_frames not in (None, -1, log.committed) and facts.page_size == log.page_size:
        yield f"harness: SQLite counts {facts.sqlite_frames} frames, not {log.committed}"
    commits = {log.commits, log.commits - log.padding}
    wanted: dict[str, set[int]] = {
        "size": {log.size},
        "valid": {log.valid},
        "committed": {log.committed},
        "uncommitted": {log.valid - log.committed},
        "commits": commits,
        "page_count": {log.page_count},
        "later_commits": {log.later_commits, log.later_commits - log.later_padding},
    }
    for name, allowed in wanted.items():
        if told[name] not in allowed:
            yield f"log.{name} is {told[name]}, right: {sorted(allowed)}"


def _folded(found: dict[str, Any], facts: Facts) -> Iterator[str]:
    log, done = facts.log, found["checkpointed"]
    if log.page_size and found["left"] != log.committed - done:
        yield f"left is {found['left']}, checkpointed {done}, committed {log.committed}"
    newest = {frame.page: at for at, frame in enumerate(log.frames[: log.committed], 1)}
    lacking = [page for page in facts.differing if newest[page] <= done]
    if lacking:
        yield f"checkpointed is {done}, but the main file lacks pages {sorted(lacking)[:5]}"


def _main_file(found: dict[str, Any], facts: Facts) -> Iterator[str]:
    main = found["main_file"]
    state, commit = main["state"], main["commit"]
    if main["size"] != len(facts.main):
        yield f"main_file.size is {main['size']}, right: {len(facts.main)}"
    is_numbered = commit is not None and facts.log.page_size and not facts.log.padding
    if is_numbered and not facts.fits_commit(commit):
        yield f"main_file.commit is {commit}, but a page of it differs"
    doubt = main["problem"] or not main["readable"] or found["damaged"]
    is_whole = not facts.alone.is_unsound or facts.has_journal
    if state == "consistent" and not is_whole and not doubt and not _is_unsure(main):
        yield f"main_file is called consistent, but alone it is not: {facts.alone.trouble}"
    if not main["readable"] and facts.alone.is_sound and main["size"] >= facts.page_size:
        yield f"main_file is called unreadable ({main['problem']}), but SQLite reads it"
    if state == "torn" and facts.is_same_content and facts.is_identical:
        yield "main_file is called torn, but it holds all of the log and is sound"


def _is_unsure(main: dict[str, Any]) -> bool:
    """Tell if the report says that more was not checked."""
    return any(main.get(name) is False for name in ("checked", "examined"))


def _alarm(told: Ran, found: dict[str, Any], facts: Facts) -> Iterator[str]:
    is_alarm = bool(told.code == 5 or found["damaged"])
    reasons = {reason["code"] for reason in found["contradictions"]} | {"damaged"}
    reasons -= {"damaged-log", "hot-journal", *(() if found["damaged"] else ("damaged",))}
    if bool(reasons) != (told.code == 5):
        yield f"exit {told.code} with {sorted(reasons)}"
    hidden = facts.log.later_commits - facts.log.later_padding
    if hidden > 0 and not found["damaged"] and not facts.may_be_left_over:
        yield f"damaged is false, but {hidden} commits lie behind the first invalid frame"
    is_cut_short = found["damaged"] and found["log"]["later_commits"]
    if found["exact"] and (is_cut_short or reasons & _PARTIAL):
        yield f"exact, but the log is not all that there is: {found['state'][:2]}"
    if found["raced"]:
        yield "it says raced, and nobody writes"
    if is_alarm and facts.is_alarm_false and not facts.has_journal:
        yield f"false alarm: {found['state'][:2]}"
    if not is_alarm and facts.both.is_unreadable and facts.alone.is_sound and facts.log.committed:
        yield f"no alarm, but with the log SQLite says: {facts.both.trouble}"


# -- rows ------------------------------------------------------------------------------------------


def _figures(found: dict[str, Any], facts: Facts, oracles: Oracles) -> Iterator[str]:
    if not facts.can_figure or facts.has_journal or not facts.log.committed:
        return
    if found["lost"] is None:
        return  # unknown, which is counted
    truth = dict(facts.tables)
    total = Counter[str]()
    for table in found["tables"]:
        yield from _table(table, truth, found, oracles)
        for name in ("lost", "reverted", "returning"):
            total[name] += table[name]["count"]
    for name in ("lost", "reverted", "returning"):
        if found[name] != total[name]:
            yield f"{name} is {found[name]}, but the tables sum up to {total[name]}"
    if found["exact"]:
        for name, table in truth.items():
            if [0, 0, 0] not in table["figures"]:
                yield f"table {name!r} is left out, right: {table['figures']}"
        yield from _schema(found, facts)


def _table(
    told: dict[str, Any], truth: dict[str, Any], found: dict[str, Any], oracles: Oracles
) -> Iterator[str]:
    name = told["name"]
    figures = [told[word]["count"] for word in ("lost", "reverted", "returning")]
    right = truth.pop(name, None)
    if told["fate"] == "renamed":
        former = told["former_name"]
        truth.pop(former, None)
        right = oracles.renamed(name, former)
    if right is None:
        if name != "sqlite_schema":
            yield f"table {name!r} does not exist, or its former name does not"
        return
    is_exact = told["exact"] and found["exact"]
    if is_exact and figures not in right["figures"]:
        yield f"table {name!r}: {figures}, right: {right['figures']}"
    if not is_exact and not any(
        all(one <= two for one, two in zip(figures, allowed, strict=True))
        for allowed in right["figures"]
    ):
        yield f"table {name!r}: at least {figures}, right: {right['figures']}"
    if is_exact and figures == right["figures"][0]:
        yield from _keys(told, right)


def _keys(told: dict[str, Any], right: dict[str, Any]) -> Iterator[str]:
    """Hold the keys that are integers; of others the report writes a form of its own."""
    for word in ("lost", "reverted", "returning"):
        true = right[word]
        if len(true) >= 400:  # the oracle sends no more
            continue
        wrong = [key for key in told[word]["keys"] if isinstance(key, int) and key not in true]
        if wrong:
            yield f"table {told['name']!r}, {word}: keys {wrong[:5]}, right: {true[:5]}"


def _schema(found: dict[str, Any], facts: Facts) -> Iterator[str]:
    """Hold the fates; a rename may be told as one or as two changes."""
    told = {(c["type"], c["name"]): c["fate"] for c in found["schema_changes"]}
    renamed = {key for key, fate in told.items() if fate == "renamed"}
    former = {t["former_name"] for t in found["tables"] if t["fate"] == "renamed"}
    right = {(kind, name): fate for kind, name, fate in facts.schema}
    for key, fate in told.items():
        if key in renamed or fate == "stays":
            continue
        if right.get(key) != fate:
            yield f"{key[0]} {key[1]!r} {fate}, right: {right.get(key, 'stays')}"
    for key, fate in right.items():
        if key not in told and key[1] not in former:
            yield f"{key[0]} {key[1]!r} {fate}, and it does not say so"


_PRAGMAS = {
    "user_version": "user_version",
    "application_id": "application_id",
    "auto_vacuum": "auto_vacuum",
    "schema_cookie": "schema_version",
    "page_count": "page_count",
    "text_encoding": "encoding",
}


def _differences(found: dict[str, Any], facts: Facts) -> Iterator[str]:
    """Hold what differs beside rows to the pragmas of both views."""
    is_compared = facts.can_figure and facts.main and found["exact"] and facts.log.committed
    if found["nothing_lost"] and not (facts.is_identical and not facts.hides_commits):
        yield f"nothing_lost, but pages {sorted(facts.differing)[:5]} differ"
    is_same = facts.is_identical and facts.is_same_content and not facts.has_journal
    if not found["nothing_lost"] and is_same and facts.is_alarm_false:
        yield "nothing_lost is false, but the main file has every page of the log"
    if not is_compared or facts.has_journal:
        return
    both, alone = facts.both.header, facts.alone.header
    told = {d["kind"]: d for d in found["differences"]}
    for kind, pragma in _PRAGMAS.items():
        if pragma == "page_count" and both[pragma] != facts.log.page_count:
            continue  # the log is another database's: SQLite itself goes by two numbers
        differs = both[pragma] != alone[pragma]
        if differs and kind not in told and not _is_unset(kind, facts):
            yield f"{pragma} is {alone[pragma]} alone, {both[pragma]} with the log: not told"
        if kind in told and not differs and not _is_unset(kind, facts):
            yield f"{pragma} is told to differ, and is {both[pragma]} both times"
        values = tuple(_value(told.get(kind, {}).get(side)) for side in ("with_log", "alone"))
        if kind in told and kind != "text_encoding" and values != (both[pragma], alone[pragma]):
            yield f"{pragma} is told as {values}, right: {(both[pragma], alone[pragma])}"


def _value(told: object) -> object:
    """Return a pragma's number for the word that the report has for it."""
    words = {"none": 0, "full": 1, "incremental": 2}
    return words.get(told, told) if isinstance(told, str) else told


def _is_unset(kind: str, facts: Facts) -> bool:
    """Tell if SQLite shows a default for what the header leaves open."""
    pages = (facts.main, facts.log.newest().get(1, facts.main))
    return kind == "text_encoding" and not all(page[59] & 3 for page in pages)


# -- pages and sentences ---------------------------------------------------------------------------


def _objects(found: dict[str, Any], facts: Facts) -> Iterator[str]:
    log = facts.log
    if not log.committed or not found["objects"]:
        return
    newest = log.newest()
    right = {"frames": log.committed, "pages": len(newest), "differing": len(facts.differing)}
    for name, count in right.items():
        told = sum(thing[name] for thing in found["objects"])
        if told != count:
            yield f"the objects' {name} sum up to {told}, right: {count}"
    if not facts.owners or not facts.can_figure:
        return
    pages = Counter(facts.owners[page] for page in newest if page in facts.owners)
    told_pages = {o["name"]: o["pages"] for o in found["objects"] if o["name"] is not None}
    if found["unattributed_pages"] or not found["exact"]:
        return
    for name in pages.keys() | told_pages.keys():
        if pages[name] != told_pages.get(name, 0):
            yield f"{name!r} has {told_pages.get(name, 0)} pages in the log, right: {pages[name]}"


def _sentences(found: dict[str, Any], facts: Facts) -> Iterator[str]:
    """Hold each sentence's code to its meaning, and its numbers to the figures."""
    for code in found.get("claims", ()):
        meaning = CLAIMS.get(code)
        if meaning is None:
            yield f"harness: no meaning is known for the claim {code!r}"
        elif not meaning(facts, found):
            yield f"claims {code!r}, which is not so: {found['state']}"
    known = {name for _, name, _ in (*facts.both.schema, *facts.alone.schema)}
    names = sorted(known | {table["name"] for table in found["tables"]}, key=len)
    allowed = set(_numbers(found)) | _sums(found)
    for code, line in zip(found.get("claims", ()), found["state"], strict=True):
        if code in _PROBLEMS:
            continue
        bare = _MORE.sub(" ", _ENCODING.sub(" ", line))
        for name in reversed(names):
            bare = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", " ", bare)
        for table in found["tables"]:
            bare = bare.replace(str(table["problem"]), " ")
        for number in _NUMBER.findall(bare):
            if int(number.replace(",", "")) not in allowed:
                yield f"{number} in {line!r} is none of the figures"


def _numbers(value: object) -> Iterator[int]:
    if isinstance(value, bool):
        return
    if isinstance(value, int):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _numbers(item)
    elif isinstance(value, list):
        yield len(value)
        for item in value:
            yield from _numbers(item)


def _sums(found: dict[str, Any]) -> set[int]:
    log = found["log"]
    lost, reverted = found["lost"] or 0, found["reverted"] or 0
    sums = {lost + reverted, log["valid"] + 1, lost + reverted + (found["returning"] or 0)}
    sums |= {t["lost"]["count"] + t["reverted"]["count"] for t in found["tables"]}
    differing = sum(o["differing"] for o in found["objects"])
    return sums | {differing}
