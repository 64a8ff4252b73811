"""The SDK's HTTP: every request it ever makes, with its deadline."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import quote

import httpx
import msgspec

EVENTS_PER_REQUEST: Final = 5_000
HEARTBEAT_SECONDS: Final = 45.0
"""A stream that says nothing for this long (three heartbeats) is taken for dead."""


class Unreachable(Exception):  # noqa: N818 - an answer callers handle, named as it is spoken of
    """The platform did not give the answer; `temporary` says whether asking again may help."""

    def __init__(self, message: str, *, temporary: bool = True) -> None:
        super().__init__(message)
        self.temporary = temporary


class Transport:
    """Requests to one platform with one key. Threads may share it; a forked child needs its own.

    Args:
        url: the platform's address, as ``https://huidu.example``.
        key: an API key; its kind decides what is allowed.
        timeout: seconds for connecting and for each read.
    """

    def __init__(self, url: str, key: str, timeout: float) -> None:
        self.url = url.rstrip("/")
        self._key = key
        self._timeout = timeout
        self._http = self._open()

    def _open(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self._key}", "User-Agent": "huidu-sdk-python"}
        # trust_env off: a proxy in the environment must not see who is checked.
        return httpx.Client(
            base_url=self.url, headers=headers, timeout=self._timeout, trust_env=False
        )

    def reopen(self) -> None:
        """After a fork: leave the parent's connections alone and open new ones."""
        self._http = self._open()

    def close(self) -> None:
        self._http.close()

    def snapshot(self, etag: str | None) -> tuple[bytes, str | None] | None:
        """The newest snapshot's bytes and ETag, or None when it is still the one of `etag`."""
        headers = {"Accept": "application/octet-stream"}
        if etag:
            headers["If-None-Match"] = etag
        response = self._send("GET", "/api/v1/snapshot", headers=headers)
        if response.status_code == httpx.codes.NOT_MODIFIED:
            return None
        return response.content, response.headers.get("ETag")

    def record(self, events: list[dict[str, Any]]) -> None:
        """Send exposures; they carry their own ids, so sending them again counts nothing twice."""
        self._send(
            "POST",
            "/api/v1/events",
            content=msgspec.json.encode({"events": events}),
            headers={"Content-Type": "application/json"},
        )

    def packed_profile(self, user: str) -> bytes | None:
        """What the platform holds about a user, packed; None when it knows nobody of that id."""
        path = f"/api/v1/profiles/{quote(user, safe='')}/packed"
        response = self._send("GET", path, missing_is_fine=True)
        return None if response.status_code == httpx.codes.NOT_FOUND else response.content

    def evaluate(self, flag: str, context: dict[str, Any]) -> tuple[int, bytes]:
        """One OFREP evaluation: status and body, also for answers that are refusals."""
        try:
            response = self._http.post(
                f"/ofrep/v1/evaluate/flags/{quote(flag, safe='')}",
                content=msgspec.json.encode({"context": context}),
                headers={"Content-Type": "application/json"},
            )
        except httpx.HTTPError as error:
            raise Unreachable(f"{self.url}: {error or type(error).__name__}") from error
        return response.status_code, response.content

    def events(self) -> Iterator[str]:
        """Names of server-sent events as they come; ``""`` for each heartbeat.

        Raises:
            Unreachable: the stream ended, was refused, or fell silent.
        """
        timeout = httpx.Timeout(self._timeout, read=HEARTBEAT_SECONDS)
        try:
            with self._http.stream("GET", "/events/v1/stream", timeout=timeout) as response:
                response.raise_for_status()
                name = ""
                for line in response.iter_lines():
                    if line.startswith("event:"):
                        name = line[6:].strip()
                    elif not line or line.startswith(":"):
                        yield name
                        name = ""
        except httpx.HTTPError as error:
            raise Unreachable(f"{self.url}: {error or type(error).__name__}") from error
        raise Unreachable(f"{self.url}: the stream ended")

    def _send(
        self, method: str, path: str, *, missing_is_fine: bool = False, **request: Any
    ) -> httpx.Response:
        fine = {httpx.codes.NOT_MODIFIED} | ({httpx.codes.NOT_FOUND} if missing_is_fine else set())
        try:
            response = self._http.request(method, path, **request)
            if response.status_code not in fine:
                response.raise_for_status()
        except httpx.HTTPStatusError as error:
            status = error.response.status_code
            temporary = status in (408, 425, 429) or status >= 500
            raise Unreachable(
                f"{self.url}{path} answered {status}: {error.response.text[:200]}",
                temporary=temporary,
            ) from error
        except httpx.HTTPError as error:
            raise Unreachable(f"{self.url}: {error or type(error).__name__}") from error
        return response
