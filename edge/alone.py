"""What a check server that runs alone answers besides checks: health and metrics.

These are rare requests, so they are a plain ASGI application like any other behind the protocol.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from uvicorn._types import ASGI3Application, ASGIReceiveCallable, ASGISendCallable, Scope

from huidu.wire import visibility

if TYPE_CHECKING:
    from edge.server import Edge


def health(edge: Edge) -> dict[str, Any]:
    """How this process is. ``ready`` does not need Redis: it serves what it has."""
    world = edge.state.world
    return {
        "ready": edge.state.ready,
        "environment": edge.state.environment,
        "snapshot": world and world.version,
        "sequence": world and world.sequence,
        "profiles_readable": edge.profiles.readable and edge.state.commands is not None,
    }


def application(edge: Edge) -> ASGI3Application:
    """The ASGI application of an edge that has none behind it."""

    def answer(path: str) -> tuple[int, bytes, bytes]:
        if path == "/health/live":
            return 200, b"application/json", b'{"live":true}'
        if path == "/health/ready":
            status = health(edge)
            return 200 if status["ready"] else 503, b"application/json", msgspec.json.encode(status)
        if path == "/metrics":
            return 200, CONTENT_TYPE_LATEST.encode(), generate_latest()
        body = visibility.error("not_found", "nothing at this address; this process answers checks")
        return 404, b"application/json", body

    async def respond(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        assert scope["type"] == "http"
        status, content_type, body = answer(scope["path"])
        headers = [(b"content-type", content_type), (b"content-length", b"%d" % len(body))]
        await send(
            {"type": "http.response.start", "status": status, "headers": headers, "trailers": False}
        )
        await send({"type": "http.response.body", "body": body, "more_body": False})

    return respond
