"""Draws from millions: judged by a worker part by part, entered at once, then written down.

1. Judging: some thousand users a transaction, with the place reached; a killed worker is followed
   by the next tick, which goes on after the last part.
2. Ready: whoever enters the stage takes the n smallest ranks of all parts. From that commit on the
   threshold decides, as it does for users who arrive later.
3. Remembering: who was drawn, and who weighs more than 1, part by part. Until its own part is
   written down a heavy user is judged by the weight remembered before: later, never wrongly, shown.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import time
from typing import Any, Final

import msgspec
import numpy
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from cohorts import mappers, records, selectors
from cohorts.models import Admission, Draw, DrawJob, DrawPart
from cohorts.services import draws, packing
from cohorts.services.admissions import remember
from cohorts.services.audience import Judge
from huidu.engine.bucketing import seed_of, seeded_bucket
from huidu.errors import HuiduError, StateError
from huidu.model import User

AT_ONCE: Final = 200_000
"""Users that are drawn within the request; from more, a worker draws."""

PART: Final = 10_000
"""Users judged, or written down, in one transaction."""

State = DrawJob.State
ACTIVE: Final = (State.JUDGING, State.READY, State.REMEMBERING)


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What `draws.draw_stage` is given, but for the clock."""

    subject: str
    slot: int
    salt: str
    stage_key: str
    share_ppm: int
    audience: dict[str, Any]
    weights: list[dict[str, Any]]
    previous_threshold: int


def is_large() -> bool:
    """Whether there are more profiles than a request may judge."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM (SELECT FROM cohorts_profile LIMIT %s) AS counted", [AT_ONCE + 1]
        )
        return int(cursor.fetchall()[0][0]) > AT_ONCE


def active(slot: int) -> DrawJob | None:
    return DrawJob.objects.filter(slot=slot, state__in=ACTIVE).first()


def begin(plan: Plan, then: dict[str, Any], now: datetime.datetime) -> DrawJob:
    """Have a worker judge everybody; `then` tells whoever enters the stage whose step it is.

    Raises:
        StateError: another draw of the rollout is under way.
        RuleError: the audience or a weight cannot be read.
    """
    Judge(plan.audience, plan.weights)
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM cohorts_profile")
        users = int(cursor.fetchall()[0][0])
    try:
        with transaction.atomic():
            return DrawJob.objects.create(
                subject=plan.subject,
                slot=plan.slot,
                stage_key=plan.stage_key,
                plan=msgspec.to_builtins(plan) | _as_text(plan.previous_threshold),
                inputs=_fingerprint(plan),
                then=then,
                share_ppm=plan.share_ppm,
                state=State.JUDGING,
                users=users,
                begun_at=now,
            )
    except IntegrityError as error:
        raise StateError(f"{plan.subject} is being drawn already") from error


def fits(job: DrawJob, plan: Plan) -> bool:
    """Whether the job draws what the plan says, by rules that mean what they meant."""
    return job.inputs == _fingerprint(plan)


def carry_on(seconds: float = 20.0) -> int:
    """Judge, and write down, what is under way; how many users were done."""
    end = time.monotonic() + seconds
    total = 0
    jobs = DrawJob.objects.filter(state__in=(State.JUDGING, State.REMEMBERING)).order_by("pk")
    for pk in list(jobs.values_list("pk", flat=True)):
        while (done := _piece(pk)) is not None:
            total += done
            if time.monotonic() > end:
                return total
    return total


def use(job: DrawJob, now: datetime.datetime) -> Draw:
    """Draw from what was judged, inside the transaction that enters the stage.

    Raises:
        StateError: not ready.
    """
    row = DrawJob.objects.select_for_update().get(pk=job.pk)
    if row.state != State.READY:
        raise StateError(f"{row} is {row.state}: expected a draw that is ready")
    plan = _plan(row)
    # Whoever was shown the product while others were judged counts among the n.
    since = Admission.objects.filter(slot=row.slot, admitted=True, since__gte=row.begun_at)
    receipt, _ = draws.decide(
        _people(row, plan, frozenset(since.values_list("user_id", flat=True))),
        now=now,
        **{name: getattr(plan, name) for name in plan.__struct_fields__},
    )
    row.state, row.receipt = State.REMEMBERING, receipt
    row.save(update_fields=["state", "receipt"])
    return receipt


def fail(job: DrawJob, fault: HuiduError | str) -> None:
    """The stage was not entered; what was judged is of no more use."""
    _end(job, State.FAILED, str(fault))


def cancel(job: DrawJob) -> None:
    """Stop before the stage is entered.

    Raises:
        StateError: it was entered, or ended.
    """
    if not _end(job, State.CANCELLED, ""):
        raise StateError("expected a draw that is not entered yet")


def _end(job: DrawJob, state: State, problem: str) -> bool:
    with transaction.atomic():
        rows = DrawJob.objects.filter(pk=job.pk, state__in=(State.JUDGING, State.READY))
        ended = rows.update(state=state, problem=problem, finished_at=timezone.now())
        if ended:
            DrawPart.objects.filter(job=job).delete()
    return bool(ended)


def _piece(pk: int) -> int | None:
    """One part in one transaction; None when there is nothing left, or it is another worker's."""
    with transaction.atomic():
        row = (
            DrawJob.objects.select_for_update(skip_locked=True, of=("self",))
            .filter(pk=pk, state__in=(State.JUDGING, State.REMEMBERING))
            .first()
        )
        if row is None:
            return None
        return _judge(row) if row.state == State.JUDGING else _remember(row)


def _judge(row: DrawJob) -> int:
    plan = _plan(row)
    judge = Judge(plan.audience, plan.weights)
    users, weights, members = [], [], []
    read, last = 0, row.after
    for user in _after(row, judge):
        read, last = read + 1, user.key
        if judge.fits(user):
            weight, member = draws.standing(judge, user, row.slot)
            users.append(user.key)
            weights.append(weight)
            members.append(member)
    if users:
        DrawPart.objects.create(
            job=row,
            users="\n".join(users),
            weights=numpy.array(weights, dtype="<u2").tobytes(),
            members=numpy.array(members, dtype=numpy.uint8).tobytes(),
        )
    row.judged, row.eligible, row.after = row.judged + read, row.eligible + len(users), last
    if read < PART:
        row.state, row.users = State.READY, row.judged
    row.save(update_fields=["judged", "eligible", "after", "state", "users"])
    return read


def _after(row: DrawJob, judge: Judge) -> list[User]:
    """The next users by id, on the day the job began."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT user_id FROM cohorts_profile WHERE user_id > %s ORDER BY user_id LIMIT %s",
            [row.after, PART],
        )
        ids = [user_id for (user_id,) in cursor.fetchall()]
    if not ids:
        return []
    today = selectors.day_of(row.begun_at)
    return list(records.users(ids[0], ids[-1], today, judge.registry, by_day=judge.by_day))


def _remember(row: DrawJob) -> int | None:
    part = row.parts.filter(pk__gt=row.remembered).order_by("pk").first()
    receipt = row.receipt
    assert receipt is not None
    if part is None:
        row.state, row.finished_at = State.DONE, timezone.now()
        row.save(update_fields=["state", "finished_at"])
        DrawPart.objects.filter(job=row).delete()
        return None
    users, weights, members = _arrays(part)
    seed = seed_of(receipt.salt)
    buckets = numpy.array([seeded_bucket(seed, each) for each in users], dtype=numpy.uint64)
    drawn = draws.is_in(buckets, weights, members, int(receipt.threshold))
    worth = numpy.flatnonzero(drawn | (weights > 1))
    _, lanes = remember(
        row.slot,
        [users[i] for i in worth],
        weights[worth].tolist(),
        drawn[worth].tolist(),
        Admission.Via.DRAW,
        receipt.as_of,
    )
    if lanes:
        packing.pack_after_commit(lanes)
    row.remembered = part.pk
    row.save(update_fields=["remembered"])
    return len(users)


def _people(row: DrawJob, plan: Plan, shown: frozenset[str]) -> draws.Population:
    """Everybody who was judged eligible; arrays only, so that ten million fit into memory."""
    seed = seed_of(plan.salt)
    digest = hashlib.sha256()
    buckets, weights, members = [], [], []
    for part in row.parts.order_by("pk").iterator(chunk_size=20):
        users, heavy, admitted = _arrays(part)
        if shown:
            admitted |= numpy.fromiter((each in shown for each in users), bool, len(users))
        for user, weight, member in zip(users, heavy.tolist(), admitted.tolist(), strict=True):
            digest.update(draws.told(user, weight, member=member))
        buckets.append(numpy.array([seeded_bucket(seed, each) for each in users], numpy.uint64))
        weights.append(heavy)
        members.append(admitted)
    return draws.Population(
        [],
        numpy.concatenate(buckets) if buckets else numpy.array([], numpy.uint64),
        numpy.concatenate(weights) if weights else numpy.array([], numpy.uint64),
        numpy.concatenate(members) if members else numpy.array([], bool),
        digest.hexdigest(),
    )


def _arrays(part: DrawPart) -> tuple[list[str], Any, Any]:
    """Users, weights and members of a part."""
    return (
        part.users.split("\n"),
        numpy.frombuffer(part.weights, dtype="<u2").astype(numpy.uint64),
        numpy.frombuffer(part.members, dtype=numpy.uint8).astype(bool),
    )


def _plan(row: DrawJob) -> Plan:
    told = row.plan | {"previous_threshold": int(row.plan["previous_threshold"])}
    return msgspec.convert(told, Plan)


def _as_text(threshold: int) -> dict[str, str]:
    """A threshold has more digits than JSON's readers keep."""
    return {"previous_threshold": str(threshold)}


def _fingerprint(plan: Plan) -> str:
    """Of the plan, and of the cohorts and attributes that its rules may name."""
    told = json.dumps(msgspec.to_builtins(plan), sort_keys=True).encode()
    named = msgspec.json.encode([mappers.cohorts(), mappers.attributes()], order="sorted")
    return hashlib.sha256(told + named).hexdigest()
