"""Deletes held values at the end of their term, from profiles and from their history.

A value's age counts from when it was last learned or confirmed; `profiles.ingest_profiles` writes
a confirmation into the history when a value that has a term is sent again unchanged. A night's
run goes through all users in batches of one short transaction each, so it goes on after a kill.
"""

from __future__ import annotations

import datetime
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from django.db import connection, transaction
from django.utils import timezone

from cohorts.columns import COLUMNS, RISK_DAY
from cohorts.models import Attribute, RetentionRun
from cohorts.selectors import day_of
from cohorts.services.facts import COMPUTED
from cohorts.services.outbox import mark_dirty

BATCH: Final = 1_000
FROM_HOUR: Final = 2
"""Nights begin at this hour of the platform's zone."""

_NEXT: Final = """
SELECT user_id FROM cohorts_profile WHERE user_id > %s ORDER BY user_id LIMIT %s
"""

_EXPIRED: Final = """
SELECT held.user_id FROM cohorts_profile AS held
WHERE held.user_id = ANY(%(users)s) AND {held}
  AND coalesce(
    (SELECT max(h.at) FROM cohorts_profilehistory AS h
     WHERE h.user_id = held.user_id AND h.changes ? %(name)s::text
       AND h.changes -> %(name)s::text <> 'null'),
    held.updated_at
  ) < %(before)s
ORDER BY held.user_id {lock}
"""

_REMEMBER: Final = """
INSERT INTO cohorts_profilehistory (user_id, at, changes)
SELECT user_id, %s, %s::jsonb FROM unnest(%s::text[]) AS t (user_id)
"""

_FORGET_PAST: Final = """
UPDATE cohorts_profilehistory
SET changes = changes - %(gone)s::text[],
    erased = coalesce(erased, '[]'::jsonb) || to_jsonb(%(name)s::text)
WHERE user_id = ANY(%(users)s) AND at < %(before)s
  AND changes ? %(name)s::text AND changes -> %(name)s::text <> 'null'
"""


class Term(msgspec.Struct, frozen=True):
    """An attribute whose values are held for so many days."""

    name: str
    days: int

    @property
    def gone(self) -> list[str]:
        """What is deleted together: a score without its day means nothing."""
        return [self.name, RISK_DAY] if self.name == "risk_score" else [self.name]


def terms() -> list[Term]:
    """Every attribute with a term, retired ones included."""
    rows = Attribute.objects.filter(retention_days__isnull=False).exclude(
        source=Attribute.Source.CALLER
    )
    return [
        Term(name, days)
        for name, days in rows.order_by("id").values_list("name", "retention_days")
        if days is not None and name not in COMPUTED
    ]


def carry_on(
    now: datetime.datetime, *, seconds: float, done: Callable[[RetentionRun], None]
) -> int:
    """Begin tonight's run if it is due, and judge users for a while; how many were judged.

    Safe with any number of workers: one of them has the run's row, the others do nothing.

    Args:
        now: the clock; values last learned before ``now - term`` go.
        done: called in the transaction that ends a run.
    """
    _begin(now)
    end = time.monotonic() + seconds
    judged = 0
    while time.monotonic() < end:
        found = _batch(now, done)
        judged += found
        if not found:
            return judged
    return judged


def _begin(now: datetime.datetime) -> None:
    local = timezone.localtime(now)
    if local.hour < FROM_HOUR or RetentionRun.objects.filter(finished_at=None).exists():
        return
    day = day_of(now)
    if not RetentionRun.objects.filter(day=day).exists() and terms():
        RetentionRun.objects.get_or_create(day=day, defaults={"started_at": now})


def _batch(now: datetime.datetime, done: Callable[[RetentionRun], None]) -> int:
    """The next users of the run under way; 0 when there is none, or another worker has it."""
    with transaction.atomic():
        rows = RetentionRun.objects.filter(finished_at=None).select_for_update(skip_locked=True)
        run = rows.order_by("day").first()
        if run is None:
            return 0
        with connection.cursor() as cursor:
            cursor.execute(_NEXT, [run.after, BATCH])
            users = [user_id for (user_id,) in cursor.fetchall()]
        for term in terms() if users else []:
            _add(run, term.name, *_erase(term, users, now))
        run.users += len(users)
        if len(users) < BATCH:
            run.after, run.finished_at = "", now
            done(run)
        else:
            run.after = users[-1]
        run.save()
        return len(users)


def _add(run: RetentionRun, name: str, values: int, history: int) -> None:
    if values or history:
        so_far = Counter(run.erased.get(name, {})) + Counter(values=values, history=history)
        run.erased[name] = dict(so_far)


def _erase(term: Term, users: Sequence[str], now: datetime.datetime) -> tuple[int, int]:
    """How many values of profiles, and of their history, were over their term and are gone."""
    before = now - datetime.timedelta(days=term.days)
    asked: dict[str, Any] = {"users": list(users), "name": term.name, "before": before}
    column = term.name if term.name in COLUMNS else None
    held = f"held.{column} IS NOT NULL" if column else "held.attributes ? %(name)s::text"
    with connection.cursor() as cursor:
        # Twice: a fact that arrived while we waited for its row's lock is seen by the second.
        for lock in ("FOR UPDATE OF held", ""):
            cursor.execute(_EXPIRED.format(held=held, lock=lock), asked)
            asked["users"] = [user_id for (user_id,) in cursor.fetchall()]
        expired = asked["users"]
        if expired:
            if column:
                cleared = ", ".join(f"{name} = NULL" for name in term.gone)
            else:
                cleared = "attributes = attributes - %(name)s::text"
            cursor.execute(
                f"UPDATE cohorts_profile SET {cleared} WHERE user_id = ANY(%(users)s)",  # noqa: S608
                asked,
            )
            unknown = msgspec.json.encode(dict.fromkeys(term.gone)).decode()
            cursor.execute(_REMEMBER, [now, unknown, expired])
            mark_dirty(expired)
        past = {**asked, "users": list(users), "gone": term.gone}
        cursor.execute(_FORGET_PAST, past)
        return len(expired), cursor.rowcount
