"""The capabilities of a model, told by its chat template, its metadata and its companions.

The rules for templates are those of Ollama (github.com/ollama/ollama, ``server/images.go`` and
``types/model/capability.go``): a template that names tools can call them, and one that opens and
closes a block of thoughts can think.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from modelstore.model import CAPABILITIES
from modelstore.sources.files.gguf_header import CHAT_TEMPLATE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_TOOLS = re.compile(r"\btools\b|tool_call")
_THINKING = re.compile(
    r"\benable_thinking\b|\[THINK\]|<\|START_THINKING\|>"
    r"|content\.split\((?:'</think>'|\"</think>\")\)"
)
# The sections of a Go template are in braces; the text around them is the model's own.
_GO_TOOLS = re.compile(r"\{\{[^}]*\.(?:Tools|ToolCalls)\b")
_GO_THINKING = re.compile(r"\{\{[^}]*\.(?:Think|Thinking)\b")
_GO_INSERT = re.compile(r"\{\{[^}]*\.Suffix\b")
_SENSES = ("vision", "audio")
_TEMPLATES = frozenset((CHAT_TEMPLATE, CHAT_TEMPLATE + "s"))  # one, or the names of several
_FIM_TOKENS = frozenset(
    (
        *("tokenizer.ggml.fim_pre_token_id", "tokenizer.ggml.fim_suf_token_id"),
        *("tokenizer.ggml.prefix_token_id", "tokenizer.ggml.suffix_token_id"),
    )
)

# Ollama's parsers of what a model writes (github.com/ollama/ollama/tree/main/model/parsers).
_TOOL_PARSERS = frozenset(
    (
        *("qwen3", "qwen3-coder", "qwen3-vl-instruct", "ministral", "olmo3", "lfm2"),
        "functiongemma",
    )
)
_THINKING_PARSERS = frozenset(
    (
        *("cogito", "deepseek3", "gemma4", "glm-4.7", "harmony", "lfm2-thinking"),
        *("nemotron-3-nano", "olmo3-think", "qwen3-thinking", "qwen3-vl-thinking", "qwen3.5"),
    )
)


_SERVED = frozenset(("model", "embedding", "reranker", "classifier", "speech"))
"""The types of models that answer by themselves: a draft or an adapter has no capability."""
_OWN = {"embedding": "embedding", "speech": "audio"}


def of_type(kind: str | None, found: set[str]) -> tuple[str, ...]:
    """Return the capabilities of a model of the type `kind` that its parts gave."""
    if kind not in _SERVED:
        return ()
    own = _OWN.get(kind or "")
    if own is not None:
        found = found | {own}
    return known_capabilities(found) if found else ()


def known_capabilities(names: Iterable[object]) -> tuple[str, ...]:
    """Return the capabilities among `names`, in the order of the alphabet."""
    given = set(names)
    return tuple(name for name in CAPABILITIES if name in given)


def of_template(template: str) -> set[str]:
    """Return the capabilities that a chat template in Jinja gives."""
    found = set()
    if _TOOLS.search(template):
        found.add("tools")
    if ("<think>" in template and "</think>" in template) or _THINKING.search(template):
        found.add("thinking")
    return found


def of_go_template(template: str) -> set[str]:
    """Return the capabilities that a template of Ollama, in Go's language, gives."""
    rules = (("tools", _GO_TOOLS), ("thinking", _GO_THINKING), ("insert", _GO_INSERT))
    return {name for name, pattern in rules if pattern.search(template)}


def of_parser(parser: str | None) -> set[str]:
    """Return the capabilities that the name of a parser in Ollama's config gives."""
    if parser in _THINKING_PARSERS:
        return {"thinking", "tools"}
    return {"tools"} if parser in _TOOL_PARSERS else set()


def of_metadata(metadata: Mapping[str, object], architecture: str | None) -> set[str]:
    """Return the capabilities that the header of a GGUF model gives."""
    found = set()
    if not _TEMPLATES.isdisjoint(metadata):
        for key, value in metadata.items():
            if key.startswith(CHAT_TEMPLATE) and isinstance(value, str):
                found |= of_template(value)
    if len(_FIM_TOKENS & metadata.keys()) > 1:
        found.add("insert")  # it has tokens for the text before, and for the text after
    if architecture == "gpt-oss":  # it thinks in a channel of its own
        found.add("thinking")
    for sense in _SENSES:
        if f"{architecture}.{sense}.block_count" in metadata:
            found.add(sense)
    return found


def of_projector(metadata: Mapping[str, object]) -> set[str]:
    """Return the capabilities that a projector gives to its model."""
    found = {sense for sense in _SENSES if metadata.get(f"clip.has_{sense}_encoder") is True}
    return found or {"vision"}  # the first projectors name no encoder: all were for images


_SENSORS = {
    "vision": ("vision_config", "img_processor", "vision_encoder", "image_embd_layer"),
    "audio": ("audio_config", "audio_processor", "encoder_args", "audio_embd_layer"),
}
"""The keys of objects that only a model with that sense has: the second ones are Phi's, then
those of Mistral's params.json, and Phi-4's."""


def of_config(config: Mapping[str, object]) -> set[str]:
    """Return the capabilities that a config.json of transformers, or a params.json, gives."""
    whisper = _object(_object(config, "multimodal"), "whisper_model_args")
    parts = (config, _object(config, "thinker_config"), _object(config, "embd_layer"), whisper)
    return {
        sense
        for sense, keys in _SENSORS.items()
        if any(isinstance(part.get(key), dict) for part in parts for key in keys)
    }


def _object(config: Mapping[str, object], key: str) -> Mapping[str, object]:
    value = config.get(key)
    return value if isinstance(value, dict) else {}
