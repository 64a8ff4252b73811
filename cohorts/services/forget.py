"""Deletes what the platform holds about one person; `rollout.services.forget` calls it."""

from __future__ import annotations

from django.db import connection
from django.db.models import F, Model

from cohorts import list_blocks, memberships
from cohorts.models import (
    Admission,
    Cohort,
    DailyPayments,
    DirtyProfile,
    ListBlock,
    ListEvent,
    PaymentEvent,
    Place,
    Profile,
    ProfileHistory,
    UserList,
    UserListMember,
)
from cohorts.services import outbox, packing, population

TABLES: tuple[type[Model], ...] = (
    Profile,
    ProfileHistory,
    PaymentEvent,
    DailyPayments,
    UserListMember,
    ListEvent,
    Admission,
    Place,
)


def held(user_id: str) -> dict[type[Model], int]:
    """How many rows each table holds about the user; tables without any are left out."""
    counts = {model: model._default_manager.filter(user_id=user_id).count() for model in TABLES}
    counts[ListBlock] = len(memberships.blocks_with(user_id))
    return {model: count for model, count in counts.items() if count}


def cohorts_naming(user_id: str) -> list[str]:
    """Keys of cohorts that name the user one by one."""
    rows = Cohort.objects.filter(include__contains=[user_id]) | Cohort.objects.filter(
        exclude__contains=[user_id]
    )
    return list(rows.order_by("key").values_list("key", flat=True))


def erase(user_id: str) -> dict[type[Model], int]:
    """Delete the rows and mark the record for removal; call it inside a transaction.

    Follow it by `erase_record` after the commit.
    """
    lists = list(UserListMember.objects.filter(user_id=user_id).values_list("list_id", flat=True))
    # Lists first and in order: changes of a list take turns by its row.
    list(UserList.objects.filter(pk__in=lists).order_by("pk").select_for_update())
    counts = held(user_id)
    _leave_blocks(user_id)
    for model in counts:
        if model is ListBlock:
            continue
        with connection.cursor() as cursor:
            table = model._meta.db_table
            cursor.execute(f"DELETE FROM {table} WHERE user_id = %s", [user_id])  # noqa: S608
    UserList.objects.filter(pk__in=lists).update(size=F("size") - 1)
    outbox.mark_dirty([user_id])
    return counts


def _leave_blocks(user_id: str) -> None:
    """Rewrite the blocks of list versions that tell of the user."""
    for block in ListBlock.objects.filter(pk__in=memberships.blocks_with(user_id)).order_by("pk"):
        lines = list_blocks.without(block.lines, user_id)
        if lines:
            ListBlock.objects.filter(pk=block.pk).update(lines=lines, users=block.users - 1)
        else:
            block.delete()


def erase_record(user_id: str) -> None:
    """Remove the packed record, then the mark that names the user.

    Raises:
        redis.RedisError: the mark stays, and the tick removes the record later.
    """
    population.want()  # the next population file knows him no more, and replaces this one
    mark = DirtyProfile.objects.filter(user_id=user_id).values_list("mark", flat=True).first()
    packing.pack_profiles([user_id])
    if mark is not None:
        DirtyProfile.objects.filter(user_id=user_id, mark=mark).delete()
