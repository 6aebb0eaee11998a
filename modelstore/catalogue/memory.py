"""The memory that llama.cpp takes for a model at a context: weights, KV cache, recurrent state.

The figures are those of llama-server's own log, for its default options: four slots that share
one cache, physical batches of 512 tokens, flash attention. They follow llama.cpp b11434
(github.com/ggml-org/llama.cpp, src): ``create_memory`` of llama-model.cpp chooses the caches,
``load_arch_hparams`` of models/ARCHITECTURE.cpp says what each layer is, llama-kv-cache.cpp and
llama-hparams.cpp give the sizes. Compute buffers, projectors, drafts and the server's cache of
prompts come on top.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from modelstore.model import MEMORY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelstore.database.handle import Database

SLOTS = 4  # llama-server's --parallel, if nothing else is said
_BATCH = 512  # its --ubatch-size
_PADDING = 256  # cells to which a cache is rounded up
_STATE_BYTES = 4  # a number of a recurrent state is a 32-bit float
_MAX_LAYERS = 512  # LLAMA_MAX_LAYERS
_MAX_NUMBER = 1 << 31  # of any value of a header; a file may claim anything
MAX_CONTEXT = 1 << 30  # tokens
_INT64_MAX = (1 << 63) - 1

CACHE_TYPES: dict[str, tuple[int, int]] = {
    "f32": (1, 4),
    "f16": (1, 2),
    "bf16": (1, 2),
    "q8_0": (32, 34),
    "q4_0": (32, 18),
    "q4_1": (32, 20),
    "iq4_nl": (32, 18),
    "q5_0": (32, 22),
    "q5_1": (32, 24),
}
"""The types of a cache: elements and bytes of a block (common/arg.cpp, ``kv_cache_types``)."""

COLUMNS = (
    *("architecture", "block_count", "embedding_length", "head_count", "head_count_kv"),
    *("feed_forward_length", "context_length", "parameters"),
)
"""The columns of a model that its memory is computed from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheOptions:
    """llama-server's options for the cache: ``--ctx-size`` and ``--cache-type-k``, ``-v``."""

    context: int | None = None  # tokens; None is what the model was trained for
    type_k: str = "f16"
    type_v: str = "f16"


@dataclass(frozen=True, slots=True)
class Memory:
    """The bytes of a loaded model. `context_length` is in tokens, rounded up as the cache is."""

    weights: int
    kv_cache: int
    recurrent_state: int
    context_length: int

    @property
    def total(self) -> int:
        """The sum."""
        return self.weights + self.kv_cache + self.recurrent_state


@dataclass(frozen=True, slots=True, kw_only=True)
class _Architecture:
    """The caches of an architecture.

    Of windowed layers, each `every`-th attends to all tokens (the first of them with
    `dense_first`) unless the file has a pattern of its own; with 0 it must have one. `window` is
    their size where the file has none; `fixed_window` is it whatever the file says. `recurrent`
    tells which layers keep a state in place of a cache: ``no heads`` are those without KV heads,
    ``interval`` all but each `every`-th.
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
    indexer: Literal["none", "all", "some"] = "none"  # layers with a cache of keys more
    has_flash_attention: bool = True

    def takes(self, options: CacheOptions, *, is_latent: bool) -> bool:
        """Return True if llama.cpp makes a context with these types of the cache."""
        if is_latent and options.type_k != options.type_v:
            return False
        return self.has_flash_attention or CACHE_TYPES[options.type_v][0] == 1


_windows = partial(_Architecture, windowed=True)
_needed = partial(_windows, needs_window=True)

_PLAIN = (
    *("apertus", "arcee", "arctic", "baichuan", "bailingmoe", "bailingmoe2", "bitnet", "bloom"),
    *("chameleon", "chatglm", "codeshell", "cogvlm", "command-r", "dbrx", "deci", "deepseek"),
    *("deepseek2", "deepseek2-ocr", "dots1", "ernie4_5", "ernie4_5-moe", "exaone", "falcon"),
    *("gemma", "glm4", "glm4moe", "gpt2", "gptneox", "granite", "granitemoe", "grovemoe"),
    *("hrm_text", "hunyuan-dense", "hunyuan-moe", "hunyuan_vl", "hy_v3", "internlm2"),
    *("jais", "jais2", "llama", "llama-embed", "maincoder", "minicpm", "minicpm3", "minimax-m2"),
    *("mistral3", "mistral4", "mpt", "nemotron", "olmo", "olmoe", "openelm", "orion"),
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

ARCHITECTURES: Mapping[str, _Architecture] = {
    **dict.fromkeys(_PLAIN, _Architecture()),
    **dict.fromkeys(_WITHOUT_CACHE, _Architecture(has_cache=False)),
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
        _Architecture(has_cache=False, recurrent="all"),
    ),
    **dict.fromkeys(
        ("bailingmoe3", "granitehybrid", "jamba", "kimi-k3", "kimi-linear", "lfm2moe", "plamo2"),
        _Architecture(recurrent="no heads"),
    ),
    "grok": _Architecture(has_flash_attention=False),
    "lfm2": _Architecture(recurrent="no heads", windowed=True, every=1),
    **dict.fromkeys(("nemotron_h", "nemotron_h_moe"), _Architecture(recurrent="nemotron")),
    **dict.fromkeys(
        ("qwen35", "qwen35moe", "qwen3next"), _Architecture(recurrent="interval", every=4)
    ),
    "minimax-01": _Architecture(recurrent="interval", every=8),
    "falcon-h1": _Architecture(recurrent="beside"),
    "deepseek32": _Architecture(indexer="all"),
    "glm-dsa": _Architecture(indexer="some"),
}
"""The architectures whose caches are known, by GGUF's names (llama-arch.cpp)."""


class _UnknownError(Exception):
    """A value is missing or is none that llama.cpp would load."""


def register_memory(db: Database, options: CacheOptions | None) -> None:
    """Give a connection the SQL function `MEMORY` of `COLUMNS`; NULL where it is unknown."""
    cache = options or CacheOptions()

    def total(*values: object) -> int | None:
        memory = context_memory(dict(zip(COLUMNS, values, strict=True)), cache)
        return None if memory is None else memory.total

    # register_function would count the parameters of the signature: one.
    db.conn.create_function(MEMORY, len(COLUMNS), total)


def context_memory(values: Mapping[str, object], options: CacheOptions) -> Memory | None:
    """Return the memory of a model, given `COLUMNS` of its row; None where it is unknown.

    It is known of GGUF models of `ARCHITECTURES` that llama.cpp would load with these options.
    """
    architecture = values["architecture"]
    layout = ARCHITECTURES.get(architecture) if isinstance(architecture, str) else None
    if layout is None:
        return None
    try:
        header = _Header(str(architecture), values)
        memory = _memory(header, layout, options)
    except _UnknownError:
        return None
    return memory if memory.total <= _INT64_MAX else None


def _memory(header: _Header, layout: _Architecture, options: CacheOptions) -> Memory:
    weights = header.parameters.get("tensor_bytes")
    if not isinstance(weights, int) or isinstance(weights, bool) or weights <= 0:
        raise _UnknownError
    context = options.context or header.column("context_length", 0)
    if not 0 < context <= MAX_CONTEXT:
        raise _UnknownError
    cells = _padded(context)
    if not layout.takes(options, is_latent=header.is_latent):
        raise _UnknownError
    layers = _Layers(header, layout)
    kv_cache = 0
    if layout.has_cache:
        caches = _Caches(header, layout, layers, cells)
        kv_cache = caches.bytes_of("k", options.type_k)
        if not header.is_latent:
            kv_cache += caches.bytes_of("v", options.type_v)
        if layout.indexer != "none":
            kv_cache += caches.indexer_bytes(options.type_k)
    state = 0
    if layers.recurrent:
        state = len(layers.recurrent) * SLOTS * header.state_numbers() * _STATE_BYTES
    return Memory(weights, kv_cache, state, cells)


def _padded(cells: int) -> int:
    return -(-cells // _PADDING) * _PADDING


class _Header:
    """The values of a GGUF header as llama.cpp reads them. Raises `_UnknownError`."""

    def __init__(self, architecture: str, values: Mapping[str, object]) -> None:
        self._values = values
        self._prefix = f"{architecture}."
        self.parameters = _object(values["parameters"])
        if not any(key.startswith(self._prefix) for key in self.parameters):
            raise _UnknownError  # the model is no GGUF file
        self.layers = self.column("block_count")
        if not 0 < self.layers <= _MAX_LAYERS:
            raise _UnknownError
        # The trunk; the last layers guess further tokens, and only a draft of its own uses them.
        self.trunk = self.layers - self.number("nextn_predict_layers", 0)
        if self.trunk < 0:
            raise _UnknownError
        self.embedding = self.column("embedding_length")
        self.heads = self._per_layer("head_count", 0)
        self.heads_kv = self._per_layer("head_count_kv", None) or self.heads
        self.is_latent = bool(
            self.number("attention.key_length_mla", 0)
            and self.number("attention.value_length_mla", 0)
        )

    def value(self, key: str) -> object:
        """Return a value that no column holds; None if the file has none."""
        return self.parameters.get(self._prefix + key)

    def number(self, key: str, default: int | None = None) -> int:
        """Return a number that no column holds."""
        return _number(self.value(key), default)

    def column(self, name: str, default: int | None = None) -> int:
        """Return a number that a column holds."""
        return _number(self._values[name], default)

    def flags(self, key: str) -> list[bool] | None:
        """Return a flag for each layer of the trunk, or more; None if the file has none."""
        value = self.value(key)
        if value is None:
            return None
        if not isinstance(value, list):
            return [bool(_number(value))] * self.layers
        if len(value) < self.trunk:
            raise _UnknownError
        return [bool(_number(item)) for item in value[: self.layers]]

    def _per_layer(self, column: str, default: int | None) -> list[int]:
        """Return the number of each layer; an empty list if the file has none and no default."""
        value = self.value(_ARRAYS[column])
        if isinstance(value, list):
            if len(value) < self.layers:
                raise _UnknownError
            return [_number(item) for item in value[: self.layers]]
        number = self._values[column]
        if number is None and default is None:
            return []
        return [_number(number, default)] * self.layers

    def feed_forward(self) -> list[int]:
        """Return the feed-forward length of each layer."""
        return self._per_layer("feed_forward_length", 0)

    def head_length(self, which: Literal["key", "value"], *, windowed: bool) -> int:
        """Return the elements of a head's key or value."""
        length = self.embedding // self.heads[0] if self.heads[0] else 0
        if self.heads[0] or self._prefix == "plamo2.":
            length = self.number(f"attention.{which}_length", length)
        if windowed:
            length = self.number(f"attention.{which}_length_swa", length)
        return length

    def state_numbers(self) -> int:
        """Return the numbers of one layer's recurrent state (llama-hparams.cpp, n_embd_r, _s)."""
        convolution = self.number("ssm.conv_kernel", 0)
        if head := self.number("wkv.head_size", 0):
            return self.embedding * (self.number("token_shift_count", 2) + head)
        if shift := self.number("shortconv.l_cache", 0):
            return self.embedding * (shift - 1)
        if head := self.number("kda.head_dim", 0):
            before = convolution - 1 if convolution else 3
            return self.heads[0] * head * (3 * before + head)
        if self._prefix == "minimax-01.":
            head = self.head_length("key", windowed=False)
            return head * head * self.heads[0]
        inner = self.number("ssm.inner_size")
        state = self.number("ssm.state_size")
        width = inner + 2 * self.number("ssm.group_count", 0) * state
        return max(convolution - 1, 0) * width + state * inner


_ARRAYS = {
    "head_count": "attention.head_count",
    "head_count_kv": "attention.head_count_kv",
    "feed_forward_length": "feed_forward_length",
}


def _object(text: object) -> dict[str, object]:
    """Return the JSON object of a model's parameters."""
    if isinstance(text, str):
        try:
            text = json.loads(text)
        except (ValueError, RecursionError):
            raise _UnknownError from None
    if not isinstance(text, dict):
        raise _UnknownError
    return text


def _number(value: object, default: int | None = None) -> int:
    if value is None and default is not None:
        return default
    if not isinstance(value, int) or not 0 <= value <= _MAX_NUMBER:
        raise _UnknownError
    return int(value)


class _Layers:
    """The layers that have a cache of their own, those with a window, and the recurrent ones."""

    def __init__(self, header: _Header, layout: _Architecture) -> None:
        self.recurrent = _recurrent(header, layout)
        self.window = _window(header, layout)
        windowed = _windowed(header, layout) if self.window is not None else set()
        self.windowed = windowed - self.recurrent
        self.cached = _cached(header, layout, self.recurrent)


def _recurrent(header: _Header, layout: _Architecture) -> set[int]:
    trunk = range(header.trunk)
    if layout.recurrent in ("all", "beside"):
        return set(trunk)
    if layout.recurrent == "no heads":
        return {layer for layer in trunk if not header.heads_kv[layer]}
    if layout.recurrent == "nemotron":
        wide = header.feed_forward()
        return {layer for layer in trunk if not header.heads_kv[layer] and not wide[layer]}
    if layout.recurrent == "interval":
        told = header.flags("attention.recurrent_layers")
        every = header.number("full_attention_interval", layout.every)
        if not every:
            raise _UnknownError
        return {layer for layer in trunk if (told[layer] if told else (layer + 1) % every)}
    return set()


def _cached(header: _Header, layout: _Architecture, recurrent: set[int]) -> list[int]:
    if layout.recurrent == "beside":
        return list(range(header.layers))
    if layout.recurrent == "nemotron":
        wide = header.feed_forward()
        return [at for at in range(header.layers) if at not in recurrent and not wide[at]]
    if layout.recurrent == "no heads":
        return [at for at in range(header.layers) if at not in recurrent]
    count = layout.cached_layers
    if count is None:
        count = header.layers - header.number("attention.shared_kv_layers", 0)
    return [at for at in range(min(count, header.trunk or header.layers)) if at not in recurrent]


def _window(header: _Header, layout: _Architecture) -> int | None:
    """Return the tokens of a window; None if no layer has one."""
    if not layout.windowed or layout.windows_from_layers not in (0, header.trunk):
        return None
    default = None if layout.needs_window else layout.window or 0
    size = header.number("attention.sliding_window", default)
    return (layout.fixed_window or size) if size else None


def _windowed(header: _Header, layout: _Architecture) -> set[int]:
    """Return the layers with a window (llama-hparams.cpp, set_swa_pattern)."""
    if layout.recurrent == "no heads":
        return set(range(header.trunk))
    key = "attention.sliding_window_pattern"
    if isinstance(header.value(key), list):
        told = header.flags(key) or []
        return {layer for layer, is_windowed in enumerate(told) if is_windowed}
    if not layout.every:
        raise _UnknownError
    every = header.number(key, layout.every)
    dense = 0 if layout.dense_first else every - 1
    return {layer for layer in range(header.trunk) if not every or layer % every != dense}


class _Caches:
    """The cells of each layer's cache."""

    def __init__(self, header: _Header, layout: _Architecture, layers: _Layers, cells: int) -> None:
        self._header = header
        self._layout = layout
        self._layers = layers
        self._cells = cells
        window = _padded(min(cells, (layers.window or 0) * SLOTS + _BATCH))
        self._cells_of = {at: window if at in layers.windowed else cells for at in layers.cached}

    def bytes_of(self, which: Literal["k", "v"], cache_type: str) -> int:
        """Return the bytes of all keys or all values."""
        block, size = CACHE_TYPES[cache_type]
        name: Literal["key", "value"] = "key" if which == "k" else "value"
        total = 0
        for windowed in (False, True):
            length = self._header.head_length(name, windowed=windowed)
            layers = [at for at in self._cells_of if (at in self._layers.windowed) == windowed]
            if layers and length % block:
                raise _UnknownError  # llama.cpp refuses such a cache
            cells = sum(self._header.heads_kv[at] * self._cells_of[at] for at in layers)
            total += cells * (length // block * size)
        return total

    def indexer_bytes(self, cache_type: str) -> int:
        """Return the bytes of the keys of sparse attention (llama-kv-cache-dsa.cpp)."""
        header = self._header
        block, size = CACHE_TYPES[cache_type]
        length = header.number("attention.indexer.key_length")
        if length % block or not header.is_latent:
            raise _UnknownError
        told = header.flags("attention.indexer.types") if self._layout.indexer == "some" else None
        count = header.trunk if told is None else sum(told[: header.trunk])
        return count * self._cells * (length // block * size)
