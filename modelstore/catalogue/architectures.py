"""What is known of the architectures that llama.cpp loads: which layers have which cache.

From llama.cpp b11434 (github.com/ggml-org/llama.cpp, src): ``load_arch_hparams`` of
models/ARCHITECTURE.cpp, and ``create_memory`` of llama-model.cpp. `modelstore.catalogue.memory`
makes bytes of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """The caches of an architecture.

    Of windowed layers, each `every`-th attends to all tokens (the first of them with
    `dense_first`) unless the file has a pattern of its own; with 0 it must have one. `window` is
    their size where the file has none; `fixed_window` is it whatever the file says. `recurrent`
    tells which layers keep a state in place of a cache: ``no heads`` are those without KV heads,
    ``interval`` all but each `every`-th. `indexer` tells which layers have a cache of keys
    more, for sparse attention. `is_compressed` is the attention of DeepSeek V4.
    """

    has_cache: bool = True
    windowed: bool = False
    every: int = 0
    dense_first: bool = False
    needs_window: bool = False
    window: int | None = None
    fixed_window: int | None = None
    windows_from_layers: int = 0  # no windows in a model of another number of layers
    recurrent: Literal["none", "all", "no heads", "interval", "beside", "nemotron"] = "none"
    cached_layers: int | None = None  # later layers use the caches of earlier ones
    indexer: Literal["none", "all", "some", "not leading"] = "none"
    indexer_list_from: int = 1 << 31  # tokens of training from which the file must list them
    is_compressed: bool = False
    has_flash_attention: bool = True


_windows = partial(Architecture, windowed=True)
_needed = partial(_windows, needs_window=True)

_PLAIN = (
    *("apertus", "arcee", "arctic", "baichuan", "bailingmoe", "bailingmoe2", "bitnet", "bloom"),
    *("chameleon", "chatglm", "codeshell", "cogvlm", "command-r", "dbrx", "deci", "deepseek"),
    *("deepseek2", "deepseek2-ocr", "dots1", "ernie4_5", "ernie4_5-moe", "exaone", "falcon"),
    *("gemma", "glm4", "glm4moe", "gpt2", "gptneox", "granite", "granitemoe", "grovemoe"),
    *("hrm_text", "hunyuan-dense", "hunyuan-moe", "hunyuan_vl", "hy_v3", "internlm2"),
    *("jais", "jais2", "llama", "llama-embed", "maincoder", "minicpm", "minicpm3", "minimax-m2"),
    *("mistral3", "mistral4", "mpt", "nanbeige", "nemotron", "olmo", "olmoe", "openelm", "orion"),
    *("paddleocr", "pangu-embedded", "phi2", "phi3", "phimoe", "plamo", "plm", "pockettts"),
    *("qwen", "qwen2", "qwen2moe", "qwen2vl", "qwen3", "qwen3moe", "qwen3tts", "qwen3vl"),
    *("qwen3vlmoe", "refact", "seed_oss"),
    *("smollm3", "stablelm", "starcoder", "starcoder2", "t5", "t5encoder", "talkie", "xverse"),
)
"""Every layer attends to all tokens. (Of phi3, llama.cpp ignores the window.)"""

_WITHOUT_CACHE = (
    *("bert", "dream", "eurobert", "gemma-embedding", "jina-bert-v2", "jina-bert-v3", "llada"),
    *("llada-moe", "modern-bert", "neo-bert", "nomic-bert", "nomic-bert-moe", "rnd1"),
)

ARCHITECTURES: Mapping[str, Architecture] = {
    **dict.fromkeys(_PLAIN, Architecture()),
    **dict.fromkeys(_WITHOUT_CACHE, Architecture(has_cache=False)),
    "afmoe": _windows(every=4),
    "cohere2": _needed(every=4),
    "cohere2moe": _needed(every=4, dense_first=True),
    "exaone-moe": _needed(every=4),
    "exaone4": _windows(every=4, window=4096, windows_from_layers=64),
    "gemma2": _windows(every=2, window=4096),
    "gemma3": _windows(every=6),
    "gemma3n": _needed(every=5, cached_layers=20),
    "gemma4": _needed(),
    "gpt-oss": _needed(every=2),
    "granite_swa": _needed(),
    "laguna": _windows(every=4, dense_first=True),
    "llama4": _windows(every=4, window=8192, fixed_window=8192),
    "maple": _needed(),
    "mellum": _windows(every=4),
    "mimo2": _needed(),
    "muse-glimmer": _needed(every=4),
    "olmo2": _windows(every=4),
    "plamo3": _windows(every=8),
    "smallthinker": _windows(every=4, dense_first=True, fixed_window=4096),
    "spark2_5": _needed(),
    "step35": _needed(),
    **dict.fromkeys(
        ("arwkv7", "mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7"),
        Architecture(has_cache=False, recurrent="all"),
    ),
    **dict.fromkeys(
        ("bailingmoe3", "granitehybrid", "jamba", "kimi-k3", "kimi-linear", "lfm2moe", "plamo2"),
        Architecture(recurrent="no heads"),
    ),
    "grok": Architecture(has_flash_attention=False),
    "lfm2": Architecture(recurrent="no heads", windowed=True, every=1),
    **dict.fromkeys(("nemotron_h", "nemotron_h_moe"), Architecture(recurrent="nemotron")),
    **dict.fromkeys(
        ("qwen35", "qwen35moe", "qwen3next"), Architecture(recurrent="interval", every=4)
    ),
    "minimax-01": Architecture(recurrent="interval", every=8),
    "falcon-h1": Architecture(recurrent="beside"),
    "deepseek32": Architecture(indexer="all"),
    "deepseek4": _needed(is_compressed=True),
    "dots3note": _needed(indexer="some"),
    "glm-dsa": Architecture(indexer="some", indexer_list_from=1 << 20),
    "glm5-next": Architecture(recurrent="no heads", indexer="some"),
    "hy_v4": Architecture(indexer="some"),
    "minimax-m3": Architecture(indexer="not leading"),
}
"""The architectures whose caches are known, by GGUF's names (llama-arch.cpp)."""
