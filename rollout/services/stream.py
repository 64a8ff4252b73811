"""Takes what check servers noted from Redis streams into the database: exposures and receipts.

How far the stream was read is written in the transaction that writes the rows: a drain killed at
any point has done everything or nothing. Entries are removed from Redis after that commit.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, cast

import msgspec
from django.db import transaction
from django.utils import timezone

from cohorts.services.items import id_fault
from huidu.wire import names
from rollout.models import StreamMark
from rollout.services import exposures, store
from rollout.services.events import AHEAD, EARLIEST
from rollout.services.exposures import Seen

logger = logging.getLogger(__name__)

BATCH: Final = 2_000
BATCHES: Final = 50
"""Entries of receipts read at once, of up to 200 receipts each."""

START: Final = "0-0"


class _Noted(msgspec.Struct, frozen=True):
    """What the check server wrote; fields it may add later are passed over."""

    environment: str
    flag: str
    user_id: str
    arm: str
    at_ms: int
    sequence: int


Take = Callable[[Sequence[dict[bytes, bytes]]], Counter[str]]
"""Stores entries inside a transaction; says how many came to what."""


def drain(*, most: int = 50_000) -> Counter[str]:
    """Read what is new; returns how many entries came to what (``accepted``, ``duplicate``, ...).

    Raises:
        RedisError: the store did not answer in time; the next tick reads on.
    """
    return drain_stream(names.EXPOSURES_STREAM, _record, most=most)


def drain_stream(name: str, take: Take, *, most: int) -> Counter[str]:
    """Read what is new in a stream, batch by batch, and let `take` store it.

    Raises:
        RedisError: the store did not answer in time; the next tick reads on.
    """
    results: Counter[str] = Counter()
    while results.total() < most:
        found = _drain_batch(name, take)
        if not found:
            break
        results += found
    return results


def _drain_batch(name: str, take: Take) -> Counter[str]:
    StreamMark.objects.get_or_create(name=name)
    with transaction.atomic():
        mark = StreamMark.objects.select_for_update(skip_locked=True).filter(name=name).first()
        if mark is None:
            return Counter()  # another drain is at work
        entries = _read(mark)
        if not entries:
            return Counter()
        results = take([fields for _, fields in entries])
        mark.entry = entries[-1][0]
        mark.save()
    store.client().xtrim(name, minid=mark.entry, approximate=True)
    return results


def _read(mark: StreamMark) -> list[tuple[str, dict[bytes, bytes]]]:
    entries = _after(mark.name, mark.entry)
    if not entries and mark.entry != START and _is_lost(mark.name, mark.entry):
        logger.warning(
            "rollout.stream_lost stream=%s mark=%s: the store forgot; reading from its beginning",
            mark.name,
            mark.entry,
        )
        mark.entry = START
        mark.save()
        entries = _after(mark.name, START)
    return entries


def _after(name: str, entry: str) -> list[tuple[str, dict[bytes, bytes]]]:
    count = BATCHES if name == names.RECEIPTS_STREAM else BATCH
    answer = cast(list[Any], store.client().xread({name: entry}, count=count) or [])
    return [(each.decode(), fields) for _, rows in answer for each, fields in rows]


def _is_lost(name: str, entry: str) -> bool:
    """Whether the stream ends before the entry that was read last: its store started anew."""
    client = store.client()
    if not client.exists(name):
        # Entries are trimmed, never the stream itself; a new one may number from any moment on.
        return True
    told = client.xinfo_stream(name)
    return _order(told["last-generated-id"].decode()) < _order(entry)


def _order(entry: str) -> tuple[int, int]:
    ms, _, number = entry.partition("-")
    return int(ms), int(number or 0)


def _record(entries: Sequence[dict[bytes, bytes]]) -> Counter[str]:
    results: Counter[str] = Counter()
    by_environment: dict[str, list[Seen]] = defaultdict(list)
    latest = timezone.now() + AHEAD
    for fields in entries:
        found = _seen(fields, latest)
        if found is None:
            results["unreadable"] += 1
        else:
            by_environment[found[0]].append(found[1])
    exposures.write_evidence()
    for environment, seen in sorted(by_environment.items()):
        results.update(exposures.record(environment, seen))
    return results


def _seen(fields: dict[bytes, bytes], latest: datetime) -> tuple[str, Seen] | None:
    try:
        noted = msgspec.json.decode(fields[b"exposure"], type=_Noted)
        at = datetime.fromtimestamp(noted.at_ms / 1000, UTC)
    except (KeyError, msgspec.MsgspecError, OverflowError, OSError, ValueError):
        logger.exception("rollout.exposure_unreadable")
        return None
    if id_fault(noted.user_id) is not None or not EARLIEST <= at <= latest:
        logger.warning("rollout.exposure_refused user=%r at=%s", noted.user_id, at)
        return None
    # A key the database cannot hold is no flag of ours.
    flag = noted.flag if id_fault(noted.flag) is None else ""
    environment = noted.environment if id_fault(noted.environment) is None else ""
    return environment, Seen(flag, noted.user_id, at, sequence=noted.sequence, arm=noted.arm)
