"""Responses as bytes."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

STATUS_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}
JSON: Final = b"content-type: application/json\r\n"

# Web providers call from any page: keys travel in headers, never in cookies, so any origin may ask.
CORS: Final = (
    b"access-control-allow-origin: *\r\naccess-control-expose-headers: ETag, Retry-After\r\n"
)
PREFLIGHT: Final = (
    b"access-control-allow-origin: *\r\n"
    b"access-control-allow-methods: %b, OPTIONS\r\n"
    b"access-control-allow-headers: Authorization, X-API-Key, Content-Type, If-None-Match,"
    b" Last-Event-ID, Accept-Language\r\n"
    b"access-control-max-age: 86400\r\n"
)
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
CLOSE: Final = b"connection: close\r\n"
NO_STORE: Final = b"cache-control: no-store\r\n"


class Responses:
    """Writes responses; the lines they share, the date among them, are joined once a second.

    The date comes from uvicorn's `default_headers`, a new list each second.
    """

    def __init__(self) -> None:
        self._seen: object = None
        self._default = b""
        self.json_ok = b""

    def refresh(self, default_headers: list[tuple[bytes, bytes]]) -> None:
        """Take this second's headers, if they are new."""
        if default_headers is self._seen:
            return
        self._seen = default_headers
        self._default = b"".join(b"%b: %b\r\n" % each for each in default_headers)
        self.json_ok = STATUS_LINES[200] + self._default + JSON + CORS + NO_STORE

    def ok(self, body: bytes) -> bytes:
        """200 with JSON: nearly every answer there is."""
        return b"%bcontent-length: %d\r\n\r\n%b" % (self.json_ok, len(body), body)

    def make(
        self, status: int, body: bytes = b"", headers: bytes = b"", *, content: bytes = JSON
    ) -> bytes:
        """Any response. 204 and 304 have no body and say no length (RFC 9110, 8.6)."""
        lines = STATUS_LINES[status] + self._default + headers
        if status in (204, 304):
            return lines + b"\r\n"
        return b"%b%bcontent-length: %d\r\n\r\n%b" % (lines, content, len(body), body)


def closing(response: bytes) -> bytes:
    """The same response, saying that the connection ends with it."""
    head, _, body = response.partition(b"\r\n\r\n")
    return b"%b\r\n%b\r\n%b" % (head, CLOSE, body)


def headless(response: bytes) -> bytes:
    """The answer to HEAD: all of the headers, none of the body."""
    return response[: response.index(b"\r\n\r\n") + 4]
