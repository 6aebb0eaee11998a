"""Listings of a fleet: files, a store that speaks S3, NATS, and servers that lie."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.errors import SourceError
from modelstore.replica.fleet import Member, members_of, newest
from modelstore.replica.name import ReplicaName
from tests.replica.litestream import (
    LITESTREAM,
    TABLE,
    change,
    make,
    needs_litestream,
    numbered,
    replicate_once,
)
from tests.replica.stores import make_bucket, nats_server, needs_nats
from tests.waiting import wait_until


def _file(last: int) -> str:
    return f"{1:016x}-{last:016x}.ltx"


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["den", "box", ""]),
            st.sampled_from([_file(1), _file(2), _file(10), "other.txt", ""]),
            st.none() | st.floats(0, 9),
        ),
        max_size=9,
    )
)
def test_a_members_position_is_the_last_transaction_that_a_file_names(
    files: list[tuple[str, str, float | None]],
) -> None:
    found = {member.name: member for member in newest(files)}
    for name in ("den", "box"):
        named = {
            int(file[17:33], 16): at for host, file, at in files if host == name and len(file) == 37
        }
        assert (name in found) == bool(named)
        if named:
            assert found[name].txid == max(named)
    assert "" not in found


def test_a_position_does_not_move_when_files_are_compacted() -> None:
    before = newest([("den", _file(2), 5.0), ("den", _file(7), 9.0)])
    after = newest([("den", _file(7), 9.0), ("den", _file(7), 30.0)])
    assert before == after == [Member("den", 7, 9.0)]


def test_a_directory_is_listed_and_other_files_are_left_out(tmp_path: Path) -> None:
    for host, last in (("den", 3), ("box", 12), ("den\x1b[31m", 1)):
        level = tmp_path / host / "ltx" / "0"
        level.mkdir(parents=True)
        (level / _file(last)).touch()
        os.utime(level / _file(last), (77, 77))
    (tmp_path / "readme.txt").touch()
    (tmp_path / "empty").mkdir()
    members = members_of(ReplicaName(f"file://{tmp_path}"), timeout=1)
    assert [(m.name, m.txid, m.at) for m in members if m.has_good_name] == [
        ("box", 12, 77.0),
        ("den", 3, 77.0),
    ]
    with pytest.raises(SourceError):
        members_of(ReplicaName(f"file://{tmp_path}/none"), timeout=1)
    with pytest.raises(SourceError):
        members_of(ReplicaName("gs://bucket/fleet"), timeout=1)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a?endpoint=http://other", "a#b", "a%2f", "a b", "a&b", "é", "a\n"]
)
def test_a_name_that_could_change_the_url_is_no_hosts(name: str) -> None:
    assert not Member(name, 1, None).has_good_name


@needs_litestream
def test_real_replicas_in_files_are_listed(tmp_path: Path) -> None:
    database = make(tmp_path / "app.db", TABLE + numbered(1, 10))
    replicate_once(database, tmp_path / "fleet" / "den")
    (member,) = members_of(ReplicaName(f"file://{tmp_path}/fleet"), timeout=1)
    change(database, numbered(11, 20))
    replicate_once(database, tmp_path / "fleet" / "den")
    (later,) = members_of(ReplicaName(f"file://{tmp_path}/fleet"), timeout=1)
    assert later.txid > member.txid


@contextmanager
def _web(pages: list[tuple[int, bytes]]) -> Iterator[tuple[str, list[str]]]:
    """Answer each request with the next page; yield the endpoint, and the requests so far."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = pages[min(len(asked), len(pages) - 1)]
            asked.append(f"{self.path} {self.headers.get('Authorization', '')}")
            self.send_response(status)
            self.send_header("Location", "http://127.0.0.1:9/")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _page(*keys: str, token: str = "") -> bytes:
    items = "".join(
        f"<Contents><Key>{key}</Key><LastModified>2026-11-28T06:00:00Z</LastModified></Contents>"
        for key in keys
    )
    more = f"<NextContinuationToken>{token}</NextContinuationToken>" if token else ""
    return (
        '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<IsTruncated>{str(bool(token)).lower()}</IsTruncated>{more}{items}</ListBucketResult>"
    ).encode()


def test_a_bucket_is_listed_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITESTREAM_ACCESS_KEY_ID", "hush")
    monkeypatch.setenv("LITESTREAM_SECRET_ACCESS_KEY", "hush-hush")
    pages = [
        (200, _page(f"a/fleet/den/0000/{_file(4)}", "b/other", token="to/ken")),
        (200, _page(f"a/fleet/box/0001/{_file(15)}", "a/fleet/box/notes.txt")),
    ]
    with _web(pages) as (endpoint, asked):
        members = members_of(ReplicaName(f"s3://bucket/a/fleet?endpoint={endpoint}"), timeout=9)
    assert [(member.name, member.txid) for member in members] == [("box", 15), ("den", 4)]
    assert members[0].at == 1795845600.0
    assert "prefix=a%2Ffleet%2F" in asked[0]
    assert "continuation-token=to%2Fken" in asked[1]
    assert "hush-hush" not in asked[0]
    assert "Credential=hush/" in asked[0]


@pytest.mark.parametrize(
    "answer",
    [
        (403, b""),
        (302, b""),
        (200, b"no xml"),
        (200, b'<!DOCTYPE x [<!ENTITY a "aaaa">]><x>&a;</x>'),
        (200, b"<x>" * 100_000),
        (200, b"<x>" + b"y" * (17 << 20)),
    ],
    ids=["forbidden", "redirect", "text", "entities", "deep", "large"],
)
def test_a_store_that_does_not_list_is_an_error(answer: tuple[int, bytes]) -> None:
    with _web([answer]) as (endpoint, asked), pytest.raises(SourceError):
        members_of(ReplicaName(f"s3://bucket/fleet?endpoint={endpoint}"), timeout=9)
    assert len(asked) == 1


def test_a_store_that_is_not_there_is_an_error() -> None:
    with pytest.raises(SourceError):
        members_of(ReplicaName("s3://bucket/fleet?endpoint=http://127.0.0.1:1"), timeout=1)
    with pytest.raises(SourceError):
        members_of(ReplicaName("nats://127.0.0.1:1/fleet"), timeout=1)


@pytest.mark.parametrize(
    "says",
    [
        b"220 mail.example ESMTP\r\n",
        b"INFO {}\r\n",
        b"INFO {}\r\n-ERR 'no'\r\n",
        b"INFO {}\r\nMSG in 1 99999999999\r\n",
        b"INFO {}\r\nMSG in 1 2\r\n[]\r\n",
        b'INFO {}\r\nMSG in 1 12\r\n{"error": 1}\r\n',
        b"x" * 100_000,
        b"INFO {}\r\n" + b"PING\r\n" * 2000,  # and on and on
    ],
)
def test_a_server_that_speaks_otherwise_is_an_error(says: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection, suppress(OSError):  # the client may have hung up
                connection.sendall(says)
                while says.endswith(b"PING\r\n"):
                    connection.sendall(b"PING\r\n")
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(1 << 16):
                    pass

        thread = threading.Thread(target=answer)
        thread.start()
        port = server.getsockname()[1]
        with pytest.raises(SourceError):
            members_of(ReplicaName(f"nats://127.0.0.1:{port}/fleet"), timeout=5)
        thread.join()


@needs_nats
@needs_litestream
def test_buckets_of_a_real_nats_server_are_listed(tmp_path: Path) -> None:
    import subprocess

    database = make(tmp_path / "app.db", TABLE + numbered(1, 10))
    with nats_server(tmp_path / "nats") as port:
        fleet = ReplicaName(f"nats://127.0.0.1:{port}/fleet")
        assert members_of(fleet, timeout=5) == []
        for bucket in ("fleet-den", "other"):
            wait_until(lambda bucket=bucket: make_bucket(port, bucket))  # type: ignore[misc]
        url = fleet.below("den").url or ""
        subprocess.run(
            [LITESTREAM, "replicate", "-once", str(database), url], check=True, capture_output=True
        )
        (member,) = members_of(fleet, timeout=5)
    assert (member.name, member.txid) == ("den", 1)
    assert member.at is not None
