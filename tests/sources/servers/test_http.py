from __future__ import annotations

import gc
import shutil
import ssl
import subprocess
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.errors import SourceError
from modelstore.sources.address import Address
from modelstore.sources.servers import http
from modelstore.sources.servers.http import MAX_BODY, Client, Exchange, Reply, ReplyError
from tests.sources.servers.fake_server import FakeServer, raw, serving, status
from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECRET = "sk-do-not-tell-0123456789"
OK = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with serving(FakeServer()) as running:
        yield running


def client(server: FakeServer, *, timeout: float = PATIENCE, key: str | None = None) -> Client:
    return Client(Address.parse(server.url), timeout, key)


def test_json_is_returned(server: FakeServer) -> None:
    server.answers["/v1/models"] = {"data": [1, None, "ü"]}
    assert client(server).get("/v1/models") == {"data": [1, None, "ü"]}
    assert "authorization" not in server.asked[0].headers


def test_post_sends_json(server: FakeServer) -> None:
    server.answers["/api/show"] = {}
    assert client(server).post("/api/show", {"model": "x"}) == {}
    assert (server.asked[0].method, server.asked[0].body) == ("POST", b'{"model": "x"}')


def test_path_of_the_address_goes_before(server: FakeServer) -> None:
    server.answers["/llm/v1/models"] = []
    assert Client(Address.parse(f"{server.url}/llm/v1/"), PATIENCE).get("/v1/models") == []


def test_chunked_reply(server: FakeServer) -> None:
    server.answers["/"] = raw(
        OK, b"Transfer-Encoding: chunked\r\n\r\n3\r\n[1,\r\n2\r\n2]\r\n0\r\n\r\n"
    )
    assert client(server).get("/") == [1, 2]


def test_key_is_sent(server: FakeServer) -> None:
    server.key = SECRET
    server.answers["/"] = "in"
    assert client(server, key=SECRET).get("/") == "in"


@pytest.mark.parametrize("code", [401, 403])
def test_refused_without_and_with_a_key(server: FakeServer, code: int) -> None:
    server.answers["/"] = code
    with pytest.raises(ReplyError, match="asks for an API key") as without:
        client(server).get("/")
    assert "MODELSTORE_API_KEY" in (without.value.hint or "")
    assert without.value.status == code
    with pytest.raises(ReplyError, match="refused the API key"):
        client(server, key=SECRET).get("/")


FAULTS = {
    "HTTP 500": status(500, b"{}"),
    "HTTP 404": 404,
    "not with JSON  ": status(204),
    "HTTP 304": status(304),
    "text/html, not with JSON": status(200, b"<!doctype html><p>", kind="text/html"),
    "no content type, not with JSON": raw(OK, b"Content-Length: 1\r\n\r\n<"),
    "nested too deeply": b"[" * 500_000,
    "nested too deeply ": b'{"a":' * 100_000,
    "too many values": b"[" + b"[]," * 1_000_001 + b"0]",
    "not UTF-8": b'"\xff\xfe\xfa"',
    "application/json, not with JSON": b"1" * 10_000,
    "sent more than 16": b" " * (MAX_BODY + 1),
    "sent more than 16 ": raw(OK, b"Content-Length: 104857600\r\n\r\n", again=b"[1,2," * 20_000),
    "sent more than 16  ": raw(OK, b"\r\n", again=b"[1,2," * 20_000),
    "compressed": status(200, b"\x1f\x8b\x08", Content_Encoding="gzip"),
    "broke off the reply": status(200, b"[1]", Content_Length="10"),
    "broke off the reply ": raw(b"220 mail.example.org ESMTP\r\n"),
    "broke off the reply  ": raw(),
    "broke off the reply   ": raw(OK, b"X: 1\r\n" * 200, b"\r\n[]"),
    "broke off the reply    ": raw(OK, b"X: " + b"y" * 100_000 + b"\r\n\r\n[]"),
    "broke off the reply     ": raw(OK, b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"),
    "not with JSON": raw(OK, b"Content-Length: 3\r\n\r\n[1,2,3]"),
    "not with JSON ": raw(OK, b"Content-Length: 0\r\n\r\n"),
    "redirects more than 3 times": status(302, Location="/"),
    "redirects more than 3 times ": status(302),
}


@pytest.mark.parametrize("expected", FAULTS)
def test_fault_is_named(server: FakeServer, expected: str) -> None:
    server.answers["/"] = FAULTS[expected]
    with pytest.raises(ReplyError) as caught:
        client(server, key=SECRET).get("/")
    assert expected.strip() in caught.value.message
    assert caught.value.message.startswith(server.url)
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert SECRET not in f"{caught.value!r} {caught.value.hint}"


@pytest.mark.parametrize(
    "answer",
    [
        raw(OK, b"X-Slow: ", again=b"x", pause=0.05),
        raw(OK, b"\r\n[", again=b" ", pause=0.05),
        raw(OK, b"Transfer-Encoding: chunked\r\n\r\n", again=b"1\r\n \r\n", pause=0.05),
        raw(again=b"HTTP/1.1 100 Continue\r\n\r\n", pause=0.05),
        raw(again=b"H", pause=0.05),
    ],
    ids=["head", "body", "chunks", "continue", "status"],
)
def test_a_reply_that_drips_ends_with_the_whole_request(server: FakeServer, answer: object) -> None:
    """Each byte arrives well within any timeout of a socket; the request does not."""
    server.answers["/"] = answer
    with pytest.raises(ReplyError) as caught:
        client(server, timeout=0.4).get("/")
    assert "did not answer / within 400 ms" in caught.value.message
    assert caught.value.status is None
    workers = [thread for thread in threading.enumerate() if thread.name == "modelstore-http"]
    for thread in workers:
        thread.join(PATIENCE)
        assert not thread.is_alive(), "the socket is cut, so that no thread goes on reading"


def test_redirects_share_one_deadline(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time is over once the server has answered with a redirect."""
    later = 0.0
    run = Exchange.run

    def slowly(*request: Any) -> Reply:
        nonlocal later
        reply = run(*request)
        later = PATIENCE
        return reply

    monkeypatch.setattr(http, "monotonic", lambda: time.monotonic() + later)
    monkeypatch.setattr(Exchange, "run", slowly)
    server.answers["/"] = status(302, Location="/a")
    server.answers["/a"] = "here"
    with pytest.raises(ReplyError, match="did not answer /a within"):
        client(server).get("/")
    assert client(server).get("/a") == "here"


def test_redirect_on_the_same_server_is_followed(server: FakeServer) -> None:
    server.answers["/"] = status(307, Location="/a?page=1")
    server.answers["/a?page=1"] = status(308, Location=f"{server.url}/b")
    server.answers["/b"] = "here"
    assert client(server, key=SECRET).get("/") == "here"
    server.answers["/old"] = status(303, Location="b")
    assert client(server).post("/old", {}) == "here"
    assert server.asked[-1].method == "GET"
    server.answers["/moved"] = status(307, Location="b")
    assert client(server).post("/moved", {"a": 1}) == "here"
    assert (server.asked[-1].method, server.asked[-1].body) == ("POST", b'{"a": 1}')


@pytest.mark.parametrize(
    "location",
    [
        "{other}/models",
        "//127.0.0.1:1/models",
        "https://127.0.0.1:{port}/",
        "http://127.0.0.1@{other_host}/",
        "file:///etc/passwd",
        "http://[::bad/",
        "http://127.0.0.1:999999/",
    ],
)
def test_redirect_to_another_server_is_refused(server: FakeServer, location: str) -> None:
    with serving(FakeServer({"/models": []}, url="")) as other:
        server.answers["/"] = status(
            302,
            Location=location.format(
                other=other.url,
                other_host=other.url.partition("//")[2],
                port=server.url.rpartition(":")[2],
            ),
        )
        with pytest.raises(ReplyError, match="redirects to another server"):
            client(server, key=SECRET).get("/")
        assert other.asked == []


def test_key_that_the_server_sends_back_is_not_told(server: FakeServer) -> None:
    server.answers["/"] = status(302, Location=f"/x?key={SECRET}")
    server.answers[f"/x?key={SECRET}"] = 500
    with pytest.raises(ReplyError) as caught:
        client(server, key=SECRET).get("/")
    assert SECRET not in caught.value.message


@pytest.mark.parametrize("key", ["", "two words", "line\nbreak", "schlüssel", "nul\0", "a\r\nX: y"])
def test_key_that_no_header_can_carry_is_refused_untold(key: str) -> None:
    with pytest.raises(SourceError) as caught:
        Client(Address.parse("http://localhost"), 1.0, key)
    assert not key or key not in f"{caught.value.message} {caught.value.hint}"


def test_key_is_not_in_the_repr() -> None:
    assert SECRET not in repr(Client(Address.parse("http://localhost"), 1.0, SECRET))


def test_nothing_listens() -> None:
    with pytest.raises(ReplyError, match="does not answer"):
        Client(Address.parse("http://127.0.0.1:1"), 2.0).get("/")


def test_not_tls(server: FakeServer) -> None:
    secure = server.url.replace("http:", "https:")
    with pytest.raises(ReplyError, match="could not be trusted"):
        Client(Address.parse(secure), PATIENCE, SECRET).get("/")
    assert server.asked == []


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_tls_with_a_certificate_that_is_trusted_and_one_that_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    command += " -keyout key -out cert -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    fake = FakeServer({"/": "safe", "/drip": raw(OK, b"\r\n", again=b" ", pause=0.05)})
    with serving(fake, tls=context):
        address = Address.parse(fake.url.replace("127.0.0.1", "localhost"))
        with pytest.raises(ReplyError, match="could not be trusted"):
            Client(address, PATIENCE, SECRET).get("/")
        assert fake.asked == []
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert"))
        assert Client(address, PATIENCE, SECRET).get("/") == "safe"
        with pytest.raises(ReplyError, match="did not answer /drip within"):
            Client(address, 0.4, SECRET).get("/drip")
        with pytest.raises(ReplyError, match="could not be trusted"):
            Client(Address.parse(fake.url), PATIENCE, SECRET).get("/")  # another name


def test_proxies_of_the_environment_are_not_asked(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    server.answers["/"] = "direct"
    assert client(server, key=SECRET).get("/") == "direct"


def test_connections_are_closed(server: FakeServer) -> None:
    server.answers["/"] = "x"
    server.answers["/500"] = 500
    gc.collect()
    code = (
        "import warnings, sys, gc; warnings.simplefilter('error');"
        "sys.unraisablehook = lambda one: print(one.exc_value);"
        "from modelstore.sources.servers.http import Client, Address;"
        f"c = Client(Address.parse({server.url!r}), {PATIENCE});"
        "print(c.get('/'), c.optional('/500')); del c; gc.collect()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "x {}\n"


def test_importing_it_loads_no_http_library() -> None:
    code = "import sys, modelstore.sources.servers.http; print('urllib3' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("text", "url", "loopback"),
    [
        ("http://127.0.0.1:9931", "http://127.0.0.1:9931", True),
        ("http://LocalHost:80/", "http://localhost", True),
        ("https://Example.ORG:443/v1", "https://example.org", False),
        ("http://[::1]:8080/v1/", "http://[::1]:8080", True),
        ("http://0.0.0.0:1", "http://0.0.0.0:1", True),
        ("http://127.1.2.3", "http://127.1.2.3", True),
        ("http://models.localhost", "http://models.localhost", True),
        ("http://gateway/team-a/llm//", "http://gateway/team-a/llm", False),
        ("http://bücher.example", "http://xn--bcher-kva.example", False),
        ("http://10.0.0.1:8000", "http://10.0.0.1:8000", False),
    ],
)
def test_addresses(text: str, url: str, *, loopback: bool) -> None:
    address = Address.parse(text)
    assert (address.url, address.is_loopback) == (url, loopback)
    assert Address.parse(address.url) == address


@pytest.mark.parametrize(
    "text",
    [
        f"http://user:{SECRET}@host/",
        f"http://{SECRET}@host/",
        f"http://host/?api_key={SECRET}",
        f"http://host/#{SECRET}",
        f"http://host:{SECRET}/",
    ],
)
def test_address_with_a_secret_is_refused_untold(text: str) -> None:
    with pytest.raises(SourceError) as caught:
        Address.parse(text)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host",
        "ftp://host",
        "http://",
        "http:///x",
        "http://h:0",
        "http://h:65536",
        "http://a b",
        "http://h\n",
        "http://h/\x1b[31m",
        "http://h/../x",
        "http://h/a//b",
        "http://[::1",
        "x" * 9999,
    ],
)
def test_no_address(text: str) -> None:
    with pytest.raises(SourceError) as caught:
        Address.parse(text)
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 400


@given(st.text(max_size=60))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        address = Address.parse(f"http://{text}")
    except SourceError:
        return
    assert "@" not in address.url
    assert "?" not in address.url
    assert Address.parse(address.url) == address
