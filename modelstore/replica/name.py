"""The name of a replica: a URL, or a configuration of Litestream's that names it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from modelstore.catalogue.redact import is_secret_name
from modelstore.errors import UsageError
from modelstore.text import visible

_MAX = 2048  # characters
_OTHER = ("http", "https", "ftp")  # the schemes of the servers alone: S3's is a setting
_HINT = (
    "write s3://BUCKET/PATH, file:///PATH or nats://HOST/BUCKET, or name a litestream.yml; keys "
    "belong in the environment (LITESTREAM_ACCESS_KEY_ID, LITESTREAM_SECRET_ACCESS_KEY) or in "
    "that file"
)


@dataclass(frozen=True, slots=True)
class ReplicaName:
    """The place of a replica. Either `url` or `config`, the path of a configuration, is set."""

    url: str | None = None
    config: str | None = None

    @classmethod
    def parse(cls, text: str) -> ReplicaName:
        """Return the name in `text`.

        Raises `UsageError` for a URL with a password or a key: every user of the machine sees the
        command line. The message does not repeat it.
        """
        if "://" not in text:
            if not os.path.isfile(text):
                raise UsageError(f"'{visible(text, 200)}' is no replica's URL", hint=_HINT)
            return cls(config=os.path.abspath(text))
        if len(text) > _MAX or not text.isprintable() or re.search(r"\s", text):
            raise UsageError("the replica's URL is no URL", hint=_HINT)
        try:
            parts = urlsplit(text)
            query = parse_qsl(parts.query, keep_blank_values=True)
        except ValueError:
            raise UsageError("the replica's URL is no URL", hint=_HINT) from None
        if "@" in parts.netloc or any(_is_secret(name) or "@" in value for name, value in query):
            raise UsageError("the replica's URL holds a user name or a key", hint=_HINT)
        if parts.fragment or parts.scheme in _OTHER or not (parts.netloc or parts.scheme == "file"):
            raise UsageError("the replica's URL is none that Litestream takes", hint=_HINT)
        return cls(url=text)

    @property
    def shown(self) -> str:
        """The name for people: without the query, which holds settings."""
        if self.url is None:
            return self.config or ""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}{parts.path}"

    @property
    def directory(self) -> str | None:
        """The directory of a replica in files, None for any other."""
        if self.url is None or not self.url.startswith("file://"):
            return None
        parts = urlsplit(self.url)
        return parts.netloc + parts.path

    def below(self, name: str) -> ReplicaName:
        """Return the replica called `name` under this URL; over NATS, the bucket ``URL-name``."""
        parts = urlsplit(self.url or "")
        between = "-" if parts.scheme == "nats" else "/"
        path = f"{parts.path.rstrip('/')}{between}{name}"
        query = f"?{parts.query}" if parts.query else ""
        return ReplicaName(f"{parts.scheme}://{parts.netloc}{path}{query}")


def _is_secret(name: str) -> bool:
    # S3's own names of signed URLs, and the short forms that engines take.
    return (
        is_secret_name(name) or re.search(r"(?i)key|secret|token|sign|sig$|pass", name) is not None
    )
