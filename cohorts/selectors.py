"""Reads of "who": facts now and at any past moment, straight from PostgreSQL."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec
from django.conf import settings
from django.db import connection
from django.db.models import Min

from cohorts import mappers, memberships, records
from cohorts.columns import RISK_DAY
from cohorts.models import (
    Admission,
    DailyPayments,
    Draw,
    PaymentEvent,
    Place,
    ProfileHistory,
)
from huidu import model
from huidu.history import DAYS, NAME, Paid
from huidu.risk import risk_now
from huidu.wire import ring
from huidu.wire.profile import MONTH_DAYS, WEEK_DAYS, user

CHUNK: Final = 5_000
_ERASED: Final = object()
"""In the place of a value that was deleted at the end of its term."""


class Counts(msgspec.Struct, frozen=True):
    """Payments of the windows that end with one day."""

    weekly: int
    monthly: int


class PastProfile(msgspec.Struct, frozen=True):
    """What the platform knew about a user at a moment, by attribute name."""

    user_id: str
    attributes: dict[str, Any]
    as_of: datetime.datetime
    paid: Paid
    no_longer_held: frozenset[str] = frozenset()
    """Names of values that were held then and deleted since, at the end of their term."""


def day_of(at: datetime.datetime) -> datetime.date:
    """The calendar day of a moment in the platform's zone."""
    return at.astimezone(ZoneInfo(settings.HUIDU_DAY_ZONE)).date()


def weekly_payments(user_id: str, at: datetime.datetime) -> int:
    """Payments of the 7 days that end with the day of `at`, that day up to `at` itself."""
    return payments_until(user_id, at, WEEK_DAYS)


def payments_until(user_id: str, at: datetime.datetime, days: int) -> int:
    """Payments of the `days` days that end with the day of `at`, that day up to `at` itself."""
    return sum(payments_by_day(user_id, at)[:days])


def payments_by_day(user_id: str, at: datetime.datetime) -> list[int]:
    """Payments of the day of `at` up to `at` itself, and of each of the 29 days before it."""
    today = day_of(at)
    counts = [0] * DAYS
    counts[0] = PaymentEvent.objects.filter(user_id=user_id, day=today, paid_at__lte=at).count()
    rows = DailyPayments.objects.filter(
        user_id=user_id, day__gt=today - datetime.timedelta(days=DAYS), day__lt=today
    )
    for day, count in rows.values_list("day", "count"):
        counts[(today - day).days] = count
    return counts


def counts_on(day: datetime.date) -> dict[str, Counts]:
    """Windows of every user who paid in the 30 days that end with `day`; all others have 0."""
    week = day - datetime.timedelta(days=WEEK_DAYS)
    month = day - datetime.timedelta(days=MONTH_DAYS)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT user_id, coalesce(sum(count) FILTER (WHERE day > %s), 0), sum(count)"
            " FROM cohorts_dailypayments WHERE day > %s AND day <= %s GROUP BY user_id",
            [week, month, day],
        )
        return {user_id: Counts(int(w), int(m)) for user_id, w, m in cursor.fetchall()}


def profile_at(user_id: str, at: datetime.datetime) -> PastProfile | None:
    """What the platform knew at `at`; None when it held nothing about the user yet.

    Facts are those that had arrived by then. Payments are those dated by then, whenever they
    arrived: a late payment belongs to its own day.
    """
    rows = list(
        ProfileHistory.objects.filter(user_id=user_id, at__lte=at)
        .order_by("at", "id")
        .values_list("changes", "erased")
    )
    paid = PaymentEvent.objects.filter(user_id=user_id, paid_at__lte=at).exists()
    if not rows and not paid:
        return None
    facts: dict[str, Any] = {}
    for changes, erased in rows:
        facts |= dict.fromkeys(erased or (), _ERASED) | changes
    lost = frozenset(name for name, fact in facts.items() if fact is _ERASED)
    known = {n: fact for n, fact in facts.items() if fact is not None and fact is not _ERASED}
    counts = payments_by_day(user_id, at)
    known["weekly_payments"] = sum(counts[:WEEK_DAYS])
    known["monthly_payments"] = sum(counts[:MONTH_DAYS])
    scored_on = known.pop(RISK_DAY, None)
    if "risk_score" in known and scored_on:
        day = datetime.date.fromisoformat(scored_on)
        known["risk_score"] = risk_now(known["risk_score"], day, day_of(at))
    return PastProfile(user_id, known, at, Paid(ring.pack(counts)), lost)


_LEARNED: Final = """
SELECT name, max(at),
       coalesce(
           max(at) FILTER (WHERE gone) > max(at) FILTER (WHERE NOT gone), bool_and(gone)
       )
FROM cohorts_profilehistory CROSS JOIN LATERAL (
    SELECT jsonb_object_keys(changes), false
    UNION ALL SELECT jsonb_array_elements_text(erased), true
) AS told (name, gone)
WHERE user_id = %(user)s AND at <= %(at)s GROUP BY name
UNION ALL (
    SELECT '', paid_at, false FROM cohorts_paymentevent
    WHERE user_id = %(user)s AND paid_at <= %(at)s ORDER BY paid_at DESC LIMIT 1
)
"""


class Learned(msgspec.Struct, frozen=True):
    """When each fact was learned, and which of them nobody knows any more."""

    at: dict[str, datetime.datetime]
    no_longer_held: frozenset[str]


def learned(user_id: str, at: datetime.datetime) -> Learned:
    """When each fact that was held at `at` was learned, by attribute name.

    Counted payments go by the last payment of their window; facts told by callers have no age.
    """
    with connection.cursor() as cursor:
        cursor.execute(_LEARNED, {"user": user_id, "at": at})
        rows = cursor.fetchall()
    found = {name: moment for name, moment, _ in rows}
    found.pop(RISK_DAY, None)  # told by its score
    last = found.pop("", None)
    if last is not None:
        found |= {"weekly_payments": last, "monthly_payments": last}
    return Learned(found, frozenset(name for name, _, gone in rows if gone))


def held_user(user_id: str, at: datetime.datetime) -> model.User:
    """The user as the engine judges it at `at`, from PostgreSQL; a bare key when nothing is held.

    Custom facts of attributes that are no longer registered are left out.
    """
    found = profile_at(user_id, at)
    registry = mappers.registry()
    facts = {
        name: fact for name, fact in (found.attributes if found else {}).items() if name in registry
    }
    if found is not None:
        facts[NAME] = found.paid
    rows = list(Admission.objects.filter(user_id=user_id))
    # Weights are frozen by a rollout's first draw: before it nothing was remembered.
    draws = Draw.objects.filter(slot__in=[row.slot for row in rows]).values("slot")
    first = dict(draws.annotate(first=Min("as_of")).values_list("slot", "first"))
    admissions = {
        row.slot: model.Admission(
            row.weight, row.admitted and row.since is not None and row.since <= at
        )
        for row in rows
        if (row.since is not None and row.since <= at)
        or row.slot not in first
        or first[row.slot] <= at
    }
    admissions |= {
        model.place_slot(row.slot): model.place_of(row.partner)
        for row in Place.objects.filter(user_id=user_id, since__lte=at).exclude(released_at__lte=at)
    }
    return model.User(user_id, facts, admissions, memberships.lists_at(user_id, at))


def users_shown(slot: int) -> set[str]:
    """Users who were admitted to a rollout by being shown it, and not by its draw."""
    rows = Admission.objects.filter(slot=slot, admitted=True, via=Admission.Via.SHOWN)
    return set(rows.values_list("user_id", flat=True))


def held_users(
    user_ids: Sequence[str],
    at: datetime.datetime | None = None,
    *,
    registry: Mapping[str, model.Attribute] | None = None,
) -> dict[str, model.User]:
    """Many users as the engine judges them on the day of `at` (today by default).

    Same facts as in the packed profiles, read from the rows; users of whom nothing is held are
    left out.

    Args:
        registry: the registered attributes, if the caller has read them already.
    """
    registry = mappers.registry() if registry is None else registry
    today = day_of(at or datetime.datetime.now(datetime.UTC))
    slots = {name: each.id for name, each in registry.items()}
    return {
        user_id: user(profile, user_id, today, registry)
        for user_id, profile in records.profiles(user_ids, slots)
        if profile is not None
    }


def every_user(
    today: datetime.date,
    registry: Mapping[str, model.Attribute],
    after: str = "",
    *,
    by_day: bool = False,
) -> Iterator[model.User]:
    """All users with a profile, by user id, as the engine judges them on `today`.

    Args:
        after: only those behind this user id.
        by_day: with their daily counts, which only rules with hysteresis ask for.
    """
    for user_ids in chunks_of_users(after):
        yield from records.users(user_ids[0], user_ids[-1], today, registry, by_day=by_day)


def chunks_of_users(after: str = "") -> Iterator[list[str]]:
    """The ids of all users with a profile, in order, some at a time."""
    while True:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT user_id FROM cohorts_profile WHERE user_id > %s ORDER BY user_id LIMIT %s",
                [after, CHUNK],
            )
            users = [user_id for (user_id,) in cursor.fetchall()]
        if users:
            yield users
        if len(users) < CHUNK:
            return
        after = users[-1]
