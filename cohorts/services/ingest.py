"""Payments in: each counted once, on its own day, whenever it arrives."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from django.conf import settings
from django.db import connection, transaction

from cohorts.services import packing
from cohorts.services.items import (
    AHEAD,
    IngestResult,
    Payment,
    Rejected,
    fault_of,
    payments_of,
)
from cohorts.services.outbox import MARK
from cohorts.services.profiles import ingest_profiles

__all__ = ["ingest_payments", "ingest_profiles"]

# One statement, so a payment is in the ledger exactly when it is counted. Every batch takes rows in
# one order (events, days, profiles, outbox; each sorted), so batches never wait in a circle. A
# data-modifying step runs when a later one asks for its rows: `known` is asked for first of all by
# `marked`, and sorting makes each step finish before the next begins.
INGEST: Final = f"""
WITH sent AS (
    SELECT DISTINCT ON (event_id) event_id, user_id, paid_at, amount,
           (paid_at AT TIME ZONE %(zone)s)::date AS day
    FROM unnest(%(event_ids)s::text[], %(user_ids)s::text[], %(moments)s::timestamptz[],
                %(amounts)s::numeric[]) WITH ORDINALITY AS t (event_id, user_id, paid_at, amount, n)
    ORDER BY event_id, n
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
    RETURNING user_id
),
payers AS (SELECT DISTINCT user_id FROM counted),
known AS (
    INSERT INTO cohorts_profile (user_id, attributes, updated_at)
    SELECT user_id, '{{}}', %(now)s FROM payers ORDER BY user_id
    ON CONFLICT (user_id) DO NOTHING
    RETURNING user_id
),
changed AS (SELECT user_id FROM payers WHERE (SELECT count(*) FROM known) >= 0),
marked AS ({MARK.format(source="changed")})
SELECT (SELECT count(*) FROM kept), (SELECT array_agg(DISTINCT lane) FROM marked)
"""  # noqa: S608 - no input in it


def ingest_payments(
    items: Sequence[Payment | Rejected | Mapping[str, Any]],
    now: datetime.datetime,
    *,
    pack: bool = True,
) -> IngestResult:
    """Count payments, each event id once over all time.

    1. Leave out what cannot be a payment, with a code for each.
    2. Write ledger, daily counts and outbox in one statement.
    3. After the commit, pack the profiles concerned; what fails is packed by the next tick.

    A repeated event id is a duplicate whatever else the item says: the first one stays. A payer
    without a profile gets an empty one, so that no payments elsewhere are a known 0.

    Args:
        items: at most 5,000, as `Payment` or as mappings with its fields.
        now: the clock; payments more than a day ahead of it are rejected (`paid_at.future`).
        pack: False leaves packing to the tick, for imports.
    Raises:
        InputError: too many items; nothing was written.
    """
    rejected: list[Rejected] = []
    payments: list[Payment] = []
    latest = now + AHEAD
    for index, item in enumerate(payments_of(items)):
        if isinstance(item, Rejected):
            rejected.append(item)
        elif fault := fault_of(item, latest):
            rejected.append(Rejected(index, *fault))
        else:
            payments.append(item)
    if not payments:
        return IngestResult(0, 0, rejected)
    with transaction.atomic():
        accepted, lanes = _write(payments, now)
        if pack and lanes:
            packing.pack_after_commit(lanes)
    return IngestResult(accepted, len(payments) - accepted, rejected)


def _write(payments: Sequence[Payment], now: datetime.datetime) -> tuple[int, list[int]]:
    amounts: list[Decimal | None] = [each.amount_cny for each in payments]
    with connection.cursor() as cursor:
        cursor.execute(
            INGEST,
            {
                "event_ids": [each.event_id for each in payments],
                "user_ids": [each.user_id for each in payments],
                "moments": [each.paid_at for each in payments],
                "amounts": amounts,
                "zone": settings.HUIDU_DAY_ZONE,
                "now": now,
            },
        )
        kept, lanes = cursor.fetchall()[0]
    return kept, lanes or []
