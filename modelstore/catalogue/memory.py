"""The memory that llama.cpp takes for a model at a context: weights, KV cache, recurrent state.

The figures are those of llama-server's own log, for its default options: four slots that share
one cache (or ``--parallel``), physical batches of 512 tokens, flash attention. They follow
llama-kv-cache.cpp, llama-memory-recurrent.cpp and llama-hparams.cpp of llama.cpp b11434
(github.com/ggml-org/llama.cpp, src); `modelstore.catalogue.architectures` says what each layer is.
Compute buffers, projectors, drafts and the server's cache of prompts come on top.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from modelstore.catalogue.architectures import ARCHITECTURES, Architecture
from modelstore.model import MEMORY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelstore.database.handle import Database

_SLOTS = 4  # of a llama-server that is not told how many
_BATCH = 512  # its --ubatch-size
_PADDING = 256  # cells to which a cache is rounded up
_STATE_BYTES = 4  # a number of a recurrent state is a 32-bit float
_MAX_LAYERS = 512  # LLAMA_MAX_LAYERS
MAX_PARALLEL = 256  # LLAMA_MAX_SEQ
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
    """llama-server's options for the cache: ``--ctx-size``, ``--cache-type-k``, ``--parallel``."""

    context: int | None = None  # tokens; None is what the model was trained for
    parallel: int | None = None  # slots that divide the context; None is four that share it
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


def _memory(header: _Header, layout: Architecture, options: CacheOptions) -> Memory:
    weights = _bytes(header.parameters.get("tensor_bytes"))
    weights -= _bytes(header.parameters.get("nextn_bytes"), 0)  # not loaded
    if weights <= 0:
        raise _UnknownError
    context = options.context or header.column("context_length", 0)
    if not 0 < context <= MAX_CONTEXT:
        raise _UnknownError
    slots = _Slots.of(context, options.parallel)
    keys_only = header.is_latent or layout.is_compressed
    if keys_only and options.type_k != options.type_v:
        raise _UnknownError  # llama.cpp refuses it
    if not layout.has_flash_attention and CACHE_TYPES[options.type_v][0] > 1:
        raise _UnknownError
    if layout.is_compressed:
        return Memory(weights, *_compressed(header, slots, options.type_k), slots.context)
    layers = _Layers(header, layout)
    kv_cache = 0
    if layout.has_cache:
        caches = _Caches(header, layers, slots)
        kv_cache = caches.bytes_of("key", options.type_k)
        if not keys_only:
            kv_cache += caches.bytes_of("value", options.type_v)
        kv_cache += caches.indexer_bytes(layout, options)
        kv_cache *= slots.caches
    state = 0
    if layers.recurrent:
        state = len(layers.recurrent) * slots.count * header.state_numbers() * _STATE_BYTES
    return Memory(weights, kv_cache, state, slots.context)


@dataclass(frozen=True, slots=True)
class _Slots:
    """The sequences that a server answers at once, and their caches (llama-context.cpp)."""

    count: int
    caches: int  # one for all, or one each
    cells: int  # of one cache

    @classmethod
    def of(cls, context: int, parallel: int | None) -> _Slots:
        """Return the slots for so many tokens in all."""
        if parallel is None:
            return cls(_SLOTS, 1, _padded(context))
        return cls(parallel, parallel, _padded(_padded(context) // parallel))

    @property
    def context(self) -> int:
        """The tokens of all caches."""
        return self.caches * self.cells

    def window_cells(self, window: int) -> int:
        """Return the cells of the cache of a layer with a window (llama-kv-cache-iswa.cpp)."""
        sharing = self.count if self.caches == 1 else 1
        return _padded(min(self.cells, window * sharing + _BATCH))


def _row_bytes(length: int, cache_type: str) -> int:
    """Return the bytes of a head's key or value. Raises if llama.cpp refuses such a cache."""
    block, size = CACHE_TYPES[cache_type]
    if length % block:
        raise _UnknownError
    return length // block * size


def _compressed(header: _Header, slots: _Slots, cache_type: str) -> tuple[int, int]:
    """Return the bytes of the caches of DeepSeek V4, and of the states of its compressors.

    Each slot has caches of its own (llama-kv-cache-dsv4.cpp): a window of keys in every layer,
    one key for 4 or 128 tokens in some, and with those of 4 the keys of the indexer.
    """
    ratios = header.value("attention.compress_ratios")
    if not isinstance(ratios, list) or len(ratios) < header.layers:
        raise _UnknownError
    length = header.head_length("key", windowed=True)
    indexer = header.number("attention.indexer.key_length")
    key, indexer_key = _row_bytes(length, cache_type), _row_bytes(indexer, cache_type)
    fine, coarse = ratios[: header.layers].count(4), ratios[: header.layers].count(128)
    own = _Slots(slots.count, slots.count, slots.cells)  # even where others would share
    window = own.window_cells(header.number("attention.sliding_window"))
    kv_cache = window * sum(header.heads_kv) * key
    kv_cache += fine * _padded(-(-own.cells // 4)) * (header.heads_kv[0] * key + indexer_key)
    kv_cache += coarse * _padded(-(-own.cells // 128)) * header.heads_kv[0] * key
    state = fine * 8 * 2 * (length + indexer) + coarse * 128 * length  # of keys, and of scores
    return own.count * kv_cache, own.count * state * 2 * _STATE_BYTES


def _bytes(value: object, default: int | None = None) -> int:
    if value is None and default is not None:
        return default
    if not isinstance(value, int) or not 0 <= value <= _INT64_MAX:
        raise _UnknownError
    return value


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
        loops = self.number("num_loops", 1)  # the layers are run again, with caches of their own
        if not 0 < loops * self.layers <= _MAX_LAYERS:
            raise _UnknownError
        self.heads_kv *= loops
        self.layers, self.trunk = self.layers * loops, self.trunk * loops
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

    def __init__(self, header: _Header, layout: Architecture) -> None:
        self.recurrent = _recurrent(header, layout)
        self.window = _window(header, layout)
        windowed = _windowed(header, layout) if self.window is not None else set()
        self.windowed = windowed - self.recurrent
        self.cached = _cached(header, layout, self.recurrent)


def _recurrent(header: _Header, layout: Architecture) -> set[int]:
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


def _cached(header: _Header, layout: Architecture, recurrent: set[int]) -> list[int]:
    if layout.recurrent == "beside":
        return list(range(header.layers))
    if layout.recurrent == "nemotron":
        wide = header.feed_forward()
        return [at for at in range(header.layers) if at not in recurrent and not wide[at]]
    if layout.recurrent == "no heads":
        last = header.layers if layout.indexer == "none" else header.trunk
        return [at for at in range(last) if at not in recurrent]
    count = layout.cached_layers
    if count is None:
        count = header.layers - header.number("attention.shared_kv_layers", 0)
    return [at for at in range(min(count, header.trunk or header.layers)) if at not in recurrent]


def _window(header: _Header, layout: Architecture) -> int | None:
    """Return the tokens of a window; None if no layer has one."""
    if not layout.windowed or layout.windows_from_layers not in (0, header.trunk):
        return None
    default = None if layout.needs_window else layout.window or 0
    size = header.number("attention.sliding_window", default)
    return (layout.fixed_window or size) if size else None


def _windowed(header: _Header, layout: Architecture) -> set[int]:
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
    """The cells of each layer, in one of the caches."""

    def __init__(self, header: _Header, layers: _Layers, slots: _Slots) -> None:
        self._header = header
        self._layers = layers
        self._cells = slots.cells
        window = slots.window_cells(layers.window or 0)
        self._cells_of = {
            at: window if at in layers.windowed else slots.cells for at in layers.cached
        }

    def bytes_of(self, which: Literal["key", "value"], cache_type: str) -> int:
        """Return the bytes of all keys or all values."""
        total = 0
        for windowed in (False, True):
            layers = [at for at in self._cells_of if (at in self._layers.windowed) == windowed]
            if layers:
                row = _row_bytes(self._header.head_length(which, windowed=windowed), cache_type)
                total += row * sum(self._header.heads_kv[at] * self._cells_of[at] for at in layers)
        return total

    def indexer_bytes(self, layout: Architecture, options: CacheOptions) -> int:
        """Return the bytes of the caches for sparse attention: one head more in some layers.

        llama-kv-cache-dsa.cpp, llama-memory-hybrid-idx.cpp; with values in llama-kv-cache-msa.cpp.
        """
        header = self._header
        if layout.indexer == "none" or not header.number("attention.indexer.top_k", 1):
            return 0
        length = header.number("attention.indexer.key_length")
        if header.number("attention.indexer.kpool", 0):
            length *= 3  # a key, its gate, and the key of the pool
        row = _row_bytes(length, options.type_k)
        if layout.indexer == "not leading":
            row += _row_bytes(header.head_length("value", windowed=False), options.type_v)
            count = header.layers - header.number("leading_dense_block_count", 0)
        else:
            told = header.flags("attention.indexer.types") if layout.indexer == "some" else None
            if told is None and header.column("context_length", 0) >= layout.indexer_list_from:
                raise _UnknownError
            trunk = [at for at in self._cells_of if at < header.trunk]
            count = sum(told is None or told[at] for at in trunk)
        return max(count, 0) * self._cells * row
