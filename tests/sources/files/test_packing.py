"""Each quantizer's own layout of one layer, counted and named."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.found import Found
from modelstore.sources.base import Context, Target
from modelstore.sources.files import directory
from modelstore.sources.files.packing import PACKINGS, declared_quantization, parameter_count
from modelstore.sources.files.safetensors_header import DTYPE_BITS

if TYPE_CHECKING:
    from pathlib import Path

OUT, IN = 512, 256
COUNT = OUT * IN
Tensors = dict[str, tuple[str, tuple[int, ...]]]


@dataclass(frozen=True)
class Layout:
    """A layer as a quantizer writes it: its tensors by suffix, and the configuration."""

    tensors: Tensors
    config: dict[str, Any]
    label: str
    count: int | None = COUNT
    beside: tuple[str, dict[str, Any]] | None = None


def gptq(bits: int, **more: Any) -> Layout:
    tensors: Tensors = {
        ".qweight": ("I32", (IN * bits // 32, OUT)),
        ".qzeros": ("I32", (IN // 64, OUT * bits // 32)),
        ".scales": ("F16", (IN // 64, OUT)),
        ".g_idx": ("I32", (IN,)),
    }
    told = {"quant_method": "gptq", "bits": bits, "group_size": 64, **more}
    return Layout(tensors, {"quantization_config": told}, f"GPTQ-{bits}bit")


def awq() -> Layout:
    tensors: Tensors = {
        ".qweight": ("I32", (IN, OUT // 8)),
        ".qzeros": ("I32", (IN // 128, OUT // 8)),
        ".scales": ("F16", (IN // 128, OUT)),
    }
    told = {"quant_method": "awq", "bits": 4, "group_size": 128}
    return Layout(tensors, {"quantization_config": told}, "AWQ-4bit")


def group(
    bits: int, number: str = "int", activations: int | None = None, **more: Any
) -> dict[str, Any]:
    told = {"num_bits": activations, "type": number} if activations else None
    return {
        "input_activations": told,  # named first, as their writer does
        "targets": ["Linear"],
        "weights": {"num_bits": bits, "type": number, "group_size": 32},
        **more,
    }


def compressed(tensors: Tensors, label: str, layout: str, *groups: dict[str, Any]) -> Layout:
    told = {
        "quant_method": "compressed-tensors",
        "format": layout,
        "config_groups": {f"group_{n}": one for n, one in enumerate(groups)},
    }
    return Layout(tensors, {"quantization_config": told}, label)


def words(bits: int) -> Tensors:
    per_word = 32 // bits
    return {
        ".weight_packed": ("I32", (OUT, -(-IN // per_word))),
        ".weight_scale": ("BF16", (OUT, IN // 32)),
        ".weight_shape": ("I64", (2,)),
    }


NVFP4: Tensors = {
    ".weight_packed": ("U8", (OUT, IN // 2)),
    ".weight_scale": ("F8_E4M3", (OUT, IN // 16)),
    ".weight_global_scale": ("F32", (1,)),
    ".input_global_scale": ("F32", (1,)),
}
FP8: Tensors = {".weight": ("F8_E4M3", (OUT, IN)), ".weight_scale": ("BF16", (OUT, 1))}
MODELOPT: Tensors = {
    ".weight": ("U8", (OUT, IN // 2)),
    ".weight_scale": ("F8_E4M3", (OUT, IN // 16)),
    ".weight_scale_2": ("F32", ()),
    ".input_scale": ("F32", ()),
}


def mlx(bits: int, **more: Any) -> Layout:
    tensors: Tensors = {
        ".weight": ("U32", (OUT, IN * bits // 32)),
        ".scales": ("BF16", (OUT, IN // 64)),
        ".biases": ("BF16", (OUT, IN // 64)),
    }
    told = {"group_size": 64, "bits": bits, **more}
    return Layout(tensors, {"quantization": told, "quantization_config": told}, f"MLX-{bits}bit")


def mixed_mlx() -> Layout:
    """One layer of 4 bits and one of 6, as ``mixed_4_6`` writes them."""
    four, six = mlx(4).tensors, mlx(6).tensors
    tensors = four | {f".other{suffix}": what for suffix, what in six.items()}
    told = {"group_size": 64, "bits": 4, "layer.other": {"group_size": 64, "bits": 6}}
    return Layout(tensors, {"quantization": told}, "MLX-4bit", 2 * COUNT)


def exl2(*bits: int) -> Layout:
    """Rows of several widths in one layer, which ExLlamaV2 packs one below the other."""
    rows = sum(IN // len(bits) * width // 32 for width in bits)
    tensors: Tensors = {
        ".q_weight": ("I32", (rows, OUT)),
        ".q_scale": ("I32", (IN // 32, OUT // 8)),
        ".q_scale_max": ("F16", (IN // 32,)),
        ".q_groups": ("I16", (IN // 32 * 2,)),
        ".q_invperm": ("I32", (IN,)),
    }
    told = {"quant_method": "exl2", "bits": 4.25, "head_bits": 6}
    return Layout(tensors, {"quantization_config": told}, "EXL2-4.25bit")


def exl3() -> Layout:
    tensors: Tensors = {
        ".trellis": ("I16", (IN // 16, OUT // 16, 16 * 3)),
        ".suh": ("F16", (IN,)),
        ".svh": ("F16", (OUT,)),
        ".mcg": ("I32", ()),
    }
    told = {"quant_method": "exl3", "bits": 3.0, "head_bits": 6}
    return Layout(tensors, {"quantization_config": told}, "EXL3-3bit")


def hqq(bits: int) -> Layout:
    tensors: Tensors = {
        ".W_q": ("U8", (COUNT // 64 * bits // 8, 64)),
        ".scale": ("BF16", (COUNT // 64, 1)),
        ".zero": ("BF16", (COUNT // 64, 1)),
    }
    told = {"weight_quant_params": {"nbits": bits, "group_size": 64}}
    config = {"quantization_config": {"quant_method": "hqq", "quant_config": told}}
    return Layout(tensors, config, f"HQQ-{bits}bit")


def aqlm() -> Layout:
    tensors: Tensors = {
        ".codes": ("I16", (OUT, IN // 8, 2)),
        ".codebooks": ("F16", (2, 256, 1, 8)),
        ".scales": ("F16", (OUT, 1, 1, 1)),
    }
    told = {"in_group_size": 8, "out_group_size": 1, "num_codebooks": 2, "nbits_per_codebook": 8}
    return Layout(tensors, {"quantization_config": {"quant_method": "aqlm", **told}}, "AQLM-2bit")


def torchao(kind: object, dtype: str, size: int, label: str) -> Layout:
    tensors: Tensors = {
        "._weight_qdata": (dtype, (OUT, size)),
        "._weight_scale": ("BF16", (IN // 128, OUT)),
        "._weight_zero_point": ("BF16", (IN // 128, OUT)),
    }
    return Layout(
        tensors, {"quantization_config": {"quant_method": "torchao", "quant_type": kind}}, label
    )


def quark(dtype: str, tensors: Tensors, label: str, **more: Any) -> Layout:
    told = {"quant_method": "quark", "global_quant_config": {"weight": {"dtype": dtype, **more}}}
    return Layout(tensors, {"quantization_config": told}, label)


def method(name: str, tensors: Tensors, label: str, **more: Any) -> Layout:
    return Layout(tensors, {"quantization_config": {"quant_method": name, **more}}, label)


NF4: Tensors = {
    ".weight": ("U8", (COUNT // 2, 1)),
    ".weight.absmax": ("U8", (COUNT // 64,)),
    ".weight.quant_map": ("F32", (16,)),
    ".weight.nested_absmax": ("F32", (COUNT // 64 // 256,)),
    ".weight.nested_quant_map": ("F32", (256,)),
    ".weight.quant_state.bitsandbytes__nf4": ("U8", (90,)),
}
BYTES: Tensors = {".weight": ("I8", (OUT, IN)), ".weight_scale": ("F32", (OUT, 1))}
INT8: Tensors = {
    ".weight": ("I8", (OUT, IN)),
    ".SCB": ("F32", (OUT,)),
    ".weight_format": ("U8", ()),
}
BLOCKS: Tensors = {"_blocks": ("U8", (OUT, IN // 32, 16)), "_scales": ("U8", (OUT, IN // 32))}
FP4_EXPERTS: Tensors = {
    ".weight": ("F8_E4M3", (OUT, IN)),
    ".scale": ("F8_E8M0", (OUT // 128, IN // 128)),
    ".experts.0.weight": ("I8", (OUT, IN // 2)),
    ".experts.0.scale": ("F8_E8M0", (OUT, IN // 32)),
}
MX: Tensors = {".weight": ("U8", (OUT, IN // 2)), ".weight_scale": ("U8", (OUT, IN // 32))}
INT4 = {"default": {"_type": "Int4WeightOnlyConfig", "_data": {"group_size": 128}}}
INT8_INT4 = {"default": {"_type": "Int8DynamicActivationInt4WeightConfig"}}

LAYOUTS = {
    **{f"gptq-{bits}": gptq(bits) for bits in range(2, 9)},
    "gptq-mixed": gptq(4, dynamic={"+:.*": {"bits": 8}}),
    "gptq-old": Layout(
        gptq(4).tensors, {}, "GPTQ-4bit", beside=("quantize_config.json", {"bits": 4})
    ),
    "auto-round": Layout(
        gptq(4).tensors,
        {"quantization_config": {"quant_method": "intel/auto-round", "bits": 4}},
        "AUTO-ROUND-4bit",
    ),
    "awq": awq(),
    "awq-old": Layout(awq().tensors, {}, "AWQ-4bit", beside=("quant_config.json", {"w_bit": 4})),
    "bitnet": method("bitnet", {".weight": ("U8", (OUT // 4, IN))}, "BITNET"),
    "bitsandbytes-4": method("bitsandbytes", NF4, "BITSANDBYTES-4bit", load_in_4bit=True),
    "bitsandbytes-8": method("bitsandbytes", INT8, "BITSANDBYTES-8bit", load_in_8bit=True),
    "w4a16": compressed(words(4), "W4A16", "pack-quantized", group(4)),
    "w8a16": compressed(words(8), "W8A16", "pack-quantized", group(8)),
    "w4a8": compressed(words(4), "W4A8", "pack-quantized", group(4, activations=8)),
    "w8a8": compressed(BYTES, "W8A8", "int-quantized", group(8, activations=8)),
    "fp8-ct": compressed(FP8, "FP8", "float-quantized", group(8, "float", 8)),
    "nvfp4-ct": compressed(NVFP4, "NVFP4", "nvfp4-pack-quantized", group(4, "float", 4)),
    "mxfp4-ct": compressed(NVFP4, "MXFP4", "mxfp4-pack-quantized", group(4, "float")),
    "nvfp4+fp8-ct": Layout(
        NVFP4 | {f".other{suffix}": what for suffix, what in FP8.items()},
        compressed(
            {},
            "",
            "mixed-precision",
            group(4, "float", 4, format="nvfp4-pack-quantized"),
            group(8, "float", 8, format="float-quantized"),
        ).config,
        "NVFP4+FP8",
        2 * COUNT,
    ),
    "sparse-ct": Layout(words(4), compressed({}, "", "marlin-24", group(4)).config, "W4A16", None),
    "nested": Layout(
        words(4), {"text_config": compressed({}, "", "pack-quantized", group(4)).config}, "W4A16"
    ),
    "eetq": method("eetq", BYTES, "EETQ"),
    "exl2": exl2(4, 5),
    "exl3": exl3(),
    "fp8": method(
        "fp8", {".weight": ("F8_E4M3", (OUT, IN)), ".weight_scale_inv": ("F32", (4, 2))}, "FP8"
    ),
    "fp4-experts": Layout(
        FP4_EXPERTS,
        {"quantization_config": {"quant_method": "fp8"}, "expert_dtype": "fp4"},
        "FP8+FP4",
        2 * COUNT,
    ),
    **{f"hqq-{bits}": hqq(bits) for bits in (1, 2, 4, 8)},
    **{f"mlx-{bits}": mlx(bits) for bits in (2, 3, 4, 6, 8)},
    "mlx-mixed": mixed_mlx(),
    "mlx-mxfp4": Layout(
        {".weight": ("U32", (OUT, IN // 8)), ".scales": ("U8", (OUT, IN // 32))},
        {"quantization": {"group_size": 32, "bits": 4, "mode": "mxfp4"}},
        "MLX-MXFP4",
    ),
    "modelopt": method("modelopt", MODELOPT, "NVFP4", quant_algo="NVFP4"),
    "modelopt-old": Layout(
        MODELOPT,
        {},
        "NVFP4",
        beside=("hf_quant_config.json", {"quantization": {"quant_algo": "NVFP4"}}),
    ),
    "modelopt-mixed": Layout(
        MODELOPT | {f".other{suffix}": what for suffix, what in FP8.items()},
        {
            "quantization_config": {
                "quant_method": "modelopt",
                "quant_algo": "MIXED_PRECISION",
                "quantized_layers": {"a": {"quant_algo": "FP8"}, "b": {"quant_algo": "NVFP4"}},
            }
        },
        "FP8+NVFP4",
        2 * COUNT,
    ),
    "mxfp4": method("mxfp4", BLOCKS, "MXFP4"),
    "quanto-8": method(
        "quanto",
        {".weight._data": ("I8", (OUT, IN)), ".weight._scale": ("F16", (OUT, 1))},
        "QUANTO-8bit",
        weights="int8",
    ),
    "quanto-4": method(
        "quanto",
        {
            ".weight._data._data": ("U8", (OUT // 2, IN)),
            ".weight._scale": ("F16", (OUT, 2)),
            ".weight._shift": ("F16", (OUT, 2)),
        },
        "QUANTO-4bit",
        weights="int4",
    ),
    "quark-fp8": quark("fp8_e4m3", FP8, "QUARK-FP8"),
    "quark-mxfp4": quark("fp4", MX, "QUARK-MXFP4", group_size=32),
    "quark-int4": quark(
        "uint4",
        {".weight": ("I32", (IN, OUT // 8)), ".weight_scale": ("F16", (IN // 128, OUT))},
        "QUARK-UINT4",
    ),
    "torchao-int4": torchao(INT4, "U8", IN // 2, "TORCHAO-INT4"),
    "torchao-int8": torchao("int8_weight_only", "I8", IN, "TORCHAO-INT8"),
    "torchao-int8-int4": torchao(INT8_INT4, "I8", IN, "TORCHAO-INT4"),
    "aqlm": aqlm(),
    "unknown": method(
        "vptq",
        {".indices": ("I32", (OUT, IN // 16))},
        "VPTQ",
    ),
    "modelopt-experts": method(
        "modelopt",
        {
            ".experts.gate_up_proj": ("U8", (4, OUT // 4, IN // 2)),
            ".experts.gate_up_proj_weight_scale": ("F8_E4M3", (4, OUT // 4, IN // 16)),
            ".experts.gate_up_proj_weight_scale_2": ("F32", (4,)),
        },
        "NVFP4",
        quant_algo="NVFP4",
    ),
    "mlx-mixed-groups": Layout(
        {
            ".weight": ("U32", (OUT, IN // 8)),
            ".scales": ("U8", (OUT, IN // 32)),
            ".other.weight": ("U32", (OUT, IN // 4)),
            ".other.scales": ("BF16", (OUT, IN // 64)),
            ".other.biases": ("BF16", (OUT, IN // 64)),
        },
        {
            "quantization": {
                "group_size": 32,
                "bits": 4,
                "mode": "mxfp4",
                "model.layers.0.up_proj.other": {"group_size": 64, "bits": 8},
            }
        },
        "MLX-MXFP4",
        2 * COUNT,
    ),
    "comfyui-nvfp4": Layout(MODELOPT | {".comfy_quant": ("U8", (30,))}, {}, "NVFP4"),
    "gpt-oss-original": Layout(
        {".blocks": ("U8", (OUT, IN // 32, 16)), ".scales": ("U8", (OUT, IN // 32))}, {}, "MXFP4"
    ),
    "undeclared": Layout({".weight": ("U8", (OUT, IN // 2))}, {}, "U8", None),
}
LAYOUTS["unknown"] = Layout(LAYOUTS["unknown"].tensors, LAYOUTS["unknown"].config, "VPTQ", None)


def write(folder: Path, layout: Layout) -> None:
    header: dict[str, Any] = {}
    size = 0
    tensors = {f"model.layers.0.up_proj{suffix}": what for suffix, what in layout.tensors.items()}
    for name, (dtype, shape) in {**tensors, "norm.weight": ("BF16", (IN,))}.items():
        end = size + prod(shape) * DTYPE_BITS[dtype] // 8
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [size, end]}
        size = end
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(size))
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", **layout.config}))
    if layout.beside:
        (folder / layout.beside[0]).write_text(json.dumps(layout.beside[1]))


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_layout_of_a_quantizer_is_counted_and_named(name: str, tmp_path: Path) -> None:
    layout = LAYOUTS[name]
    write(tmp_path, layout)
    context = Context(host="box", now="2026-11-22T20:00:00Z")
    (item,) = directory.SOURCES["directory"].read(Target(str(tmp_path)), context)
    assert isinstance(item, Found)
    right = None if layout.count is None else layout.count + IN
    assert (item.model.quantization, item.model.parameter_count) == (layout.label, right)


def test_every_packing_of_the_table_has_a_layout() -> None:
    tested = {
        declared.method
        for layout in LAYOUTS.values()
        if (declared := declared_quantization(layout.config)) is not None
    }
    assert tested >= PACKINGS.keys()
    assert all(packing.source for packing in PACKINGS.values())


_keys = st.sampled_from(
    [
        *("quant_method", "bits", "group_size", "format", "config_groups", "weights", "num_bits"),
        *("type", "quant_algo", "quantized_layers", "global_quant_config", "dtype", "quant_type"),
        *("mode", "num_codebooks", "in_group_size", "nbits_per_codebook", "dynamic", "nbits"),
    ]
)
_values = (
    st.none()
    | st.booleans()
    | st.integers(-2, 70)
    | st.floats()
    | st.sampled_from([*PACKINGS, "aqlm", "exl2", "exl3", "float", "int4", "fp4"])
)
_json = st.recursive(
    _values,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=6),
    max_leaves=12,
)
_parts = st.sampled_from(["weight", "qweight", "scales", "codes", "trellis", "W_q", "_data"])


@given(
    settings=st.dictionaries(_keys, _json, max_size=8),
    elements=st.dictionaries(
        st.tuples(st.sampled_from(sorted(DTYPE_BITS)), _parts), st.integers(0, 1 << 50)
    ),
)
def test_whatever_is_declared_is_counted_or_unknown(
    settings: dict[str, Any], elements: dict[tuple[str, str], int]
) -> None:
    declared = declared_quantization({"quantization_config": settings})
    count = parameter_count(elements, {}, declared)
    assert count is None or count >= 0
    assert declared is None or 0 < len(declared.label) <= 40
