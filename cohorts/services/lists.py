"""Members of user lists in: whole lists, additions, removals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from django.db import connection, transaction
from django.db.models import F

from cohorts.models import ListState, UserList
from cohorts.services import packing
from cohorts.services.items import id_fault
from cohorts.services.outbox import mark_dirty
from huidu.errors import InputError

MAX_CHANGE: Final = 1_000_000
"""Most users of one change, so that its transaction stays short."""

_TELL: Final = """
INSERT INTO cohorts_listevent (list_id, state, at, by, user_id)
SELECT %s, %s, now(), %s, user_id FROM unnest(%s::text[]) AS t (user_id)
"""


def replace_members(number: int, user_ids: Iterable[str], *, by: str = "") -> tuple[int, int]:
    """Make the list hold exactly these users; how many came and how many went."""
    users = _checked(user_ids)
    with transaction.atomic(), connection.cursor() as cursor:
        _locked(number)
        cursor.execute(
            "DELETE FROM cohorts_userlistmember WHERE list_id = %s"
            " AND NOT user_id = ANY(%s) RETURNING user_id",
            [number, users],
        )
        gone = [user_id for (user_id,) in cursor.fetchall()]
        come = _add(number, users)
        _changed(number, come, gone, by)
    return len(come), len(gone)


def add_members(number: int, user_ids: Iterable[str], *, by: str = "") -> int:
    """Put users on the list; how many were not on it."""
    users = _checked(user_ids)
    with transaction.atomic():
        _locked(number)
        come = _add(number, users)
        _changed(number, come, [], by)
    return len(come)


def remove_members(number: int, user_ids: Iterable[str], *, by: str = "") -> int:
    """Take users off the list; how many were on it."""
    users = _checked(user_ids)
    with transaction.atomic(), connection.cursor() as cursor:
        _locked(number)
        cursor.execute(
            "DELETE FROM cohorts_userlistmember WHERE list_id = %s AND user_id = ANY(%s)"
            " RETURNING user_id",
            [number, users],
        )
        gone = [user_id for (user_id,) in cursor.fetchall()]
        _changed(number, [], gone, by)
    return len(gone)


def _add(number: int, users: Sequence[str]) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO cohorts_userlistmember (user_id, list_id, since)"
            " SELECT user_id, %s, now() FROM unnest(%s::text[]) AS t (user_id) ORDER BY user_id"
            " ON CONFLICT (user_id, list_id) DO NOTHING RETURNING user_id",
            [number, list(users)],
        )
        return [user_id for (user_id,) in cursor.fetchall()]


def _locked(number: int) -> UserList:
    """Changes of one list take turns."""
    found = UserList.objects.select_for_update().filter(pk=number).first()
    if found is None:
        raise InputError(f"expected the number of a list, got {number}", path="number")
    return found


def _changed(number: int, come: Sequence[str], gone: Sequence[str], by: str) -> None:
    if not come and not gone:
        return
    UserList.objects.filter(pk=number).update(
        version=F("version") + 1, size=F("size") + len(come) - len(gone)
    )
    with connection.cursor() as cursor:
        for state, users in ((ListState.ACCEPTED, come), (ListState.REMOVED, gone)):
            cursor.execute(_TELL, [number, state.value, by, list(users)])
    packing.pack_after_commit(mark_dirty([*come, *gone]))


def _checked(user_ids: Iterable[str]) -> list[str]:
    users = list(dict.fromkeys(user_ids))
    if len(users) > MAX_CHANGE:
        raise InputError(f"expected at most {MAX_CHANGE} users, got {len(users)}", path="users")
    for index, user_id in enumerate(users):
        if sentence := id_fault(user_id):
            raise InputError(sentence, path=f"users[{index}]")
    return users
