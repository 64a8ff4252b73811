"""What SDKs load to check by themselves: the snapshot, and packed profiles.

They come in fleets, so both are answered here and not by the application behind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from edge.doubt import Doubt
from edge.exchange import Exchange
from edge.http import CORS, NO_STORE, headless
from edge.link import Reply
from edge.requests import Head, Route
from edge.rights import RETRY
from huidu.wire import ofrep, visibility
from huidu.wire.access import KeyKind

if TYPE_CHECKING:
    from edge.connection import Connection
    from edge.server import Edge

BYTES: Final = b"content-type: application/octet-stream\r\n"
SNAPSHOT_HEADERS: Final = b"vary: Accept, Authorization\r\ncache-control: no-cache\r\netag: %b\r\n"
KINDS: Final = (KeyKind.SERVER, KeyKind.ADMIN)
"""A client's key sits in the user's own hands, and sees neither rules nor other people's facts."""


def snapshot_is_here(head: Head) -> bool:
    """Whether this process can answer a request for the snapshot well.

    Where it cannot (JSON for people, staff without a key, another environment's key), the
    application behind can.
    """
    return head.right.refusal is None and head.right.key.kind in KINDS and not head.wants_json


def snapshot(connection: Connection, head: Head, *, bodiless: bool) -> Exchange:
    """The published blob as it is, unless the caller has it."""
    edge = connection.ready_edge
    response = _refused(edge, head) or _snapshot(edge, head)
    if bodiless:
        response = headless(response)
    return Exchange(connection, response, closes=not head.keep_alive)


def _snapshot(edge: Edge, head: Head) -> bytes:
    world = head.right.world
    tag = f'"{world.version}"'
    headers = CORS + SNAPSHOT_HEADERS % tag.encode()
    asked = head.if_none_match
    if asked and ofrep.etag_matches(asked.decode("latin-1"), tag):
        return edge.responses.make(304, headers=headers)
    return edge.responses.make(200, world.blob, headers, content=BYTES)


class Packed(Exchange):
    """A request for one user's packed profile."""

    __slots__ = ("edge", "user")

    def __init__(self, connection: Connection, head: Head, *, bodiless: bool) -> None:
        super().__init__(connection, closes=not head.keep_alive)
        self.bodiless = bodiless
        self.edge = connection.ready_edge

    def run(self, route: Route, head: Head) -> None:
        """Answer at once where possible, else after the profile was read."""
        edge = self.edge
        refused = _refused(edge, head)
        self.user = user = route.user or ""
        fault = ofrep.key_fault(user) if user else "expected the user's id as UTF-8 text"
        if refused is not None:
            self.finish(refused)
        elif fault:
            self._fail(400, "input.invalid", fault, "user")
        elif edge.state.commands is None:
            self._not_ready()
        else:
            edge.profiles.fetch(user, edge.state.commands, self)

    def __call__(self, reply: Reply) -> None:
        """Take what Redis replied; an SDK decides by what we say is not there."""
        if reply is None:
            Doubt(self.edge, self.user, self._take_record).ask()
        else:
            self._take_record(reply)

    def _take_record(self, reply: Reply) -> None:
        """Take the record that was read, None for nobody, or an exception; and answer."""
        if type(reply) is bytes:
            self.finish(self.edge.responses.make(200, reply, CORS + NO_STORE, content=BYTES))
        elif reply is None:
            self._fail(404, "profile.unknown", "nothing is held about this user", "user")
        else:
            self._not_ready()

    def _not_ready(self) -> None:
        self._fail(503, "system.not_ready", "profiles cannot be read just now", headers=RETRY)

    def _fail(
        self, status: int, code: str, message: str, path: str = "", headers: bytes = b""
    ) -> None:
        self.finish(_error(self.edge, status, code, message, path, headers))


def _refused(edge: Edge, head: Head) -> bytes | None:
    right = head.right
    if right.refusal is not None:
        status, _, details, headers = right.refusal
        return _error(edge, status, _CODES[status], details, "", headers)
    if right.key.kind not in KINDS:
        return _error(edge, 403, _CODES[403], "a client key may only ask for flags")
    return None


def _error(
    edge: Edge, status: int, code: str, message: str, path: str = "", headers: bytes = b""
) -> bytes:
    refused = edge.metrics.refused
    refused[status] = refused.get(status, 0) + 1
    return edge.responses.make(status, visibility.error(code, message, path), CORS + headers)


_CODES: Final = {401: "key.unknown", 403: "key.not_allowed", 503: "system.not_ready"}
