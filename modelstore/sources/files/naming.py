"""Names of model files: shards, sidecars, unfinished downloads, quantizations.

The conventions are GGUF's (github.com/ggml-org/ggml/blob/master/docs/gguf.md, "GGUF Naming
Convention") and safetensors' as transformers shards it. Names are "not intended to be perfectly
parsable", so they only supply what no header holds.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

_PARTIAL = (
    ".part",
    ".partial",
    ".incomplete",
    ".download",
    ".downloading",
    ".downloadinprogress",
    ".crdownload",
    ".opdownload",
    ".!qb",
    ".tmp",
)
_LM_STUDIO_PARTIAL = "downloading_"  # a prefix, with .part at the end
_SHARD = re.compile(r"(.+?)(?:\.safetensors)?-(\d{1,6})-of-(\d{1,6})", re.DOTALL)
_RAW_PART = re.compile(
    r"(.+\.gguf)(?:\.part(\d{1,3})of(\d{1,3})|[-.](?:split|part)-?([a-z]{1,2}|\d{1,3}))",
    re.DOTALL | re.IGNORECASE,
)
_ENCODING = re.compile(
    r"(?:^|[-._])("
    r"(?:UD-)?(?:I?Q\d(?:_[0-9A-Z]{1,4}){0,3}|TQ\d_\d)|I2_S|B?F16|FP16|F32|FP32|FP8|MXFP4(?:_MOE)?|NVFP4"
    r")$",
    re.IGNORECASE,
)
_SIZE = re.compile(
    r"(?<![0-9A-Za-z.])((?:\d{1,3}x)?\d{1,4}(?:\.\d{1,3})?[MBT])(?![0-9A-Za-z])", re.IGNORECASE
)
_EXPERTS = re.compile(r"(-A\d{1,3}(?:\.\d{1,2})?B)(?![0-9A-Za-z])", re.IGNORECASE)
_GENERIC = re.compile(
    r"(?:gg[mu][lf]-)?(?:model|weights|pytorch_model|diffusion_pytorch_model|adapter_model"
    r"|consolidated|[0-9a-f]{40}|(?:sha256-)?[0-9a-f]{64})"
    r"(?:[-._](?:I?Q\d\w{0,8}|B?F16|FP16|F32|fp16|bf16))?",
    re.IGNORECASE,
)
_SEPARATOR = re.compile(r"[-._ ]")
_DRAFTS = ("mtp", "dflash", "dspark", "eagle3")
_SIDECAR_WORDS = re.compile(
    rf"(?:^|[-._])(?:mmproj|draft|{'|'.join(_DRAFTS)})(?=$|[-._])", re.IGNORECASE
)
_I1 = re.compile(r"[-._]i1$", re.IGNORECASE)  # mradermacher's mark of a quantization by imatrix
_SECONDARY = frozenset(("imatrix", "lora", "vocab"))
_MAX_NAME = 255  # longer than file systems allow: not searched

Extension = Literal["gguf", "safetensors"]
Sidecar = Literal["projector", "draft"]


@dataclass(frozen=True, slots=True)
class FileName:
    """The parts of a file name."""

    stem: str  # without extension, shard number and mark of an unfinished download
    extension: Extension
    shard: int = 0  # from 1; some sets count from 0
    shards: int = 0  # 0: not one of several
    partial: bool = False  # an unfinished download
    raw_part: bool = False  # a piece of a split file: the pieces must be joined


@lru_cache(maxsize=4096)  # every layer parses the same names, directory by directory
def parse_name(name: str) -> FileName | None:
    """Parse the name of a GGUF or safetensors file; None for any other file."""
    whole = without_partial(name)
    partial = whole != name
    raw = None
    if not name.lower().endswith((".gguf", ".safetensors")):
        raw = _RAW_PART.fullmatch(whole) or _RAW_PART.fullmatch(name)
    partial = partial and raw is None
    if raw is not None:
        whole = raw[1]
    stem, extension = os.path.splitext(whole)
    kind: Extension
    if extension.lower() == ".gguf":
        kind = "gguf"
    elif extension.lower() == ".safetensors":
        kind = "safetensors"
    else:
        return None
    if raw is not None:
        number = int(raw[2]) if raw[2] else _piece(raw[4])
        return FileName(stem, kind, number, int(raw[3] or 0), partial, raw_part=True)
    shard = _SHARD.fullmatch(stem) if "-of-" in stem and len(stem) <= _MAX_NAME else None
    if shard is not None and 0 <= int(shard[2]) <= int(shard[3]) > 0:
        return FileName(shard[1], kind, int(shard[2]), int(shard[3]), partial)
    return FileName(stem, kind, partial=partial)


def _piece(mark: str) -> int:
    """Return the number of a piece: ``a`` or ``aa`` is 1, as `split` names them."""
    if mark.isdigit():
        return int(mark)
    number = 0
    for letter in mark.lower():
        number = number * 26 + ord(letter) - ord("a")
    return number + 1


def without_partial(name: str) -> str:
    """Return the final name of an unfinished download; any other name unchanged."""
    lower = name.lower()
    for suffix in _PARTIAL:
        if lower.endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)].removeprefix(_LM_STUDIO_PARTIAL)
    return name


def sidecar(stem: str) -> Sidecar | None:
    """Return the role of a projector or a draft (multi-token prediction) model, by its name.

    The names are those that llama.cpp looks for (common/preset.cpp, common/download.cpp).
    """
    lower = stem.lower()
    if "mmproj" in lower:
        return "projector"
    if "draft" not in lower and not lower.startswith(_DRAFTS):  # nearly all names
        return None
    words = _words(lower)
    return "draft" if "draft" in words or (words[0] in _DRAFTS and len(words) > 1) else None


def main_stem(stem: str) -> str:
    """Return a name without the words of a sidecar and the quantization.

    A model and its sidecars share it: ``mmproj-X-F16`` and ``X-Q4_K_M`` give ``x``.
    """
    rest = _SIDECAR_WORDS.sub("", stem)
    if len(rest) <= _MAX_NAME:
        rest = _I1.sub("", _ENCODING.sub("", rest))
    return rest.strip("-._").lower()


def is_secondary(stem: str) -> bool:
    """Return True for a file that cannot own a projector or draft, by its name."""
    return sidecar(stem) is not None or not _SECONDARY.isdisjoint(_words(stem))


def _words(stem: str) -> list[str]:
    return _SEPARATOR.split(stem.lower())


def may_belong(common: str, main: str) -> bool:
    """Return False if a sidecar's `main_stem` contradicts the only model beside it."""
    own, other = (re.match(r"[^\W\d_]*", text.lower()) for text in (common, main))
    return not common or common == "model" or (own and own[0]) == (other and other[0])


def extends(stem: str, common: str) -> bool:
    """Return True if a name continues `common` with another word: ``X-Q4_0`` and ``X``."""
    return stem.startswith(common) and not stem[len(common) : len(common) + 1].isalnum()


def encoding(stem: str) -> str | None:
    """Return the quantization that a name ends with: ``UD-Q4_K_XL``, ``F16``."""
    match = _ENCODING.search(stem) if len(stem) <= _MAX_NAME else None
    if match is None:
        return None
    return match[1].upper().replace("FP16", "F16").replace("FP32", "F32")


def size_label(stem: str) -> str | None:
    """Return the size in a name: ``8B``, ``30B-A3B``, ``8x7B``."""
    match = _SIZE.search(stem) if len(stem) <= _MAX_NAME else None
    if match is None:
        return None
    experts = _EXPERTS.match(stem, match.end())
    label = match[1] + (experts[1] if experts else "")
    return label.upper().replace("X", "x")


def model_name(path: str) -> str:
    """Return a model's name: its file's, or its directory's if the file's is generic."""
    parent, name = os.path.split(path)
    parsed = parse_name(name)
    stem = parsed.stem if parsed else name
    if _GENERIC.fullmatch(stem) and os.path.basename(parent):
        return os.path.basename(parent)
    return stem


def first_shard(path: str) -> str:
    """Return the path of the first shard of a set; any other path unchanged."""
    parent, name = os.path.split(path)
    parsed = parse_name(name)
    if parsed is None or parsed.shards == 0 or parsed.shard == 0 or parsed.raw_part:
        return path
    stem, extension = os.path.splitext(without_partial(name))
    before, _, total = stem.rpartition("-of-")
    before, _, number = before.rpartition("-")
    return os.path.join(parent, f"{before}-{1:0{len(number)}}-of-{total}{extension}")
