"""Cards are written as huggingface_hub writes them, or as people do."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelstore.sources.files.model_card import card_license


def card(path: Path, content: str | bytes) -> str:
    file = path / "README.md"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(file)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"license": "apache-2.0", "tags": ["gguf"]}, "apache-2.0"),
        (
            {"license": "other", "license_name": "gemma-terms", "license_link": "LICENSE"},
            "gemma-terms",
        ),
        ({"license": "other"}, "other"),
        ({"license": ["mit", "apache-2.0"]}, "mit"),
        ({"language": "en"}, None),
        ({"model_name": "a", "license_name": "mine"}, None),
    ],
)
def test_what_the_hubs_library_writes(
    tmp_path: Path, data: dict[str, object], expected: str | None
) -> None:
    written = huggingface_hub.ModelCardData(**data).to_yaml()
    assert card_license(card(tmp_path, f"---\n{written}\n---\n\n# A model\n")) == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("---\r\nlicense: mit\r\n---\r\n", "mit"),
        ("\ufeff---\nlicense: 'llama3.1' # as Meta says\n---\n", "llama3.1"),
        ("---\nlicense:\n- cc-by-4.0\n---\n", "cc-by-4.0"),
        ("---\nextra:\n  license: nested\n---\n", None),
        ("# A model\n\nlicense: mit\n", None),
        ("---\nlicense: mit\n", None),  # without an end
        ("---\nlicense: [[[[[[[[[\n---\n", None),
        ("---\nlicense: &a [*a]\n---\n", None),
        ("---\nlicense: !!python/object/apply:os.system ['true']\n---\n", None),
        ("---\nlicense: " + "x" * 300 + "\n---\n", None),
        (b"---\nlicense: m\xffit\n---\n", "m\ufffdit"),
        (b"", None),
        (b"---\nlicense: mit\n" + b"#" * (1 << 20) + b"\n---\n", None),
    ],
)
def test_other_cards(tmp_path: Path, content: str | bytes, expected: str | None) -> None:
    assert card_license(card(tmp_path, content)) == expected


def test_no_card(tmp_path: Path) -> None:
    assert card_license(str(tmp_path / "README.md")) is None
    assert card_license(str(tmp_path)) is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=200))
def test_any_front_matter_is_answered(tmp_path: Path, text: str) -> None:
    found = card_license(card(tmp_path, f"---\nlicense: {text}\n---\n".encode("utf-8", "replace")))
    assert found is None or 0 < len(found) <= 256
