"""Draws a stage: exactly so many of the known eligible users, and a receipt to repeat it by."""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy
from django.db import connection, transaction
from django.utils import timezone

from cohorts import selectors
from cohorts.models import Admission, Draw
from cohorts.services import packing
from cohorts.services.admissions import remember
from cohorts.services.audience import Judge
from huidu.engine.bucketing import FORMULA, seed_of, seeded_bucket
from huidu.model import Rule, User
from huidu.sampling import draw_share, inclusion_probability

DRAW_LOCK: Final = 0x4452


class Population(msgspec.Struct):
    """The known eligible users of a draw, in the order of their ids."""

    users: list[str]
    buckets: Any  # numpy.uint64, one a user
    weights: Any  # numpy.uint64
    members: Any  # numpy.bool_: admitted already
    digest: str


def draw_stage(
    *,
    subject: str,
    slot: int,
    salt: str,
    stage_key: str,
    share_ppm: int,
    audience: Rule | None = None,
    weights: Sequence[Mapping[str, Any]] = (),
    previous_threshold: int = 0,
    now: datetime.datetime | None = None,
) -> Draw:
    """Draw a share of the users who are known and eligible now.

    1. Judge every profile by the audience and the weights. A weight frozen earlier never falls.
    2. Take the n smallest ranks, n = share x population, rounded once. Users admitted already
       count among the n, and the threshold never falls below the one before.
    3. Keep the receipt; remember who was drawn, and everybody who weighs more than 1.
    4. Mark them for packing in the same transaction; pack after the commit.

    Users who arrive later, or whose data arrives later, are judged by the same threshold.

    Args:
        subject: names the rollout for people, such as ``weilidai#1``.
        slot: the rollout's number in packed profiles.
        salt: the rollout's line.
        audience: the rule of who is eligible; everybody by default.
        weights: ``[{"rule": {...}, "weight": 3}]``; the first match wins, else 1.
        previous_threshold: how far this audience was drawn before; 0 at first.
        now: the clock; facts are those held now.
    Raises:
        RuleError: the audience or a weight cannot be read.
    """
    now = now or timezone.now()
    rule = audience or {}
    with transaction.atomic():
        with connection.cursor() as cursor:
            # Two draws of one rollout take turns: the second sees the weights the first froze.
            cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", [DRAW_LOCK, slot])
        people = population(Judge(rule, weights), slot, salt, now)
        receipt, drawn = decide(
            people,
            subject=subject,
            slot=slot,
            salt=salt,
            stage_key=stage_key,
            share_ppm=share_ppm,
            audience=rule,
            weights=weights,
            previous_threshold=previous_threshold,
            now=now,
        )
        worth = numpy.flatnonzero(drawn | (people.weights > 1))
        _, lanes = remember(
            slot,
            [people.users[i] for i in worth],
            people.weights[worth].tolist(),
            drawn[worth].tolist(),
            Admission.Via.DRAW,
            now,
        )
        if lanes:
            packing.pack_after_commit(lanes)
    return receipt


def decide(
    people: Population,
    *,
    subject: str,
    slot: int,
    salt: str,
    stage_key: str,
    share_ppm: int,
    audience: Rule,
    weights: Sequence[Mapping[str, Any]],
    previous_threshold: int,
    now: datetime.datetime,
) -> tuple[Draw, Any]:
    """Take the n smallest ranks and keep the receipt; the receipt, and who of the people is in."""
    result = draw_share(
        people.buckets,
        people.weights,
        share_ppm,
        at_least=previous_threshold,
        members=people.members,
    )
    drawn = is_in(people.buckets, people.weights, people.members, result.threshold)
    receipt = Draw.objects.create(
        subject=subject,
        slot=slot,
        stage_key=stage_key,
        salt=salt,
        audience=audience,
        weights=[dict(each) for each in weights],
        share_ppm=share_ppm,
        population=result.population,
        n=result.admitted,
        previous_threshold=previous_threshold,
        threshold=result.threshold,
        strata=_strata(people, drawn, result.threshold),
        as_of=now,
        formula=FORMULA,
        input_hash=input_hash(people, salt, share_ppm, previous_threshold),
    )
    return receipt, drawn


def told(user_id: str, weight: int, *, member: bool) -> bytes:
    """One user as the hash of the inputs reads it."""
    return f"{len(user_id)}:{user_id}:{weight}:{member:d};".encode()


def population(
    judge: Judge, slot: int, salt: str, now: datetime.datetime, *, earlier: bool = False
) -> Population:
    """Everybody with a profile who definitely belongs to the audience.

    Args:
        earlier: only those admitted before `now` count as members, to repeat a draw of then.
    """
    before = _members_before(slot, now) if earlier else None
    seed = seed_of(salt)
    users: list[str] = []
    buckets: list[int] = []
    weights: list[int] = []
    members: list[bool] = []
    digest = hashlib.sha256()
    for user in _everybody(judge, now):
        if not judge.fits(user):
            continue
        weight, member = standing(judge, user, slot)
        if before is not None:
            member = user.key in before
        users.append(user.key)
        buckets.append(seeded_bucket(seed, user.key))
        weights.append(weight)
        members.append(member)
        digest.update(told(user.key, weight, member=member))
    return Population(
        users,
        numpy.array(buckets, dtype=numpy.uint64),
        numpy.array(weights, dtype=numpy.uint64),
        numpy.array(members, dtype=bool),
        digest.hexdigest(),
    )


def standing(judge: Judge, user: User, slot: int) -> tuple[int, bool]:
    """The user's weight, which never falls, and whether the rollout admitted him already."""
    remembered = user.admissions.get(slot)
    weight = max(judge.weight(user), remembered.weight if remembered else 1)
    return weight, remembered is not None and remembered.admitted


def _members_before(slot: int, moment: datetime.datetime) -> frozenset[str]:
    rows = Admission.objects.filter(slot=slot, admitted=True, since__lt=moment)
    return frozenset(rows.values_list("user_id", flat=True))


def _everybody(judge: Judge, now: datetime.datetime) -> Iterator[User]:
    return selectors.every_user(selectors.day_of(now), judge.registry, by_day=judge.by_day)


def is_in(buckets: Any, weights: Any, members: Any, threshold: int) -> Any:
    """Who is in: ranks below the threshold, and members."""
    if threshold == 0:
        return members.copy()
    # threshold - 1 fits 64 bits where 2**64 does not.
    return (buckets // weights <= numpy.uint64(threshold - 1)) | members


def _strata(people: Population, drawn: Any, threshold: int) -> list[dict[str, Any]]:
    """Eligible and drawn users per weight, and the chance that the threshold gives each."""
    strata = []
    for weight in sorted({int(each) for each in numpy.unique(people.weights)}):
        of_weight = people.weights == weight
        strata.append(
            {
                "weight": weight,
                "eligible": int(of_weight.sum()),
                "drawn": int((of_weight & drawn).sum()),
                "chance": inclusion_probability(threshold, weight),
            }
        )
    return strata


def input_hash(people: Population, salt: str, share_ppm: int, previous: int) -> str:
    """SHA-256 over all that the draw depends on: equal inputs, equal users."""
    inputs = json.dumps([FORMULA, salt, share_ppm, str(previous), people.digest])
    return hashlib.sha256(inputs.encode()).hexdigest()
