"""The event stream: who listens, and what they hear when a snapshot is published.

Server keys listen as SDKs and hear ``snapshot`` events. OFREP web providers listen with a signed
token from their bulk answer, because a browser's EventSource cannot send headers, and hear
``refetchEvaluation``. A listener is an entry of a dict: no task, timer or buffer of its own.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs

import msgspec

from huidu.wire import ofrep
from huidu.wire.access import Key, KeyKind

if TYPE_CHECKING:
    from edge.connection import Connection
    from edge.state import State, World

logger = logging.getLogger("huidu.edge")

STREAM: Final = b"/events/v1/stream"
HEARTBEAT_SECONDS: Final = 15.0
TOKEN_STEP_SECONDS: Final = 6 * 3600
"""Tokens are renewed in such steps: providers reconnect when the address changes, so it must rest.
A token lives for one to two steps."""

RACE_SECONDS: Final = 60.0
"""A provider that connects within this time of a publication may have evaluated before it."""

MOST_BUFFERED: Final = 64 * 1024
"""A listener with more unsent bytes has stopped reading, and is let go."""

CONTENT_TYPE: Final = b"content-type: text/event-stream\r\n"
PREAMBLE: Final = b"retry: 2000\n\n"
HEARTBEAT: Final = b": still here\n\n"

_encode = msgspec.json.encode


def target(secret: bytes, key: Key, now: float) -> str | None:
    """Path and query of the stream for the holder of a key; the same for hours."""
    if not secret:
        return None
    expiry = (int(now) // TOKEN_STEP_SECONDS + 2) * TOKEN_STEP_SECONDS
    claim = f"{key.environment}.{key.id}.{expiry}"
    return f"{STREAM.decode()}?token={claim}.{_signature(secret, claim)}"


def renewed_after(now: float) -> float:
    """When `target` will be another than it is now, in Unix seconds."""
    return float((int(now) // TOKEN_STEP_SECONDS + 1) * TOKEN_STEP_SECONDS)


def holder(state: State, query: bytes, now: float) -> Key | None:
    """The live key a token was made for, or None when the token is forged, old or revoked."""
    token = parse_qs(query.decode("latin-1")).get("token", [""])[0]
    claim, _, signature = token.rpartition(".")
    wanted = _signature(state.stream_secret, claim)
    if not state.stream_secret or not hmac.compare_digest(signature.encode(), wanted.encode()):
        return None
    environment, key_id, expiry = claim.split(".")
    if environment != state.environment or now >= int(expiry):
        return None
    return state.keys_by_id.get(int(key_id))


def _signature(secret: bytes, claim: str) -> str:
    return hmac.new(secret, claim.encode(), hashlib.sha256).hexdigest()[:32]


def snapshot_event(world: World) -> bytes:
    """What an SDK hears: fetch ``/api/v1/snapshot`` again."""
    data = {
        "type": "snapshot",
        "environment": world.snapshot.environment,
        "sequence": world.sequence,
        "version": world.version,
    }
    return b"id: %d\nevent: snapshot\ndata: %b\n\n" % (world.sequence, _encode(data))


class Listeners:
    """Everybody on the stream of this process."""

    def __init__(self) -> None:
        self.servers: dict[Connection, int] = {}
        self.providers: dict[Connection, int] = {}
        """Listeners with the id of their key."""
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self.servers) + len(self.providers)

    def add(
        self, connection: Connection, key: Key, world: World | None, last: bytes, now: float
    ) -> None:
        """Let a connection listen, and tell it what it missed."""
        connection.transport.write(PREAMBLE)
        as_server = key.kind in (KeyKind.SERVER, KeyKind.ADMIN) and not connection.by_token
        (self.servers if as_server else self.providers)[connection] = key.id
        if world is not None:
            missed = last != b"%d" % world.sequence
            if as_server and missed:
                connection.transport.write(snapshot_event(world))
            elif missed and (last or now - world.published < RACE_SECONDS):
                connection.transport.write(_refetch(world))
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(HEARTBEAT_SECONDS, self._beat)

    def discard(self, connection: Connection) -> None:
        self.servers.pop(connection, None)
        self.providers.pop(connection, None)

    def published(self, world: World) -> None:
        """Tell everybody about a new snapshot."""
        self._tell(self.servers, snapshot_event(world))
        self._tell(self.providers, _refetch(world))

    def keys_changed(self, live: dict[int, Key]) -> None:
        """Let go of everybody whose key was revoked."""
        for listeners in (self.servers, self.providers):
            for connection in [each for each, key in listeners.items() if key not in live]:
                connection.transport.close()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _beat(self) -> None:
        """Keep proxies from taking a quiet stream for a dead one, and find the dead."""
        self._tell(self.servers, HEARTBEAT)
        self._tell(self.providers, HEARTBEAT)
        self._timer = None
        if len(self):
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(HEARTBEAT_SECONDS, self._beat)

    def _tell(self, listeners: dict[Connection, int], event: bytes) -> None:
        for connection in list(listeners):
            transport = connection.transport
            if transport.get_write_buffer_size() > MOST_BUFFERED:
                transport.abort()
            elif not transport.is_closing():
                transport.write(event)


def _refetch(world: World) -> bytes:
    return ofrep.refetch_event(world.sequence, world.version, int(world.published))
