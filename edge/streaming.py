"""``GET /events/v1/stream``: from a request to a listener."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from edge import stream
from edge.checks import refusal
from edge.exchange import Exchange
from edge.http import CORS, NO_STORE, STATUS_LINES
from edge.requests import Head, Route
from edge.rights import CHALLENGE, RETRY
from huidu import reasons
from huidu.wire.access import Key, KeyKind

if TYPE_CHECKING:
    from edge.connection import Connection


class Listening(Exchange):
    """The beginning of a stream; from `sent` on the connection belongs to it."""

    __slots__ = ("key", "last")
    streams = True

    def __init__(self, connection: Connection, ready: bytes, key: Key, last: bytes) -> None:
        super().__init__(connection, ready)
        self.key = key
        self.last = last

    def sent(self) -> None:
        connection = self.connection
        connection.listening = True
        edge = connection.edge
        edge.listeners.add(connection, self.key, edge.state.world, self.last, time.time())


def listen(connection: Connection, route: Route, head: Head) -> Exchange:
    """Begin a stream, or refuse it."""
    edge = connection.edge
    edge.responses.refresh(connection.server_state.default_headers)

    def refuse(status: int, details: str, headers: bytes = b"") -> Exchange:
        response = refusal(edge, route, status, reasons.GENERAL, details, headers)
        return Exchange(connection, response, closes=not head.keep_alive)

    if not edge.state.ready:
        return refuse(503, "no flags were published yet", RETRY)
    key = head.key
    if key is None and not head.named:
        key = stream.holder(edge.state, route.query, time.time())
        connection.by_token = key is not None
    if key is None:
        return refuse(401, "expected a live API key or a live token", CHALLENGE)
    if key.kind is KeyKind.INGEST or key.environment != edge.state.environment:
        return refuse(403, f"this key may not listen to environment {edge.state.environment}")
    edge.responses.refresh(connection.server_state.default_headers)
    # Without a length the stream ends with its connection; proxies must not collect it.
    head_text = (
        STATUS_LINES[200]
        + stream.CONTENT_TYPE
        + CORS
        + NO_STORE
        + b"x-accel-buffering: no\r\nconnection: close\r\n\r\n"
    )
    return Listening(connection, head_text, key, head.last_event)
