"""Who was on which list when. Uploads tell it by their blocks, single moves by their events."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any, Final

import msgspec
from django.db import connection

from cohorts.list_blocks import move_of
from cohorts.models import MEMBER_STATES, ListEvent, ListState, UserList, UserListMember

MEMBERS: Final = frozenset(each.value for each in MEMBER_STATES)


class Membership(msgspec.Struct, frozen=True):
    """From `at` on the user was in `state` on the list; `by` is a person, a job or a file."""

    list: int
    state: str
    at: datetime.datetime
    by: str


# One block at most of each kind may hold the user: the first that ends at or after the id.
_BLOCKS: Final = """
SELECT b.id, v.list_id, v.member_state, v.applied_at, v.reverted_at, v.file_name, b.kind, b.lines
FROM cohorts_listversion AS v
CROSS JOIN (VALUES ('added'), ('changed'), ('removed')) AS kinds (kind)
JOIN LATERAL (
    SELECT id, kind, first, lines FROM cohorts_listblock
    WHERE version_id = v.id AND kind = kinds.kind AND last >= %(user)s COLLATE "C"
    ORDER BY last LIMIT 1
) AS b ON true
WHERE b.first <= %(user)s COLLATE "C" AND (%(list)s::int IS NULL OR v.list_id = %(list)s)
"""


def history(user_id: str, number: int | None = None) -> list[Membership]:
    """Every move of a user on one list, or on all of them; oldest first."""
    found = []
    for _, list_id, usual, applied, reverted, name, kind, move in _moves(user_id, number):
        if applied is None:
            continue
        state = move.state or (ListState.REMOVED.value if kind == "removed" else usual)
        # What a file dates back became known, and counted, when it was applied.
        found.append(Membership(list_id, state, applied, name))
        if reverted is not None:
            found.append(Membership(list_id, move.was or ListState.REMOVED.value, reverted, name))
    events = ListEvent.objects.filter(user_id=user_id)
    if number is not None:
        events = events.filter(list_id=number)
    for row in events.order_by("at", "id"):
        found.append(Membership(row.list_id, row.state, row.at, row.by))
    return sorted(found, key=lambda each: each.at)


def blocks_with(user_id: str) -> list[int]:
    """The blocks that tell of the user, also of versions that were never applied."""
    return [block for block, *_ in _moves(user_id, None)]


def _moves(user_id: str, number: int | None) -> Iterator[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(_BLOCKS, {"user": user_id, "list": number})
        for *told, lines in cursor.fetchall():
            if (move := move_of(lines, user_id)) is not None:
                yield *told, move


def lists_at(user_id: str, at: datetime.datetime) -> frozenset[int]:
    """The lists that held the user at a moment.

    Members of a list of whom no move is on record (put there before moves were kept) count as
    having been there always.
    """
    latest: dict[int, str] = {}
    moved: set[int] = set()
    for each in history(user_id):
        moved.add(each.list)
        if each.at <= at:
            latest[each.list] = each.state
    now = UserListMember.objects.filter(user_id=user_id).values_list("list_id", flat=True)
    on = {number for number, state in latest.items() if state in MEMBERS}
    return frozenset(on | (set(now) - moved))


class Counts(msgspec.Struct, frozen=True):
    """Users of one list by state; `expired` of all time."""

    invited: int
    accepted: int
    expired: int


def counts(row: UserList) -> Counts:
    invited = UserListMember.objects.filter(list=row, state=ListState.INVITED).count()
    expired = ListEvent.objects.filter(list=row, state=ListState.EXPIRED).count()
    return Counts(invited=invited, accepted=row.size - invited, expired=expired)


def page(number: int, *, state: str = "", after: str = "", size: int = 50) -> list[UserListMember]:
    """Members of a list by user id, those after `after`; of one state, or of all."""
    rows = UserListMember.objects.filter(list_id=number, user_id__gt=after)
    if state:
        rows = rows.filter(state=state)
    return list(rows.order_by("user_id")[:size])
