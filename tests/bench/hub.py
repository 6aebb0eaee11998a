"""A Hugging Face cache: our import and list beside ``hf cache ls``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from tests.bench.data import write_gguf
from tests.bench.measure import Command, FailedError, Sample, alternate, output, run
from tests.bench.place import Place, program, remove_database
from tests.bench.row import Row, compared, missing


def bench(place: Place) -> Iterator[Row]:
    """Yield the rows."""
    count = place.size(300, 50)
    what, peer = f"import of a Hugging Face cache of {count} repositories", "hf cache ls"
    hub = place.peer("huggingface_hub", "hf")
    if hub is None:
        yield missing("hub", what, peer)
        return
    cache = make_cache(place.directory / "hub", count)
    database = place.directory / "hub.db"
    theirs: Command = [hub, "cache", "ls", "--cache-dir", cache]

    def ours() -> Sample:
        remove_database(database)
        return run([*program(), "import", cache, "--from", "huggingface", "--db", database])

    ours()
    listed = json.loads(output([*program(), "list", "--json", "--db", database]))
    said = output([*theirs, "-q"])
    names = {line.strip().removeprefix("model/") for line in said.splitlines() if "/" in line}
    if len(listed) != count or len(names) != count:
        raise FailedError(f"{len(listed)} models here, {len(names)} there, of {count}")
    pairs = alternate(ours, lambda: run(theirs), place.rounds)
    yield compared("hub", what, peer, pairs, note="same repositories")


def make_cache(cache: Path, count: int) -> Path:
    """Make a cache as its documentation has it: blobs, snapshots that link to them, and refs."""
    for number in range(count):
        home = cache / f"models--org--model-{number:04d}-GGUF"
        commit = hashlib.sha1(str(number).encode()).hexdigest()
        snapshot = home / "snapshots" / commit
        for directory in (home / "blobs", home / "refs", snapshot):
            directory.mkdir(parents=True)
        (home / "refs" / "main").write_text(commit)
        blob = home / "blobs" / hashlib.sha256(str(number).encode()).hexdigest()
        write_gguf(blob, number, 100_000)
        (snapshot / f"model-{number:04d}-7B-F32.gguf").symlink_to(f"../../blobs/{blob.name}")
    return cache
