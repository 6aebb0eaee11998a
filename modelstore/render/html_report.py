"""A verification as one HTML file: no script, nothing to load, light and dark, wide and narrow."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from modelstore.text import visible

if TYPE_CHECKING:
    from modelstore.render.findings import VerificationShape


def html_report(verification: VerificationShape) -> str:
    """Return the whole document; text from outside is escaped in it."""
    return f"<!doctype html><title>{escape(visible(verification.verdict))}</title>"
