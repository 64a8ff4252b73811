"""Members of user lists in: whole lists, additions, removals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from django.db import connection, transaction
from django.db.models import F

from cohorts.models import UserList
from cohorts.services import packing
from cohorts.services.items import id_fault
from cohorts.services.outbox import mark_dirty
from huidu.errors import InputError

MAX_CHANGE: Final = 1_000_000
"""Most users of one change, so that its transaction stays short."""


def replace_members(number: int, user_ids: Iterable[str]) -> tuple[int, int]:
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
        _changed(number, come + gone, len(come) - len(gone))
    return len(come), len(gone)


def add_members(number: int, user_ids: Iterable[str]) -> int:
    """Put users on the list; how many were not on it."""
    users = _checked(user_ids)
    with transaction.atomic():
        _locked(number)
        come = _add(number, users)
        _changed(number, come, len(come))
    return len(come)


def remove_members(number: int, user_ids: Iterable[str]) -> int:
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
        _changed(number, gone, -len(gone))
    return len(gone)


def _add(number: int, users: Sequence[str]) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO cohorts_userlistmember (user_id, list_id)"
            " SELECT user_id, %s FROM unnest(%s::text[]) AS t (user_id) ORDER BY user_id"
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


def _changed(number: int, users: Sequence[str], more: int) -> None:
    if not users:
        return
    UserList.objects.filter(pk=number).update(version=F("version") + 1, size=F("size") + more)
    packing.pack_after_commit(mark_dirty(users))


def _checked(user_ids: Iterable[str]) -> list[str]:
    users = list(dict.fromkeys(user_ids))
    if len(users) > MAX_CHANGE:
        raise InputError(f"expected at most {MAX_CHANGE} users, got {len(users)}", path="users")
    for index, user_id in enumerate(users):
        if sentence := id_fault(user_id):
            raise InputError(sentence, path=f"users[{index}]")
    return users
