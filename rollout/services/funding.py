"""Funding partners: who lends where, and how many users each may let in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from django.conf import settings

from cohorts.regions import is_known
from huidu.errors import InputError
from huidu.model import PPM
from rollout.models import Flag, FundingPartner
from rollout.services import audit
from rollout.services.audit import Actor
from rollout.services.changing import (
    changing,
    needs_second_person,
    only,
    require_second_person,
)

EDITABLE: Final = frozenset(
    {
        "order",
        "key",
        "label_zh",
        "label_en",
        "kind",
        "is_open",
        "everywhere",
        "regions",
        "share_ppm",
        "daily_cap",
        "total_cap",
        "registration",
        "source",
        "valid_from",
        "valid_to",
    }
)
HARMLESS: Final = frozenset({"order", "label_zh", "label_en", "source", "registration"})
"""Fields that let nobody new in."""


def save_partner(
    flag: Flag,
    values: Mapping[str, Any],
    *,
    by: Actor,
    partner: FundingPartner | None = None,
    reason: str = "",
    approved_by: Actor | None = None,
) -> FundingPartner:
    """Add a funding partner to a flag, or change one.

    A cap below what was given lets nobody new in and takes nothing from anybody. A change that
    lets fewer in (suspend, a lower cap, fewer regions) never waits for a second person.

    Raises:
        ApprovalNeededError: it may let more users in, and the live flag asks for two people.
        InputError: a value is wrong; `path` says which.
    """
    only(values, EDITABLE)
    known = partner if partner is not None else FundingPartner(flag=flag)
    wanted = {name: values.get(name, getattr(known, name)) for name in EDITABLE}
    _check(wanted)
    if needs_second_person(flag) and (partner is None or may_let_more_in(partner, wanted)):
        require_second_person(flag, by, approved_by, "a change that may let more users in")
    with changing(
        known,
        "partner.updated" if partner is not None else "partner.created",
        environment=flag.environment,
        target=f"partner:{flag.key}/{wanted['key']}",
        by=by,
        reason=audit.clean_reason(reason, needed=False),
        flag=flag,
    ) as row:
        for name, value in values.items():
            setattr(row, name, sorted(set(value)) if name == "regions" else value)
        if partner is not None:
            row.version += 1
    return row


def may_let_more_in(partner: FundingPartner, wanted: Mapping[str, Any]) -> bool:
    """Whether these values could let in somebody whom the present ones would not."""
    if not wanted["is_open"]:
        return False
    if not partner.is_open or _grows(partner.total_cap, wanted["total_cap"]):
        return True
    if partner.daily_cap is not None and _grows(partner.daily_cap, wanted["daily_cap"]):
        return True
    if not partner.everywhere and (
        wanted["everywhere"] or not set(wanted["regions"]) <= set(partner.regions)
    ):
        return True
    return any(
        wanted[name] != getattr(partner, name) for name in ("valid_from", "valid_to", "share_ppm")
    )


def _grows(before: int, after: int | None) -> bool:
    return after is None or after > before


def _check(wanted: Mapping[str, Any]) -> None:
    """Refuse what the model's own columns cannot: how values fit together."""
    for index, code in enumerate(_list_of_codes(wanted["regions"])):
        if not is_known(code):
            raise InputError(
                f"expected the GB/T 2260 code of a city or province, got {code!r}",
                path=f"regions[{index}]",
            )
    if not wanted["everywhere"] and not wanted["regions"]:
        raise InputError(
            "expected at least one region, or a partner that serves every region", path="regions"
        )
    if type(wanted["total_cap"]) is not int or wanted["total_cap"] < 0:
        raise InputError(
            f"expected a whole number of 0 or more, got {wanted['total_cap']!r}", path="total_cap"
        )
    daily = wanted["daily_cap"]
    if daily is not None and (type(daily) is not int or daily < 1):
        raise InputError(
            f"expected a whole number of 1 or more, or null, got {daily!r}", path="daily_cap"
        )
    share, floor = wanted["share_ppm"], settings.HUIDU_CONTRIBUTION_FLOOR_PPM
    if type(share) is not int or not 0 <= share <= PPM:
        raise InputError(f"expected 0 to {PPM} ppm, got {share!r}", path="share_ppm")
    if wanted["is_open"] and share < floor:
        raise InputError(
            f"expected a contribution of at least {floor / 10_000:g} % from a partner that is "
            f"open, got {share / 10_000:g} %",
            path="share_ppm",
            code="compliance.contribution",
        )


def _list_of_codes(regions: Any) -> list[str]:
    if not isinstance(regions, list) or not all(isinstance(each, str) for each in regions):
        raise InputError('expected a list of region codes such as ["440300"]', path="regions")
    return regions
