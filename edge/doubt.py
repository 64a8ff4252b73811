"""A record that is not there: nobody is known by that id, or Redis lost what it held.

A Redis that was flushed, or whose records were moved to more hashes, has no record of a user whom
a list blocks. The number of hashes is told again every few seconds; a check that meets no record
does not wait for that, but asks once more, together with the number. So only users nobody has heard
of cost a second round trip.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from edge.link import UNAVAILABLE, Reply
from edge.profiles import BUCKETS_COMMAND, Commands

if TYPE_CHECKING:
    from edge.server import Edge

TRIES: Final = 2
"""Records that were moved are looked for where they are now."""


class Doubt:
    """Asks again for one record.

    Args:
        done: told what counts: the record, None when nobody is known by this id, or an exception.
    """

    __slots__ = ("_commands", "_done", "_edge", "_record", "_tries", "_user")

    def __init__(self, edge: Edge, user: str, done: Callable[[Reply], None]) -> None:
        self._edge = edge
        self._user = user
        self._done = done
        self._tries = TRIES
        self._commands: Commands | None = None
        self._record: Reply = None

    def ask(self) -> None:
        self._commands = commands = self._edge.state.commands
        if commands is None:
            self._done(UNAVAILABLE)
            return
        # In this order: a number that is right now was right when the record was looked for.
        profiles = self._edge.profiles
        profiles.fetch(self._user, commands, self._take_record)
        profiles.ask(BUCKETS_COMMAND, self._take_buckets)

    def _take_record(self, reply: Reply) -> None:
        self._record = reply

    def _take_buckets(self, reply: Reply) -> None:
        assert self._commands is not None
        if isinstance(reply, Exception) or isinstance(self._record, Exception):
            self._done(UNAVAILABLE)
        elif self._record is not None or reply == b"%d" % self._commands.buckets:
            self._done(self._record)
        else:
            self._edge.feed.take_buckets(reply)
            self._tries -= 1
            if self._tries:
                self.ask()
            else:
                self._done(UNAVAILABLE)
