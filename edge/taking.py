"""A check that waits for places: asks for all it needs, and goes on once with what it got."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from huidu.model import Admission, Answer, Flag
from huidu.reasons import FUNDING_NOT_RESERVED, FUNDING_UNAVAILABLE

if TYPE_CHECKING:
    from edge.server import Edge
    from edge.state import World

logger = logging.getLogger("huidu.edge")


class Taking:
    """What was asked for, and what came of it.

    Args:
        admissions: what is remembered of the user; places are added to a copy.
        go_on: called once, when everything is settled.
        failed: called instead, when going on fails.
    """

    def __init__(
        self,
        admissions: Mapping[int, Admission],
        go_on: Callable[[Taking], None],
        failed: Callable[[], None],
    ) -> None:
        self.admissions = dict(admissions)
        self.codes: dict[str, str] = {}
        """Why there is no place, by flag."""
        self._go_on = go_on
        self._failed = failed
        self._waiting = 0

    def ask(
        self, edge: Edge, world: World, flags: Iterable[Flag], user: str, facts: Mapping[str, Any]
    ) -> None:
        """Ask for a place of each flag."""
        wanted = [(flag.key, world.place_gate(flag)) for flag in flags]
        self._waiting = len(wanted)
        for key, gate in wanted:
            slot = gate.table.slot

            def done(place: Admission | None, code: str, key: str = key, slot: int = slot) -> None:
                self._settle(key, slot, place, code)

            edge.places.take(gate, user, facts, done)

    def _settle(self, flag: str, slot: int, place: Admission | None, code: str) -> None:
        if place is not None:
            self.admissions[slot] = place
        else:
            self.codes[flag] = code
        self._waiting -= 1
        if self._waiting:
            return
        try:
            self._go_on(self)
        except Exception:  # it must not harm the others whose places came with the same message
            logger.exception("edge.check_failed")
            self._failed()

    def settled(self, world: World, answer: Answer) -> Answer:
        """The answer, where it still needs a place: the refusal that was heard."""
        if answer.why != FUNDING_NOT_RESERVED:
            return answer
        gate = world.place_gate(world.flags[answer.flag])
        return gate.refusal(self.codes.get(answer.flag, FUNDING_UNAVAILABLE))
