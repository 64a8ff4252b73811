"""Exposures taken at the check, for flags that ask for it (`record_on_check`).

They leave in batches for a Redis stream, which `rollout` drains. Evidence needs a user's *first*
exposure per stage, so what this process already sent is not sent again. A Redis that is away costs
exposures past the buffer, counted in ``huidu_exposures_dropped_total``, and never a check.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import msgspec

from edge.link import pack
from huidu import reasons
from huidu.model import Admission
from huidu.wire import names

if TYPE_CHECKING:
    from edge.answers import Rendered
    from edge.link import Link, Reply
    from edge.state import World

logger = logging.getLogger("huidu.edge")

FLUSH_SECONDS: Final = 0.1
BATCH: Final = 500
MOST_BUFFERED: Final = 50_000
MOST_REMEMBERED: Final = 100_000
_LIMIT: Final = ("MAXLEN", "~", 1_000_000)

_encode = msgspec.json.encode


class Exposure(msgspec.Struct, frozen=True):
    """One user met one stage of one flag. The JSON in field ``exposure`` of a stream entry."""

    environment: str
    flag: str
    slot: int | None
    user_id: str
    arm: str
    """``treated`` was shown; ``control`` passed everything and was not drawn."""
    stage: str | None
    weight: int
    at_ms: int
    sequence: int
    decision_id: str
    why: str


class Exposures:
    """The buffer on its way to the stream."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._buffer: list[Exposure] = []
        self._seen: OrderedDict[tuple[str, str | None, str, bool], None] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None
        self._sending = 0
        self.sent = 0
        self.dropped = 0

    def take(
        self,
        world: World,
        rendered: Rendered,
        user: str,
        admissions: Mapping[int, Admission],
        at_ms: int,
        decision: bytes,
    ) -> None:
        """Note that this user was given this answer; `admissions` are theirs."""
        answer, flag = rendered.answer, rendered.flag
        mark = (answer.flag, answer.stage, user, answer.visible)
        seen = self._seen
        if mark in seen:
            return
        if len(self._buffer) >= MOST_BUFFERED:
            self.dropped += 1
            return
        seen[mark] = None
        if len(seen) > MOST_REMEMBERED:
            seen.popitem(last=False)
        slot = flag.rollout.slot if flag.rollout is not None else None
        admission = admissions.get(slot) if slot is not None else None
        self._buffer.append(
            Exposure(
                world.snapshot.environment,
                answer.flag,
                slot,
                user,
                "control" if answer.why in reasons.CONTROL else "treated",
                answer.stage,
                admission.weight if admission is not None else 1,
                at_ms,
                world.sequence,
                decision.decode(),
                answer.why,
            )
        )
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)
        elif len(self._buffer) == BATCH:
            self._timer.cancel()
            self.flush()

    def flush(self) -> None:
        """Send what is buffered; what cannot be sent waits for the next time."""
        self._timer = None
        while self._buffer and self._link.alive and self._sending < MOST_BUFFERED:
            batch, self._buffer = self._buffer[:BATCH], self._buffer[BATCH:]
            for exposure in batch:
                self._send(exposure)
        if self._buffer:
            self._timer = asyncio.get_running_loop().call_later(1.0, self.flush)

    def _send(self, exposure: Exposure) -> None:
        self._sending += 1

        def settle(reply: Reply) -> None:
            self._sending -= 1
            if not isinstance(reply, Exception):
                self.sent += 1
            elif len(self._buffer) < MOST_BUFFERED:
                # It may have arrived before the connection broke; the consumer counts a user once.
                self._buffer.append(exposure)
                if self._timer is None:
                    loop = asyncio.get_running_loop()
                    self._timer = loop.call_later(1.0, self.flush)
            else:
                self.dropped += 1

        self._link.send(
            pack("XADD", names.EXPOSURES_STREAM, *_LIMIT, "*", "exposure", _encode(exposure)),
            settle,
        )
