"""What the holder of a key may ask, decided once per key, snapshot and header block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from edge import stream
from huidu import reasons
from huidu.wire.access import KeyKind

if TYPE_CHECKING:
    from edge.state import State, World
    from huidu.model import Attribute, Flag
    from huidu.wire.access import Key

RETRY: Final = b"retry-after: 1\r\n"
CHALLENGE: Final = b"www-authenticate: Bearer\r\n"

Refusal = tuple[int, str, str, bytes]
"""HTTP status, OFREP error code, sentence, further header lines."""


class Right:
    """The flags and context values that count for one key in one world, or why none do."""

    __slots__ = ("_stream", "_stream_until", "flags", "key", "refusal", "sayable", "world")

    key: Key
    world: World
    flags: dict[str, Flag]
    sayable: dict[str, Attribute]

    def __init__(self, state: State, key: Key | None, *, named: bool) -> None:
        """`named` says that the caller showed some key, live or not."""
        self._stream: tuple[bytes, str | None] = b"", None
        self._stream_until = 0.0
        self.refusal = _refusal(state, key, named=named)
        if self.refusal is None:
            assert key is not None
            assert state.world is not None
            self.key = key
            self.world = state.world
            self.flags = state.world.flags_for(key.kind)
            self.sayable = state.world.sayable[key.kind]

    def stream_target(self, state: State) -> str | None:
        """Path and query of the event stream for this key; see `edge.stream.target`."""
        now = state.moment.ms / 1000
        if now >= self._stream_until or state.stream_secret != self._stream[0]:
            self._stream = state.stream_secret, stream.target(state.stream_secret, self.key, now)
            self._stream_until = stream.renewed_after(now)
        return self._stream[1]


def _refusal(state: State, key: Key | None, *, named: bool) -> Refusal | None:
    if not state.ready:
        return 503, reasons.PROVIDER_NOT_READY, "no flags were published yet", RETRY
    if key is None:
        details = "no live key has this text" if named else "expected an API key, got none"
        return 401, reasons.GENERAL, details, CHALLENGE
    if key.kind is KeyKind.INGEST:
        return 403, reasons.GENERAL, "an ingest key sends data; it may not ask for flags", b""
    if key.environment != state.environment:
        details = (
            f"the key belongs to environment {key.environment}; "
            f"this address answers for {state.environment}"
        )
        return 403, reasons.GENERAL, details, b""
    return None
