"""One check, from the parsed request to the bytes of its answer.

    1. who asks, with which right            401, 403
    2. about which flag and user             400, 404
    3. the packed profile                    one read, shared with other checks; has a deadline
    4. the facts that count, the answer      never raises, never waits

Steps 1, 2 and 4 are plain calls; in step 3 the check lies in the connection's queue, so that
answers leave in the order of their requests.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Final

from edge import context, stream
from edge.exchange import Exchange
from edge.http import CORS, NO_STORE
from edge.requests import Head, Kind, Route
from huidu import reasons
from huidu.errors import HuiduError, InputError
from huidu.model import Flag, User
from huidu.wire import ofrep, profile, visibility
from huidu.wire.access import KeyKind

if TYPE_CHECKING:
    from edge.protocol import HuiduProtocol
    from edge.server import Edge
    from edge.state import World

logger = logging.getLogger("huidu.edge")

SAMPLE_EVERY: Final = 64
"""One check in so many is timed."""


class Check(Exchange):
    """A request for answers of flags."""

    __slots__ = ("edge", "flag", "head", "route", "said", "started", "user", "world")

    world: World
    flag: Flag | None
    said: dict[str, Any]
    user: str

    def __init__(
        self, connection: HuiduProtocol, route: Route, head: Head, *, bodiless: bool = False
    ) -> None:
        self.connection = connection
        self.edge: Edge = connection.edge
        self.route = route
        self.head = head
        self.closes = not head.keep_alive
        self.bodiless = bodiless
        self.ready = None
        self.started = 0.0

    # 1 and 2

    def run(self, body: bytes) -> None:
        """Answer at once where possible, else after the profile was read."""
        edge = self.edge
        edge.metrics.asked += 1
        if edge.metrics.asked % SAMPLE_EVERY == 0:
            self.started = time.perf_counter()
        if not edge.state.ready:
            self.refuse(503, reasons.PROVIDER_NOT_READY, "no flags were published yet", RETRY)
            return
        key = self.head.key
        if key is None:
            said = "no live key has this text" if self.head.named else "expected an API key"
            self.refuse(401, reasons.GENERAL, said, b"www-authenticate: Bearer\r\n")
            return
        if key.kind is KeyKind.INGEST:
            self.refuse(403, reasons.GENERAL, "an ingest key sends data; it may not ask for flags")
            return
        if key.environment != edge.state.environment:
            self.refuse(
                403,
                reasons.GENERAL,
                f"the key belongs to environment {key.environment}; "
                f"this address answers for {edge.state.environment}",
            )
            return
        world = edge.state.world
        assert world is not None
        self.world = world
        try:
            needs_profile = self._read(world, key.kind, body)
        except InputError as error:
            self.refuse(400, error.code, str(error))
            return
        if self.ready is not None:
            return
        state = edge.state
        if not needs_profile:
            self._answer(User(self.user, {}))
        elif state.buckets is None:
            self._answer(None)
        else:
            address, field = profile.address(self.user, state.buckets)
            edge.profiles.fetch(address, field, self.profile_came)

    def _read(self, world: World, kind: KeyKind, body: bytes) -> bool:
        """Take in whom and what is asked about; says whether held facts can matter."""
        route = self.route
        flags = world.flags_for(kind)
        if route.kind is Kind.VISIBILITY:
            if not route.user:
                raise InputError("expected the user's id as UTF-8 text", path="user")
            if fault := ofrep.key_fault(route.user):
                raise InputError(fault, path="user")
            self.user = route.user
            self.said = {}
        else:
            said = ofrep.read_context(body)
            self.user = ofrep.targeting_key(said)
            self.said = context.said(said, world.sayable[kind]) if len(said) > 1 else {}
        if route.kind is Kind.BULK:
            self.flag = None
            return True
        if route.flag is None:
            raise InputError("expected UTF-8 text without control characters", path="flag")
        self.flag = flag = flags.get(route.flag)
        if flag is None:
            self.edge.metrics.unknown += 1
            self.refuse(404, reasons.FLAG_NOT_FOUND, f"no flag {route.flag[:100]!r} is published")
            return False
        return flag.enabled and not flag.killed

    # 3

    def profile_came(self, reply: Any) -> None:
        """Called by `edge.profiles` with the record, None for nobody, or an exception."""
        try:
            if reply is None:
                self._answer(User(self.user, {}))  # nobody we know: every held fact is unknown
            elif isinstance(reply, bytes):
                today = self.edge.state.days.today(time.time())
                packed = profile.decode(reply)
                self._answer(profile.user(packed, self.user, today, self.world.attributes))
            else:
                self._answer(None)
        except HuiduError as error:
            logger.warning("edge.profile_unreadable error=%s", error)
            self._answer(None)
        except Exception:  # one odd check must not harm those that share its reply
            logger.exception("edge.check_failed")
            self.refuse(500, reasons.GENERAL, "the check failed; the fault is in the log")

    # 4

    def _answer(self, held: User | None) -> None:
        """Answer from the held facts; None when they cannot be read just now."""
        if held is None:
            user = User(self.user, self.said)
        elif self.said or self.world.callers_own:
            facts = context.merged(held.attributes, self.said, self.world.callers_own)
            user = User(self.user, facts, held.admissions, held.lists)
        else:
            user = held
        kind = self.route.kind
        if kind is Kind.BULK:
            response = self._bulk(user, degraded=held is None)
        else:
            assert self.flag is not None
            response = self._one(self.flag, user, degraded=held is None)
        if self.started:
            self.edge.metrics.observe(time.perf_counter() - self.started)
        self.finish(response)

    def _one(self, flag: Flag, user: User, *, degraded: bool) -> bytes:
        edge = self.edge
        answer = self.world.compiled.check(flag.key, user)
        if degraded:
            answer = self.world.degraded(answer)
        rendered = self.world.rendered(answer)
        rendered.given[0] += 1
        ms = time.time_ns() // 1_000_000
        decision = edge.state.decisions.next(ms)
        if rendered.records and not degraded:
            edge.exposures.take(self.world, rendered, user, ms, decision)
        if self.route.kind is Kind.SINGLE:
            start, end = rendered.single
            return edge.responses.ok(start + decision + end)
        at = edge.state.stamps.at(ms)
        return edge.responses.ok(visibility.join(rendered.visibility, user.key, decision, at))

    def _bulk(self, user: User, *, degraded: bool) -> bytes:
        edge, world, key = self.edge, self.world, self.head.key
        assert key is not None
        check, rendered_of = world.compiled.check, world.rendered
        items = []
        for flag in world.flags_for(key.kind):
            answer = check(flag, user)
            rendered = rendered_of(world.degraded(answer) if degraded else answer)
            rendered.given[0] += 1
            items.append(rendered.item)
            if rendered.records and not degraded:
                ms = time.time_ns() // 1_000_000
                decision = edge.state.decisions.next(ms)
                edge.exposures.take(world, rendered, user, ms, decision)
        target = stream.target(edge.state.stream_secret, key, time.time())
        body = ofrep.bulk(items, target)
        tag = ofrep.etag(body)
        headers = b"%b%betag: %b\r\n" % (CORS, NO_STORE, tag.encode())
        asked = self.head.if_none_match
        if asked and ofrep.etag_matches(asked.decode("latin-1"), tag):
            return edge.responses.make(304, headers=headers)
        return edge.responses.make(200, body, headers)

    def refuse(self, status: int, code: str, details: str, headers: bytes = b"") -> None:
        """Answer with an error in the shape of the route."""
        self.edge.metrics.refused[status] = self.edge.metrics.refused.get(status, 0) + 1
        self.finish(refusal(self.edge, self.route, status, code, details, headers))


RETRY: Final = b"retry-after: 1\r\n"

_CODES: Final = {
    401: "key.unknown",
    403: "key.not_allowed",
    404: reasons.FLAG_UNKNOWN,
    405: "method.not_allowed",
    413: "input.too_large",
    500: reasons.SYSTEM_ERROR,
    503: "system.not_ready",
}


def refusal(
    edge: Edge, route: Route, status: int, code: str, details: str, headers: bytes = b""
) -> bytes:
    """An error's response: OFREP's own shape on its routes, the platform's elsewhere."""
    if route.kind is Kind.SINGLE:
        body = ofrep.failure(route.flag or "", code, details)
    elif route.kind is Kind.BULK:
        body = ofrep.failure(None, code, details)
    else:
        body = visibility.error(_CODES.get(status, "input.invalid"), details)
    return edge.responses.make(status, body, CORS + headers)
