"""The columns and the type that a ``config.json`` gives, or the tensors of a file without one.

The keys are those of transformers (huggingface.co/docs/transformers, "Configuration"), of diffusers
and of timm; ``params.json`` is Mistral's own format (github.com/mistralai/mistral-inference).
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from modelstore.sources.files import naming
from modelstore.sources.values import count_or_none, mapping, text_or_none

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from modelstore.sources.files.safetensors_header import SafetensorsHeader

Json = dict[str, object]

_TEXT_PARTS = (
    *("text_config", "llm_config", "language_config", "thinker_config"),
    *("decoder_config", "decoder"),
)
_COLUMNS = {
    "context_length": (
        "max_position_embeddings",
        "n_positions",
        "max_sequence_length",
        "max_seq_len",
        "seq_length",
    ),
    "embedding_length": ("hidden_size", "n_embd", "d_model", "dim"),
    "block_count": ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "head_count": ("num_attention_heads", "n_head", "n_heads"),
    "head_count_kv": (
        "num_key_value_heads",
        "multi_query_group_num",
        "num_kv_heads",
        "n_kv_heads",
        "n_head_kv",
    ),
    "feed_forward_length": (
        "intermediate_size",
        "n_inner",
        "ffn_dim",
        "ffn_hidden_size",
        "d_ff",
        "hidden_dim",
    ),
    "vocab_size": ("vocab_size", "padded_vocab_size"),
}
_PADDED_POSITIONS = re.compile(
    r"(?:xlm-|data2vec-)?roberta.*|camembert|longformer|mpnet|data2vec-text"
)
"""Models whose positions begin after that of the padding (gguf's XLMRobertaModel)."""

_DRAFT = re.compile(r"Eagle|Medusa|DFlash|Assistant|MTP|Speculator")  # in vLLM's registry
_CLASSIFIER = re.compile(r"For(?:Sequence|Token|Image|Audio)Classification$")
_PIPELINE_PARTS = re.compile(r"(Autoencoder|VQModel)|UNet|Transformer\dD|ControlNet", re.IGNORECASE)
_EMBEDDING_TYPES = re.compile(r".*bert.*|mpnet|electra|t5encoder", re.DOTALL)  # roberta too
_SPEECH = re.compile(r"whisper|moonshine.*|speech_to_text.*|seamless_m4t.*", re.DOTALL)
_SPEECH_CLASSES = re.compile(r"For(?:CTC|RNNT|TDT|SpeechSeq2Seq)$")
_VOCODERS = re.compile(r"dac|encodec|mimi|snac|vocos|xcodec2?|hifigan", re.DOTALL)
_DIFFUSION_TENSORS = re.compile(
    r"(?:model\.)?diffusion_model\.|(?:double|joint)_blocks\."
    r"|t(?:ime)?_(?:in|embed(?:der|ding)?|projection|text_embed)\."
)
"""The beginnings of tensors' names that only a model with time steps has."""
_VAE_TENSORS = re.compile(r"(?:decoder|encoder)\.conv")


def text_parts(config: Mapping[str, object]) -> list[Mapping[str, object]]:
    """Return the objects that describe the language model, the innermost first, then all of it."""
    parts = [config]
    while nested := next(filter(None, (mapping(parts[0].get(key)) for key in _TEXT_PARTS)), None):
        parts.insert(0, nested)
    return parts


def config_columns(config: Mapping[str, object]) -> dict[str, int | None]:
    """Return the columns of counts and lengths."""
    parts = text_parts(config)
    columns = {
        column: next(
            (count for key in keys for part in parts if (count := _greatest(part.get(key)))), None
        )
        for column, keys in _COLUMNS.items()
    }
    if columns["head_count"] is None and "d_kv" in config:  # of T5
        columns["head_count"] = count_or_none(config.get("num_heads"))
    if config.get("multi_query") is True and not config.get("new_decoder_architecture"):
        columns["head_count_kv"] = 1  # Falcon, StarCoder
    columns["head_count_kv"] = columns["head_count_kv"] or columns["head_count"]
    context = columns["context_length"]
    if context and _PADDED_POSITIONS.fullmatch(str(config.get("model_type"))):
        padding = config.get("pad_token_id", 1)
        columns["context_length"] = count_or_none(context - (count_or_none(padding) or 0) - 1)
    return columns


def _greatest(value: object) -> int | None:
    """Return the largest of a number that may differ from layer to layer."""
    if isinstance(value, list):
        return max((count_or_none(item) or 0 for item in value), default=0) or None
    return count_or_none(value)


def class_name(config: Mapping[str, object]) -> str | None:
    """Return the name of the model's class."""
    names = config.get("architectures")
    return text_or_none(names[0] if isinstance(names, list) and names else None)


def architecture(config: Mapping[str, object], header: SafetensorsHeader | None) -> str | None:
    """Return the architecture: of a file alone, that which its metadata name.

    github.com/Stability-AI/ModelSpec
    """
    told = text_or_none(header.metadata.get("modelspec.architecture")) if header else None
    return (
        text_or_none(config.get("model_type"))
        or class_name(config)
        or text_or_none(config.get("_class_name"))
        or text_or_none(config.get("architecture"))  # of timm
        or (told and told.partition("/")[0])
    )


def model_kind(
    directory: str, name: str, config: Mapping[str, object], headers: Sequence[SafetensorsHeader]
) -> str:
    """Return the type of a model in a directory, in the catalogue's words."""
    adapted = sum(header.adapter_elements for header in headers)
    title = class_name(config) or ""
    kind = str(config.get("model_type"))
    part = _PIPELINE_PARTS.search(_part_class(config, headers))
    has_modules = os.path.lexists(os.path.join(directory, "modules.json"))
    rules = (
        ("adapter", "peft_type" in config or 2 * adapted > sum(map(_element_count, headers))),
        ("draft", _DRAFT.search(title) or "speculators_config" in config),
        ("reranker", _CLASSIFIER.search(title) and _gives_one_score(name, config)),
        ("classifier", _CLASSIFIER.search(title)),
        ("classifier", "pretrained_cfg" in config and count_or_none(config.get("num_classes"))),
        ("vae", part and part[1]),
        ("diffusion", part),
        ("speech", _SPEECH.fullmatch(kind) or _SPEECH_CLASSES.search(title)),
        ("vocoder", _VOCODERS.fullmatch(kind) or title.endswith("HifiGan")),
        ("embedding", has_modules),
        ("embedding", _EMBEDDING_TYPES.fullmatch(kind) and title.endswith("Model")),
        # The answers yes and no of a language model are its score.
        ("reranker", title.endswith("ForCausalLM") and "rerank" in name.lower()),
        (naming.sidecar(name.rpartition("/")[2]), True),
        ("model", config),
    )
    told = next((word for word, applies in rules if word and applies), None)
    return told or _kind_of_tensors(headers)


def _part_class(config: Mapping[str, object], headers: Sequence[SafetensorsHeader]) -> str:
    """Return the class of a part of a pipeline: that of diffusers, or nunchaku's in the file."""
    told = text_or_none(config.get("_class_name"))
    return told or (headers[0].metadata.get("model_class", "") if headers else "")


def _element_count(header: SafetensorsHeader) -> int:
    return sum(header.elements.values())


def _kind_of_tensors(headers: Sequence[SafetensorsHeader]) -> str:
    """Return the type of a file without a configuration, as programs for pictures keep them."""
    names = [name for header in headers for name in header.samples]
    if any(map(_DIFFUSION_TENSORS.match, names)):
        return "diffusion"
    return "vae" if any(map(_VAE_TENSORS.match, names)) else "model"


def _gives_one_score(name: str, config: Mapping[str, object]) -> bool:
    """Return True for a classifier of one label: a reranker. Without labels, it has two.

    https://huggingface.co/docs/transformers/main_classes/configuration, ``num_labels``
    """
    labels = config.get("id2label")
    count = len(labels) if isinstance(labels, dict) else config.get("num_labels")
    return count == 1 or (count is None and "rerank" in name.lower())
