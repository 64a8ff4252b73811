"""The attribute registry as those who write facts see it, and what they note in it."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from typing import Final

import msgspec
from django.db import OperationalError, connection, transaction

from cohorts.mappers import attribute
from cohorts.models import Attribute
from huidu import model
from huidu.errors import StateError

WAIT: Final = "3s"
"""How long a change of names and types waits for readers; who reads meanwhile waits behind it."""


class Registered(msgspec.Struct, frozen=True):
    """The registry at the beginning of a transaction.

    Args:
        open: attributes that are taken, by name.
        retired: names that are taken no longer.
        never_held: names of custom attributes of which no value was ever held.
        confirmed_every: names of attributes with a term: how often it is noted that a value is
            still so.
    """

    open: Mapping[str, model.Attribute]
    retired: frozenset[str]
    never_held: frozenset[str]
    confirmed_every: Mapping[str, datetime.timedelta]


def read() -> Registered:
    """The registry now; call it inside the transaction that writes facts."""
    rows = list(Attribute.objects.order_by("id"))
    return Registered(
        {row.name: attribute(row) for row in rows if row.retired_at is None},
        frozenset(row.name for row in rows if row.retired_at is not None),
        frozenset(row.name for row in rows if row.held_since is None and not row.built_in),
        {
            row.name: datetime.timedelta(days=max(1, row.retention_days // 10))
            for row in rows
            if row.retention_days is not None
        },
    )


def note_held(names: Set[str], registered: Registered, now: datetime.datetime) -> None:
    """Remember that values of these attributes are part of past answers from now on."""
    if first := names & registered.never_held:
        Attribute.objects.filter(name__in=first, held_since=None).update(held_since=now)


@contextmanager
def alone() -> Iterator[None]:
    """A transaction in which nobody else reads or writes the registry.

    Whoever has read it keeps a share of its table until their transaction ends. So once the lock
    is given, every rule and fact that was checked against the registry is there to be seen, and
    the next one is checked against what this transaction leaves.

    Raises:
        StateError: a long job reads the registry; nothing was done.
    """
    with transaction.atomic():
        try:
            with connection.cursor() as cursor:
                cursor.execute(f"SET LOCAL lock_timeout = '{WAIT}'")
                cursor.execute("LOCK TABLE cohorts_attribute IN ACCESS EXCLUSIVE MODE")
                cursor.execute("SET LOCAL lock_timeout = 0")
        except OperationalError as error:
            raise StateError(
                "the attribute registry is in use by a long job: try again in a moment",
                code="state.busy",
            ) from error
        yield
