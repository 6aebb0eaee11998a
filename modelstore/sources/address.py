"""The address of a server: checked, canonical, and without anything secret in it."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from modelstore.errors import SourceError
from modelstore.text import visible

DEFAULT_PORTS = {"http": 80, "https": 443}
KEY_HINT = "set MODELSTORE_API_KEY or --api-key-file"
ADDRESS_HINT = "write it as http://host:port"


@dataclass(frozen=True, slots=True)
class Address:
    """The address of a server in its parts. `path` is the prefix of its API: "" or ``/…``."""

    scheme: str
    host: str  # lower case, ASCII, an IPv6 address without brackets
    port: int
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> Address:
        """Return the address in `text`; a trailing ``/v1``, as OpenAI clients want it, is dropped.

        Raises `SourceError` for any other text, and for an address with credentials or a query:
        secrets must not be stored, so the message does not repeat them.
        """
        if len(text) > 2048 or not text.isprintable() or re.search(r"\s", text):
            raise SourceError("the server's address is no URL", hint=ADDRESS_HINT)
        try:
            parts = urlsplit(text)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise SourceError("the server's address is no URL", hint=ADDRESS_HINT) from None
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise SourceError(
                "the server's address holds a user name, a password or a query",
                hint=f"give the plain address, and for a key {KEY_HINT}",
            )
        if parts.scheme not in DEFAULT_PORTS or not host or port == 0:
            raise SourceError(
                f"'{visible(text, 200)}' is not the address of a server", hint=ADDRESS_HINT
            )
        path = re.sub(r"(/v1)?/*$", "", parts.path)
        if not re.fullmatch(r"(/[A-Za-z0-9._~%+-]+)*", path) or "/.." in path:
            raise SourceError(
                f"'{visible(text, 200)}' has a path that cannot be that of a server's API",
                hint=ADDRESS_HINT,
            )
        return cls(parts.scheme, _ascii_host(host), port or DEFAULT_PORTS[parts.scheme], path)

    @property
    def url(self) -> str:
        """The canonical text: lower-case host, no default port, no slash at the end."""
        return self.url_on(self.host)

    def url_on(self, host: str) -> str:
        """Return the same address on another host's name."""
        name = f"[{host}]" if ":" in host else host
        port = "" if self.port == DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{name}{port}{self.path}"

    @property
    def is_loopback(self) -> bool:
        """True for this machine itself: the server's paths are then paths here."""
        if self.host == "localhost" or self.host.endswith(".localhost"):
            return True
        try:
            ip = ipaddress.ip_address(self.host)
        except ValueError:
            return False
        return ip.is_loopback or ip.is_unspecified


def _ascii_host(host: str) -> str:
    try:
        name = host.lower() if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError:
        name = ""
    if re.fullmatch(r"[a-z0-9._-]{1,253}|[0-9a-f:.]{2,45}", name) is None:
        raise SourceError("the server's address holds no host name", hint=ADDRESS_HINT)
    return name
