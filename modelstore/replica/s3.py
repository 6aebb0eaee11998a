"""List the objects of a bucket: the one thing that Litestream has no command for.

Requests are signed with AWS Signature Version 4
(https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html); the keys come from
the environment, as Litestream takes them. Answers are a server's: bounded, and never trusted.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote, urlsplit

from modelstore.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from modelstore.replica.name import ReplicaName

_PAGE_LIMIT = 16 << 20  # bytes of one page, which has 1,000 names
_PAGES = 2000  # two million objects are no fleet's
_EMPTY = hashlib.sha256(b"").hexdigest()
_ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, slots=True)
class Stored:
    """An object: its name below the prefix, and its time in seconds since the epoch."""

    name: str  # outside text
    at: float | None


@dataclass(frozen=True, slots=True)
class _Bucket:
    """Where a bucket is reached, and by whose keys."""

    scheme: str
    host: str
    path: str
    region: str
    key: str
    secret: str
    token: str

    @classmethod
    def of(cls, name: ReplicaName, environ: Mapping[str, str]) -> _Bucket:
        parts = urlsplit(name.url or "")
        query = {key.lower(): values[-1] for key, values in parse_qs(parts.query).items()}
        region = query.get("region") or environ.get("AWS_REGION") or "us-east-1"
        endpoint = query.get("endpoint", "")
        if endpoint and "://" not in endpoint:
            endpoint = f"https://{endpoint}"
        if endpoint:
            at = urlsplit(endpoint)
            scheme, host, path = at.scheme, at.netloc, f"/{parts.netloc}"
        else:
            scheme, host, path = "https", f"{parts.netloc}.s3.{region}.amazonaws.com", "/"
        return cls(
            scheme,
            host,
            path,
            region,
            _first(environ, "LITESTREAM_ACCESS_KEY_ID", "AWS_ACCESS_KEY_ID"),
            _first(environ, "LITESTREAM_SECRET_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY"),
            environ.get("AWS_SESSION_TOKEN", ""),
        )


def _first(environ: Mapping[str, str], *names: str) -> str:
    return next((environ[name] for name in names if environ.get(name)), "")


def stored_objects(name: ReplicaName, *, timeout: float) -> Iterator[Stored]:
    """Yield every object below a URL such as ``s3://bucket/fleet``. `timeout` is in seconds.

    Raises `SourceError` where the server does not list them.
    """
    bucket = _Bucket.of(name, os.environ)
    prefix = urlsplit(name.url or "").path.strip("/")
    prefix = f"{prefix}/" if prefix else ""
    token: str | None = ""
    for _ in range(_PAGES):
        query = {"list-type": "2", "prefix": prefix}
        if token:
            query["continuation-token"] = token
        page = _read_page(bucket, query, name.shown, timeout)
        for item in page.iter():
            if _tag(item) == "Contents":
                fields = {_tag(field): field.text or "" for field in item}
                key = fields.get("Key", "")
                if key.startswith(prefix):
                    yield Stored(key[len(prefix) :], _time(fields.get("LastModified", "")))
        texts = {_tag(item): item.text for item in page}
        token = texts.get("NextContinuationToken")
        if texts.get("IsTruncated") != "true" or not token:
            return
    raise SourceError(
        f"{name.shown} holds more objects than a fleet has", hint="check the URL's path"
    )


def _tag(item: ET.Element) -> str:
    return item.tag.rpartition("}")[2]


def _time(text: str) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return None


def _read_page(bucket: _Bucket, query: Mapping[str, str], shown: str, timeout: float) -> ET.Element:
    import urllib3

    text = "&".join(f"{_encode(name)}={_encode(query[name])}" for name in sorted(query))
    url = f"{bucket.scheme}://{bucket.host}{bucket.path}?{text}"
    with urllib3.PoolManager(retries=False, timeout=timeout) as pool:
        try:
            answer = pool.request(
                "GET",
                url,
                headers=_signed(bucket, text, datetime.now(UTC)),
                preload_content=False,
                redirect=False,
            )
            body = answer.read(_PAGE_LIMIT + 1)
            answer.release_conn()
        except (urllib3.exceptions.HTTPError, ValueError, OSError):
            raise SourceError(f"{shown} cannot be reached", hint=_HINT) from None
    if answer.status != 200:
        raise SourceError(f"{shown} cannot be listed: HTTP status {answer.status}", hint=_HINT)
    # A listing declares no entities; a document that does would grow without end.
    if len(body) > _PAGE_LIMIT or b"<!" in body:
        raise SourceError(f"{shown} answered with something else than a listing", hint=_HINT)
    try:
        return ET.fromstring(body)  # noqa: S314 - without a DOCTYPE, nothing expands
    except (ET.ParseError, ValueError, LookupError):
        raise SourceError(
            f"{shown} answered with something else than a listing", hint=_HINT
        ) from None


_HINT = (
    "check the URL, and LITESTREAM_ACCESS_KEY_ID and LITESTREAM_SECRET_ACCESS_KEY in the "
    "environment; ?endpoint=http://HOST:PORT names another server than Amazon's"
)


def _encode(text: str) -> str:
    return quote(text.encode("utf-8", "surrogateescape"), safe="-_.~")


def _signed(bucket: _Bucket, query: str, now: datetime) -> dict[str, str]:
    """Return the headers of a signed GET; without a key, those of an anonymous one."""
    if not bucket.key:
        return {"host": bucket.host}
    moment, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    headers = {"host": bucket.host, "x-amz-content-sha256": _EMPTY, "x-amz-date": moment}
    if bucket.token:
        headers["x-amz-security-token"] = bucket.token
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    request = f"GET\n{quote(bucket.path)}\n{query}\n{lines}\n{names}\n{_EMPTY}"
    scope = f"{day}/{bucket.region}/s3/aws4_request"
    digest = hashlib.sha256(request.encode()).hexdigest()
    key = f"AWS4{bucket.secret}".encode()
    for part in (day, bucket.region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    text = f"{_ALGORITHM}\n{moment}\n{scope}\n{digest}"
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    headers["authorization"] = (
        f"{_ALGORITHM} Credential={bucket.key}/{scope}, SignedHeaders={names}, "
        f"Signature={signature}"
    )
    return headers
