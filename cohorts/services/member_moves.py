"""Single moves of list members: invited, accepted, removed one by one; expired by the clock.

Invited and accepted users are on the list, expired and removed ones are not. Every move is kept as
an event. Moves leave the list's version alone: that counts whole comparisons, and one of them must
still apply, or be taken back, after somebody accepted an invitation.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from django.db import connection, transaction
from django.db.models import F

from cohorts.models import MEMBER_STATES, ListState, UserList
from cohorts.services import packing
from cohorts.services.items import id_fault
from cohorts.services.outbox import mark_dirty
from huidu.errors import InputError

MOST: Final = 5_000
"""Users of one call, and of one transaction of the clock."""

MEMBERS: Final = frozenset(each.value for each in MEMBER_STATES)
BY_CLOCK: Final = "invitation lifetime"


class Moved(msgspec.Struct, frozen=True):
    """What became of the users sent; `unchanged` were in that state already."""

    joined: int
    left: int
    changed: int
    unchanged: int


_HELD: Final = """
SELECT user_id, state FROM cohorts_userlistmember
WHERE list_id = %s AND user_id = ANY(%s) ORDER BY user_id FOR UPDATE
"""
_PUT: Final = """
INSERT INTO cohorts_userlistmember (user_id, list_id, state, since)
SELECT user_id, %s, state, %s FROM unnest(%s::text[], %s::text[]) AS sent (user_id, state)
ORDER BY user_id
ON CONFLICT (user_id, list_id) DO UPDATE SET state = excluded.state, since = excluded.since
"""
_TAKE: Final = "DELETE FROM cohorts_userlistmember WHERE list_id = %s AND user_id = ANY(%s)"
_TELL: Final = """
INSERT INTO cohorts_listevent (list_id, at, by, user_id, state)
SELECT %s, %s, %s, user_id, state FROM unnest(%s::text[], %s::text[]) AS sent (user_id, state)
"""


def plan(members: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The state asked for of each user, the last one of each.

    Args:
        members: ``[{"user_id": ..., "state": "invited"}]``, at most `MOST`.
    Raises:
        InputError: a user or state is wrong; `path` says which.
    """
    if not isinstance(members, list) or not 0 < len(members) <= MOST:
        found = f"{len(members)}" if isinstance(members, list) else "something else"
        raise InputError(f"expected a list of 1 to {MOST:,} members, got {found}", path="members")
    wanted: dict[str, str] = {}
    for index, each in enumerate(members):
        path = f"members[{index}]"
        if not isinstance(each, Mapping) or set(each) != {"user_id", "state"}:
            raise InputError('expected {"user_id": ..., "state": ...}', path=path)
        user_id, state = each["user_id"], each["state"]
        if not isinstance(user_id, str):
            raise InputError("expected a text", path=f"{path}.user_id")
        if sentence := id_fault(user_id):
            raise InputError(sentence, path=f"{path}.user_id")
        if state not in ListState.values:
            expected = ", ".join(ListState.values)
            raise InputError(f"expected one of {expected}", path=f"{path}.state")
        wanted[user_id] = state
    return wanted


def crossing(number: int, wanted: Mapping[str, str]) -> int:
    """How many of the users would come onto the list, or leave it."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT user_id FROM cohorts_userlistmember WHERE list_id = %s AND user_id = ANY(%s)",
            [number, list(wanted)],
        )
        held = {user_id for (user_id,) in cursor.fetchall()}
    return sum((state in MEMBERS) != (user_id in held) for user_id, state in wanted.items())


def move(number: int, wanted: Mapping[str, str], *, by: str, now: datetime.datetime) -> Moved:
    """Bring users of a list into the states asked for, in one transaction.

    A user who is not on the list and is to be expired or removed stays away: no event.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        UserList.objects.select_for_update().get(pk=number)
        cursor.execute(_HELD, [number, list(wanted)])
        held = dict(cursor.fetchall())
        put = {u: s for u, s in wanted.items() if s in MEMBERS and held.get(u) != s}
        take = {u: s for u, s in wanted.items() if s not in MEMBERS and u in held}
        if put:
            cursor.execute(_PUT, [number, now, list(put), list(put.values())])
        if take:
            cursor.execute(_TAKE, [number, list(take)])
        _tell(cursor, number, put | take, by, now)
        joined = [user_id for user_id in put if user_id not in held]
        _resize(number, len(joined) - len(take))
        if joined or take:  # a state alone is nothing that a check reads
            packing.pack_after_commit(mark_dirty([*joined, *take]))
    return Moved(
        joined=len(joined),
        left=len(take),
        changed=len(put) - len(joined),
        unchanged=len(wanted) - len(put) - len(take),
    )


def expire(now: datetime.datetime) -> int:
    """Take users off lists whose invitation has lasted long enough; how many."""
    total = 0
    for row in UserList.objects.filter(invitation_lifetime__isnull=False):
        assert row.invitation_lifetime is not None
        before = now - row.invitation_lifetime
        while done := _expire_some(row.pk, before, now):
            total += done
    return total


def _expire_some(number: int, before: datetime.datetime, now: datetime.datetime) -> int:
    with transaction.atomic(), connection.cursor() as cursor:
        UserList.objects.select_for_update().get(pk=number)
        cursor.execute(
            "DELETE FROM cohorts_userlistmember WHERE (user_id, list_id) IN ("
            " SELECT user_id, list_id FROM cohorts_userlistmember"
            " WHERE list_id = %s AND state = 'invited' AND since < %s ORDER BY since LIMIT %s)"
            " RETURNING user_id",
            [number, before, MOST],
        )
        gone = sorted(user_id for (user_id,) in cursor.fetchall())
        if gone:
            _tell(cursor, number, dict.fromkeys(gone, ListState.EXPIRED.value), BY_CLOCK, now)
            _resize(number, -len(gone))
            packing.pack_after_commit(mark_dirty(gone))
    return len(gone)


def _tell(
    cursor: Any, number: int, moves: Mapping[str, str], by: str, now: datetime.datetime
) -> None:
    if moves:
        cursor.execute(_TELL, [number, now, by[:200], list(moves), list(moves.values())])


def _resize(number: int, more: int) -> None:
    if more:
        UserList.objects.filter(pk=number).update(size=F("size") + more)
