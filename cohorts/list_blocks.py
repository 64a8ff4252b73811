"""The lines of a `ListBlock`: who moves, from which state to which, and when.

    user id [tab, new state, tab, its time, tab, former state, tab, its time]

The columns after the id are left out where they are what the version says anyway: added, in the
version's own state, at the time it is applied. An empty time is the time of the application.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Final

import msgspec

TAB: Final = "\t"


class Move(msgspec.Struct, frozen=True):
    """One user's line; None where the line leaves it to the version."""

    user_id: str
    state: str | None = None
    at: datetime.datetime | None = None
    was: str | None = None
    was_since: datetime.datetime | None = None


def users_of(lines: str) -> list[str]:
    """The ids of a block, in its order."""
    return [line.partition(TAB)[0] for line in lines.split("\n")]


def moves(lines: str) -> Iterator[Move]:
    return (_move(line) for line in lines.split("\n"))


def move_of(lines: str, user_id: str) -> Move | None:
    """The user's own line, if the block has one."""
    text = f"\n{lines}\n"
    for end in ("\n", TAB):
        if (at := text.find(f"\n{user_id}{end}")) >= 0:
            return _move(text[at + 1 : text.index("\n", at + 1)])
    return None


def without(lines: str, user_id: str) -> str:
    """The block without the user's line."""
    return "\n".join(line for line in lines.split("\n") if line.partition(TAB)[0] != user_id)


def _move(line: str) -> Move:
    user_id, *rest = line.split(TAB)
    if not rest:
        return Move(user_id)
    state, at, was, was_since = rest
    return Move(user_id, state or None, _moment(at), was or None, _moment(was_since))


def _moment(text: str) -> datetime.datetime | None:
    return datetime.datetime.fromisoformat(text) if text else None
