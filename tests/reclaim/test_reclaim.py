"""Stores as their programs leave them, and what of them could be freed. Nothing may be touched."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelstore.reclaim import commands
from tests.cli.inside import inside
from tests.sources.stores.fake_hub import FakeHub, serving
from tests.sources.stores.making import sha256, write_gguf
from tests.sources.stores.test_ollama import Store

A, B, C = "a" * 40, "b" * 40, "c" * 40
REPO = "org/Tiny-GGUF"
needs_links = pytest.mark.skipif(os.name == "nt", reason="a user may not make links there")


def age(*roots: Path, hours: float = 2) -> None:
    """Let all files below be older than any download that runs."""
    then = time.time() - hours * 3600
    for root in roots:
        for path in [root, *root.rglob("*")]:
            if path.is_file() and not path.is_symlink():
                os.utime(path, (then, then))


def state(*roots: Path) -> list[tuple[str, int, int]]:
    """Every name below some directories, with the inode, the size and the time of the file."""
    found = []
    for root in roots:
        for path in sorted(root.rglob("*")):
            status = path.lstat()
            found.append((str(path), status.st_ino, status.st_mtime_ns))
    return found


class Machine:
    """A catalogue of some places, and reports on it that leave these places as they are."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.db = directory / "catalogue.db"

    def take(self, *roots: Path) -> None:
        done = inside("import", *roots, "--allow-empty", "--db", self.db)
        assert done.code in (0, 6), done.err

    def json(self, *options: str) -> dict[str, Any]:
        before = state(self.directory / "disk")
        done = inside("list", *options, "--json", "--db", self.db)
        assert done.code == 0, done.err
        assert state(self.directory / "disk") == before
        return json.loads(done.out)  # type: ignore[no-any-return]

    def duplicates(self, *words: str) -> list[dict[str, Any]]:
        return self.json("--duplicates", *words)["duplicates"]  # type: ignore[no-any-return]


@pytest.fixture(name="machine")
def _machine(tmp_path: Path) -> Machine:
    (tmp_path / "disk").mkdir()
    return Machine(tmp_path)


@pytest.fixture(name="disk")
def _disk(machine: Machine) -> Path:
    return machine.directory / "disk"


def model(path: Path, name: str = "Tiny") -> Path:
    write_gguf(path, name=name)
    return path


def download(disk: Path, *files: tuple[str, str, bytes], main: str) -> Path:
    """Fill a hub's cache as its own library does: (commit, path, content)."""
    hub = FakeHub(main={REPO: main})
    for commit, name, content in files:
        hub.repos.setdefault(REPO, {}).setdefault(commit, {})[name] = content
    with serving(hub):
        for commit, name, _ in files:
            huggingface_hub.hf_hub_download(
                REPO,
                name,
                revision="main" if commit == main else commit,
                cache_dir=disk / "hub",
                endpoint=hub.url,
            )
    return disk / "hub"


def paths_of(duplicate: dict[str, Any]) -> set[str]:
    return {path for copy in duplicate["copies"] for path in copy["paths"]}


def test_an_empty_catalogue_has_nothing_to_free(machine: Machine, disk: Path) -> None:
    model(disk / "one.gguf")
    machine.take(disk)
    assert machine.json("--reclaim")["bytes"] == 0
    done = inside("list", "--reclaim", "-f", "table", "--db", machine.db)
    assert done.out.startswith("nothing can be freed\n")
    done = inside("list", "--duplicates", "-f", "table", "--db", machine.db)
    assert done.out.startswith("no file is there twice\n")


def test_loose_copies_may_be_the_same_until_they_are_hashed(machine: Machine, disk: Path) -> None:
    one = model(disk / "a" / "one.gguf")
    two = disk / "b" / "two.gguf"
    two.parent.mkdir()
    shutil.copy(one, two)
    model(disk / "other.gguf", name="Tony")  # of the same size
    size = one.stat().st_size
    assert (disk / "other.gguf").stat().st_size == size
    machine.take(disk)
    [found] = machine.duplicates()
    assert (found["certain"], found["sha256"], found["size"]) == (False, None, size)
    assert (found["frees"], paths_of(found)) == (size, {str(one), str(two)})
    assert [copy["command"] for copy in found["copies"]] == [None, None]
    assert inside("verify", machine.db, "--hash", "--skip", "drill").code == 0
    [found] = machine.duplicates()
    assert (found["certain"], found["sha256"]) == (True, sha256(one.read_bytes()))
    assert [copy["command"] for copy in found["copies"]] == [None, f"rm -- {two}"]
    machine.take(disk)  # joins the two rows into one, which still has two copies
    assert inside("list", "--count", "--db", machine.db).out == "2\n"
    [found] = machine.duplicates()
    assert (found["frees"], paths_of(found)) == (size, {str(one), str(two)})


@needs_links
def test_names_of_one_file_are_no_duplicates(machine: Machine, disk: Path) -> None:
    one = model(disk / "one.gguf")
    (disk / "hard").mkdir()
    os.link(one, disk / "hard" / "again.gguf")
    (disk / "soft.gguf").symlink_to(one)
    machine.take(disk)
    assert machine.duplicates() == []


@needs_links
def test_a_copy_with_another_name_elsewhere_frees_nothing(
    machine: Machine, disk: Path, tmp_path: Path
) -> None:
    one, two = model(disk / "one.gguf"), disk / "two.gguf"
    shutil.copy(one, two)
    os.link(two, tmp_path / "unknown.gguf")
    machine.take(disk)
    [found] = machine.duplicates()
    frees = {copy["paths"][0]: copy["frees"] for copy in found["copies"]}
    assert frees == {str(one): one.stat().st_size, str(two): 0}
    assert found["frees"] == one.stat().st_size  # the other one stays


def test_what_changed_since_the_import_is_looked_at(machine: Machine, disk: Path) -> None:
    one, two, three = (disk / f"{name}.gguf" for name in ("one", "two", "three"))
    model(one)
    shutil.copy(one, two)
    shutil.copy(one, three)
    machine.take(disk)
    assert len(machine.duplicates()[0]["copies"]) == 3
    model(two, name="Tony")
    three.unlink()
    assert machine.duplicates() == []


def test_the_shards_of_one_model_are_one_set(machine: Machine, disk: Path) -> None:
    names = [f"big-0000{number}-of-00003.gguf" for number in (1, 2, 3)]
    for number, name in enumerate(names):
        model(disk / "a" / name, name=f"part {number}")
    shutil.copytree(disk / "a", disk / "b")
    machine.take(disk)
    [found] = machine.duplicates()
    assert found["size"] == sum((disk / "a" / name).stat().st_size for name in names)
    assert [len(copy["paths"]) for copy in found["copies"]] == [3, 3]
    assert found["frees"] == found["size"]


def test_equal_shards_of_one_model_are_no_duplicates(machine: Machine, disk: Path) -> None:
    for number in (1, 2):
        model(disk / f"same-0000{number}-of-00002.gguf")
    machine.take(disk)
    assert machine.duplicates() == []


def test_words_choose_the_models(machine: Machine, disk: Path) -> None:
    for name in ("apple", "pear"):
        model(disk / "a" / f"{name}.gguf", name=f"{name:<10}")
        (disk / "b").mkdir(exist_ok=True)
        shutil.copy(disk / "a" / f"{name}.gguf", disk / "b")
    machine.take(disk)
    assert len(machine.duplicates()) == 2
    [found] = machine.duplicates("pear")
    assert {Path(path).name for path in paths_of(found)} == {"pear.gguf"}


@needs_links
def test_every_store_says_how_its_copy_goes(machine: Machine, disk: Path) -> None:
    """One content in Ollama under two tags, in the hub, in LM Studio, and loose."""
    content = model(disk / "loose" / "it's.gguf").read_bytes()
    store = Store(disk / "ollama")
    layer = store.layer("model", content)
    for tag in ("latest", "8b"):
        store.tag(f"registry.ollama.ai/library/tiny/{tag}", layer)
    hub = download(disk, (A, "sub/Tiny-F32.gguf", content), main=A)
    studio = disk / ".lmstudio" / "models" / "lab" / "Tiny" / "t.gguf"
    studio.parent.mkdir(parents=True)
    studio.write_bytes(content)
    machine.take(disk / "ollama", hub, disk / ".lmstudio" / "models", disk / "loose")
    [found] = machine.duplicates()
    told = {copy["source"]: copy["command"] for copy in found["copies"]}
    assert told == {
        "huggingface": None,  # it is kept
        "ollama": "ollama rm tiny:8b tiny:latest",
        "lmstudio": None,  # it may be another
        "directory": None,
    }
    assert found["frees"] == 3 * len(content)
    assert inside("verify", machine.db, "--hash", "--skip", "drill").code == 0
    [found] = machine.duplicates()
    told = {copy["source"]: copy["command"] for copy in found["copies"]}
    loose = disk / "loose" / "it's.gguf"
    assert told == {
        "lmstudio": None,
        "huggingface": f"hf cache rm hf://models/{REPO}/sub/Tiny-F32.gguf --cache-dir {hub}",
        "ollama": "ollama rm tiny:8b tiny:latest",
        "directory": f"rm -- {shlex.quote(str(loose))}",
    }
    subprocess.run(["sh", "-c", told["directory"]], check=True)
    [found] = machine.duplicates()
    assert len(found["copies"]) == 3


@needs_links
def test_the_hubs_own_program_takes_the_commands(machine: Machine, disk: Path) -> None:
    one, two = (model(disk / f"{n}.gguf", name=n).read_bytes() for n in ("one", "two!"))
    for path in disk.glob("*.gguf"):
        path.unlink()
    hub = download(
        disk,
        *((B, "one.gguf", one), (B, "two.gguf", two), (C, "two.gguf", two), (A, "one.gguf", one)),
        main=A,
    )
    age(hub)
    machine.take(hub)
    report = machine.json("--reclaim")
    [left] = report["superseded"]
    theirs = huggingface_hub.scan_cache_dir(hub).delete_revisions(B, C)
    assert left["bytes"] == report["bytes"] == theirs.expected_freed_size == len(two)
    assert {Path(path).name for path in left["paths"]} == {B, C}
    words = shlex.split(left["command"])
    assert words[:3] == ["hf", "cache", "rm"]
    command = [sys.executable, "-m", "huggingface_hub.cli.hf", *words[1:], "--yes"]
    subprocess.run(command, check=True, capture_output=True)
    assert machine.json("--reclaim")["superseded"] == []
    assert sum(path.is_file() for path in (hub / "models--org--Tiny-GGUF" / "blobs").iterdir()) == 1


@needs_links
def test_the_only_revision_of_a_repository_is_not_superseded(machine: Machine, disk: Path) -> None:
    """A program may ask for it by its commit."""
    content = model(disk / "x.gguf").read_bytes()
    (disk / "x.gguf").unlink()
    hub = download(disk, (A, "one.gguf", content), main=B)
    age(hub)
    machine.take(hub)
    assert machine.json("--reclaim")["bytes"] == 0


@needs_links
def test_a_superseded_revision_is_no_copy_of_a_duplicate(machine: Machine, disk: Path) -> None:
    old, new = (model(disk / "made.gguf", name=n).read_bytes() for n in ("old1", "new1"))
    hub = download(disk, (B, "t.gguf", old), (A, "t.gguf", new), main=A)
    (disk / "made.gguf").write_bytes(old)
    age(hub)
    machine.take(disk)
    assert machine.json("--duplicates")["bytes"] == len(old)
    report = machine.json("--reclaim")
    assert (report["duplicates"], report["bytes"]) == ([], len(old))  # and not twice that


@needs_links
def test_broken_downloads_and_orphans_of_the_hub(machine: Machine, disk: Path) -> None:
    content = model(disk / "x.gguf").read_bytes()
    (disk / "x.gguf").unlink()
    hub = download(disk, (A, "one.gguf", content), main=A)
    blobs = hub / "models--org--Tiny-GGUF" / "blobs"
    (blobs / f"{'1' * 64}.incomplete").write_bytes(b"x" * 5000)
    (blobs / ("2" * 64)).write_bytes(b"y" * 7000)
    age(hub)
    machine.take(hub)
    report = machine.json("--reclaim")
    assert [one["bytes"] for one in report["unfinished"]] == [5000]
    assert [one["bytes"] for one in report["orphan"]] == [7000]
    assert report["orphan"][0]["command"] == f"rm -- {blobs / ('2' * 64)}"


def ollama(disk: Path) -> Store:
    store = Store(disk / "ollama")
    content = model(disk / "made.gguf").read_bytes()
    (disk / "made.gguf").unlink()
    store.tag("registry.ollama.ai/library/kept/latest", store.layer("model", content))
    return store


def test_orphans_and_broken_downloads_of_ollama(machine: Machine, disk: Path) -> None:
    store = ollama(disk)
    orphan = store.root / "blobs" / f"sha256-{store.blob(b'o' * 9000)}"
    part = store.root / "blobs" / f"sha256-{'3' * 64}-partial"
    with part.open("wb") as file:  # as Ollama does: a file of holes with the final size
        file.write(b"p" * 65_536)
        file.truncate(50 << 20)
    (store.root / "blobs" / f"{part.name}-0").write_text('{"N":0,"Offset":0,"Size":50}')
    age(store.root)
    machine.take(store.root)
    report = machine.json("--reclaim")
    assert [(one["bytes"], one["paths"]) for one in report["orphan"]] == [(9000, [str(orphan)])]
    [left] = report["unfinished"]
    assert left["paths"] == [str(part), f"{part}-0"]
    assert 65_536 <= left["bytes"] < 1 << 20
    for one in (*report["orphan"], left):
        subprocess.run(["sh", "-c", one["command"]], check=True)
    after = machine.json("--reclaim")
    assert after["bytes"] == 0
    assert inside("verify", machine.db, "--skip", "drill").code == 0  # the model is whole


@pytest.mark.skipif(os.name == "nt", reason="links")
def test_blobs_that_are_manifests_are_no_orphans(machine: Machine, disk: Path) -> None:
    store = ollama(disk)
    kept = store.root / "manifests/registry.ollama.ai/library/kept/latest"
    other = store.tag("registry.ollama.ai/library/other/latest", store.layer("model", b"o" * 9000))
    absent = {"digest": "sha256:" + "a" * 64}
    new = store.move_to_v2(kept, ("ggml", kept), ("llamacpp", other), ("mlx", absent))
    for old in (kept, other):
        old.unlink()
    dangling = new.with_name("gone")
    dangling.symlink_to("../../../../blobs/sha256-" + "b" * 64)
    age(store.root)
    machine.take(store.root)
    report = machine.json("--reclaim")
    assert (report["bytes"], report["notes"]) == (0, [])
    new.unlink()
    assert len(machine.json("--reclaim")["orphan"]) == 6  # list, manifests, config, weights


@pytest.mark.parametrize("recent", ["blob", "partial"])
def test_a_download_that_may_be_running_is_left_out(
    machine: Machine, disk: Path, recent: str
) -> None:
    store = ollama(disk)
    blob = store.root / "blobs" / f"sha256-{store.blob(b'o' * 9000)}"
    part = store.root / "blobs" / f"sha256-{'3' * 64}-partial"
    part.write_bytes(b"p" * 5000)
    age(store.root)
    os.utime(blob if recent == "blob" else part)
    machine.take(store.root)
    report = machine.json("--reclaim")
    left = [one["bytes"] for kind in ("orphan", "unfinished") for one in report[kind]]
    assert left == ([5000] if recent == "blob" else [])
    assert len(report["notes"]) == 1


def test_no_blob_is_an_orphan_beside_a_manifest_that_cannot_be_read(
    machine: Machine, disk: Path
) -> None:
    store = ollama(disk)
    store.blob(b"o" * 9000)
    manifest = store.root / "manifests/registry.ollama.ai/library/other/latest"
    manifest.parent.mkdir(parents=True)
    manifest.write_text('{"layers": [{"digest"')
    age(store.root)
    machine.take(store.root)
    report = machine.json("--reclaim")
    assert report["orphan"] == []
    assert "orphans of" in report["notes"][0]


@needs_links
def test_the_shards_of_a_split_model_go_with_their_other_names(
    machine: Machine, disk: Path, tmp_path: Path
) -> None:
    store = ollama(disk)
    blobs = store.root / "blobs"
    orphan, held = (blobs / f"sha256-{store.blob(byte * 9000)}" for byte in (b"o", b"h"))
    split = blobs / "splits" / ("4" * 64) / "m-00001-of-00002.gguf"
    split.parent.mkdir(parents=True)
    os.link(orphan, split)
    os.link(held, tmp_path / "elsewhere.gguf")
    age(store.root)
    machine.take(store.root)
    report = machine.json("--reclaim")
    [left] = report["orphan"]
    assert left["paths"] == [str(orphan), str(split)]
    assert "frees nothing" in " ".join(report["notes"])


def test_broken_downloads_among_loose_files(machine: Machine, disk: Path) -> None:
    model(disk / "kept.gguf")
    names = ("a.gguf.part", "b.gguf.incomplete", "c.safetensors.crdownload", "d.txt.part")
    for name in names:
        (disk / "Downloads").mkdir(exist_ok=True)
        (disk / "Downloads" / name).write_bytes(b"x" * 4096)
    store = Store(disk / "ollama")  # no model of it is in the catalogue
    store.blob(b"o" * 9000)
    (store.root / "manifests").mkdir()
    age(disk)
    os.utime(disk / "Downloads" / names[1])
    machine.take(disk)
    report = machine.json("--reclaim")
    assert {Path(one["paths"][0]).name for one in report["unfinished"]} == {names[0], names[2]}
    assert [one["bytes"] for one in report["orphan"]] == [9000]
    assert report["bytes"] == 2 * 4096 + 9000


def test_a_broken_download_of_docker(machine: Machine, disk: Path) -> None:
    root = disk / "docker"
    blobs = root / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    (root / "manifests").mkdir()
    (root / "models.json").write_text('{"models": []}')
    (blobs / f"{'5' * 64}.incomplete").write_bytes(b"x" * 4096)
    model(disk / "kept.gguf")
    age(disk)
    machine.take(disk)
    assert [one["source"] for one in machine.json("--reclaim")["unfinished"]] == ["docker-models"]


def test_only_the_repository_that_was_imported_is_looked_at(machine: Machine, disk: Path) -> None:
    for name in ("one", "two"):
        blobs = disk / "hub" / f"models--org--{name}" / "blobs"
        blobs.mkdir(parents=True)
        (blobs.parent / "snapshots" / A).mkdir(parents=True)
        model(blobs.parent / "snapshots" / A / "m.gguf", name=name)
        (blobs / ("6" * 64)).write_bytes(b"x" * 4096)
    age(disk)
    machine.take(disk / "hub" / "models--org--one")
    assert [one["name"] for one in machine.json("--reclaim")["orphan"]] == ["org/one"]


def test_another_machines_files_count_by_their_hash(machine: Machine, disk: Path) -> None:
    one, two = model(disk / "one.gguf"), disk / "two.gguf"
    shutil.copy(one, two)
    done = inside("import", disk, "--host", "elsewhere", "--db", machine.db)
    assert done.code == 0
    assert machine.duplicates() == []
    store = ollama(disk)
    shutil.copy(next((store.root / "blobs").iterdir()), disk / "three.gguf")
    assert machine.json("--reclaim")["bytes"] == 0


def rows(text: str) -> Iterable[list[str]]:
    return [line.split("\t") for line in text.splitlines()]


def test_every_format(machine: Machine, disk: Path) -> None:
    one = model(disk / "one.gguf")
    shutil.copy(one, disk / "two.gguf")
    (disk / "x.gguf.part").write_bytes(b"x" * 4096)
    age(disk)
    machine.take(disk)
    size = one.stat().st_size
    header, *told = rows(inside("list", "--reclaim", "--db", machine.db).out)  # in a pipe
    assert header[:4] == ["kind", "group", "frees", "certain"]
    assert [row[0] for row in told] == ["duplicate", "duplicate", "unfinished"]
    assert [row[1] for row in told] == ["1", "1", "2"]
    assert [*rows(inside("list", "--reclaim", "--no-header", "--db", machine.db).out)] == told
    lines = inside("list", "--reclaim", "-f", "jsonl", "--db", machine.db).out.splitlines()
    assert [json.loads(line)["frees"] for line in lines] == [size, size, 4096]
    words = inside("list", "--reclaim", "-f", "table", "--db", machine.db).out
    assert f"maybe the same: {disk / 'two.gguf'}" in words
    assert "2 copies of" in words
    assert "may be the same" in words
    report = machine.json("--reclaim")
    assert (report["format_version"], report["command"]) == (1, "list")
    assert report["bytes"] == size + 4096


@pytest.mark.parametrize(
    "options",
    [
        ["--duplicates", "-c", "name"],
        ["--reclaim", "--limit", "1"],
        ["--reclaim", "-q"],
        ["--reclaim", "qwen"],
        ["--reclaim", "--arch", "llama"],
        ["--duplicates", "-f", "preset"],
    ],
)
def test_options_that_do_not_fit(machine: Machine, disk: Path, options: list[str]) -> None:
    model(disk / "one.gguf")
    machine.take(disk)
    done = inside("list", *options, "--db", machine.db)
    assert (done.code, done.out) == (2, "")
    assert "hint: " in done.err


def test_another_programs_database_knows_no_files(tmp_path: Path) -> None:
    import sqlite3

    path = tmp_path / "other.db"
    conn = sqlite3.connect(path)
    conn.execute("CREATE TABLE models (id, name)")
    conn.commit()
    conn.close()
    done = inside("list", "--duplicates", "--db", path)
    assert (done.code, done.out) == (3, "")


@pytest.mark.skipif(os.name == "nt", reason="a shell of POSIX")
@settings(max_examples=20, deadline=None)
@given(st.lists(st.text(st.characters(exclude_characters="\0"), min_size=1), min_size=1))
def test_a_shell_reads_the_words_back(words: list[str]) -> None:
    words = [os.fsdecode(word.encode("utf-8", "surrogatepass")) for word in words]
    line = commands.joined("printf", r"%s\0", *words)
    assert "\x1b" not in line
    if shutil.which("bash"):
        done = subprocess.run(["bash", "-c", line], capture_output=True, check=True)
        assert done.stdout.split(b"\0")[:-1] == [os.fsencode(word) for word in words]
