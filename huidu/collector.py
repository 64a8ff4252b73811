"""Keeps the garbage collector away from what a new snapshot is made of.

A collection walks every object of its generations and holds the interpreter to its end. What is
made of a large snapshot is tens of thousands of objects that will live long and hold no cycles: on
the way they would be walked several times, and each time a quarter more has come together, all
objects of the process with them, for 30 ms and more. So nothing is collected meanwhile, and if
much was made, it counts as old at once. The application's own garbage waits for a moment.

Nobody can tell whether the application itself puts the collector off meanwhile: it is put on again
at the end if it was on at the beginning.
"""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

MOST_LEAPS: Final = 100
"""So often all objects are made old in a row before a full collection is held. Garbage among them
is found by no other, and making them old puts the interpreter's own off."""

_lock = threading.Lock()
_resting = 0
_was_enabled = False
_leaps = _full_collections = 0


@contextmanager
def resting_collector() -> Iterator[None]:
    """Nothing is collected by itself in here. Several threads may be in at once."""
    global _resting, _was_enabled
    with _lock:
        # Counted before it is put off and until it is put on: a process may fork at any moment.
        if _resting == 0:
            _was_enabled = gc.isenabled()
        _resting += 1
        if _resting == 1:
            gc.disable()
    try:
        yield
    finally:
        is_full_due = False
        with _lock:
            if _was_enabled:
                # Also while others are in: where somebody always is, it would never be done.
                is_full_due = _make_old()
                if _resting == 1:
                    gc.enable()
            _resting = max(_resting - 1, 0)  # in a child that was made in here it is 0 already
        if is_full_due:
            gc.collect()  # runs code of the application, so without the lock


def _make_old() -> bool:
    """Let all objects be of the oldest generation, without a walk over them, if a walk is due.

    Not where a process froze some: they would melt, and be walked again by each full collection.

    Returns:
        Whether that was so often in a row that a full collection is due.
    """
    global _leaps, _full_collections
    if gc.get_count()[0] <= gc.get_threshold()[0] or gc.get_freeze_count():
        return False
    gc.freeze()
    gc.unfreeze()
    held = gc.get_stats()[-1]["collections"]
    _leaps = _leaps + 1 if held == _full_collections else 1
    _full_collections = held
    return _leaps > MOST_LEAPS


def _after_fork() -> None:
    """The thread that was making something is not in the child."""
    global _lock, _resting
    _lock = threading.Lock()
    if _resting and _was_enabled:
        gc.enable()
    _resting = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
