"""A ramp inside a stage: when the share may grow, as 0.25 % -> 1 % -> 5 %. Pure, like the rule.

A small first share meets a grave error with few users; the stage's proof mostly comes from its last
share. A step is taken at a look that holds, when its time at the present share is over, enough
users have met it, and nothing speaks against the stage but that it is not proven *yet*. No data, a
stale source, a suspicion of harm, a freeze or a pause keep the share as it is.
"""

from __future__ import annotations

from typing import Final

import msgspec

from huidu.promotion.contract import Decision, Missing, Outcome

ONLY_NOT_YET: Final = frozenset(
    {
        "minimum_stay",
        "minimum_users",
        "too_little_data",
        "not_yet_proven",
        "limit_not_proven",
        "next_planned_look",
        "approval_missing",
        "ramp_unfinished",
    }
)
"""Reasons to hold a promotion that let the share grow: more users are what they wait for."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One larger share.

    Args:
        share_ppm: parts per million of the audience, above the share before.
        after_minutes: least time at the share before, on the stage's clock.
        users: treated users enrolled at the share before, at least.
    """

    share_ppm: int
    after_minutes: float
    users: int = 0


class Ramp(msgspec.Struct, frozen=True, kw_only=True):
    """Where a stage stands: its share, since when, who met it, and the steps it was planned with.

    Args:
        minutes: at this share so far, on the stage's clock.
        users: treated users enrolled at this share so far.
    """

    share_ppm: int
    minutes: float
    users: int
    steps: tuple[Step, ...]


class RampOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the share grows now. `to_ppm` is the next share, None when the ramp is over."""

    to_ppm: int | None
    grows: bool = False
    missing: tuple[Missing, ...] = ()


def next_step(ramp: Ramp) -> Step | None:
    """The first step that is larger than the share now; None when the ramp is over."""
    return next((each for each in ramp.steps if each.share_ppm > ramp.share_ppm), None)


def advance(ramp: Ramp, outcome: Outcome) -> RampOutcome:
    """Whether the stage takes its next step after a look.

    Args:
        outcome: what the promotion rule said at this look.
    """
    step = next_step(ramp)
    if step is None:
        return RampOutcome(to_ppm=None)
    missing: list[Missing] = []
    if ramp.minutes < step.after_minutes:
        left = step.after_minutes - ramp.minutes
        missing.append(
            Missing(
                code="ramp_time",
                text=f"{left:,.0f} more minutes at {_percent(ramp.share_ppm)}",
                values={"minutes_left": left},
            )
        )
    if ramp.users < step.users:
        missing.append(
            Missing(
                code="ramp_users",
                text=f"{ramp.users:,} of {step.users:,} users at {_percent(ramp.share_ppm)}",
                values={"users": float(ramp.users), "needed": float(step.users)},
            )
        )
    if outcome.decision is Decision.HOLD:
        missing += [each for each in outcome.missing if each.code not in ONLY_NOT_YET]
    elif outcome.decision is Decision.ROLL_BACK:
        missing.append(Missing(code=outcome.code, text=outcome.text, metric=outcome.metric))
    return RampOutcome(to_ppm=step.share_ppm, grows=not missing, missing=tuple(missing))


def _percent(ppm: int) -> str:
    return f"{ppm / 10_000:g} %"
