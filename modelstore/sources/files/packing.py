"""Quantized safetensors: the name of the quantization, and the parameters that packed words hold.

A quantizer writes several weights into one integer and keeps scales and tables beside them. Its
method and its bits are in ``config.json``, or in a file of its own beside that.
"""

from __future__ import annotations

import math
import re
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from modelstore.sources.files.model_config import text_parts
from modelstore.sources.files.safetensors_header import DTYPE_BITS
from modelstore.sources.values import count_or_none, mapping, parse_json, text_or_none

if TYPE_CHECKING:
    from collections.abc import Mapping

Elements = dict[tuple[str, str], int]  # by dtype and last part of the tensor's name
Shapes = dict[str, tuple[int, ...]]

_Layout = Literal["stream", "whole", "bytes"]


@dataclass(frozen=True, slots=True)
class Packing:
    """The layout in which a quantizer stores its weights.

    ``stream``: a weight may begin in one word and end in the next; ``whole``: each word holds as
    many whole weights as fit; ``bytes``: as `whole`, but signed bytes hold one weight each.
    """

    weights: str  # a pattern of the last part of the tensors' names
    layout: _Layout
    source: str  # of these facts
    bits: int | None = None  # where the method has but one number

    def factor(self, dtype: str, part: str, bits: float | None) -> float | None:
        """Return how many weights an element of a tensor holds; None if that is unknown."""
        if re.fullmatch(self.weights, part) is None:
            return None
        if self.layout == "bytes" and dtype == "I8":
            return 1
        bits = self.bits or bits
        if not bits or bits > DTYPE_BITS[dtype]:
            return None
        return DTYPE_BITS[dtype] / bits if self.layout == "stream" else DTYPE_BITS[dtype] // bits


_GPTQ = Packing("qweight", "stream", "github.com/AutoGPTQ/AutoGPTQ auto_gptq/nn_modules/qlinear")
PACKINGS: dict[str, Packing] = {
    "gptq": _GPTQ,
    "auto-round": replace(_GPTQ, source="github.com/intel/auto-round auto_round/export"),
    "awq": replace(_GPTQ, source="github.com/casper-hansen/AutoAWQ awq/modules/linear/gemm.py"),
    "bitnet": Packing(
        "weight", "whole", "github.com/huggingface/transformers integrations/bitnet.py", 2
    ),
    "bitsandbytes": Packing(
        "weight", "bytes", "github.com/bitsandbytes-foundation/bitsandbytes nn/modules.py"
    ),
    "compressed-tensors": Packing(
        "weight_packed|weight",
        "bytes",
        "github.com/vllm-project/compressed-tensors compressors/quantized_compressors",
    ),
    "eetq": Packing("weight", "bytes", "github.com/NetEase-FuXi/EETQ", 8),
    "fp8": Packing("weight", "whole", "huggingface.co/deepseek-ai/DeepSeek-V3 README_WEIGHTS.md"),
    "hqq": Packing("W_q", "whole", "github.com/mobiusml/hqq hqq/core/bitpack.py"),
    "mlx": Packing("weight", "stream", "github.com/ml-explore/mlx mlx/ops.cpp, quantize"),
    "modelopt": Packing(
        "weight|.*_proj",
        "bytes",
        "github.com/NVIDIA/Model-Optimizer export/unified_export_hf.py",
        4,
    ),
    "mxfp4": Packing(
        "(?:.*_)?blocks",
        "whole",
        "huggingface.co/openai/gpt-oss-20b, model.safetensors.index.json",
        4,
    ),
    "quanto": Packing("_data", "bytes", "github.com/huggingface/optimum-quanto tensor/packed.py"),
    "quark": Packing("weight", "bytes", "quark.docs.amd.com, pytorch/export"),
    "torchao": Packing("_?(?:weight_)?qdata|weight", "bytes", "github.com/pytorch/ao quantization"),
}
"""The packings that are known, by ``quant_method``. AQLM's and ExLlama's are counted by shape."""

_AUXILIARY = re.compile(
    r".*(?:scales?|scale_inv|scale_2|scale_shift|g_idx|absmax|quant_map|weight_shape|weight_format"
    r"|zeros?|zero_point|biases|codebooks|scale_max|SCB)|bitsandbytes__.*|_shift|meta|input_amax"
    r"|q_(?:groups|group_map|invperm|perm)|s[uv]h?|mcg|mul1|perm|comfy_quant|scale_weight"
    r"|nbits|group_size|axis|shape|packing|view_as_float|quant_(?:scale|zero)",
    re.DOTALL,
)
"""The last parts of the names of scales and tables, which hold no parameter."""

_INTEGERS = frozenset(("U8", "I8", "U16", "I16", "U32", "I32"))  # may hold several weights
_UNKNOWN_SHARE = 100  # up to one in a hundred elements may be buffers of an unknown meaning


@dataclass(frozen=True, slots=True)
class Quantization:
    """The quantization that a model's configuration declares."""

    method: str  # lower case
    label: str  # for people
    bits: float | None = None  # of a weight, where all quantized weights have as many
    group: int | None = None  # weights to a scale, where all groups have as many
    settings: Mapping[str, object] | None = None


def parameter_count(
    elements: Elements, shapes: Shapes, quantization: Quantization | None
) -> int | None:
    """Return the number of parameters in tensors; None if the packing is unknown."""
    total = unknown = 0
    by_shape = _by_shape(elements, shapes, quantization)
    for (dtype, part), count in elements.items():
        if quantization and _AUXILIARY.fullmatch(part):
            continue
        factor = _factor(dtype, part, quantization) if dtype in _INTEGERS else 1
        if dtype in _INTEGERS and by_shape is not None and _is_packed(part, quantization):
            continue
        if factor is None:
            unknown += count
        else:
            total += round(count * factor)
    if unknown * _UNKNOWN_SHARE > sum(elements.values()):
        return None
    return total + unknown + (by_shape or 0)


def _factor(dtype: str, part: str, quantization: Quantization | None) -> float | None:
    packing = PACKINGS.get(quantization.method) if quantization else None
    if packing is None or quantization is None:
        return None
    return packing.factor(dtype, part, quantization.bits)


def _is_packed(part: str, quantization: Quantization | None) -> bool:
    """Return True for a tensor that `_by_shape` counts."""
    packing = PACKINGS.get(quantization.method) if quantization else None
    weights = packing.weights if packing else "codes|q_weight|trellis"
    return re.fullmatch(weights, part) is not None


def _by_shape(elements: Elements, shapes: Shapes, quantization: Quantization | None) -> int | None:
    """Return the weights that shapes alone tell, whatever the bits; None for other methods."""
    method = quantization.method if quantization else None
    settings = (quantization and quantization.settings) or {}
    if method == "aqlm":  # github.com/Vahe1994/AQLM: codes are (out, in, codebooks)
        of = [count_or_none(settings.get(f"{key}_group_size")) for key in ("in", "out")]
        books = count_or_none(settings.get("num_codebooks"))
        codes = sum(count for (_, part), count in elements.items() if part == "codes")
        return codes * of[0] * of[1] // books if books and of[0] and of[1] else None
    if method == "exl2":  # github.com/turboderp-org/exllamav2 exllamav2/linear.py
        return _exl2(shapes)
    if method == "exl3":  # github.com/turboderp-org/exllamav3 doc/exl3.md: tiles of 16 by 16
        tiles = [shape for name, shape in shapes.items() if name.endswith(".trellis")]
        return sum(shape[0] * shape[1] * 256 for shape in tiles if len(shape) == 3) or None
    if quantization is None or quantization.bits:
        return None
    if method == "mlx" and not quantization.group:
        return _mlx_mixture(shapes, settings)
    if method not in ("mlx", "gptq", "awq", "auto-round") or not quantization.group:
        return None
    scales = sum(count for (_, part), count in elements.items() if part == "scales")
    return scales * quantization.group


def _mlx_mixture(shapes: Shapes, settings: Mapping[str, object]) -> int | None:
    """Count the weights of MLX where modules have groups of their own: a scale for each group."""
    total = 0
    for name, shape in shapes.items():
        module, _, part = name.rpartition(".")
        own = mapping(settings.get(module)).get("group_size", settings.get("group_size"))
        if part == "scales" and (group := count_or_none(own)):
            total += math.prod(shape) * group
    return total or None


def _exl2(shapes: Shapes) -> int | None:
    """Count the weights of ExLlamaV2: rows are in the permutation, columns in the packed words."""
    total = 0
    for name, shape in shapes.items():
        if name.endswith(".q_weight"):
            module = name.removesuffix("q_weight")
            rows = shapes.get(module + "q_invperm") or shapes.get(module + "q_perm")
            if rows is None or len(shape) != 2:
                return None
            total += shape[1] * rows[0]
    return total or None


def declared_quantization(config: Mapping[str, object]) -> Quantization | None:
    """Return the quantization that a ``config.json`` declares, at any of the usual places."""
    for part in reversed(text_parts(config)):
        for key in ("quantization_config", "compression_config", "quantization"):
            settings = mapping(part.get(key))
            if settings:
                return _declared(settings, config)
    return None


def evident_quantization(elements: Elements, metadata: Mapping[str, str]) -> Quantization | None:
    """Return the quantization of tensors without a configuration, by their dtypes and names."""
    if {("U8", "blocks"), ("U8", "scales")} <= elements.keys():  # gpt-oss, in its own format
        return Quantization("mxfp4", "MXFP4", 4)
    if {("U8", "weight"), ("F8_E4M3", "weight_scale")} <= elements.keys():  # ComfyUI, ModelOpt
        return Quantization("modelopt", "NVFP4", 4)
    settings: object = None
    with suppress(ValueError):  # nunchaku tells its own in the file
        settings = parse_json(metadata.get("quantization_config", "").encode())
    if text_or_none(mapping(settings).get("method")) == "svdquant":
        dtype = text_or_none(mapping(mapping(settings).get("weight")).get("dtype")) or ""
        return Quantization("svdquant", f"SVDQUANT-{dtype.partition('_')[0]}".upper().rstrip("-"))
    return None


def _declared(settings: Mapping[str, object], config: Mapping[str, object]) -> Quantization | None:
    method = (text_or_none(settings.get("quant_method")) or "").lower()
    if not method and "quant_algo" in settings:
        method = "modelopt"
    if not method and "group_size" in settings:
        method = "mlx"
    if not method:
        return None
    method = _ALIASES.get(method, method)
    settings = {"expert_dtype": config.get("expert_dtype"), **settings}  # of DeepSeek's FP4 experts
    bits, name = _READERS.get(method, _plain)(settings)
    label = name or method.upper() + (f"-{bits:g}bit" if bits else "")
    group = count_or_none(settings.get("group_size"))
    if any(other != settings.get("bits") for other in _overrides(settings, "bits")):
        bits = None
    if any(other != group for other in _overrides(settings, "group_size")):
        group = None
    return Quantization(method, label[:_MAX_LABEL], bits, group, settings)


_ALIASES = {
    "intel/auto-round": "auto-round",
    "modelopt_fp4": "modelopt",
    "modelopt_mixed": "modelopt",
}
_MAX_LABEL = 40  # characters


def _overrides(settings: Mapping[str, object], key: str) -> list[object]:
    """Return the values of a setting that single modules have of their own."""
    dynamic = mapping(
        settings.get("dynamic") or settings.get("extra_config")
    )  # GPTQModel, AutoRound
    modules = (*settings.values(), *dynamic.values())
    return [mapping(module)[key] for module in modules if key in mapping(module)]


def _number(value: object) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and 0 < value <= 64 else None  # type: ignore[operator, return-value]


def _plain(settings: Mapping[str, object]) -> tuple[float | None, str | None]:
    """Return the bits of a weight; the name is the method's."""
    if settings.get("load_in_4bit") is True:
        return 4, None
    if settings.get("load_in_8bit") is True:
        return 8, None
    hqq = mapping(mapping(settings.get("quant_config")).get("weight_quant_params"))
    for value in (*(settings.get(key) for key in ("bits", "w_bit", "nbits")), hqq.get("nbits")):
        if number := _number(value):
            return number, None
    word = text_or_none(settings.get("weights")) or ""  # quanto: int4
    return int(word[3:]) if re.fullmatch(r"int\d", word) else None, None


def _fp8(settings: Mapping[str, object]) -> tuple[float | None, str | None]:
    return (4, "FP8+FP4") if settings.get("expert_dtype") == "fp4" else (8, "FP8")


def _mxfp4(_settings: Mapping[str, object]) -> tuple[float | None, str | None]:
    return 4, "MXFP4"


def _mlx(settings: Mapping[str, object]) -> tuple[float | None, str | None]:
    bits, mode = _number(settings.get("bits")), text_or_none(settings.get("mode"))
    return bits, f"MLX-{mode}".upper() if mode not in (None, "affine") else None


def _aqlm(settings: Mapping[str, object]) -> tuple[float | None, str | None]:
    keys = ("num_codebooks", "nbits_per_codebook", "in_group_size")
    books, width, size = (count_or_none(settings.get(key)) or 0 for key in keys)
    return (books * width / size if size else 0) or None, None


def _groups(settings: Mapping[str, object]) -> tuple[float | None, str | None]:
    """Return the bits and the name of compressed-tensors' groups of modules."""
    names: dict[str, None] = {}
    packed: set[int] = set()
    for group in mapping(settings.get("config_groups")).values():
        weights = mapping(mapping(group).get("weights"))
        bits = count_or_none(weights.get("num_bits"))
        layout = mapping(group).get("format") or settings.get("format")
        if bits is None:
            continue
        if not (weights.get("type") == "float" and bits == 8):
            packed.add(bits)
        activations = count_or_none(
            mapping(mapping(group).get("input_activations")).get("num_bits")
        )
        names[_scheme(bits, weights, str(layout), activations)] = None
    known = len(packed) == 1 and settings.get("format") != "marlin-24"  # half of it is zeros
    return packed.pop() if known else None, "+".join(names) or None


def _scheme(bits: int, weights: Mapping[str, object], layout: str, activations: int | None) -> str:
    """Return the name of a scheme as compressed-tensors' presets call it: ``W4A16``, ``NVFP4``."""
    if weights.get("type") != "float":
        return f"W{bits}A{activations or 16}"
    if bits != 4:
        return f"FP{bits}"
    is_mx = layout.startswith("mxfp4") or weights.get("group_size") == 32
    return "MXFP4" if is_mx and not layout.startswith("nvfp4") else "NVFP4"


def _modelopt(settings: Mapping[str, object]) -> tuple[float | None, str | None]:
    """Return the name of ModelOpt's algorithm; of a mixture those of its layers."""
    algorithm = text_or_none(settings.get("quant_algo"))
    if algorithm and algorithm.upper() != "MIXED_PRECISION":
        return None, algorithm.upper()
    layers = mapping(settings.get("quantized_layers")).values()
    names = {text_or_none(mapping(layer).get("quant_algo")) or "" for layer in layers} - {""}
    return None, "+".join(sorted(names)).upper() or _groups(settings)[1] or algorithm


def _quark(settings: Mapping[str, object]) -> tuple[float | None, str | None]:
    weight = mapping(settings.get("global_quant_config")).get("weight")
    if isinstance(weight, list):
        weight = next(iter(weight), None)
    dtype = (text_or_none(mapping(weight).get("dtype")) or "").lower()
    match = re.match(r"(?:mx_?)?u?[a-z]+(\d)", dtype)
    if match is None:
        return None, None
    name = match[0].upper()
    if name == "FP4" and mapping(weight).get("group_size") == 32:
        name = "MXFP4"
    return int(match[1]), f"QUARK-{name}"


_TORCHAO = re.compile(r"(u?int|float|fp)_?(\d)", re.IGNORECASE)


def _torchao(settings: Mapping[str, object]) -> tuple[float | None, str | None]:
    kind = settings.get("quant_type")
    if not isinstance(kind, str):
        kind = mapping(mapping(kind).get("default")).get("_type")
    text = text_or_none(kind) or ""
    words = [*_TORCHAO.finditer(text)]
    if not words:
        return None, None
    number = words[-1]  # activations come first: Int8DynamicActivationInt4Weight
    return int(number[2]), f"TORCHAO-{number[1]}{number[2]}".upper()


_READERS = {
    "aqlm": _aqlm,
    "compressed-tensors": _groups,
    "fp8": _fp8,
    "mlx": _mlx,
    "modelopt": _modelopt,
    "mxfp4": _mxfp4,
    "quark": _quark,
    "torchao": _torchao,
}
"""The readers of settings, by method, that differ from `_plain`: bits of a weight, and a name."""


def beside_config(name: str, content: Mapping[str, object]) -> dict[str, object]:
    """Return the settings in a quantizer's own file, as they would stand in ``config.json``."""
    if name == "hf_quant_config.json":  # ModelOpt, before it wrote into config.json
        return {"quant_method": "modelopt", **mapping(content.get("quantization"))}
    if "w_bit" in content:  # quant_config.json of AutoAWQ
        return {"quant_method": "awq", "group_size": content.get("q_group_size"), **content}
    return {"quant_method": "gptq", **content} if "bits" in content else {}


QUANTIZER_FILES = ("hf_quant_config.json", "quantize_config.json", "quant_config.json")
"""The files that quantizers wrote beside ``config.json``: ModelOpt, AutoGPTQ, AutoAWQ."""
