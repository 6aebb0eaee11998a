"""Building the record of a model that was read from local files, whatever their format."""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from modelstore.model import Model, Status, file_locator, model_id
from modelstore.sources.base import Context, Found
from modelstore.sources.files import naming

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from modelstore.sources.files.local_files import LocalFile, Origin

MAX_PARAMETERS = 64 << 10  # characters of the JSON object
MAX_PARAMETER = 8 << 10  # of one value; chat templates are often longer
_MAX_FAULTS = 20  # told of one model
_MAX_TEXT = 256  # characters of a short text such as an architecture or a licence
_INT64_MAX = (1 << 63) - 1
_YEAR_10000 = 253_402_300_800  # seconds since 1970


@dataclass(slots=True)
class Faults:
    """What is wrong with a model that can be told nevertheless, and the status that follows."""

    status: Status = "available"
    sentences: list[str] = field(default_factory=list)

    def incomplete(self, sentence: str) -> None:
        """Note a part that is not there."""
        self.status = "incomplete"
        self.sentences.append(sentence)

    def truncated(self, sentence: str) -> None:
        """Note a file that ends early."""
        if self.status == "available":
            self.status = "truncated"
        self.sentences.append(sentence)

    def note(self, sentence: str) -> None:
        """Note what leaves the model usable."""
        self.sentences.append(sentence)


def missing_shards(present: set[int], total: int, faults: Faults) -> bool:
    """Note which of the shards 1 to `total` are not `present`; tell whether any is missing."""
    missing = [str(number) for number in range(1, total + 1) if number not in present]
    if total < 2 or not missing:
        return False
    some = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
    faults.incomplete(f"{len(missing)} of {total} shards are missing: {some}")
    return True


def build_found(
    files: Sequence[LocalFile],
    weights: Sequence[LocalFile],
    columns: Mapping[str, Any],
    facts: Mapping[str, object],
    faults: Faults,
    origin: Origin,
    context: Context,
) -> Found:
    """Make the record: `columns` by the names of `Model`'s fields, `facts` for ``parameters``."""
    first = weights[0]
    # A link is known by what it leads to, unless that is a blob without a name of its own.
    named = first.real if naming.parse_name(os.path.basename(first.real)) else first.path
    locator = file_locator(context.host, _final_path(first.real))
    if faults.sentences:
        facts = {"faults": faults.sentences[:_MAX_FAULTS], **facts}
    fields: dict[str, Any] = {"license": origin.license} | {
        name: value for name, value in columns.items() if value is not None
    }
    model = Model(
        id=model_id(locator),
        name=origin.name or naming.model_name(named),
        locator=locator,
        path=named,
        status=faults.status,
        file_size=sum(file.size for file in weights),
        sha256=first.sha256 if len(weights) == 1 else None,
        host=context.host,
        parameters=parameters_json({**origin.extra, **facts}),
        source_id=origin.source_id,
        modified_at=iso_time(max(file.mtime_ns for file in weights)),
        created_at=context.now,
        updated_at=context.now,
        **fields,
    )
    return Found(model, tuple(file.as_model_file() for file in files), origin.place)


def _final_path(path: str) -> str:
    """Return where a model will be when it is all there: that is what it is known by."""
    path = naming.first_shard(path)
    final = os.path.join(os.path.dirname(path), naming.without_partial(os.path.basename(path)))
    # A download of what is already there is a thing of its own.
    return path if final != path and os.path.lexists(final) else final


def parameters_json(facts: Mapping[str, object]) -> str | None:
    """Return facts as a JSON object that is bounded in size, or None without any.

    What is too long, or None, is left out; a number that JSON has no word for becomes null.
    """
    facts = {key: value for key, value in facts.items() if value is not None}
    text = to_json(facts)
    if len(text) > MAX_PARAMETER or text == "null":
        room = MAX_PARAMETERS - 2
        parts = []
        for key, value in facts.items():
            part = f"{to_json(key)}:{to_json(value)}"
            if len(part) <= min(MAX_PARAMETER, room):
                parts.append(part)
                room -= len(part) + 1
        text = "{" + ",".join(parts) + "}"
    return text if text != "{}" else None


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def to_json(value: object) -> str:
    """Return compact JSON of any value that a parser made; null where it nests too deep."""
    try:
        return _valid_json(value)
    except RecursionError:
        return "null"


def _valid_json(value: object) -> str:
    try:
        text = _encode(value)
    except ValueError:  # infinity, or no number
        text = _encode(_finite(value))
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return json.dumps(_finite(value), separators=(",", ":"))
    return text


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return value


def iso_time(mtime_ns: int) -> str | None:
    """Return a file's time as ISO-8601 UTC, or None where it is out of all calendars."""
    seconds = mtime_ns // 1_000_000_000
    if not 0 < seconds < _YEAR_10000:
        return None
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def count_or_none(value: object) -> int | None:
    """Return a positive integer that a column can hold; None for anything else."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _INT64_MAX:
        return value
    return None


def text_or_none(value: object) -> str | None:
    """Return a short text as a column can hold it; None for anything else."""
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_TEXT:
        return None
    return value.encode("utf-8", "replace").decode("utf-8").strip() or None
