"""Keeps the garbage collector away from what a new snapshot is made of.

A collection walks every object of its generations and holds the interpreter to its end. What is
made of a large snapshot is tens of thousands of objects that will live long and hold no cycles: on
the way they would be walked several times, and each time a quarter more has come together, all
objects of the process with them, for 30 ms and more. So nothing is collected meanwhile, and
afterwards what was made counts as old at once. The application's own garbage waits for a moment.
"""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_resting = 0
_was_enabled = False


@contextmanager
def resting_collector() -> Iterator[None]:
    """Nothing is collected by itself in here. Several threads may be in at once."""
    global _resting, _was_enabled
    with _lock:
        if _resting == 0:
            _was_enabled = gc.isenabled()
            gc.disable()
        _resting += 1
    try:
        yield
    finally:
        with _lock:
            _resting -= 1
            if _resting == 0:
                _make_old()
                if _was_enabled:
                    gc.enable()


def _make_old() -> None:
    """Let all objects be of the oldest generation, without a walk over them.

    Not where a process froze some: they would melt, and be walked again by each full collection.
    """
    if gc.get_freeze_count() == 0:
        gc.freeze()
        gc.unfreeze()


def _after_fork() -> None:
    """The thread that was making something is not in the child."""
    global _lock, _resting
    _lock = threading.Lock()
    if _resting and _was_enabled:
        gc.enable()
    _resting = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
