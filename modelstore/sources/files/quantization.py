"""GGML's tensor types and file types, and the name of a GGUF model's quantization."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_Q4_2 = 4  # removed from llama.cpp before GGUF began; Ollama took the number for MXFP4

GGML_TYPES: dict[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    _Q4_2: ("MXFP4", 32, 17),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 40),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    36: ("I2_S", 1, 0),
    39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36),
    41: ("Q1_0", 128, 18),
    42: ("Q2_0", 64, 18),
    # ik_llama.cpp alone. A row of some of these also has a scale, which is not counted here.
    133: ("Q6_0", 32, 26),
    134: ("IQ1_BN", 64, 13),
    135: ("IQ2_BN", 64, 16),
    137: ("IQ2_K", 256, 76),
    138: ("IQ3_K", 256, 110),
    139: ("IQ4_K", 256, 144),
    140: ("IQ5_K", 256, 176),
    141: ("IQ6_K", 256, 212),
    144: ("IQ4_KS", 256, 136),
    145: ("IQ2_KS", 256, 70),
    146: ("IQ4_KSS", 256, 128),
    151: ("Q8_KV", 32, 32),
    152: ("IQ5_KS", 256, 168),
    153: ("IQ2_KT", 256, 68),
    154: ("IQ3_KT", 256, 100),
    155: ("IQ4_KT", 256, 128),
    156: ("IQ3_KS", 256, 102),
    157: ("IQ2_KL", 256, 86),
    158: ("IQ1_KT", 256, 56),
    # Its rows interleaved, by four or eight or sixteen.
    202: ("Q4_0_R8", 32, 18),
    206: ("Q5_0_R4", 32, 22),
    208: ("Q8_0_R8", 32, 34),
    210: ("Q2_K_R4", 256, 84),
    211: ("Q3_K_R4", 256, 110),
    212: ("Q4_K_R4", 256, 144),
    213: ("Q5_K_R4", 256, 176),
    214: ("Q6_K_R4", 256, 210),
    216: ("IQ2_XXS_R4", 256, 66),
    217: ("IQ2_XS_R4", 256, 74),
    218: ("IQ3_XXS_R4", 256, 98),
    219: ("IQ1_S_R4", 32, 6),
    220: ("IQ4_NL_R4", 32, 18),
    221: ("IQ3_S_R4", 256, 110),
    222: ("IQ2_S_R4", 256, 82),
    223: ("IQ4_XS_R8", 256, 136),
    229: ("IQ1_M_R4", 32, 7),
    230: ("BF16_R16", 1, 2),
    233: ("Q6_0_R4", 32, 26),
    335: ("IQ2_BN_R4", 64, 16),
    337: ("IQ2_K_R4", 256, 76),
    338: ("IQ3_K_R4", 256, 110),
    339: ("IQ4_K_R4", 256, 144),
    340: ("IQ5_K_R4", 256, 176),
    344: ("IQ4_KS_R4", 256, 136),
    352: ("IQ5_KS_R4", 256, 168),
    353: ("MXFP4_R8", 32, 17),
    397: ("Q8_K_R16", 256, 258),
    398: ("Q8_KV_R8", 32, 32),
    399: ("Q8_K_R8", 256, 258),
}
"""Name, elements a block and bytes a block of each ``ggml_type``; 0 bytes: unknown.

Up to 42 as in llama.cpp's ggml.h and ggml-common.h, but for 4, which is MXFP4 in Ollama's
fs/ggml/type.go, and 36, which is Microsoft's BitNet. From 133 on as in ik_llama.cpp's ggml.h,
ggml.c and ggml-common.h.
"""

FILE_TYPES: dict[int, str] = {
    0: "F32",
    1: "F16",
    2: "Q4_0",
    3: "Q4_1",
    4: "Q4_1_F16",
    7: "Q8_0",
    8: "Q5_0",
    9: "Q5_1",
    10: "Q2_K",
    11: "Q3_K_S",
    12: "Q3_K_M",
    13: "Q3_K_L",
    14: "Q4_K_S",
    15: "Q4_K_M",
    16: "Q5_K_S",
    17: "Q5_K_M",
    18: "Q6_K",
    19: "IQ2_XXS",
    20: "IQ2_XS",
    21: "Q2_K_S",
    22: "IQ3_XS",
    23: "IQ3_XXS",
    24: "IQ1_S",
    25: "IQ4_NL",
    26: "IQ3_S",
    27: "IQ3_M",
    28: "IQ2_S",
    29: "IQ2_M",
    30: "IQ4_XS",
    31: "IQ1_M",
    32: "BF16",
    33: "Q4_0_4_4",
    34: "Q4_0_4_8",
    35: "Q4_0_8_8",
    36: "TQ1_0",
    37: "TQ2_0",
    38: "MXFP4_MOE",
    39: "NVFP4",
    40: "Q1_0",
    41: "Q2_0",
    # ik_llama.cpp alone.
    135: "Q6_0",
    136: "IQ1_BN",
    137: "IQ2_BN",
    138: "IQ2_K",
    139: "IQ3_K",
    140: "IQ4_K",
    141: "IQ5_K",
    142: "IQ6_K",
    145: "IQ4_KS",
    146: "IQ3_KL",
    147: "IQ2_KS",
    148: "IQ4_KSS",
    149: "Q8_KV",
    150: "IQ5_KS",
    151: "IQ2_KT",
    152: "IQ3_KT",
    153: "IQ4_KT",
    154: "IQ3_KS",
    155: "IQ2_KL",
    156: "IQ1_KT",
    202: "Q4_0_R8",
    207: "Q8_0_R8",
    208: "Q5_0_R4",
    210: "Q2_K_R4",
    211: "Q3_K_R4",
    214: "Q4_K_R4",
    216: "Q5_K_R4",
    218: "Q6_K_R4",
    219: "IQ2_XXS_R4",
    220: "IQ2_XS_R4",
    223: "IQ3_XXS_R4",
    224: "IQ1_S_R4",
    225: "IQ4_NL_R4",
    226: "IQ3_S_R4",
    229: "IQ2_M_R4",
    230: "IQ4_XS_R8",
    231: "IQ1_M_R4",
    232: "BF16_R16",
    335: "Q6_0_R4",
    337: "IQ2_BN_R4",
    338: "IQ2_K_R4",
    339: "IQ3_K_R4",
    340: "IQ4_K_R4",
    341: "IQ5_K_R4",
    345: "IQ4_KS_R4",
    350: "IQ5_KS_R4",
    351: "MXFP4_R8",
    398: "Q8_KV_R8",
    399: "Q8_K_R8",
}
"""The names of ``general.file_type``: ``llama_ftype``, other numbers than ggml_type.

From llama.cpp's llama.h, and from ik_llama.cpp's for those from 135 on.
"""

_GUESSED = 1024  # LLAMA_FTYPE_GUESSED: a flag on top of the number


_NAMES = frozenset(FILE_TYPES.values())
_MIX = re.compile(r"UD-.*|.*_X*L")  # the name of a mixture that no file type stands for
_BITS = re.compile(r"\d+")
_INTERLEAVED = re.compile(r"_R\d+$")


def quantization_name(
    file_type: int | None, tensor_types: Mapping[int, int], label: str | None = None
) -> str | None:
    """Return the name of a GGUF model's quantization.

    `tensor_types` maps ggml_type to elements, over all shards. `label` is the quantization that
    the model's own name ends with. The header's file type stands, unless the label names a
    mixture (``UD-Q4_K_XL``, ``Q2_K_L``), or the commonest tensor type agrees with the label and
    contradicts the header. A label that contradicts the tensors is never believed.
    """
    header = _file_type_name(file_type, tensor_types)
    dominant = max(sorted(tensor_types), key=lambda number: tensor_types[number], default=None)
    tensors = GGML_TYPES[dominant][0] if dominant in GGML_TYPES else None
    if label is None or tensors is None or label == header:
        return header or tensors or label
    if _MIX.fullmatch(label) and label not in _NAMES:
        return label if _distance(label, tensors) <= 1 else header or tensors
    if header is None:
        return label if label.startswith(tensors) else tensors
    agrees = _distance(label, tensors) == 0 and label in _NAMES
    return label if agrees and _contradict(header, tensors) else header


def tensor_bytes(tensor_types: Mapping[int, int]) -> int | None:
    """Return the bytes of all tensors, without padding; None if the size of a type is unknown.

    `tensor_types` maps ggml_type to elements. Rows are whole blocks, so the elements are too.
    """
    size = 0
    for number, elements in tensor_types.items():
        if number not in GGML_TYPES:
            return None
        _, block, block_bytes = GGML_TYPES[number]
        size += elements // block * block_bytes
    return size or None


def _file_type_name(file_type: int | None, tensor_types: Mapping[int, int]) -> str | None:
    """Return the name of the header's file type; programs gave two of the numbers twice."""
    if file_type is None:
        return None
    number = file_type & ~_GUESSED
    if number == 4 and (_Q4_2 in tensor_types or 39 in tensor_types):
        return "MXFP4"  # Ollama's; llama.cpp's files of this type hold Q4_1
    if number == 41 and 41 in tensor_types and 42 not in tensor_types:
        return "Q1_0"  # ik_llama.cpp's
    return FILE_TYPES.get(number)


def _contradict(header: str, tensors: str) -> bool:
    """Return True if two names differ in their bits, or in their interleaved rows."""
    interleaved = [_INTERLEAVED.search(name) is not None for name in (header, tensors)]
    return _distance(header, tensors) > 0 or interleaved[0] != interleaved[1]


def _distance(label: str, other: str) -> int:
    """Return by how many bits a weight two names differ."""
    first, second = (_BITS.search(name) for name in (label, other))
    return abs(int(first[0]) - int(second[0])) if first and second else 0
