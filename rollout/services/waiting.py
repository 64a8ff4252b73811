"""When a refused user would get in by waiting: a planned stage, or a risk score that fades."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from cohorts import selectors as who
from cohorts.models import Profile
from huidu import model
from huidu.engine import Compiled
from huidu.engine.explain import Explanation
from huidu.engine.outlook import calm_days, entry_stage
from huidu.risk import faded, risk_now

RISK = "risk_score"


def planned_entry(
    compiled: Compiled, found: Explanation, user: model.User
) -> dict[str, Any] | None:
    """The first stage to come that would take the user as he stands, and when it is planned."""
    if found.answer.visible or found.answer.why.startswith("funding."):
        return None
    stage = entry_stage(compiled, found.flag, user, found.draw)
    if stage is None or found.draw is None:
        return None
    return {
        "stage": stage.key,
        "planned_at": stage.starts_at,
        "share_ppm": stage.share_ppm,
        "enters_at_ppm": found.draw.enters_at_ppm,
    }


def calm(
    compiled: Compiled, found: Explanation, user: model.User, at: datetime
) -> list[dict[str, Any]]:
    """The day on which each refusing gate would let the fading score pass. For risk officers."""
    score = user.attributes.get(RISK)
    if found.answer.visible or isinstance(score, bool) or not isinstance(score, int | float):
        return []
    today = who.day_of(at)
    row = Profile.objects.filter(pk=user.key).values_list(RISK, "risk_scored_on").first()

    def score_in(days: int) -> float:
        if row is not None and row[0] is not None and row[1] is not None and row[1] <= today:
            return risk_now(float(row[0]), row[1], today + timedelta(days=days))
        return faded(float(score), days)

    return [
        {
            "gate": each.gate,
            "days": each.days,
            "day": (today + timedelta(days=each.days)).isoformat(),
        }
        for each in calm_days(compiled, found.flag, user, score_in)
    ]
