"""What an explanation says about places: which partner serves the user, is open, has room now."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec
from django.conf import settings
from django.utils import timezone

from cohorts.selectors import day_of
from huidu import reasons
from huidu.engine.explain import Explanation, Outcome, Step
from rollout.selectors_funding import FULL_TODAY, Room, rooms
from rollout.services.answering import Standing

RECENT: Final = timedelta(minutes=1)
"""What has room now had room so long ago, as far as anybody is told."""


def settled(found: Explanation, known: Standing, *, at: datetime | None = None) -> Explanation:
    """The explanation with what the partners have left, as a check now would find it.

    A check takes a place where there is one; an explanation takes none, and so says either that
    there is one to take or that there is none. Of a past moment (`at`) it tells who had a place;
    how much room there was then is not kept.
    """
    step = next((each for each in found.steps if "partners" in each.details), None)
    now = timezone.now()
    if step is None or (at is not None and now - at > RECENT):
        return found
    why = known.capacity_why
    if why is None:
        return found
    found_rooms = {each.partner.pk: each for each in rooms(known.partners, day_of(now))}
    told = _told(step, found_rooms, why, now)
    answer = found.answer
    if told.why != step.why and answer.why == reasons.FUNDING_NOT_RESERVED:
        answer = msgspec.structs.replace(answer, why=why, reason=reasons.TARGETING_MATCH)
    steps = [told if each is step else each for each in found.steps]
    return msgspec.structs.replace(found, steps=steps, answer=answer)


def _told(step: Step, found: dict[int, Room], why: str, now: datetime) -> Step:
    lines: list[dict[str, Any]] = []
    for line in step.details["partners"]:
        room = found.get(line["number"])
        if room is None:
            lines.append(line)
            continue
        partner = room.partner
        lines.append(
            line
            | {
                "label_zh": partner.label_zh,
                "label_en": partner.label_en,
                "state": room.state,
                "left_today": room.left,
            }
        )
    serving = [each for each in lines if each["serves"]]
    details = step.details | {"partners": lines}
    has_room = any(each.get("left_today", 0) for each in serving)
    if step.outcome in (Outcome.PASS, Outcome.SKIPPED) or has_room:
        return msgspec.structs.replace(step, details=details)
    if any(each.get("state") == FULL_TODAY for each in serving):
        details["refill_at"] = _midnight(now).isoformat()
    if step.why != reasons.FUNDING_NOT_RESERVED:
        return msgspec.structs.replace(step, details=details)
    return msgspec.structs.replace(step, details=details, outcome=Outcome.FAIL, why=why)


def _midnight(now: datetime) -> datetime:
    """When places a day are counted anew."""
    zone = ZoneInfo(settings.HUIDU_DAY_ZONE)
    tomorrow = now.astimezone(zone).date() + timedelta(days=1)
    return datetime.combine(tomorrow, datetime.min.time(), zone)
