"""What a process does to its clients: they follow it into a fork, and are closed when it ends."""

from __future__ import annotations

import atexit
import os
import weakref
from typing import Protocol


class Living(Protocol):
    """Something with threads, connections and buffers of its own."""

    def after_fork(self) -> None: ...

    def close(self) -> None: ...

    def forget_checks(self) -> None: ...


_living: weakref.WeakSet[Living] = weakref.WeakSet()


def follow(client: Living) -> None:
    """From now on `client` is renewed in forked children and closed at the end of the process.

    Children that leave through `os._exit` (as `multiprocessing`'s do) run no clean-up: what their
    last `exposure_seconds` gathered is sent only if they call `close` themselves.
    """
    _living.add(client)


def forget_checks() -> None:
    """Let every client make its checks anew."""
    for client in list(_living):
        client.forget_checks()


def _close_all() -> None:
    for client in list(_living):
        client.close()


def _renew_all() -> None:
    for client in list(_living):
        client.after_fork()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
