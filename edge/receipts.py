"""Receipts of answered checks, for flags that keep them (`receipts_ppm`).

They leave in batches for a Redis stream of bounded length, which `rollout` drains. A Redis that is
away costs receipts past the buffer, counted in ``huidu_receipts_dropped_total``, and never a check.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Final

from edge.link import pack
from huidu.model import PPM
from huidu.version import CODE_VERSION
from huidu.wire import names, receipt
from huidu.wire.receipt import Receipt

if TYPE_CHECKING:
    from edge.answers import Rendered
    from edge.checks import Check
    from edge.link import Link, Reply
    from edge.state import World
    from huidu.wire.facts import Admissions

FLUSH_SECONDS: Final = 0.2
RETRY_SECONDS: Final = 1.0
BATCH: Final = 200
MOST_BUFFERED: Final = 20_000
_LIMIT: Final = ("MAXLEN", "~", 1_000)
"""Batches the stream holds at the most: some 200,000 receipts, 70 megabytes."""


class Receipts:
    """The buffer on its way to the stream."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._buffer: list[Receipt] = []
        self._timer: asyncio.TimerHandle | None = None
        self._sending = 0
        self._random = random.Random()  # noqa: S311 - samples, guards nothing
        self.sent = 0
        self.dropped = 0

    def take(
        self,
        check: Check,
        world: World,
        rendered: Rendered,
        admissions: Admissions,
        decision: bytes,
        *,
        degraded: bool,
    ) -> None:
        """Note that a check was given this answer, for the share of them that is kept."""
        if rendered.keeps < PPM and self._random.random() * PPM >= rendered.keeps:
            return
        if len(self._buffer) + self._sending >= MOST_BUFFERED:
            self.dropped += 1
            return
        answer, moment = rendered.answer, check.plan.edge.state.moment
        self._buffer.append(
            Receipt(
                decision.decode(),
                world.snapshot.environment,
                answer.flag,
                check.user,
                moment.ms,
                moment.day,
                world.sequence,
                answer.visible,
                answer.variant,
                answer.reason,
                answer.why,
                answer.stage,
                answer.flag_version,
                CODE_VERSION,
                b"" if degraded else check.record or b"",
                dict(check.said),
                dict(admissions),
                degraded,
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
        while self._buffer and self._link.alive:
            batch, self._buffer = self._buffer[:BATCH], self._buffer[BATCH:]
            self._send(batch)
        if self._buffer:
            self._timer = asyncio.get_running_loop().call_later(RETRY_SECONDS, self.flush)

    def _send(self, batch: list[Receipt]) -> None:
        self._sending += len(batch)

        def settle(reply: Reply) -> None:
            self._sending -= len(batch)
            if not isinstance(reply, Exception):
                self.sent += len(batch)
            elif len(self._buffer) + self._sending + len(batch) <= MOST_BUFFERED:
                # It may have arrived all the same; a receipt is stored once by its decision id.
                self._buffer.extend(batch)
                if self._timer is None:
                    loop = asyncio.get_running_loop()
                    self._timer = loop.call_later(RETRY_SECONDS, self.flush)
            else:
                self.dropped += len(batch)

        self._link.send(
            pack("XADD", names.RECEIPTS_STREAM, *_LIMIT, "*", "receipts", receipt.encode(batch)),
            settle,
        )
