"""One check, from the parsed request to the bytes of its answer.

    1. who asks, with which right            401, 403      `edge.rights`
    2. about which flag and user             400, 404
    3. the packed profile                    one read, shared with other checks; has a deadline
    4. the facts that count, the answer      never raises, never waits

Steps 1, 2 and 4 are plain calls; in step 3 the check lies in the connection's queue, so that
answers leave in the order of their requests.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from edge import context, stream
from edge.exchange import Exchange
from edge.http import CORS, NO_STORE
from edge.requests import Head, Kind, Route
from huidu import reasons
from huidu.errors import HuiduError, InputError
from huidu.model import Flag, User
from huidu.wire import ofrep, profile, visibility

if TYPE_CHECKING:
    from edge.answers import Rendered
    from edge.connection import Connection
    from edge.rights import Right
    from edge.server import Edge

logger = logging.getLogger("huidu.edge")

SAMPLE_EVERY: Final = 64
"""One check in so many is timed."""

NOBODY: Final = User("", {})
"""Whom the platform has never seen: every held fact is unknown."""

NOTHING_SAID: Final[dict[str, Any]] = {}


class Check(Exchange):
    """A request for answers of flags."""

    __slots__ = ("edge", "flag", "head", "right", "route", "said", "started", "user")

    flag: Flag | None
    said: dict[str, Any]
    user: str

    def __init__(
        self, connection: Connection, route: Route, head: Head, *, bodiless: bool = False
    ) -> None:
        self.connection = connection
        self.edge: Edge = connection.edge
        self.route = route
        self.head = head
        self.right: Right = head.right
        self.closes = not head.keep_alive
        self.bodiless = bodiless
        self.ready = None
        self.started = 0.0

    # 1 and 2

    def run(self, body: bytes) -> None:
        """Answer at once where possible, else after the profile was read."""
        edge = self.edge
        metrics = edge.metrics
        metrics.asked = asked = metrics.asked + 1
        if not asked % SAMPLE_EVERY:
            self.started = time.perf_counter()
        if self.right.refusal is not None:
            self.refuse(*self.right.refusal)
            return
        try:
            needs_profile = self._read(body)
        except InputError as error:
            self.refuse(400, error.code, str(error))
            return
        if self.ready is not None:
            return
        buckets = edge.state.buckets
        if not needs_profile:
            self._answer(NOBODY)
        elif buckets is None:
            self._answer(None)
        else:
            address, field = profile.address(self.user, buckets)
            edge.profiles.fetch(address, field, self.profile_came)

    def _read(self, body: bytes) -> bool:
        """Take in whom and what is asked about; says whether held facts can matter."""
        route, right = self.route, self.right
        if route.kind is Kind.VISIBILITY:
            user = route.user
            if not user:
                raise InputError("expected the user's id as UTF-8 text", path="user")
            if fault := ofrep.key_fault(user):
                raise InputError(fault, path="user")
            self.user = user
            self.said = NOTHING_SAID
        else:
            said = ofrep.read_context(body)
            self.user = ofrep.targeting_key(said)
            self.said = context.said(said, right.sayable) if len(said) > 1 else NOTHING_SAID
        if route.kind is Kind.BULK:
            self.flag = None
            return True
        if route.flag is None:
            raise InputError("expected UTF-8 text without control characters", path="flag")
        self.flag = flag = right.flags.get(route.flag)
        if flag is None:
            self.refuse(404, reasons.FLAG_NOT_FOUND, f"no flag {route.flag[:100]!r} is published")
            return False
        return flag.enabled and not flag.killed

    # 3

    def profile_came(self, reply: Any) -> None:
        """Called by `edge.profiles` with the record, None for nobody, or an exception."""
        try:
            if reply is None:
                self._answer(NOBODY)
            elif isinstance(reply, bytes):
                today = self.edge.state.days.today(time.time())
                self._answer(self.right.world.held(reply, today))
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
        world = self.right.world
        known = held or NOBODY
        facts = context.merged(known.attributes, self.said, world.callers_own)
        flag = self.flag
        if flag is None:
            response = self._bulk(known, facts, degraded=held is None)
        else:
            answer = world.compiled.evaluate(
                flag.key, self.user, facts, known.admissions, known.lists
            )
            rendered = world.rendered(answer if held is not None else world.degraded(answer))
            rendered.given[0] += 1
            response = self._one(rendered, known, degraded=held is None)
        if self.started:
            self.edge.metrics.observe(time.perf_counter() - self.started)
        self.finish(response)

    def _one(self, rendered: Rendered, known: User, *, degraded: bool) -> bytes:
        edge = self.edge
        ms = time.time_ns() // 1_000_000
        decision = edge.state.decisions.next(ms)
        if rendered.records and not degraded:
            edge.exposures.take(self.right.world, rendered, self.user, known, ms, decision)
        if self.route.kind is Kind.SINGLE:
            start, end = rendered.single
            return edge.responses.ok(start + decision + end)
        at = edge.state.stamps.at(ms)
        return edge.responses.ok(visibility.join(rendered.visibility, self.user, decision, at))

    def _bulk(self, known: User, facts: Mapping[str, Any], *, degraded: bool) -> bytes:
        edge, right, user = self.edge, self.right, self.user
        world = right.world
        evaluate, by_id = world.compiled.evaluate, world.rendered_by_id
        admissions, lists = known.admissions, known.lists
        items = []
        for flag in right.flags:
            answer = evaluate(flag, user, facts, admissions, lists)
            if degraded:
                answer = world.degraded(answer)
            # A hundred calls of a method would be felt here.
            rendered = by_id.get(id(answer)) or world.rendered(answer)
            rendered.given[0] += 1
            items.append(rendered.item)
            if rendered.records and not degraded:
                ms = time.time_ns() // 1_000_000
                decision = edge.state.decisions.next(ms)
                edge.exposures.take(world, rendered, user, known, ms, decision)
        target = stream.target(edge.state.stream_secret, right.key, time.time())
        body = ofrep.bulk(items, target)
        tag = ofrep.etag(body)
        headers = b"%b%betag: %b\r\n" % (CORS, NO_STORE, tag.encode())
        asked = self.head.if_none_match
        if asked and ofrep.etag_matches(asked.decode("latin-1"), tag):
            return edge.responses.make(304, headers=headers)
        return edge.responses.make(200, body, headers)

    def refuse(self, status: int, code: str, details: str, headers: bytes = b"") -> None:
        """Answer with an error in the shape of the route."""
        self.finish(refusal(self.edge, self.route, status, code, details, headers))


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
    refused = edge.metrics.refused
    refused[status] = refused.get(status, 0) + 1
    if route.kind is Kind.SINGLE:
        body = ofrep.failure(route.flag or "", code, details)
    elif route.kind is Kind.BULK:
        body = ofrep.failure(None, code, details)
    else:
        body = visibility.error(_CODES.get(status, "input.invalid"), details)
    return edge.responses.make(status, body, CORS + headers)
