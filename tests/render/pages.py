"""A reader of the HTML pages that the program writes: what a browser would make of one."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

from tests.render.samples import unsafe_characters

ATTACKS = {
    "script": "<script>alert(1)</script>",
    "image": "<img src=x onerror=alert(1)>",
    "style": "</style></title><svg onload=alert(1)>",
    "attribute": '"\' onmouseover=alert(1) x="',
    "comment": "--><!-- <![CDATA[",
    "entity": "&lt;script&gt; &amp;#60; &#x3c;",
    "template": "{{7*7}} ${7*7}",
}
_VOID = {"meta"}
_ATTRIBUTES = {
    *("charset", "http-equiv", "content", "name", "lang", "class", "style"),
}
_TAGS = {
    *("html", "head", "meta", "title", "style", "body", "main", "header", "footer", "section"),
    *("div", "p", "span", "small", "b", "i", "h1", "h2", "h3", "ul", "li", "dl", "dt", "dd"),
    *("details", "summary", "pre", "time"),
}
_SVG_ATTRIBUTES = {
    *("viewbox", "preserveaspectratio", "vector-effect", "x", "width", "height"),
    *("x1", "x2", "y1", "y2"),
}


@dataclass
class Page(HTMLParser):
    """What a browser would make of a report."""

    words: list[tuple[str, str]] = field(default_factory=list)  # the element's class or tag, text
    shape: list[str] = field(default_factory=list)
    stack: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.shape.append(tag)
        for name, value in attrs:
            self.shape.append(f"{tag}@{name}")
            if name == "style":
                assert re.fullmatch(r"(width|left): \d+\.\d\d%", value or "")
        if tag not in _VOID:
            self.stack.append((tag, dict(attrs).get("class") or tag))

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        if self.stack and data.strip():
            self.words.append((self.stack[-1][1], data))

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)

    def texts(self, kind: str) -> list[str]:
        return [text for name, text in self.words if name == kind]


def read_page(text: str, *, svg: bool = False) -> Page:
    """Read a page; fail if it holds anything that could load or run, or raw text of others."""
    assert text.startswith("<!doctype html>\n")
    assert unsafe_characters(text) == []
    assert "default-src 'none'; style-src 'unsafe-inline'" in text
    page = Page()
    page.feed(text)
    page.close()
    assert page.stack == []
    tags = _TAGS | ({"svg", "rect", "line"} if svg else set())
    attributes = _ATTRIBUTES | (_SVG_ATTRIBUTES if svg else set())
    assert {name for name in page.shape if "@" not in name} <= tags
    assert {name.split("@")[1] for name in page.shape if "@" in name} <= attributes
    return page
