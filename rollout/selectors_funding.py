"""Reads of funding capacity: how many places are given, and how many are left."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from django.db import connection
from django.utils import timezone

from cohorts.selectors import day_of
from huidu.engine.plan import serves
from huidu.engine.values import region_code
from huidu.model import Partner, User
from rollout.mappers import capacity
from rollout.models import Flag, FundingPartner, Gate, Rollout

OPEN = "open"
SUSPENDED = "suspended"
OUT_OF_DATE = "out_of_date"
FULL_TODAY = "full_today"
FULL = "full"


@dataclass(frozen=True)
class Room:
    """How many places a partner has given that still count, and what follows from it."""

    partner: FundingPartner
    today: int
    total: int
    on: datetime.date

    @property
    def state(self) -> str:
        """`OPEN`, or the first thing that keeps it from giving a place now."""
        partner = self.partner
        if not partner.is_open:
            return SUSPENDED
        if (partner.valid_from and self.on < partner.valid_from) or (
            partner.valid_to and self.on > partner.valid_to
        ):
            return OUT_OF_DATE
        if self.total >= partner.total_cap:
            return FULL
        if partner.daily_cap is not None and self.today >= partner.daily_cap:
            return FULL_TODAY
        return OPEN

    @property
    def left(self) -> int:
        """Places it can give today."""
        if self.state != OPEN:
            return 0
        left = self.partner.total_cap - self.total
        if self.partner.daily_cap is None:
            return left
        return min(left, self.partner.daily_cap - self.today)

    @property
    def left_in_total(self) -> int:
        """Places it can give today and later, while it is open and in date."""
        if self.state in (SUSPENDED, OUT_OF_DATE):
            return 0
        return max(0, self.partner.total_cap - self.total)


@dataclass(frozen=True)
class CapacityLeft:
    """Places left at all partners of a flag that may give some now."""

    today: int
    total: int


def capacity_left(rollout: Rollout, today: datetime.date) -> CapacityLeft | None:
    """How many more users the partners of the rollout's flag would let in.

    Args:
        today: the day in the platform's zone (`cohorts.selectors.day_of`).
    Returns:
        None when the flag has no capacity gate, so nothing limits it.
    """
    if not has_capacity_gate(rollout.flag):
        return None
    found = rooms(rollout.flag.partners.all(), today)
    return CapacityLeft(sum(each.left for each in found), sum(each.left_in_total for each in found))


def has_capacity_gate(flag: Flag) -> bool:
    """Whether users need a place to be shown the flag."""
    return flag.pk in flags_with_capacity_gate([flag.pk])


def flags_with_capacity_gate(flag_ids: Collection[int]) -> set[int]:
    """Those of the flags of which users need a place to be shown them."""
    gates = Gate.objects.filter(flag__in=flag_ids, capacity=True, enabled=True)
    return set(gates.order_by().values_list("flag", flat=True))


# Plain SQL: an explanation asks every time, and building the query took longer than answering it.
_GIVEN = """
SELECT partner_id, coalesce(sum(given) FILTER (WHERE day = %(today)s), 0)::bigint,
       sum(given)::bigint
FROM rollout_placesgiven
WHERE partner_id = ANY(%(partners)s::bigint[]) AND returned_at IS NULL GROUP BY partner_id
"""


def rooms(partners: Iterable[FundingPartner], today: datetime.date) -> list[Room]:
    """The partners in the order they are tried, each with what it has given."""
    rows = sorted(partners, key=lambda each: (each.order, each.pk))
    with connection.cursor() as cursor:
        cursor.execute(_GIVEN, {"partners": [each.pk for each in rows], "today": today})
        given = {number: (of_today, total) for number, of_today, total in cursor.fetchall()}
    return [Room(each, *given.get(each.pk, (0, 0)), today) for each in rows]


class RoomNow:
    """Whether a flag's partners have room for users of a region now; read once for each flag."""

    def __init__(self, environment: str) -> None:
        self._environment = environment
        self._partners: dict[str, list[Partner] | None] = {}

    def for_user(self, flag_key: str, user: User) -> bool:
        """True as well where the flag has no capacity gate."""
        if flag_key not in self._partners:
            self._partners[flag_key] = self._with_room(flag_key)
        partners = self._partners[flag_key]
        if partners is None:
            return True
        region = region_code(user.attributes.get("region"))
        return region is not None and any(serves(each, region) for each in partners)

    def _with_room(self, flag_key: str) -> list[Partner] | None:
        flag = Flag.objects.filter(environment=self._environment, key=flag_key).first()
        if flag is None or not has_capacity_gate(flag):
            return None
        found = rooms(flag.partners.all(), day_of(timezone.now()))
        return capacity([each.partner for each in found if each.left]).partners
