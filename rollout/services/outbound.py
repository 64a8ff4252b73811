"""Requests that leave this installation: only to addresses somebody decided to allow.

An address that an operator types must not become a way into the private network. Public addresses
are allowed; private, loopback and link-local ones only where `HUIDU_PRIVATE_TARGETS` names the host
or its network. The name is resolved once and the connection goes to the address that was judged, so
a name that answers differently the second time gains nothing. Redirects are never followed.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Sequence
from typing import Any, Final

import httpx
from django.conf import settings

from huidu.errors import InputError

MOST_BYTES: Final = 1_000_000
"""A longer answer is cut: nobody's answer may fill our memory."""


def allowed_targets() -> Sequence[str]:
    """Host names and networks inside which private addresses may be reached."""
    found: Sequence[str] = getattr(settings, "HUIDU_PRIVATE_TARGETS", ())
    return found


def check(url: str) -> httpx.URL:
    """The address, when its form is right; whether its host may be reached is judged later.

    Raises:
        InputError: not http(s), without a host, or with a password in it.
    """
    try:
        parts = httpx.URL(url)
    except (httpx.InvalidURL, ValueError, TypeError) as error:
        raise InputError(f"expected an http(s) address, got {url[:80]!r}", path="url") from error
    if parts.scheme not in ("http", "https") or not parts.host:
        raise InputError(f"expected an http(s) address, got {url[:80]!r}", path="url")
    if parts.userinfo:
        raise InputError("expected an address without a user name or password", path="url")
    return parts


def resolve(parts: httpx.URL) -> str:
    """The IP address to connect to.

    Raises:
        InputError: the name is unknown, or one of its addresses is private and not allowed.
    """
    host = parts.host
    try:
        found = socket.getaddrinfo(host, parts.port or 443, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise InputError(f"host {host} has no address: {error}", path="url") from error
    addresses = list(dict.fromkeys(str(row[4][0]).partition("%")[0] for row in found))
    for address in addresses:
        if not _may_reach(host, address):
            raise InputError(
                f"host {host} is the private address {address}: name it or its network in "
                "HUIDU_PRIVATE_TARGETS if it is meant",
                path="url",
                code="target.private",
            )
    return addresses[0]


def _may_reach(host: str, text: str) -> bool:
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.is_global and not address.is_multicast:
        return True
    for each in allowed_targets():
        if each == host:
            return True
        try:
            network = ipaddress.ip_network(each, strict=False)
        except ValueError:
            continue
        if address in network:
            return True
    return False


def send(
    method: str,
    url: str,
    *,
    deadline: float,
    content: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> tuple[int, bytes]:
    """One request to one judged address; status and body.

    Args:
        deadline: seconds for connecting, for each wait between bytes, and for the whole answer
            once it began: a receiver that sends a byte now and then holds nobody up.
    Raises:
        InputError: the address is wrong or not allowed.
        httpx.HTTPError: the network failed, or the answer took too long.
    """
    parts = check(url)
    address = resolve(parts)
    host = parts.netloc.decode("ascii")
    options: Any = {"sni_hostname": parts.host}
    with (
        httpx.Client(timeout=deadline, follow_redirects=False, trust_env=False) as client,
        client.stream(
            method,
            parts.copy_with(host=address),
            content=content,
            headers={**(headers or {}), "host": host},
            extensions=options,
        ) as answer,
    ):
        body, until = b"", time.monotonic() + deadline
        for part in answer.iter_bytes():
            body += part
            if time.monotonic() > until:
                raise httpx.ReadTimeout(f"the answer took longer than {deadline:g} s")
            if len(body) > MOST_BYTES:
                break
        return answer.status_code, body
