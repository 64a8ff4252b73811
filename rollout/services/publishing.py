"""From rows to one immutable snapshot that every node serves.

    a change commits -> outbox row -> build -> validate -> Snapshot row -> Redis -> every node

A snapshot that would not load is refused before it is written; the last good one stays.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec
from django.db import IntegrityError, connection, transaction
from django.db.models import F
from django.utils import timezone

from huidu import model, reasons
from huidu.engine import compile_snapshot
from huidu.errors import HuiduError, SnapshotError
from huidu.wire import access
from huidu.wire import snapshot as wire
from rollout import mappers
from rollout.models import ApiKey, Outbox, Snapshot
from rollout.services import store

logger = logging.getLogger(__name__)

MAX_BYTES: Final = 8 * 1024 * 1024
"""Largest blob: every node loads it whole within its poll interval."""

MOST_TRIES: Final = 5
"""Publishers that lose a race for a sequence number begin again so often."""

SQL_DEADLINE: Final = "3s"


@dataclass(frozen=True)
class Published:
    """What became of a publication.

    `snapshot` is None when nothing had changed; `reached_redis` is False when the store was away
    and the tick will bring it.
    """

    snapshot: Snapshot | None
    reached_redis: bool


def check(environment: str) -> None:
    """Build and validate what the rows say now, inside the caller's transaction.

    Services call it before they commit, so a change that could not be published is refused with
    the sentence that names its fault.

    Raises:
        RuleError, SnapshotError: where the fault is, and what would be right.
    """
    validate(mappers.snapshot(environment, sequence=1, published_at=timezone.now()))


def validate(snapshot: model.Snapshot) -> bytes:
    """Make sure that every node will load `snapshot`, and give its bytes.

    Raises:
        RuleError, SnapshotError: it contradicts itself, is too large, or a golden check fails.
    """
    blob = wire.encode(snapshot)
    if len(blob) > MAX_BYTES:
        raise SnapshotError(
            f"expected at most {MAX_BYTES:,} bytes, got {len(blob):,}: move long allow or block "
            "lists into user lists"
        )
    compiled = compile_snapshot(wire.decode(blob))
    _hidden(compiled.check("no-such-flag", _stranger("u")), reasons.FLAG_UNKNOWN)
    for flag in snapshot.flags:
        answer = compiled.check(flag.key, _stranger(""))
        if answer.visible:
            raise SnapshotError("a user without identity would be shown the flag", path=flag.key)
        if flag.killed and compiled.check(flag.key, _stranger("u")).visible:
            raise SnapshotError("a killed flag would be shown", path=flag.key)
    return blob


def publish(environment: str, *, cause: str, by: str, at_least: int = 1) -> Published:
    """Publish what the rows say now, unless they say what was published last.

    Args:
        at_least: lowest sequence to use; with a number beyond the last one it is published
            although nothing changed (the store holds a later one than the database).
    Raises:
        RuleError, SnapshotError: the rows contradict each other; the last good snapshot stays.
    """

    def from_rows(last: Snapshot | None, now: datetime) -> model.Snapshot | None:
        sequence = max(last.sequence + 1 if last else 1, at_least)
        snapshot = mappers.snapshot(environment, sequence=sequence, published_at=now)
        if last and at_least <= last.sequence and _same_content(snapshot, bytes(last.blob)):
            return None
        validate(snapshot)
        return snapshot

    return _publish(environment, from_rows, cause, by)


def publish_kill(environment: str, flag_key: str, *, cause: str, by: str) -> Published:
    """Publish at once, after a kill was committed.

    When the rows cannot be published for any other reason, the last good snapshot is published
    again with this one flag killed: nothing may keep a kill from being seen.
    """
    try:
        return publish(environment, cause=cause, by=by)
    except HuiduError:
        logger.exception("rollout.publish_refused environment=%s, killing in place", environment)

    def in_place(last: Snapshot | None, now: datetime) -> model.Snapshot | None:
        if last is None:
            return None
        good = wire.decode(bytes(last.blob))
        flags = [
            msgspec.structs.replace(flag, killed=True) if flag.key == flag_key else flag
            for flag in good.flags
        ]
        return msgspec.structs.replace(
            good, flags=flags, sequence=last.sequence + 1, published_at=mappers.iso(now)
        )

    return _publish(environment, in_place, cause, by)


def publish_access() -> bool:
    """Bring the live keys to the store; False when it was away."""
    keys = ApiKey.objects.filter(revoked_at__isnull=True).order_by("pk")
    # Keys are never deleted, so this number grows by one with every key made or revoked.
    sequence = ApiKey.objects.count() + ApiKey.objects.filter(revoked_at__isnull=False).count()
    blob = access.encode(
        access.Access(
            sequence=sequence,
            keys=[
                access.Key(
                    id=key.pk,
                    digest=key.digest,
                    kind=access.KeyKind(key.kind),
                    environment=key.environment,
                )
                for key in keys
            ],
        )
    )
    try:
        if store.held_access() != blob:
            store.put_access(blob, sequence)
    except store.RedisError as error:
        logger.warning("rollout.access_not_published %s", error)
        return False
    return True


def publish_pending(environment: str | None = None) -> int:
    """Drain the outbox, of one environment or of all; returns how many rows were done.

    Several changes of one environment become one snapshot.
    """
    done = 0
    waiting = Outbox.objects.filter(
        done_at__isnull=True, kind__in=[Outbox.Kind.SNAPSHOT, Outbox.Kind.ACCESS]
    )
    if environment is not None:
        waiting = waiting.filter(environment=environment)
    for kind, where in sorted(set(waiting.values_list("kind", "environment"))):
        done += _drain(kind, where)
    return done


def ensure_published(environment: str) -> bool:
    """Heal the store: after a flush, a restart or a restored backup it gets the last snapshot.

    Returns whether something had to be brought.
    """
    try:
        held_sequence, held = store.held_snapshot(environment)
    except store.RedisError as error:
        logger.warning("rollout.store_away %s", error)
        return False
    publish_access()
    # Read after the store: a publication between the two can only make the row newer.
    last = last_snapshot(environment)
    if last is None:
        return publish(environment, cause="first publication", by="engine").snapshot is not None
    if held_sequence > last.sequence:
        # The database went back in time. It is the truth, but nodes ignore older sequences.
        publish(environment, cause="store was ahead", by="engine", at_least=held_sequence + 1)
        return True
    if held_sequence == last.sequence and held == bytes(last.blob):
        return False
    return _bring_to_redis(last, force=held_sequence == last.sequence)


def _drain(kind: str, environment: str) -> int:
    # Rows are read before the work and marked after it, without a lock: what they ask for is then
    # in what is published, and a second drainer only finds nothing new to publish.
    rows = list(Outbox.objects.filter(done_at__isnull=True, kind=kind, environment=environment))
    if not rows:
        return 0
    fault = ""
    try:
        if kind == Outbox.Kind.ACCESS:
            reached = publish_access()
        else:
            cause = "; ".join(dict.fromkeys(row.cause for row in rows if row.cause))
            reached = publish(environment, cause=cause, by=rows[-1].by).reached_redis
    except HuiduError as error:
        # Trying again does not mend a contradiction; the next change may.
        logger.exception("rollout.publish_refused environment=%s", environment)
        reached, fault = False, str(error)
    waiting = Outbox.objects.filter(pk__in=[row.pk for row in rows], done_at__isnull=True)
    if reached:
        return waiting.update(done_at=timezone.now(), error="")
    waiting.update(attempts=F("attempts") + 1, error=fault or "the store was away")
    return 0


def _publish(
    environment: str,
    build: Callable[[Snapshot | None, datetime], model.Snapshot | None],
    cause: str,
    by: str,
) -> Published:
    """Write the next snapshot and bring it to the store.

    One consistent view of all tables (REPEATABLE READ) and the unique sequence take the place of a
    lock: whoever writes number n + 1 has seen row n, and so everything that row n was made from.
    """
    for attempt in range(MOST_TRIES):
        try:
            with _consistent_view():
                last = last_snapshot(environment)
                now = timezone.now()
                snapshot = build(last, now)
                if snapshot is None:
                    row = None
                    break
                blob = wire.encode(snapshot)
                row = Snapshot.objects.create(
                    environment=environment,
                    sequence=snapshot.sequence,
                    version=wire.version_of(blob),
                    blob=blob,
                    published_at=now,
                    cause=cause,
                    by=by,
                )
                break
        except IntegrityError:
            if attempt == MOST_TRIES - 1:
                raise
    current = row or last
    if current is None:
        return Published(None, False)
    return Published(row, _bring_to_redis(current, only_if_missing=row is None))


@contextmanager
def _consistent_view() -> Iterator[None]:
    nested = connection.in_atomic_block  # only inside a test's own transaction
    with transaction.atomic(durable=True):
        with connection.cursor() as cursor:
            if not nested:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            cursor.execute(f"SET LOCAL lock_timeout = '{SQL_DEADLINE}'")
        yield


def last_snapshot(environment: str) -> Snapshot | None:
    """What was published last in an environment."""
    return Snapshot.objects.filter(environment=environment).order_by("-sequence").first()


def _bring_to_redis(row: Snapshot, *, only_if_missing: bool = False, force: bool = False) -> bool:
    try:
        if only_if_missing and store.held_snapshot(row.environment)[0] >= row.sequence:
            return True
        store.put_snapshot(row.environment, bytes(row.blob), row.sequence, force=force)
    except store.RedisError as error:
        logger.warning("rollout.not_published %s@%s: %s", row.environment, row.sequence, error)
        return False
    return True


def _same_content(snapshot: model.Snapshot, blob: bytes) -> bool:
    try:
        last = wire.decode(blob)
    except SnapshotError:
        return False  # written by another format of Huidu: publish it anew
    return (
        msgspec.structs.replace(snapshot, sequence=last.sequence, published_at=last.published_at)
        == last
    )


def _hidden(answer: model.Answer, why: str) -> None:
    if answer.visible or answer.why != why:
        raise SnapshotError(f"expected hidden with {why}, got {answer.why}")


def _stranger(key: str) -> model.User:
    return model.User(key=key, attributes={})
