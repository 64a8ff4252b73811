"""Exposures: who met which stage first, in which arm.

They come from applications (`rollout.api.events`) and from the checks themselves, through a Redis
stream. Neither says which arm a user is in: the platform places every user by the snapshot of that
moment, see `rollout.services.enrolment`.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from django.db import connection
from django.utils import timezone

from cohorts.models import Draw
from huidu.model import User
from huidu.reasons import FUNDING_NO_CAPACITY
from huidu.wire import snapshot as wire
from rollout.models import Arm, Snapshot, Stage
from rollout.selectors_funding import RoomNow
from rollout.services.enrolment import Arms, Enrolled, Ignored
from rollout.services.held import held_users

MOST_KEPT: Final = 64
RECENT_SNAPSHOTS: Final = 50
EVIDENCE_LOCK: Final = 0x4855_4944_0003
"""Held (shared) by whoever writes raw evidence and, for an instant, alone by the roll-up."""

DUPLICATE: Final = "duplicate"
ACCEPTED: Final = "accepted"
FLAG_UNKNOWN: Final = "flag.unknown"
ARMS_DIFFER: Final = "arm.differs"


class Seen(msgspec.Struct, frozen=True):
    """A user met a flag at a moment; `said` are attributes the application knows itself."""

    flag: str
    user_id: str
    at: datetime
    said: Mapping[str, Any] = {}
    sequence: int | None = None
    """The snapshot that answered, where known; else the one published last before `at`."""
    arm: str | None = None
    """The arm a check server saw; where the platform's facts say otherwise, neither is believed."""


def write_evidence() -> None:
    """Say that this transaction writes raw rows, so that none is overlooked by the roll-up.

    Row ids are dealt before a commit shows them: whoever has read row 7 may find row 6 later. The
    roll-up takes this lock alone before it notes how far it has read.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock_shared(%s)", [EVIDENCE_LOCK])


def record(environment: str, seen: Sequence[Seen]) -> list[str]:
    """Write first exposures, inside the caller's transaction.

    A treated user is admitted to the rollout, so nothing but a gate takes the product away later.

    Returns:
        For each: `ACCEPTED`, `DUPLICATE` (enrolled in this stage before), `FLAG_UNKNOWN`, or
        ``ignored:<code>`` where the user tells nothing about a stage.
    """
    results = [""] * len(seen)
    room = RoomNow(environment)
    placed: list[tuple[int, Enrolled]] = []
    users = held_users({each.user_id for each in seen}, now=timezone.now())
    for (flag, sequence), indexes in _by_snapshot(environment, seen).items():
        arms = None if sequence is None else _arms(environment, sequence, flag)
        for i in indexes:
            if sequence is None:
                results[i] = "ignored:stage.none"
            elif arms is None:
                results[i] = FLAG_UNKNOWN
            else:
                found = arms.place(users[seen[i].user_id], seen[i].said)
                if isinstance(found, Ignored):
                    results[i] = f"ignored:{found.code}"
                elif found.arm is Arm.CONTROL and not room.for_user(flag, users[seen[i].user_id]):
                    # A drawn user of his kind would have been refused too: no coin decided.
                    results[i] = f"ignored:{FUNDING_NO_CAPACITY}"
                elif seen[i].arm not in (None, found.arm.value):
                    results[i] = f"ignored:{ARMS_DIFFER}"
                else:
                    placed.append((i, found))
    _write(seen, placed, users, results)
    return results


def _by_snapshot(environment: str, seen: Sequence[Seen]) -> dict[tuple[str, int | None], list[int]]:
    """Indexes of what was seen, by flag and the sequence of the snapshot in effect then."""
    recent = list(
        Snapshot.objects.filter(environment=environment)
        .order_by("-sequence")
        .values_list("published_at", "sequence")[:RECENT_SNAPSHOTS]
    )[::-1]
    moments = [each[0] for each in recent]
    groups: dict[tuple[str, int | None], list[int]] = defaultdict(list)
    for i, each in enumerate(seen):
        sequence = each.sequence
        if sequence is None:
            place = bisect_right(moments, each.at)
            sequence = recent[place - 1][1] if place else _older(environment, each.at)
        groups[each.flag, sequence].append(i)
    return groups


def _older(environment: str, at: datetime) -> int | None:
    found = Snapshot.objects.filter(environment=environment, published_at__lte=at)
    return found.order_by("-sequence").values_list("sequence", flat=True).first()


_kept: dict[tuple[str, str], Arms | None] = {}
_lock = threading.Lock()


def _arms(environment: str, sequence: int, flag: str) -> Arms | None:
    """The flag's coin in a snapshot; None: no such snapshot or flag. Kept, snapshots are final."""
    row = Snapshot.objects.filter(environment=environment, sequence=sequence).defer("blob").first()
    if row is None:
        return None
    key = (row.version, flag)
    if key not in _kept:
        snapshot = wire.decode(bytes(row.blob))
        known = next((each for each in snapshot.flags if each.key == flag), None)
        arms = None
        if known is not None:
            arms = Arms(snapshot, flag)
            if arms.stage is not None:
                earlier = _earlier_share(arms.rollout.slot, arms.stage.key, arms.stage.threshold)
                if earlier:
                    arms = Arms(snapshot, flag, earlier)
        with _lock:
            if len(_kept) >= MOST_KEPT:
                _kept.clear()
            _kept[key] = arms
    return _kept[key]


def shares_of(slot: int, stage_key: str) -> list[tuple[int, datetime]]:
    """The thresholds a stage has had, one per epoch, and from when each counted.

    A draw that left the threshold as it was began no epoch.
    """
    drawn = Draw.objects.filter(slot=slot, stage_key=stage_key).order_by("pk")
    shares: list[tuple[int, datetime]] = []
    for threshold, at in drawn.values_list("threshold", "as_of"):
        if not shares or shares[-1][0] != int(threshold):
            shares.append((int(threshold), at))
    stage = Stage.objects.filter(rollout__slot=slot, key=stage_key).first()
    if stage is not None and stage.threshold is not None:
        last = (int(stage.threshold), stage.drawn_at or stage.entered_at)
        if last[1] is not None and (not shares or shares[-1][0] != last[0]):
            shares.append((last[0], last[1]))
    return shares


def _earlier_share(slot: int, stage_key: str, threshold: int) -> int:
    smaller = [share for share, _ in shares_of(slot, stage_key) if share < threshold]
    return max(smaller, default=0)


def _write(
    seen: Sequence[Seen],
    placed: Sequence[tuple[int, Enrolled]],
    users: Mapping[str, User],
    results: list[str],
) -> None:
    if not placed:
        return
    stages = _stages({(each.slot, each.stage, each.threshold) for _, each in placed})
    rows: dict[tuple[int, int, str], tuple[int, Enrolled]] = {}
    for i, each in placed:
        known = stages.get((each.slot, each.stage, each.threshold))
        if known is None:
            results[i] = "ignored:stage.none"  # the rollout was deleted since
            continue
        results[i] = DUPLICATE
        key = (known[0], known[2], seen[i].user_id)
        # The earliest of several in one batch is the first exposure.
        if key not in rows or seen[i].at < seen[rows[key][0]].at:
            rows[key] = (i, each)
    # All writers take rows in one order, so that two batches cannot wait for each other.
    ordered = sorted(rows)
    new = _insert(ordered, rows, seen, stages)
    shown: dict[int, list[str]] = defaultdict(list)
    for key in ordered:
        i, each = rows[key]
        if key not in new:
            continue
        results[i] = ACCEPTED
        if each.arm is Arm.TREATED:
            admission = users[key[2]].admissions.get(each.slot)
            if admission is None or not admission.admitted:
                shown[each.slot].append(key[2])
    for slot, arrivals in sorted(shown.items()):
        _admit(slot, arrivals)


def _admit(slot: int, user_ids: list[str]) -> None:
    from cohorts.services import admissions

    admissions.admit(slot, user_ids)


def _stages(
    wanted: Iterable[tuple[int, str, int]],
) -> dict[tuple[int, str, int], tuple[int, int, int]]:
    """Stage id, rollout id and epoch by slot, stage key and threshold."""
    found: dict[tuple[int, str, int], tuple[int, int, int]] = {}
    for slot, key, threshold in wanted:
        stage = Stage.objects.filter(rollout__slot=slot, key=key).first()
        if stage is None:
            continue
        shares = [share for share, _ in shares_of(slot, key)]
        epoch = stage.epoch
        if stage.threshold is not None and threshold != int(stage.threshold):
            epoch = shares.index(threshold) if threshold in shares else 0
        found[slot, key, threshold] = (stage.pk, stage.rollout_id, epoch)
    return found


_INSERT: Final = """
INSERT INTO rollout_exposure
    (stage_id, rollout_id, epoch, user_id, arm, stratum, chance_ppb, first_at, recorded_at)
SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::smallint[], %s::text[], %s::text[],
                     %s::smallint[], %s::int[], %s::timestamptz[]), clock_timestamp()
ON CONFLICT (stage_id, user_id, epoch) DO NOTHING
RETURNING stage_id, epoch, user_id
"""


def _insert(
    ordered: Sequence[tuple[int, int, str]],
    rows: Mapping[tuple[int, int, str], tuple[int, Enrolled]],
    seen: Sequence[Seen],
    stages: Mapping[tuple[int, str, int], tuple[int, int, int]],
) -> set[tuple[int, int, str]]:
    columns: list[list[Any]] = [[] for _ in range(8)]
    for key in ordered:
        i, each = rows[key]
        stage = stages[each.slot, each.stage, each.threshold]
        values = (
            key[0],
            stage[1],
            key[1],
            key[2],
            each.arm.value,
            each.stratum,
            each.chance_ppb,
            seen[i].at,
        )
        for column, value in zip(columns, values, strict=True):
            column.append(value)
    with connection.cursor() as cursor:
        cursor.execute(_INSERT, columns)
        return set(cursor.fetchall())
