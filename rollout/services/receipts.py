"""Receipts of checks: taken in from the check servers, found again, dropped when they are old."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from django.conf import settings
from django.db import connection
from django.utils import timezone

from cohorts.services.items import id_fault
from huidu.errors import ProfileError
from huidu.wire import names
from huidu.wire import receipt as wire
from rollout.models import Receipt
from rollout.services import stream
from rollout.services.events import AHEAD, EARLIEST

logger = logging.getLogger(__name__)
TABLE: Final = "rollout_receipt"


def drain(*, most: int = 200_000) -> Counter[str]:
    """Take in what check servers wrote; returns how many receipts were ``stored`` or not.

    Raises:
        RedisError: the store did not answer in time; the next tick reads on.
    """
    return stream.drain_stream(names.RECEIPTS_STREAM, _take, most=most)


def _take(entries: Sequence[dict[bytes, bytes]]) -> Counter[str]:
    results: Counter[str] = Counter()
    rows: dict[str, Receipt] = {}
    latest = timezone.now() + AHEAD
    for fields in entries:
        try:
            batch = wire.decode_all(fields[b"receipts"])
        except (KeyError, ProfileError):
            logger.exception("rollout.receipts_unreadable")
            results["unreadable"] += 1
            continue
        for each in batch:
            row = _row(each, latest)
            if row is None:
                results["refused"] += 1
            else:
                rows[each.decision] = row
    for month in sorted({row.at.strftime("%Y-%m") for row in rows.values()}):
        make_partition(month)
    stored = Receipt.objects.bulk_create(rows.values(), batch_size=1_000, ignore_conflicts=True)
    results["stored"] += len(stored)
    return results


def _row(each: wire.Receipt, latest: datetime) -> Receipt | None:
    at = _moment(each.at_ms)
    names_are_odd = any(id_fault(name) for name in (each.user, each.flag, each.environment))
    if at is None or not EARLIEST <= at <= latest or names_are_odd:
        logger.warning("rollout.receipt_refused decision=%r", each.decision[:32])
        return None
    if wire.moment_of(each.decision) != each.at_ms:
        logger.warning("rollout.receipt_refused decision=%r at=%s", each.decision[:32], at)
        return None
    return Receipt(
        at=at,
        decision_id=each.decision,
        environment=each.environment[:31],
        flag_key=each.flag[:63],
        user_id=each.user,
        sequence=each.sequence,
        visible=each.visible,
        why=each.why[:63],
        body=wire.encode(each),
    )


def find(environment: str, decision: str) -> wire.Receipt | None:
    """The receipt of a decision, if it was kept."""
    ms = wire.moment_of(decision)
    at = None if ms is None else _moment(ms)
    if at is None:
        return None
    row = Receipt.objects.filter(at=at, decision_id=decision, environment=environment).first()
    return None if row is None else wire.decode(bytes(row.body))


def make_partition(month: str) -> None:
    """Make room for a month, such as ``2026-11``, if there is none yet."""
    first = datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC)
    following = (first + timedelta(days=32)).replace(day=1)
    name = partition_of(month)
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass(%s)", [name])
        if cursor.fetchall()[0][0] is None:
            cursor.execute(
                f"CREATE TABLE IF NOT EXISTS {name} PARTITION OF {TABLE}"
                f" FOR VALUES FROM ('{first.isoformat()}') TO ('{following.isoformat()}')"
            )


def drop_old(*, now: datetime) -> list[str]:
    """Drop whole months in which every receipt is older than `HUIDU_RECEIPT_DAYS`."""
    oldest = now - timedelta(days=settings.HUIDU_RECEIPT_DAYS)
    keep = partition_of(oldest.astimezone(UTC).strftime("%Y-%m"))
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
            " WHERE i.inhparent = %s::regclass AND c.relname < %s ORDER BY 1",
            [TABLE, keep],
        )
        old = [name for (name,) in cursor.fetchall()]
        for name in old:
            cursor.execute(f"DROP TABLE {connection.ops.quote_name(name)}")
    return old


def partition_of(month: str) -> str:
    return f"{TABLE}_{month.replace('-', '_')}"


def _moment(ms: int) -> datetime | None:
    try:
        return datetime.fromtimestamp(ms / 1000, UTC)
    except (OverflowError, OSError, ValueError):
        return None
