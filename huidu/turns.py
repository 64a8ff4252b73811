"""Lets other threads in while a long piece of work goes on in pure Python.

CPython lets a waiting thread in after 5 ms, and each time that thread waits for anything (a socket,
a lock, a sleep) it has to wait so long again. While a large snapshot was made ready in a thread,
checks in others were answered two hundred times a second and no more.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from typing import Any, Final

Pause = Callable[[], None]
"""Called between the steps of a long work, each a fraction of a millisecond."""

WORK_SECONDS: Final = 0.00025
REST_SECONDS: Final = 0.00005
"""As short as the system sleeps; a thread that only yielded would be back before another woke."""
LONG_REST_SECONDS: Final = 0.001
"""For what nobody waits for. In that time a check passes through all of its own; each time it waits
for a socket, another thread may come before it."""
LOOK_SECONDS: Final = 0.01
"""Between two looks whether something is gone."""


def no_pause() -> None:
    """For who has no other threads to think of."""


def taking_turns(rest_seconds: float = REST_SECONDS) -> Pause:
    """A pause that rests for a moment after each `WORK_SECONDS` of work."""
    until = time.perf_counter() + WORK_SECONDS

    def pause() -> None:
        nonlocal until
        if time.perf_counter() >= until:
            time.sleep(rest_seconds)
            until = time.perf_counter() + WORK_SECONDS

    return pause


def let_go(parts: list[Any], pause: Pause) -> None:
    """Empty a list one part at a time.

    Whatever holds thousands of objects frees them all in one go when it is let go. Who holds them
    in a list meanwhile, and then empties it like this, frees them little by little.
    """
    while parts:
        parts.pop()
        pause()


def let_go_after(whole: weakref.ref[Any], parts: list[Any], seconds: float, pause: Pause) -> None:
    """Empty a list once what its parts are of is gone, at most so much later.

    Until then they would only be held a second time, and freed in one go by whoever is last.
    """
    until = time.monotonic() + seconds
    while whole() is not None and time.monotonic() < until:
        time.sleep(LOOK_SECONDS)
    let_go(parts, pause)
