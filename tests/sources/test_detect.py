from __future__ import annotations

import gzip
import io
import json
import os
import socket
import sys
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.database.sqlite import sqlite3
from modelstore.errors import SourceError, UsageError
from modelstore.sources.base import Target
from modelstore.sources.detect import detect, kind_of_bytes
from modelstore.sources.kinds import KINDS
from tests.sources.reading import stream
from tests.sources.stores.making import safetensors_bytes, unprivileged, write_gguf
from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from pathlib import Path

CONTENTS = {
    "array": (b'[{"name": "a"}]', "json"),
    "empty array": (b"[]", "json"),
    "array on its own line": (b'[\n{"name": "a"}\n]', "json"),
    "one object": (b'{\n  "name": "a"\n}', "json"),
    "wrapper": (b'{"models": [{"name": "a"}]}\n', "json"),
    "wrapper then more": (b'{"data": [{"id": "a"}]}\n{"name": "b"}\n', "json"),
    "lines": (b'{"name": "a"}\n{"name": "b"}\n', "jsonl"),
    "lines with a mark": (b'\xef\xbb\xbf{"name": "a"}\r\n{"name": "b"}\r\n', "jsonl"),
    "comma": (b"name,path\na,/a\n", "csv"),
    "tab": (b"name\tpath\na, b\t/a\n", "tsv"),
    "semicolons in commas": (b"name,notes\na,x;y\n", "csv"),
    "yaml": (b"# models\nmodels:\n  a:\n    cmd: llama-server -m a.gguf\n", "llama-swap"),
    "yaml document": (b"---\nmacros: {}\nmodels: {}\n", "llama-swap"),
    "semicolons": (b"Name;Size\na;1\n", "csv"),
    "section": (b"[7B model]\nmodel = /a.gguf\n", "preset"),
    "star": (b"; all\n[*]\nctx-size = 1\n", "preset"),
    "version first": (b"version = 1\n\n[a]\nmodel = /a\n", "preset"),
    "dashboard version": (b"LLAMA_CONFIG_VERSION = 1\n[a]\nmodel = /a\n", "preset"),
    "nothing": (b"", "jsonl"),
    "safetensors": (safetensors_bytes(), "safetensors"),
    "index": (b'{"metadata": {}, "weight_map": {"a": "b"}}', "safetensors"),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_content_decides_whatever_the_file_is_called(tmp_path: Path, name: str) -> None:
    content, kind = CONTENTS[name]
    path = tmp_path / "file.bin"
    path.write_bytes(content)
    assert detect(Target(str(path))) == kind
    assert detect(stream(content)) == kind


def test_a_gguf_file_is_known_by_its_magic(tmp_path: Path) -> None:
    write_gguf(tmp_path / "model.json")
    assert detect(Target(str(tmp_path / "model.json"))) == "gguf"


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.csv", b"name\nllama\n", "csv"),
        ("a.tsv", b"name\nllama\n", "tsv"),
        ("a.jsonl", b"not json\n", "jsonl"),
        ("a.ndjson", b'{"name": "a"}', "jsonl"),
        ("a.jsonl", b'[{"name": "a"}]', "json"),
        ("a.csv", b'{"name": "a"}\n{"name": "b"}\n', "jsonl"),
    ],
)
def test_the_extension_decides_only_where_the_content_does_not(
    tmp_path: Path, name: str, content: bytes, kind: str
) -> None:
    (tmp_path / name).write_bytes(content)
    assert detect(Target(str(tmp_path / name))) == kind


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (gzip.compress(b"{}", mtime=0), "gzip"),
        ('{"name": "a"}'.encode("utf-16"), "UTF-16"),
        ('{"name": "a"}'.encode("utf-16-le"), "UTF-16"),
        ('{"name": "a"}'.encode("utf-16-be"), "UTF-16"),
        (b"lmgg\x00\x00\x00\x00", "before GGUF"),
        (b"\x7fELF\x02\x01\x01\x00\x00", "binary"),
        (bytes(4096), "zeros"),
        (b"hello world\n", "of no kind that models are read from"),
        (b"PK\x03\x04rest", "zip"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "file").write_bytes(content)
    for target in (Target(str(tmp_path / "file")), stream(content)):
        with pytest.raises(SourceError) as caught:
            detect(target)
        assert said in caught.value.message
        assert caught.value.hint


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        (["models--org--repo/snapshots/x"], "huggingface"),
        (["hub/models--org--repo/x"], "huggingface"),
        (["manifests/registry.ollama.ai/x", "blobs/sha256-0"], "ollama"),
        (["models/manifests/x", "models/blobs/y"], "ollama"),
        ([".internal/x", "models/org/repo/a.gguf"], "lmstudio"),
        (["org_repo_a.gguf", "org_repo_a.gguf.etag"], "llama-cache"),
        (["config.json", "model.safetensors"], "safetensors"),
        (["config.json", "model.safetensors", "a.gguf"], "directory"),
        (["a.gguf"], "directory"),
        (["org/repo/a.gguf"], "directory"),
        ([], "directory"),
    ],
)
def test_a_directory_is_known_by_its_layout(tmp_path: Path, files: list[str], kind: str) -> None:
    for name in files:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    assert detect(Target(str(tmp_path))) == kind


def test_one_repository_of_the_hub_is_known(tmp_path: Path) -> None:
    (tmp_path / "models--org--repo" / "snapshots").mkdir(parents=True)
    assert detect(Target(str(tmp_path / "models--org--repo"))) == "huggingface"


def test_addresses_are_servers_and_other_schemes_are_refused() -> None:
    assert detect(Target("http://127.0.0.1:9931")) == "server"
    with pytest.raises(UsageError):
        detect(Target("ftp://example.org/models"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    caught: list[str] = []

    def look() -> None:
        try:
            detect(Target(str(tmp_path / "pipe")))
        except SourceError as error:
            caught.append(error.message)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert caught
    assert "named pipe" in caught[0]


@pytest.mark.skipif(sys.platform == "win32", reason="no such files there")
def test_devices_and_sockets_are_not_opened(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="a device"):
        detect(Target("/dev/null"))
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(tmp_path)  # the names of sockets are short
        try:
            server.bind("s")
            with pytest.raises(SourceError, match="a socket"):
                detect(Target("s"))
        finally:
            os.chdir(here)


def test_what_is_not_there_or_not_ours_to_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="does not exist"):
        detect(Target(str(tmp_path / "no\x1b[31mthing")))
    with pytest.raises(SourceError):
        detect(Target("nul\0character"))


@pytest.mark.skipif(sys.platform == "win32", reason="permissions are other there")
def test_a_file_that_may_not_be_read_is_said() -> None:
    with unprivileged() as directory:
        path = directory / "secret.json"
        path.write_bytes(b"[]")
        path.chmod(0)
        with pytest.raises(SourceError, match="cannot be read by"):
            detect(Target(str(path)))


def test_a_database_is_known_by_its_tables(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    conn = sqlite3.connect(path)
    conn.execute("CREATE TABLE models (id TEXT, name TEXT)")
    conn.commit()
    assert detect(Target(str(path))) == "dashboard"
    conn.execute("DROP TABLE models")
    conn.execute("CREATE TABLE other (id TEXT)")
    conn.commit()
    conn.close()
    with pytest.raises(SourceError, match="no table of models"):
        detect(Target(str(path)))


def test_a_stream_that_cannot_be_looked_into_wants_a_kind() -> None:
    class Blind(io.RawIOBase):
        pass

    with pytest.raises(UsageError):
        detect(Target("-", Blind()))  # type: ignore[arg-type]


def test_looking_takes_nothing_from_the_stream() -> None:
    target = stream(b'{"name": "a"}\n{"name": "b"}\n')
    detect(target)
    assert target.stream is not None
    assert target.stream.read() == b'{"name": "a"}\n{"name": "b"}\n'


@given(st.binary(max_size=300), st.sampled_from(["", ".json", ".csv", ".ini", ".yaml", ".gguf"]))
def test_any_bytes_are_a_kind_or_a_named_refusal(head: bytes, extension: str) -> None:
    try:
        kind = kind_of_bytes(head, "it", extension=extension, size=len(head))
    except SourceError:
        return
    assert kind in {*KINDS, "sqlite"}


@given(st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=5))
def test_any_json_array_is_json(value: object) -> None:
    head = json.dumps([value]).encode()
    assert kind_of_bytes(head, "it", extension="") in {"json", "safetensors"}
