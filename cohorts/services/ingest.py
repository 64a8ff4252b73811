"""Payments in: each counted once, on its own day, whenever it arrives."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any, Final

from django.conf import settings
from django.db import connection, transaction

from cohorts.services import items, packing
from cohorts.services.items import IngestResult, Payment, Rejected
from cohorts.services.outbox import MARK
from cohorts.services.profiles import ingest_profiles

__all__ = ["ingest_payments", "ingest_profiles"]

AT_ONCE: Final = 200
"""Payments of a request that packs its users itself; the sender of more is not kept waiting."""

_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)

# One statement, so a payment is in the ledger exactly when it is counted. Every batch takes rows in
# one order (events, days, profiles, outbox; each sorted), so batches never wait in a circle. A
# data-modifying step runs when a later one asks for its rows: `known` is asked for first of all by
# `marked`, and sorting makes each step finish before the next begins.
INGEST: Final = f"""
WITH sent AS (
    SELECT event_id, user_id, paid_at, amount, (paid_at AT TIME ZONE %(zone)s)::date AS day
    FROM (
        SELECT DISTINCT ON (event_id) event_id, user_id, amount,
               timestamptz 'epoch' + micros * interval '1 microsecond' AS paid_at
        FROM unnest(%(event_ids)s::text[], %(user_ids)s::text[], %(micros)s::bigint[],
                    %(amounts)s::numeric[])
             WITH ORDINALITY AS t (event_id, user_id, micros, amount, n)
        ORDER BY event_id, n
    ) AS each_once
),
kept AS (
    INSERT INTO cohorts_paymentevent (event_id, user_id, day, paid_at, amount_cny)
    SELECT event_id, user_id, day, paid_at, amount FROM sent ORDER BY event_id
    ON CONFLICT (event_id) DO NOTHING
    RETURNING user_id, day, amount_cny
),
counted AS (
    INSERT INTO cohorts_dailypayments AS held (user_id, day, count, amount)
    SELECT user_id, day, count(*), coalesce(sum(amount_cny), 0)
    FROM kept GROUP BY user_id, day ORDER BY user_id, day
    ON CONFLICT (user_id, day) DO UPDATE
    SET count = held.count + excluded.count, amount = held.amount + excluded.amount
    RETURNING user_id, xmax = 0 AS is_new
),
payers AS (SELECT user_id, bool_or(is_new) AS on_a_new_day FROM counted GROUP BY user_id),
known AS (
    INSERT INTO cohorts_profile (user_id, attributes, updated_at)
    -- Who had a count of that day has a profile.
    SELECT user_id, '{{}}', %(now)s FROM payers WHERE on_a_new_day ORDER BY user_id
    ON CONFLICT (user_id) DO NOTHING
    RETURNING user_id
),
changed AS (SELECT user_id FROM payers WHERE (SELECT count(*) FROM known) >= 0),
marked AS ({MARK.format(source="changed")})
SELECT (SELECT count(*) FROM kept), (SELECT array_agg(DISTINCT lane) FROM marked)
"""  # noqa: S608 - no input in it


def ingest_payments(
    sent: Sequence[Payment | Rejected | Mapping[str, Any]],
    now: datetime.datetime,
    *,
    pack: bool = True,
) -> IngestResult:
    """Count payments, each event id once over all time.

    1. Leave out what cannot be a payment, with a code for each.
    2. Write ledger, daily counts and outbox in one statement.
    3. After the commit, pack the profiles concerned; those of many payments, and what fails, are
       packed by the next tick, within a second.

    A repeated event id is a duplicate whatever else the item says: the first one stays. A payer
    without a profile gets an empty one, so that no payments elsewhere are a known 0.

    Args:
        sent: at most 5,000, as `Payment` or as mappings with its fields.
        now: the clock; payments more than a day ahead of it are rejected (`paid_at.future`).
        pack: False leaves packing to the tick, for imports.
    Raises:
        InputError: too many items; nothing was written.
    """
    payments, rejected = items.countable(items.payments_of(sent), now + items.AHEAD)
    if not payments:
        return IngestResult(0, 0, rejected)
    with transaction.atomic():
        accepted, lanes = _write(payments, now)
        if pack and lanes and len(payments) <= AT_ONCE:
            packing.pack_after_commit(lanes)
    return IngestResult(accepted, len(payments) - accepted, rejected)


def _write(payments: Sequence[Payment], now: datetime.datetime) -> tuple[int, list[int]]:
    with connection.cursor() as cursor:
        cursor.execute(
            INGEST,
            {
                "event_ids": _texts([each.event_id for each in payments]),
                "user_ids": _texts([each.user_id for each in payments]),
                "micros": _array([_micros(each.paid_at) for each in payments]),
                "amounts": _array(
                    ["NULL" if each.amount_cny is None else each.amount_cny for each in payments]
                ),
                "zone": settings.HUIDU_DAY_ZONE,
                "now": now,
            },
        )
        kept, lanes = cursor.fetchall()[0]
    return kept, lanes or []


# Written out here, because the driver takes ten times as long for each value of a list.


def _texts(texts: list[str]) -> str | list[str]:
    """An array of texts as PostgreSQL reads it; the driver's way where quotes are in it."""
    joined = '","'.join(texts)
    if joined.count('"') > 2 * (len(texts) - 1) or "\\" in joined:
        return texts
    return '{"' + joined + '"}'


def _array(numbers: list[Any]) -> str:
    return "{" + ",".join(map(str, numbers)) + "}"


def _micros(moment: datetime.datetime) -> int:
    """Microseconds since 1970."""
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
