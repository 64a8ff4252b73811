"""Takes places for users who pass everything else, where a funding partner limits how many.

    no place yet      -> nobody who serves the region has room  -> `funding.no_capacity`, at once
                      -> ask the desk, which commits first      -> shown, or `funding.no_capacity`
                      -> no answer in time                      -> `funding.unavailable`

A user who has a place is told so by his packed profile and never gets here. Flags without a
capacity gate know nothing of all this.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from edge.link import Address, Link, Reply, pack
from huidu import reasons
from huidu.engine.answers import Answers
from huidu.engine.places import region_of
from huidu.model import Admission, Answer, Flag, place_of
from huidu.wire import names, places

if TYPE_CHECKING:
    from edge.state import World

logger = logging.getLogger("huidu.edge")

DEADLINE_SECONDS: Final = places.DEADLINE_MS / 1000
MOST_WAITING: Final = 5_000
MOST_ENTRIES: Final = 20_000
"""Of the stream; a desk that reads needs far fewer."""

Taken = Callable[[Admission | None, str], None]
"""Called with the place, or with None and the code to answer."""


class PlaceGate:
    """A flag's capacity gate in one world: who serves whom, and the two ways to say no."""

    def __init__(self, world: World, flag: Flag) -> None:
        plan = world.compiled.plan(flag.key)
        assert plan.places is not None
        self.plan = plan
        self.table = plan.places
        assert flag.rollout is not None
        self.slot = flag.rollout.slot
        answers = Answers(flag)
        self.full = answers.hidden(plan.places.gate.why, reasons.TARGETING_MATCH)
        self.unavailable = answers.hidden(reasons.FUNDING_UNAVAILABLE, reasons.ERROR)

    def refusal(self, code: str) -> Answer:
        return self.full if code == reasons.FUNDING_NO_CAPACITY else self.unavailable


class Places:
    """Requests for places under way. All methods belong to the event loop's thread.

    Args:
        control: the link that carries requests.
        woken: called before a check goes on, so that it has the time of day.
    """

    def __init__(
        self, where: Address, control: Link, environment: str, *, woken: Callable[[], None]
    ) -> None:
        self.channel = names.placed_channel(f"{os.getpid()}-{secrets.token_hex(6)}")
        self.taken = self.refused = self.unanswered = 0
        self._control = control
        self._environment = environment
        self._woken = woken
        self._listener = Link(where, name="places", connected=self._subscribe, pushed=self._hear)
        self._waiting: dict[int, tuple[Taken, asyncio.TimerHandle]] = {}
        self._number = 0
        self._full: Mapping[int, frozenset[int]] = {}
        self._full_until = 0.0
        self._silent = False
        """The last request got no answer, and nothing was heard of the desk since."""

    def start(self) -> None:
        self._listener.start()

    async def stop(self) -> None:
        await self._listener.stop()

    def take(self, gate: PlaceGate, user: str, facts: Mapping[str, Any], done: Taken) -> None:
        """Take a place for the user; `done` is called once, perhaps at once."""
        region = region_of(gate.plan, facts)
        serving = gate.table[region]
        if not serving:  # the check itself said that somebody serves the region
            done(None, reasons.FUNDING_NO_CAPACITY)
            return
        loop = asyncio.get_running_loop()
        full = self._full.get(gate.slot)
        if full is not None and loop.time() < self._full_until and full.issuperset(serving):
            self.refused += 1
            done(None, reasons.FUNDING_NO_CAPACITY)
            return
        links = self._control.alive and self._listener.alive
        if self._silent or not links or len(self._waiting) >= MOST_WAITING:
            self.unanswered += 1
            done(None, reasons.FUNDING_UNAVAILABLE)
            return
        self._number += 1
        number = self._number
        timer = loop.call_later(DEADLINE_SECONDS, self._late, number)
        self._waiting[number] = (done, timer)
        request = places.Request(self._environment, gate.slot, user, region, self.channel, number)
        self._control.send(
            pack(
                "XADD",
                names.PLACES_STREAM,
                "MAXLEN",
                "~",
                MOST_ENTRIES,
                "*",
                "request",
                places.encode_request(request),
            ),
            lambda reply: self._sent(number, reply),
        )

    def _sent(self, number: int, reply: Reply) -> None:
        if isinstance(reply, Exception):
            self._settle(number, None, reasons.FUNDING_UNAVAILABLE)

    def _late(self, number: int) -> None:
        if not self._silent:
            logger.warning("edge.places_silent waiting=%d", len(self._waiting))
        self._silent = True
        self._settle(number, None, reasons.FUNDING_UNAVAILABLE)

    def _settle(self, number: int, place: Admission | None, code: str) -> None:
        waiting = self._waiting.pop(number, None)
        if waiting is None:
            return  # it came too late; the place stands, and the next check finds it
        done, timer = waiting
        timer.cancel()
        if place is not None:
            self.taken += 1
        elif code == reasons.FUNDING_NO_CAPACITY:
            self.refused += 1
        else:
            self.unanswered += 1
        self._woken()
        done(place, code)

    # What the desk says

    def _subscribe(self) -> None:
        # Whatever Redis this is now, what an earlier one said of full partners does not count.
        self._full = {}
        self._listener.push(b"SUBSCRIBE", self.channel.encode(), names.ROOM_CHANNEL.encode())

    def _hear(self, message: list[Any]) -> None:
        if message[0] != b"message":
            return
        try:
            if message[1] == names.ROOM_CHANNEL.encode():
                self._hear_room(places.decode_room(message[2]))
            else:
                self._hear_replies(places.decode_replies(message[2]))
        except msgspec.MsgspecError as error:
            logger.warning("edge.places_unreadable error=%s", error)

    def _hear_room(self, room: places.Room) -> None:
        if room.environment != self._environment:
            return
        self._silent = False
        self._full = {slot: frozenset(full) for slot, full in room.full.items()}
        self._full_until = asyncio.get_running_loop().time() + places.FRESH_SECONDS

    def _hear_replies(self, replies: list[places.Reply]) -> None:
        self._silent = False
        for each in replies:
            if each.partner >= 0:
                self._settle(each.number, place_of(each.partner), "")
            elif each.partner == places.NO_ROOM:
                self._settle(each.number, None, reasons.FUNDING_NO_CAPACITY)
            else:
                self._settle(each.number, None, reasons.FUNDING_UNAVAILABLE)
