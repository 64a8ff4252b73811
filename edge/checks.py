"""One check, from the parsed request to the bytes of its answer.

    1. who asks, with which right            401, 403      `edge.rights`
    2. about which flag and user             400, 404
    3. the packed profile                    one read, shared with other checks; has a deadline;
                                             two when there is none, see `edge.doubt`
    4. the facts that count, the answer      never raises, never waits

Steps 1, 2 and 4 are plain calls; in step 3 the check lies in the connection's queue, so that
answers leave in the order of their requests.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from edge import context
from edge.doubt import Doubt
from edge.exchange import Turn
from edge.http import CORS, NO_STORE
from edge.link import UNAVAILABLE, Reply
from edge.requests import Kind, Plan, Route
from edge.taking import Taking
from huidu import reasons
from huidu.errors import HuiduError, InputError
from huidu.wire import ofrep, visibility
from huidu.wire.facts import Admissions

if TYPE_CHECKING:
    from edge.answers import Rendered, Together
    from edge.server import Edge
    from edge.state import World
    from huidu.model import Flag

logger = logging.getLogger("huidu.edge")

NO_ADMISSIONS: Final[Admissions] = {}
NO_LISTS: Final[frozenset[int]] = frozenset()
NOTHING_SAID: Final[dict[str, Any]] = {}


class Check(Turn):
    """A request for answers of flags."""

    __slots__ = ("plan", "record", "said", "user")

    plan: Plan
    record: bytes | None
    said: dict[str, Any]
    user: str

    @property
    def closes(self) -> bool:  # type: ignore[override]
        return self.plan.closes

    @property
    def bodiless(self) -> bool:  # type: ignore[override]
        return self.plan.bodiless

    # 1 and 2

    def run(self, body: bytes) -> None:
        """Answer at once where possible, else after the profile was read."""
        plan = self.plan
        edge, right = plan.edge, plan.right
        if right.refusal is not None:
            self._refuse_at_once(*right.refusal)
            return
        try:
            if plan.route.kind is Kind.VISIBILITY:
                self.user = _user_of(plan.route)
                self.said = NOTHING_SAID
            else:
                said = ofrep.read_context(body)
                self.user = ofrep.targeting_key(said)
                self.said = context.said(said, right.sayable) if len(said) > 1 else NOTHING_SAID
            if plan.route.flag is None:
                fault = "expected UTF-8 text without control characters"
                raise InputError(fault, path="flag", code=reasons.GENERAL)
        except InputError as error:
            self._refuse_at_once(400, error.code, str(error))
            return
        if plan.needs_profile and edge.state.commands is not None:
            edge.profiles.fetch(self.user, edge.state.commands, self)
            return
        if plan.flag is None and plan.route.kind is not Kind.BULK:
            details = f"no flag {(plan.route.flag or '')[:100]!r} is published"
            self._refuse_at_once(404, reasons.FLAG_NOT_FOUND, details)
        else:
            edge.begin_turn()
            self(UNAVAILABLE if plan.needs_profile else None)

    def _refuse_at_once(self, status: int, code: str, details: str, headers: bytes = b"") -> None:
        edge = self.plan.edge
        edge.metrics.asked += 1
        edge.begin_turn()
        self.refuse(status, code, details, headers)

    # 3

    def __call__(self, reply: Reply) -> None:
        """Take what Redis replied; no record is believed only once `Doubt` has asked again."""
        if reply is None and self.plan.needs_profile:
            Doubt(self.plan.edge, self.user, self._take_record).ask()
        else:
            self._take_record(reply)

    def _take_record(self, reply: Reply) -> None:
        """Take the record that was read, None for nobody, or an exception; and answer."""
        plan = self.plan
        plan.edge.metrics.asked += 1
        self.record = None
        try:
            if type(reply) is bytes:
                self.record = reply
                self._answer(*plan.reading.of(reply, plan.edge.state.moment.day))
            else:
                self._answer({}, NO_ADMISSIONS, NO_LISTS, degraded=reply is not None)
        except HuiduError as error:
            logger.warning("edge.profile_unreadable error=%s", error)
            self._answer({}, NO_ADMISSIONS, NO_LISTS, degraded=True)
        except Exception:  # one odd check must not harm those that share its reply
            logger.exception("edge.check_failed")
            self.refuse(500, reasons.GENERAL, "the check failed; the fault is in the log")

    # 4

    def _answer(
        self,
        facts: dict[str, Any],
        admissions: Admissions,
        lists: frozenset[int],
        *,
        degraded: bool = False,
    ) -> None:
        """Answer from the facts, as if nothing were known where they cannot be read just now."""
        plan = self.plan
        flag, world = plan.flag, plan.right.world
        facts.update(self.said)
        if flag is None:
            self._bulk(facts, admissions, lists, degraded=degraded)
            return
        answer = world.compiled.evaluate(flag.key, self.user, facts, admissions, lists)
        if degraded:
            answer = world.degraded(answer)
        rendered = world.rendered_by_id.get(id(answer)) or world.rendered(answer)
        if rendered.needs_place:
            self._take([flag], facts, admissions, lists)
            return
        self._give(world, rendered, admissions, degraded=degraded)

    def _give(
        self, world: World, rendered: Rendered, admissions: Admissions, *, degraded: bool
    ) -> None:
        """Count the answer, note the exposure, respond."""
        plan = self.plan
        edge = plan.edge
        rendered.given[0] += 1
        ms = edge.state.moment.ms
        decision = edge.state.decisions.next(ms)
        if rendered.records and not degraded:
            edge.exposures.take(world, rendered, self.user, admissions, ms, decision)
        if rendered.keeps:
            edge.receipts.take(self, world, rendered, admissions, decision, degraded=degraded)
        if plan.route.kind is Kind.SINGLE:
            lines = edge.responses.json_ok
            if rendered.lines is not lines:
                rendered.begin(lines)
            self.finish(rendered.start + decision + rendered.end)
        else:
            at = edge.state.stamps.at(ms)
            body = visibility.join(rendered.visibility, self.user, decision, at)
            self.finish(edge.responses.ok(body))

    def _bulk(
        self,
        facts: dict[str, Any],
        admissions: Admissions,
        lists: frozenset[int],
        *,
        degraded: bool,
    ) -> None:
        right, user = self.plan.right, self.user
        world = right.world
        checks = world.evaluate_for(right.key.kind)
        if degraded:
            answers = checks(user, facts, admissions, lists)
            together = world.together([world.degraded(each) for each in answers])
        else:
            together = world.together_of(checks.outcomes(user, facts, admissions, lists))
        if together.need_places:
            flags = [each.flag for each in together.need_places]
            self._take(flags, facts, admissions, lists)
            return
        self.finish(self._give_all(world, together, admissions, degraded=degraded))

    def _give_all(
        self, world: World, together: Together, admissions: Admissions, *, degraded: bool
    ) -> bytes:
        """Count the answers, note the exposures; the response."""
        edge, right, user = self.plan.edge, self.plan.right, self.user
        edge.metrics.count(together)
        if not degraded:
            for rendered in together.recording:
                ms = edge.state.moment.ms
                decision = edge.state.decisions.next(ms)
                edge.exposures.take(world, rendered, user, admissions, ms, decision)
        for rendered in together.keeping:
            decision = edge.state.decisions.next(edge.state.moment.ms)
            edge.receipts.take(self, world, rendered, admissions, decision, degraded=degraded)
        tag, response = together.response(right.stream_target(edge.state), edge.responses)
        asked = self.plan.head.if_none_match
        if asked and ofrep.etag_matches(asked.decode("latin-1"), tag):
            headers = b"%b%betag: %b\r\n" % (CORS, NO_STORE, tag.encode())
            return edge.responses.make(304, headers=headers)
        return response

    # places, for flags that need one

    def _take(
        self,
        flags: list[Flag],
        facts: dict[str, Any],
        admissions: Admissions,
        lists: frozenset[int],
    ) -> None:
        """Take places, then answer by the newest snapshot: a kill meanwhile must be obeyed."""
        edge = self.plan.edge

        def go_on(taken: Taking) -> None:
            world = edge.state.world or self.plan.right.world
            self._answer_with_places(world, facts, taken, lists)

        def failed() -> None:
            self.refuse(500, reasons.GENERAL, "the check failed; the fault is in the log")

        taking = Taking(admissions, go_on, failed)
        taking.ask(edge, self.plan.right.world, flags, self.user, facts)

    def _answer_with_places(
        self, world: World, facts: dict[str, Any], taken: Taking, lists: frozenset[int]
    ) -> None:
        flag, admissions, kind = self.plan.flag, taken.admissions, self.plan.right.key.kind
        if flag is not None and flag.key not in world.flags:
            self.refuse(404, reasons.FLAG_NOT_FOUND, f"no flag {flag.key!r} is published")
            return
        if world is not self.plan.right.world and self.record is not None:
            # Its checks may look at facts that those of the snapshot before did not.
            reading = world.reading_for(kind) if flag is None else world.reading_of(flag.key)
            facts = reading.of(self.record, self.plan.edge.state.moment.day)[0] | self.said
        if flag is None:
            answers = world.evaluate_for(kind)(self.user, facts, admissions, lists)
            together = world.together([taken.settled(world, each) for each in answers])
            self.finish(self._give_all(world, together, admissions, degraded=False))
        else:
            answer = world.compiled.evaluate(flag.key, self.user, facts, admissions, lists)
            rendered = world.rendered(taken.settled(world, answer))
            self._give(world, rendered, admissions, degraded=False)

    def refuse(self, status: int, code: str, details: str, headers: bytes = b"") -> None:
        """Answer with an error in the shape of the route."""
        plan = self.plan
        self.finish(refusal(plan.edge, plan.route, status, code, details, headers))


class QuickCheck(Check):
    """One that `edge.quick` asked for: a record that can be read is all it needs."""

    __slots__ = ()


def _user_of(route: Route) -> str:
    if not route.user:
        raise InputError("expected the user's id as UTF-8 text", path="user")
    if fault := ofrep.key_fault(route.user):
        raise InputError(fault, path="user")
    return route.user


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
