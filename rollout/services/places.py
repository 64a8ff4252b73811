"""Places: who is let in where funding partners limit how many. PostgreSQL holds the truth.

    take       the partners' rows locked; who has a place keeps it; the others get one while there
               is room at a partner that serves their region; counted in the same transaction
    release    one place back, by hand
    give_back  all places of a rollout that was rolled back, at once

A place is committed before anybody is told of it, so a cap is never passed, whatever dies. A full
cap stops new places only: nobody loses one by it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Final

from django.db import connection, transaction
from django.db.models import F
from django.utils import timezone

from cohorts import selectors as who
from cohorts.models import Place
from cohorts.services import outbox as dirty
from cohorts.services import packing
from cohorts.services import places as held
from huidu.engine.plan import serves
from huidu.errors import StateError
from huidu.model import Partner
from rollout.mappers import capacity
from rollout.models import Arm, Exposure, Flag, FundingPartner, PlacesGiven, Rollout
from rollout.selectors_funding import has_capacity_gate, rooms
from rollout.services import audit
from rollout.services.audit import Actor
from rollout.services.pseudonyms import pseudonym, without

GIVING: Final = (Rollout.Status.RUNNING, Rollout.Status.PAUSED, Rollout.Status.COMPLETED)
MOST_LATE: Final = 500
"""Users told to be packed at once."""


@dataclass
class Taken:
    """What became of one batch. `partners` by user; users without an entry found no room."""

    partners: dict[str, int] = field(default_factory=dict)
    new: list[str] = field(default_factory=list)
    """Users who had none before; their profiles are marked, and to be packed soon."""
    closed: bool = False
    """No place is given at all now: nothing is in effect, or it was killed."""


def take(environment: str, slot: int, users: Mapping[str, str], *, now: datetime) -> Taken:
    """Give a place to each of these users, or say that there is none; idempotent per user.

    1. Lock the flag's partners, in order: batches of one flag take turns, others do not wait.
    2. Only then read what is in effect: a rollback that came first has returned its places.
    3. Who has a place keeps it. The others get one from the first partner that serves their region
       and has room today and in total.
    4. Write places and counts, and mark the packed profiles, in the same transaction.

    Args:
        users: region code by user id.
    """
    today = who.day_of(now)
    with transaction.atomic():
        partners = _lock(slot)
        rollout = (
            Rollout.objects.select_related("flag")
            .filter(slot=slot, flag__environment=environment, status__in=GIVING)
            .filter(flag__killed=False, flag__enabled=True)
            .first()
        )
        if rollout is None or not has_capacity_gate(rollout.flag):
            return Taken(closed=True)
        taken = Taken(partners=held.held(slot, list(users)))
        wanted = _dealt(
            partners, {u: r for u, r in users.items() if u not in taken.partners}, today
        )
        new = held.give(slot, wanted, today, now) if wanted else set()
        taken.new = sorted(new)
        if len(new) < len(wanted):
            # Given meanwhile without a charge (`keep_shown`): what stands counts.
            taken.partners |= held.held(slot, [user for user in wanted if user not in new])
        taken.partners |= {user: wanted[user][0] for user in new}
        _count(rollout, today, Counter(wanted[user][0] for user in new))
        if new:
            dirty.mark_dirty(new)
    return taken


def _lock(slot: int) -> list[FundingPartner]:
    rows = FundingPartner.objects.filter(flag__rollouts__slot=slot).order_by("pk")
    return list(rows.select_for_update(of=("self",), no_key=True))


def _dealt(
    partners: Sequence[FundingPartner], users: Mapping[str, str], today: date
) -> dict[str, tuple[int, str]]:
    """Partner and region for each user there is room for, in the order they came."""
    left = {each.partner.pk: each.left for each in rooms(partners, today)}
    told: list[Partner] = capacity(partners).partners
    dealt = {}
    for user, region in users.items():
        for partner in told:
            if left[partner.number] > 0 and serves(partner, region):
                left[partner.number] -= 1
                dealt[user] = (partner.number, region)
                break
    return dealt


_COUNT: Final = """
INSERT INTO rollout_placesgiven AS held (partner_id, rollout_id, day, given)
SELECT partner, %s, %s, given FROM unnest(%s::int[], %s::int[]) AS new (partner, given)
ON CONFLICT (partner_id, rollout_id, day) DO UPDATE SET given = held.given + excluded.given
"""


def _count(rollout: Rollout, day: date, given: Mapping[int, int]) -> None:
    if given:
        with connection.cursor() as cursor:
            cursor.execute(_COUNT, [rollout.pk, day, list(given), list(given.values())])


@dataclass
class Full:
    """By slot of each rollout that gives places: partners that cannot give one now."""

    partners: dict[int, list[int]] = field(default_factory=dict)
    unpacked: list[str] = field(default_factory=list)
    """Users whose profiles have to be packed before more can be said."""


def full_partners(environment: str, *, now: datetime) -> Full:
    """What may be announced about partners without room.

    A slot is left out while a packed profile may not tell yet of a place that was given: whoever
    reads the profile would take "full" for "no place", and take the product from somebody.
    """
    found = Full()
    giving = Rollout.objects.filter(
        flag__environment=environment,
        flag__gates__capacity=True,
        flag__gates__enabled=True,
        status__in=GIVING,
    )
    for rollout in giving.select_related("flag").prefetch_related("flag__partners"):
        left = {
            each.partner.pk: each.left
            for each in rooms(rollout.flag.partners.all(), who.day_of(now))
        }
        full = [number for number, places in left.items() if not places]
        late = held.unpacked(rollout.slot, MOST_LATE) if full else []
        found.unpacked += late
        if not late:
            found.partners[rollout.slot] = full
    return found


def release(place: Place, *, by: Actor, reason: str) -> Place:
    """Take one user's place back: he no longer sees the product, and somebody else may.

    He may be given another while there is room; who must stay out belongs on the block list.

    Raises:
        StateError: released before.
        InputError: no reason was given.
    """
    reason = audit.clean_reason(reason)
    now = timezone.now()
    rollout = Rollout.objects.select_related("flag").get(slot=place.slot)
    with transaction.atomic():
        _lock(place.slot)
        if not held.release(place, now, by.name, reason):
            raise StateError("this place was released before", code="state.released")
        PlacesGiven.objects.filter(
            partner=place.partner, rollout=rollout, day=place.day, returned_at=None, given__gt=0
        ).update(given=F("given") - 1)
        audit.record(
            by,
            "place.released",
            f"place:{rollout}/{pseudonym(place.user_id)}",
            environment=rollout.flag.environment,
            after={"partner": place.partner, "day": place.day.isoformat()},
            reason=without(reason, place.user_id),
        )
        packing.pack_after_commit(dirty.mark_dirty([place.user_id]))
    place.refresh_from_db()
    return place


def give_back(rollout: Rollout, *, now: datetime) -> int:
    """Return every place of a rollout that is being rolled back; how many partners' days it was.

    The rows of its users stay as they are: nobody reads the slot of a rollout that was rolled back.
    """
    _lock(rollout.slot)
    return PlacesGiven.objects.filter(rollout=rollout, returned_at=None).update(returned_at=now)


def keep_shown(flag: Flag, *, now: datetime) -> int:
    """Give everybody a place who was shown the flag before it needed one; charged to nobody.

    Call it in the transaction that makes the gate count, so that the gate takes the product from
    nobody (docs/decisions/funding-places.md).
    """
    rollout = Rollout.objects.filter(flag=flag, status__in=Rollout.IN_EFFECT).first()
    if rollout is None:
        return 0
    treated = Exposure.objects.filter(rollout=rollout, arm=Arm.TREATED)
    users = set(treated.values_list("user_id", flat=True).distinct())
    users |= who.users_shown(rollout.slot)
    if not users:
        return 0
    given = held.give(rollout.slot, dict.fromkeys(users, (0, "")), who.day_of(now), now)
    if given:
        packing.pack_after_commit(dirty.mark_dirty(given))
    return len(given)
