"""Lets go of worlds that were replaced, little by little and beside the loop."""

from __future__ import annotations

import queue
import threading
import weakref
from typing import Any, Final

from edge.state import World
from huidu.turns import LONG_REST_SECONDS, let_go_after, taking_turns

MOST_SECONDS: Final = 10.0
"""So long a world is waited for; by then nothing but a connection that hangs may still hold it."""


class Retired:
    """A thread that frees worlds, one after the other.

    Freeing a thousand flags and all that was made of them in one go would hold every check for
    some 20 ms.
    """

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[tuple[weakref.ref[World], list[Any]]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def take(self, world: World) -> None:
        """Free the world once nobody else holds it."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._free, name="retired", daemon=True)
            self._thread.start()
        self._waiting.put((weakref.ref(world), world.parts()))

    def _free(self) -> None:
        while True:
            let_go_after(*self._waiting.get(), MOST_SECONDS, taking_turns(LONG_REST_SECONDS))
