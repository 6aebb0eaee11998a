"""Models in a directory tree of any depth, however they are laid out."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.sources.base import Context, Item, Target

KIND = "directory"


def read_tree(root: str, context: Context, *, source: str | None = None) -> Iterator[Item]:
    """Yield every model below `root`, file by file; `source` is the kind that it is filed under.

    Each item's place has the real path of `root` as its root and the path seen as its locator.
    Raises `SourceError` where `root` itself cannot be listed.
    """
    yield from ()


def read(target: Target, context: Context) -> Iterator[Item]:
    """Yield every model below the directory `target`."""
    return read_tree(target.real_path, context)
