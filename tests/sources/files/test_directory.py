from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from modelstore.errors import SourceError
from modelstore.found import Found, KnownFile, Skipped
from modelstore.sources.base import Context, Item, Note, Target, Unchanged
from modelstore.sources.files import directory, walk
from modelstore.sources.files.grouping import group_files, is_relevant
from modelstore.sources.files.local_files import LocalFile, ask_for_header
from tests.sources.files import hostile
from tests.sources.files.oracle import TINY

CONTEXT = Context(host="box", now="2026-11-22T20:00:00Z")
MODEL = hostile.gguf(hostile.ARCHITECTURE)

needs_posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX file systems")
needs_raw_names = pytest.mark.skipif(sys.platform != "linux", reason="needs names of any bytes")


def read(root: Path, context: Context = CONTEXT) -> list[Item]:
    return list(directory.SOURCES["directory"].read(Target(str(root)), context))


def names(items: list[Item]) -> list[str]:
    return [item.model.name for item in items if isinstance(item, Found)]


def skipped(items: list[Item]) -> dict[str, str]:
    return {item.what: item.reason for item in items if isinstance(item, Skipped)}


def put(path: Path, content: bytes = MODEL) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_the_models_of_a_tree_come_in_order_of_their_paths() -> None:
    items = read(TINY)
    assert names(items) == [
        "tiny-bert-embed-F32",
        "tiny-hybrid-BF16-big-endian",
        "tiny-llama-pirate-lora-F16",
        "tiny-gemma-3-it-Q4_0",
        "Tiny-Llama-7K-Instruct-Q8_0",
        "tiny-mistral",
        "Tiny-Qwen3-7K-F16",
    ]
    assert len(items) == 7
    place = next(item.place for item in items if isinstance(item, Found))
    assert place is not None
    assert (place.root, place.locator) == (str(TINY), str(TINY / "tiny-bert-embed-F32.gguf"))
    assert (place.source, place.name) == ("gguf", "tiny-bert-embed-F32")


def test_a_tree_may_be_filed_under_the_name_of_its_store(tmp_path: Path) -> None:
    put(tmp_path / "org" / "repo" / "x.gguf")
    (item,) = directory.read_tree(str(tmp_path), CONTEXT, source="lmstudio")
    assert isinstance(item, Found)
    assert item.place is not None
    assert item.model.source == item.place.source == "lmstudio"


def local(path: str) -> LocalFile:
    return LocalFile(path, path, 1, 1, 1, 1)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ("b.gguf a.gguf", ["a.gguf", "b.gguf"]),
        ("x-00002-of-00002.gguf x-00001-of-00002.gguf", ["x-00001-of-00002.gguf+shard"]),
        (
            "x-00001-of-00002.gguf x-00001-of-00003.gguf",
            ["x-00001-of-00002.gguf", "x-00001-of-00003.gguf"],
        ),
        ("x-Q4_0.gguf mmproj-x-F16.gguf", ["x-Q4_0.gguf+projector"]),
        ("x-Q4_0.gguf mmproj-F16.gguf mmproj-F32.gguf", ["x-Q4_0.gguf+projector+projector"]),
        ("llava-7b.gguf mmproj-model-f16.gguf", ["llava-7b.gguf+projector"]),
        (
            "gemma-3-4b.gguf qwen2-vl.gguf mmproj-qwen2-vl-F16.gguf",
            ["gemma-3-4b.gguf", "qwen2-vl.gguf+projector"],
        ),
        (
            "gemma-3.gguf gemma-3n.gguf mmproj-gemma-3-F16.gguf",
            ["gemma-3.gguf+projector", "gemma-3n.gguf"],
        ),
        ("qwen3.gguf mmproj-gemma-3.gguf", ["mmproj-gemma-3.gguf", "qwen3.gguf"]),
        (
            "x-Q4_0.gguf x-Q8_0.gguf mmproj-x.gguf",
            ["x-Q4_0.gguf+projector", "x-Q8_0.gguf+projector"],
        ),
        ("mmproj-x.gguf", ["mmproj-x.gguf"]),
        (
            "x-Q4_0.gguf x-Q8_0.gguf mmproj-model-f16.gguf",
            ["x-Q4_0.gguf+projector", "x-Q8_0.gguf+projector"],
        ),
        (
            "x-4b-Q4_0.gguf x-12b-Q4_0.gguf mmproj-model-f16.gguf",
            ["mmproj-model-f16.gguf", "x-12b-Q4_0.gguf", "x-4b-Q4_0.gguf"],
        ),
        (
            "x-UD-Q4_K_XL.gguf x-BF16.gguf mtp-x.gguf",
            ["x-BF16.gguf+draft", "x-UD-Q4_K_XL.gguf+draft"],
        ),
        ("x.gguf-split-b x.gguf-split-a", ["x.gguf-split-a+shard"]),
        (
            "model-00000-of-00002.safetensors model-00001-of-00002.safetensors config.json",
            ["model-00000-of-00002.safetensors+shard+config"],
        ),
        (
            "model-1-of-2.safetensors model-2-of-2.safetensors config.json",
            ["model-1-of-2.safetensors+shard+config"],
        ),
        (
            "model.safetensors-00001-of-00002.safetensors model.safetensors.index.json "
            "model.safetensors-00002-of-00002.safetensors config.json",
            ["model.safetensors-00001-of-00002.safetensors+shard+config+index"],
        ),
        ("Qwen3-32B.gguf Qwen3-0.6B-draft.gguf", ["Qwen3-32B.gguf+draft"]),
        (
            "gpt-oss-20b-mxfp4.gguf eagle3-gpt-oss-20b-F16.gguf dflash-gpt-oss-20b-Q8_0.gguf",
            ["gpt-oss-20b-mxfp4.gguf+draft+draft"],
        ),
        (
            "X-12B.i1-Q4_K_M.gguf X-12B.Q8_0.gguf X-12B.mmproj-f16.gguf",
            ["X-12B.Q8_0.gguf+projector", "X-12B.i1-Q4_K_M.gguf+projector"],
        ),
        ("GLM-4.5-Q4_0.gguf mtp-GLM-4.5-Q8_0.gguf", ["GLM-4.5-Q4_0.gguf+draft"]),
        (
            "x.gguf x-imatrix.gguf x-lora.gguf mmproj-x.gguf",
            ["x-imatrix.gguf", "x-lora.gguf", "x.gguf+projector"],
        ),
        ("x.gguf.part1of2 x.gguf.part2of2", ["x.gguf.part1of2+shard"]),
        (
            "x.gguf.part10of10 x.gguf.part9of10 x.gguf.part1of10",
            ["x.gguf.part1of10+shard+shard"],
        ),
        ("x.gguf x.gguf.part", ["x.gguf", "x.gguf.part"]),
        (
            "model-00001-of-00002.safetensors model-00002-of-00002.safetensors config.json "
            "model.safetensors.index.json consolidated.safetensors",
            [
                "consolidated.safetensors+config",
                "model-00001-of-00002.safetensors+shard+config+index",
            ],
        ),
        (
            "model-00001-of-00001.safetensors mtp.safetensors model_extra_tensors.safetensors "
            "model-mtp-of-00002.safetensors model.safetensors.index.json config.json",
            ["model-00001-of-00001.safetensors+shard+shard+shard+config+index"],
        ),
        (
            "model.safetensors model_mtp.safetensors model_fp16.safetensors "
            "model.safetensors.index.json config.json",
            ["model.safetensors+shard+config+index", "model_fp16.safetensors"],
        ),
        (
            "model.safetensors model-00001-of-00001.safetensors model.safetensors.index.json",
            ["model-00001-of-00001.safetensors", "model.safetensors+index"],
        ),
        (
            "model.safetensors model-00001-of-00002.safetensors model.safetensors.index.json "
            "model-00002-of-00002.safetensors",
            ["model-00001-of-00002.safetensors+shard+index", "model.safetensors"],
        ),
        (
            "model.safetensors 2_Dense/model.safetensors 10_Dense_1024/model.safetensors "
            "0_Transformer/model.safetensors 2_Dense/config.json config.json",
            ["0_Transformer/model.safetensors", "model.safetensors+shard+shard+config"],
        ),
        ("2_Dense/model.safetensors x.safetensors", ["2_Dense/model.safetensors", "x.safetensors"]),
        ("consolidated.safetensors params.json", ["consolidated.safetensors+config"]),
        (
            "adapter_model.safetensors adapter_config.json config.json model.safetensors",
            ["adapter_model.safetensors+config", "model.safetensors+config"],
        ),
        ("a.safetensors b.safetensors config.json", ["a.safetensors", "b.safetensors"]),
        ("a.safetensors config.json", ["a.safetensors+config"]),
        ("config.json", []),
        (
            "q4/x-00001-of-00002.gguf q8/x-00002-of-00002.gguf mmproj-x.gguf",
            ["q4/x-00001-of-00002.gguf+projector", "q8/x-00002-of-00002.gguf+projector"],
        ),
        ("q4/x.gguf mmproj-F16.gguf", ["q4/x.gguf+projector"]),
        (
            "unet/model.safetensors vae/model.safetensors vae/config.json",
            ["unet/model.safetensors", "vae/model.safetensors+config"],
        ),
    ],
)
def test_the_files_of_a_directory_are_told_apart_by_their_names(
    files: str, expected: list[str]
) -> None:
    groups = group_files(local(f"/m/{name}") for name in files.split())
    told = []
    for group in groups:
        first, *rest = group.files
        told.append("+".join([os.path.relpath(first.path, "/m"), *(file.role for file in rest)]))
    assert told == expected


def test_only_files_that_can_be_part_of_a_model_are_looked_at() -> None:
    for name in ("a.gguf", "A.GGUF", "a.safetensors", "config.json", "a.gguf.part",
                 "model.safetensors.index.json", "a.gguf.part1of2"):  # fmt: skip
        assert is_relevant(name), name
    for name in ("a.bin", "._a.gguf", "tokenizer.json", "a.gguf.etag", "a.gguf.json", "gguf"):
        assert not is_relevant(name), name


def work_of(files: list[LocalFile]) -> int:
    """Return how many instructions of Python it takes to group files."""
    count = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        group_files(files)
    finally:
        sys.settrace(before)
    return count


def sidecars(count: int) -> list[LocalFile]:
    """Return files for `work_of`; no count has a name of another, which a cache would know."""
    files = [local(f"/m/mmproj-{count}-{number}.gguf") for number in range(count)]
    files += [local(f"/m/same-{count}-{number}.gguf") for number in range(count)]
    return files + [local(f"/m/mmproj-same-{count}-{n}x.gguf") for n in range(count // 10)]


def indexes(count: int, config: str) -> list[LocalFile]:
    files = [local(f"/m/{count}-{number}.safetensors") for number in range(count)]
    files += [local(f"/m/x{count}-{n}.safetensors.index.json") for n in range(count)]
    return [*files, local(f"/m/{config}")]


def test_a_directory_full_of_sidecars_is_twice_the_work_of_half_of_it() -> None:
    assert len(group_files(sidecars(50))) == 105
    assert work_of(sidecars(500)) < 3 * work_of(sidecars(250))


@pytest.mark.parametrize("config", ["config.json", "other.json"])
def test_a_directory_full_of_indexes_is_twice_the_work_of_half_of_it(config: str) -> None:
    assert len(group_files(indexes(50, config))) == (1 if config == "config.json" else 50)
    assert work_of(indexes(500, config)) < 3 * work_of(indexes(250, config))


def test_a_projector_goes_with_the_quantizations_in_directories_below_it(tmp_path: Path) -> None:
    for path in ("mmproj-F16", "Q4_0/X-Q4_0", "X-Q8_0/X-Q8_0", "Q2_K/deeper/Y", "other/Z"):
        put(tmp_path / "X-GGUF" / f"{path}.gguf")
    found = [item for item in read(tmp_path) if isinstance(item, Found)]
    roles = {item.model.name: [file.role for file in item.files] for item in found}
    both = ["model", "projector"]
    assert roles == {"X-Q4_0": both, "X-Q8_0": both, "Y": ["model"], "Z": ["model"]}


def test_links_to_files_are_the_files(tmp_path: Path) -> None:
    real = put(tmp_path / "models" / "x.gguf")
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "latest.gguf"
    link.symlink_to(real)
    item, note = read(tmp_path / "links")
    assert isinstance(note, Note)
    assert note.text == f"1 link was followed out of {link.parent}: {link} to {real}"
    assert isinstance(item, Found)
    assert item.model.locator == f"file://box{real}"
    assert (item.model.name, item.files[0].path) == ("x", str(real))
    assert item.place is not None
    assert (item.place.locator, item.place.name) == (str(link), "latest")


def test_links_that_lead_nowhere_are_skipped_by_name(tmp_path: Path) -> None:
    put(tmp_path / "good.gguf")
    (tmp_path / "dangling.gguf").symlink_to(tmp_path / "gone.gguf")
    (tmp_path / "round.gguf").symlink_to(tmp_path / "round.gguf")
    (tmp_path / "round.txt").symlink_to(tmp_path / "round.txt")  # which concerns nobody
    items = read(tmp_path)
    assert names(items) == ["good"]
    assert set(skipped(items)) == {str(tmp_path / name) for name in ("dangling.gguf", "round.gguf")}
    assert skipped(items)[str(tmp_path / "dangling.gguf")] == os.strerror(errno.ENOENT)


def test_links_to_directories_are_followed_once_and_never_in_a_circle(tmp_path: Path) -> None:
    root = tmp_path / "root"
    put(root / "a" / "x.gguf")
    (root / "a" / "up").symlink_to(root)
    (root / "a" / "self").symlink_to(".")
    (root / "b").symlink_to(root / "a")
    put(tmp_path / "disk" / "big" / "y.gguf")
    (root / "big").symlink_to(tmp_path / "disk")
    (root / "big2").symlink_to(tmp_path / "disk" / "big")
    (tmp_path / "disk" / "back").symlink_to(root / "a")
    (root / "everything").symlink_to("/")
    items = read(root)
    assert names(items) == ["x", "y"]
    reason = "is a link to a directory that holds this one"
    assert skipped(items) == {
        str(root / "a" / "up"): reason,
        str(root / "everything"): reason,
    }
    place = [item.place for item in items if isinstance(item, Found)][1]
    assert place is not None
    assert place.locator == str(root / "big" / "big" / "y.gguf")


def test_links_out_of_the_tree_are_said(tmp_path: Path) -> None:
    put(tmp_path / "disk" / "y.gguf")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "big").symlink_to(tmp_path / "disk")
    put(tmp_path / "root" / "deep" / "x.gguf")
    (tmp_path / "root" / "deep" / "same.gguf").symlink_to("x.gguf")
    notes = [item.text for item in read(tmp_path / "root") if isinstance(item, Note)]
    assert notes == [
        f"1 link was followed out of {tmp_path / 'root'}: "
        f"{tmp_path / 'root' / 'big'} to {tmp_path / 'disk'}"
    ]


def ollama_store(root: Path, name: str, content: bytes = MODEL) -> None:
    """What `ollama pull` leaves behind."""
    digest = hashlib.sha256(content).hexdigest()
    put(root / "blobs" / f"sha256-{digest}", content)
    media = "application/vnd.ollama.image.model"
    layer = {"mediaType": media, "digest": f"sha256:{digest}", "size": len(content)}
    text = json.dumps({"schemaVersion": 2, "layers": [layer]}).encode()
    put(root / "manifests" / "registry.ollama.ai" / "library" / name / "latest", text)


def test_the_stores_in_a_tree_are_read_as_stores(tmp_path: Path) -> None:
    home = tmp_path / "home"
    ollama_store(home / ".ollama" / "models", "llama")
    hub = home / ".cache" / "huggingface" / "hub" / "models--org--tiny"
    put(hub / "snapshots" / ("a" * 40) / "tiny-Q8_0.gguf")
    put(hub / "refs" / "main", b"a" * 40)
    put(home / ".lmstudio" / "models" / "org" / "repo" / "phi.gguf")
    put(home / "models" / "own.gguf")
    found = [item for item in read(home) if isinstance(item, Found)]
    assert {(item.model.name, item.model.source) for item in found} == {
        ("llama:latest", "ollama"),
        ("tiny-Q8_0", "huggingface"),
        ("phi", "lmstudio"),
        ("own", "gguf"),
    }
    roots = {item.place.source: item.place.root for item in found if item.place}
    assert roots == {
        "ollama": str(home / ".ollama" / "models"),
        "huggingface": str(hub.parent),
        "lmstudio": str(home / ".lmstudio" / "models"),
        "gguf": str(home),
    }


def test_one_format_alone_is_taken_from_a_tree_without_its_stores(tmp_path: Path) -> None:
    ollama_store(tmp_path, "llama")
    put(tmp_path / "own.gguf")
    assert names(list(directory.read_tree(str(tmp_path), CONTEXT, only="gguf"))) == ["own"]


def test_beside_a_store_that_was_read_already_is_what_is_not_its_own(tmp_path: Path) -> None:
    ollama_store(tmp_path, "llama")
    put(tmp_path / "own.gguf")
    ollama_store(tmp_path / "second", "other", MODEL + b"0" * 32)
    items = list(directory.read_tree(str(tmp_path), CONTEXT, beside="ollama"))
    assert sorted(names(items)) == ["other:latest", "own"]
    ollama_store(tmp_path / "folder" / "models", "llama")
    assert (
        names(list(directory.read_tree(str(tmp_path / "folder"), CONTEXT, beside="ollama"))) == []
    )


def test_what_was_thrown_away_or_versioned_is_left_alone(tmp_path: Path) -> None:
    for folder in (".git/lfs", ".Trash-1000/files", "lost+found", ".hidden/deep"):
        put(tmp_path / folder / "x.gguf")
    put(tmp_path / "._x.gguf", b"what macOS leaves")
    (item,) = read(tmp_path)
    assert isinstance(item, Found)
    assert item.model.path == str(tmp_path / ".hidden" / "deep" / "x.gguf")


@needs_posix
def test_what_is_no_file_is_named_and_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "fifo.gguf")
    (tmp_path / "device.gguf").symlink_to("/dev/zero")
    put(tmp_path / "folder.gguf" / "inside.gguf")
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.safetensors")
        items = read(tmp_path)
    assert names(items) == ["inside"]
    assert skipped(items) == {
        str(tmp_path / "device.gguf"): "is a device, not a file",
        str(tmp_path / "fifo.gguf"): "is a FIFO, not a file",
        str(tmp_path / "socket.safetensors"): "is a socket, not a file",
    }


@needs_raw_names
def test_names_of_any_bytes_are_kept_as_they_are(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path)
    raw = [b"caf\xe9.gguf", b"line\nbreak.gguf", b"\x1b[31mred.gguf", b"\xe2\x80\xaeevil.gguf"]
    for name in raw:
        with open(os.path.join(folder, name), "wb") as file:
            file.write(MODEL)
    items = read(tmp_path)
    found = [item for item in items if isinstance(item, Found)]
    assert sorted(os.fsencode(os.path.basename(item.model.path or "")) for item in found) == sorted(
        raw
    )
    assert sorted(os.fsencode(item.model.name) + b".gguf" for item in found) == sorted(raw)
    assert len({item.model.id for item in found}) == len(raw)


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A folder that a user without rights can reach."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    yield path
    for folder in path.rglob("*"):
        folder.chmod(0o700)
    shutil.rmtree(path)


@needs_posix
def test_what_may_not_be_read_is_skipped_and_the_rest_is_read(open_to_all: Path) -> None:
    put(open_to_all / "a" / "good.gguf").chmod(0o644)
    put(open_to_all / "b" / "closed.gguf").chmod(0)
    put(open_to_all / "c" / "inside.gguf")
    (open_to_all / "c").chmod(0)
    put(open_to_all / "d" / "also.gguf").chmod(0o644)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        items = read(open_to_all)
    finally:
        if is_root:
            os.seteuid(0)
    assert names(items) == ["good", "also"]
    assert skipped(items) == {
        str(open_to_all / "b" / "closed.gguf"): os.strerror(errno.EACCES),
        str(open_to_all / "c"): os.strerror(errno.EACCES),
    }


def test_a_bad_file_is_skipped_and_the_rest_is_read(tmp_path: Path) -> None:
    for number, (build, _) in enumerate(hostile.BAD.values()):
        hostile.write(tmp_path / f"{number:02}.gguf", build())
    put(tmp_path / "good.gguf")
    items = read(tmp_path)
    assert names(items) == ["good"]
    assert len(skipped(items)) == len(hostile.BAD)


def test_a_directory_that_goes_away_meanwhile_is_skipped(tmp_path: Path) -> None:
    for number in range(20):  # more than are read ahead
        put(tmp_path / "a" / f"x{number}y.gguf")
    put(tmp_path / "b" / "y.gguf")
    stream = directory.SOURCES["directory"].read(Target(str(tmp_path)), CONTEXT)
    first = next(stream)
    assert isinstance(first, Found)
    shutil.rmtree(tmp_path / "b")
    assert list(stream)[19:] == [Skipped(str(tmp_path / "b"), os.strerror(errno.ENOENT))]


def test_headers_are_asked_for_before_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        put(tmp_path / f"{number:02d}" / "x.gguf")
    asked: list[str] = []
    monkeypatch.setattr(directory, "ask_for_header", asked.append)
    at_each = [
        len(asked) for _ in directory.SOURCES["directory"].read(Target(str(tmp_path)), CONTEXT)
    ]
    assert at_each == [min(number + 9, 20) for number in range(20)]
    assert asked == sorted(str(path) for path in tmp_path.rglob("*.gguf"))


def test_a_file_that_cannot_be_asked_for_is_reported_by_its_reader(tmp_path: Path) -> None:
    ask_for_header(str(tmp_path / "gone"))
    ask_for_header(str(tmp_path))


def test_a_root_that_cannot_be_listed_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=os.strerror(errno.ENOENT)):
        read(tmp_path / "none")
    with pytest.raises(SourceError, match=os.strerror(errno.ENOTDIR)):
        read(put(tmp_path / "x.gguf"))


def test_a_deep_tree_is_walked_to_the_end(tmp_path: Path) -> None:
    put(tmp_path.joinpath(*["d"] * 800) / "x.gguf")
    assert names(read(tmp_path)) == ["x"]


@needs_posix
def test_a_tree_deeper_than_a_path_can_be_is_skipped_there(tmp_path: Path) -> None:
    put(tmp_path / "x.gguf")
    fd = os.open(tmp_path, os.O_RDONLY)
    for _ in range(40):
        os.mkdir("d" * 200, dir_fd=fd)
        deeper = os.open("d" * 200, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = deeper
    os.close(fd)
    items = read(tmp_path)
    assert names(items) == ["x"]
    assert list(skipped(items).values()) == [os.strerror(errno.ENAMETOOLONG)]


def test_more_entries_than_are_held_at_a_time_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(30):
        put(tmp_path / "many" / f"{number}.gguf")
    monkeypatch.setattr(walk, "MAX_HELD", 10)
    items = read(tmp_path)
    assert len(names(items)) == 10
    assert "has over 10 models and directories" in skipped(items)[str(tmp_path / "many")]
    monkeypatch.undo()
    monkeypatch.setattr(walk, "MAX_ENTRIES", 5)
    put(tmp_path / "many" / "below" / "x.gguf")
    put(tmp_path / "next" / "x.gguf")
    items = read(tmp_path)
    assert "the tree has over 5 entries" in list(skipped(items).values())[-1]
    assert "x" not in names(items)


_OPENED = """
import json, sys
from modelstore.sources.files import directory
from modelstore.sources.base import Context, KnownFile, Target
root, known = sys.argv[1], json.load(sys.stdin)
context = Context(
    host="box", now="now", known={path: KnownFile(*fields) for path, fields in known.items()}
)
opened, listed = [], []
def watch(event, arguments):
    if event == "open":
        opened.append(str(arguments[0]))
    elif event == "os.scandir":
        listed.append(str(arguments[0]))
sys.addaudithook(watch)
items = [type(item).__name__ for item in directory.read_tree(root, context)]
found = list(opened)
print(json.dumps([items, found, listed]))
"""


def read_watched(
    root: Path, known: dict[str, tuple[object, ...]]
) -> tuple[list[str], list[str], list[str]]:
    """Read a tree in a process of its own; return the items, and what it opened and listed."""
    result = subprocess.run(
        [sys.executable, "-c", _OPENED, str(root)],
        input=json.dumps(known),
        capture_output=True,
        check=True,
        text=True,
        cwd=TINY.parents[2],
    )
    items, opened, listed = json.loads(result.stdout)
    # Not the program's own modules, which it loads to recognise a store.
    return items, [path for path in opened if path.startswith(str(root))], listed


def test_an_unchanged_tree_is_known_without_opening_any_file(tmp_path: Path) -> None:
    root = tmp_path / "models"
    shutil.copytree(TINY, root)
    put(root / "unfinished.gguf.part", MODEL[:30])
    known: dict[str, tuple[object, ...]] = {}
    for item in read(root):
        assert isinstance(item, Found)
        for file in item.files:
            fields = (file.size, file.mtime_ns, item.model.locator, None, len(item.files))
            known[file.path] = fields
    items, opened, listed = read_watched(root, known)
    assert items == ["Unchanged"] * 8
    assert opened == []
    folders = [str(root), *(str(path) for path in root.rglob("*") if path.is_dir())]
    assert sorted(set(listed)) == sorted(folders)
    changed = root / "tiny-bert-embed-F32.gguf"
    os.utime(changed, ns=(1, 1))
    items, opened, _ = read_watched(root, known)
    assert sorted(items) == ["Found"] + ["Unchanged"] * 7
    assert set(opened) == {str(changed)}


def test_an_unchanged_model_keeps_its_place(tmp_path: Path) -> None:
    path = put(tmp_path / "x.gguf")
    st = path.stat()
    known = {str(path): KnownFile(st.st_size, st.st_mtime_ns, "file://box/elsewhere")}
    (item,) = read(tmp_path, Context(host="box", now="now", known=known))
    assert isinstance(item, Unchanged)
    assert item.locator == "file://box/elsewhere"
    assert item.place is not None
    assert item.place.locator == str(path)


def test_progress_tells_what_is_read(tmp_path: Path) -> None:
    told: list[tuple[str, int]] = []
    context = Context(
        host="box", now="now", progress=lambda what, count, *_rest: told.append((what, count))
    )
    first, second = put(tmp_path / "a.gguf"), put(tmp_path / "b.gguf")
    read(tmp_path, context)
    assert told == [(str(first), 1), (str(second), 2)]


def test_a_gguf_file_alone_brings_what_belongs_to_it(tmp_path: Path) -> None:
    shard = next((TINY / "tiny-qwen3").glob("*-00002-of-*"))
    (item,) = directory.SOURCES["gguf"].read(Target(str(shard)), CONTEXT)
    assert isinstance(item, Found)
    assert [file.role for file in item.files] == ["shard"] * 3
    (whole,) = read(shard.parent)
    assert isinstance(whole, Found)
    assert item.model == whole.model
    for part in shard.parent.iterdir():
        (tmp_path / part.name).symlink_to(part)
    (linked,) = directory.SOURCES["gguf"].read(Target(str(tmp_path / shard.name)), CONTEXT)
    assert isinstance(linked, Found)
    assert linked.model == whole.model
    bad = hostile.write(tmp_path / "bad.gguf", b"GGUF")
    assert list(directory.SOURCES["gguf"].read(Target(str(bad)), CONTEXT)) == [
        Skipped(str(bad), "ends within its header, at 4 bytes")
    ]
    unnamed = put(tmp_path / "blob")
    (item,) = directory.SOURCES["gguf"].read(Target(str(unnamed)), CONTEXT)
    assert isinstance(item, Found)
    assert item.model.name == "blob"
    with pytest.raises(SourceError, match=os.strerror(errno.ENOENT)):
        list(directory.SOURCES["gguf"].read(Target(str(tmp_path / "none.gguf")), CONTEXT))
    assert "tiny-mistral" not in names(
        list(directory.SOURCES["gguf"].read(Target(str(TINY)), CONTEXT))
    )


@needs_posix
def test_a_fifo_as_the_target_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.gguf")
    with pytest.raises(SourceError, match="is a FIFO, not a file"):
        list(directory.SOURCES["gguf"].read(Target(str(tmp_path / "fifo.gguf")), CONTEXT))
