"""The manual: one Markdown file for each topic, its title in the first line.

To add a topic, write ``NAME.md``. The tests run its examples.
"""

from __future__ import annotations

from importlib.resources import files


def topic_titles() -> dict[str, str]:
    """Return the topics by name, each with its title."""
    found = {
        entry.name.removesuffix(".md"): entry.read_text("utf-8").partition("\n")[0].lstrip("# ")
        for entry in files(__name__).iterdir()
        if entry.name.endswith(".md")
    }
    return dict(sorted(found.items()))


def topic_text(name: str) -> str:
    """Return the Markdown of a topic, without the notes for the tests."""
    text = (files(__name__) / f"{name}.md").read_text("utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("<!--")]
    return "\n".join(lines) + "\n"
