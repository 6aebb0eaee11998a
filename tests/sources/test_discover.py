from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from modelstore.sources import discover, kinds
from modelstore.sources.files.usual_places import PROGRAMS
from modelstore.sources.servers import lmstudio_server, ollama_server
from tests.sources.servers.fake_server import FakeServer, serving
from tests.sources.stores.making import context, unprivileged

if TYPE_CHECKING:
    from pathlib import Path


def test_places_that_exist_and_those_that_do_not(tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    hub.mkdir()
    (tmp_path / "ollama").mkdir()
    ctx = context(
        home=str(tmp_path / "home"),
        environ={"HF_HUB_CACHE": str(hub), "OLLAMA_MODELS": str(tmp_path / "ollama")},
    )
    places = {place.kind: place for place in discover.places(ctx)}
    assert places["huggingface"].path == str(hub)
    assert places["huggingface"].exists
    assert places["huggingface"].why == kinds.KINDS["huggingface"].summary
    assert places["ollama"].exists
    assert not places["llama-cache"].exists
    assert places["llama-cache"].why == "does not exist"
    assert {"directory", "lmstudio", "dashboard"} <= set(places)


def test_every_kind_with_a_usual_place_is_looked_for(tmp_path: Path) -> None:
    found = {place.kind for place in discover.places(context(home=str(tmp_path)))}
    assert found == {
        kind for kind, info in kinds.KINDS.items() if info.has_usual_place and not info.is_server
    }


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_directories_of_programs_are_looked_into(tmp_path: Path, program: str) -> None:
    inside = next(place for place in PROGRAMS[program] if place.startswith("~/"))[2:]
    (tmp_path / inside).mkdir(parents=True)
    ctx = context(home=str(tmp_path))
    there = [place for place in discover.places(ctx) if place.exists and place.kind == "directory"]
    assert [place.path for place in there] == [str(tmp_path / inside)]


def test_a_directory_that_a_variable_names_is_looked_into(tmp_path: Path) -> None:
    ctx = context(home=str(tmp_path / "home"), environ={"LOCALAI_MODELS_PATH": str(tmp_path)})
    assert str(tmp_path) in [place.path for place in discover.places(ctx)]
    relative = context(home=str(tmp_path), environ={"LOCALAI_MODELS_PATH": "."})
    assert all(os.path.isabs(place.path) for place in discover.places(relative))


def test_one_place_of_two_kinds_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    ctx = context(
        home=str(tmp_path),
        environ={
            "HF_HUB_CACHE": str(tmp_path / "cache"),
            "LLAMA_CACHE": f"{tmp_path}/./cache/",
        },
    )
    paths = [os.path.realpath(place.path) for place in discover.places(ctx)]
    assert paths.count(os.path.realpath(tmp_path / "cache")) == 1
    assert len(paths) == len(set(paths))


@pytest.mark.skipif(os.name == "nt", reason="permissions")
def test_place_that_may_not_be_read() -> None:
    with unprivileged() as folder:
        (folder / "closed").mkdir(mode=0)
        ctx = context(home=str(folder), environ={"OLLAMA_MODELS": str(folder / "closed")})
        [place] = [one for one in discover.places(ctx) if one.kind == "ollama"]
    assert not place.exists
    assert place.why == "cannot be read by this user"


def test_place_that_is_no_path(tmp_path: Path) -> None:
    ctx = context(home=str(tmp_path), environ={"HF_HUB_CACHE": "/" + "x" * 5000})
    [place] = [one for one in discover.places(ctx) if one.kind == "huggingface"]
    assert not place.exists
    assert place.why.startswith("cannot be read")


def test_no_network_unless_asked(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "sys.addaudithook(lambda event, _: event.startswith('socket.') and sys.exit('network'))\n"
        "from modelstore.sources import discover\n"
        "from modelstore.sources.base import Context\n"
        f"ctx = Context(host='h', now='', home={str(tmp_path)!r})\n"
        "print(len(list(discover.places(ctx))) > 5)\n"
        "print([name for name in ('urllib3', 'numpy', 'yaml') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n[]\n"


def test_servers_are_looked_for_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tag = {"name": "x:latest", "model": "x:latest", "size": 1}
    fake = FakeServer({"/v1/models": {"data": [{"id": "x"}]}, "/api/tags": {"models": [tag]}})
    with serving(fake):
        monkeypatch.setattr(lmstudio_server, "usual_places", lambda _: ["http://127.0.0.1:1"])
        ctx = context(home=str(tmp_path), environ={"OLLAMA_HOST": fake.url, "LLAMA_ARG_PORT": "1"})
        assert ollama_server.usual_places(ctx) == [fake.url]
        places = list(discover.places(ctx, ask_servers=True))
    answering = {place.path: place for place in places if "://" in place.path}
    assert answering[fake.url].kind == "ollama-server"
    assert answering[fake.url].exists
    absent = answering["http://127.0.0.1:1"]
    assert not absent.exists
    assert "does not answer" in absent.why
    assert len(answering) == 2  # the same address, of two kinds, is asked once
