"""Directories in which programs without a store of their own keep model files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modelstore.sources.base import Context

PROGRAMS: dict[str, tuple[str, ...]] = {
    # jan.ai/docs/data-folder
    "Jan": (
        "~/jan/models",
        "~/.local/share/Jan/data/llamacpp/models",
        "~/.config/Jan/data/llamacpp/models",
        "~/Library/Application Support/Jan/data/llamacpp/models",
        "$APPDATA/Jan/data/llamacpp/models",
        "~/.var/app/ai.jan.Jan/data/Jan/data/llamacpp/models",
    ),
    # github.com/nomic-ai/gpt4all, gpt4all-chat/src/mysettings.cpp
    "GPT4All": (
        "~/.local/share/nomic.ai/GPT4All",
        "~/Library/Application Support/nomic.ai/GPT4All",
        "$LOCALAPPDATA/nomic.ai/GPT4All",
        "~/.var/app/io.gpt4all.gpt4all/data/nomic.ai/GPT4All",
    ),
    # localai.io/basics/getting_started
    "LocalAI": ("$LOCALAI_MODELS_PATH", "~/.localai/models", "/usr/share/local-ai/models"),
    # github.com/containers/ramalama, docs/ramalama.conf.5.md: store
    "RamaLama": ("$XDG_DATA_HOME/ramalama", "~/.local/share/ramalama", "/var/lib/ramalama"),
    # github.com/oobabooga/text-generation-webui, README: --model-dir
    "text-generation-webui": (
        "~/text-generation-webui/user_data/models",
        "~/text-generation-webui/models",
    ),
    "koboldcpp": ("~/koboldcpp", "~/.local/share/koboldcpp"),
    # lemonade-server.ai/docs/server/server_models
    "Lemonade": ("~/.cache/lemonade", "~/.local/share/lemonade"),
    # docs.unsloth.ai/new/studio
    "Unsloth": ("~/.unsloth", "~/unsloth_studio"),
    # docs.comfy.org/development/core-concepts/models
    "ComfyUI": ("~/ComfyUI/models", "~/comfy/ComfyUI/models", "~/Documents/ComfyUI/models"),
    "Downloads": ("~/Downloads", "$XDG_DOWNLOAD_DIR"),
}


def program_directories(context: Context) -> list[str]:
    """Return the directories of `PROGRAMS` that exist, links to one of them left out."""
    found: dict[str, str] = {}
    for places in PROGRAMS.values():
        for place in places:
            path = _expanded(place, context)
            if path and os.path.isdir(path):
                found.setdefault(os.path.realpath(path), path)
    return list(found.values())


def _expanded(place: str, context: Context) -> str | None:
    """Return a path with its home directory or variable filled in; None if that is not set."""
    first, _, rest = place.partition("/")
    if first == "~":
        base = context.home
    elif first.startswith("$"):
        base = context.environ.get(first[1:], "")
    else:
        return place
    if not os.path.isabs(base):
        return None
    return os.path.join(base, rest) if rest else base
