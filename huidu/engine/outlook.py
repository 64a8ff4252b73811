"""When a refused user would get in without doing anything: a later stage, or a fading score."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec

from huidu.engine.counterfactual import needed_flags
from huidu.engine.explain import Drawn, Outcome, StepKind, explain
from huidu.model import FULL_THRESHOLD, PPM, Flag, RolloutStatus, Stage, User
from huidu.risk import KEPT_AFTER_PERIOD, PERIOD_DAYS

if TYPE_CHECKING:
    from huidu.engine.compile import Compiled

_FALLING: Final = ("<", "<=")
_GETS_THERE: Final = (RolloutStatus.RUNNING, RolloutStatus.PAUSED)


class Calm(msgspec.Struct, frozen=True, kw_only=True):
    """A gate that the fading score passes after so many more calm days, and not a day before."""

    gate: str
    days: int


def entry_stage(compiled: Compiled, flag_key: str, user: User, draw: Drawn | None) -> Stage | None:
    """The first stage still to come that would take the user as he stands; None if none would.

    Its draw is not made yet, so whether it reaches him is read from the share at which he enters,
    an estimate; his weight is the one known now. Gates are not looked at.
    """
    flag = compiled.flags.get(flag_key)
    rollout = flag.rollout if flag is not None else None
    if flag is None or rollout is None or draw is None or rollout.status not in _GETS_THERE:
        return None
    for index in range(rollout.current + 1, len(rollout.stages)):
        stage = rollout.stages[index]
        if stage.share_ppm < draw.enters_at_ppm:
            continue
        then = _opened(compiled, flag, index)
        for step in explain(then, flag_key, user).steps:
            if step.kind is StepKind.STAGE and step.outcome is not Outcome.FAIL:
                return stage if step.outcome is not Outcome.UNKNOWN else None
    return None


def _opened(compiled: Compiled, flag: Flag, index: int) -> Compiled:
    """The flag, and those it needs, as if everybody were drawn into one of its stages."""
    from huidu.engine.compile import compile_snapshot

    place = ("opened", flag.key, index)
    found: Compiled | None = compiled.kept.get(place)
    if found is None:
        assert flag.rollout is not None
        reached = msgspec.structs.replace(
            flag.rollout.stages[index], share_ppm=PPM, threshold=FULL_THRESHOLD
        )
        rollout = msgspec.structs.replace(flag.rollout, stages=[reached], current=0)
        needed = needed_flags(compiled, flag.key)
        flags = [
            msgspec.structs.replace(each, rollout=rollout) if each.key == flag.key else each
            for each in compiled.snapshot.flags
            if each.key in needed
        ]
        found = compile_snapshot(msgspec.structs.replace(compiled.snapshot, flags=flags))
        compiled.kept[place] = found
    return found


def calm_days(
    compiled: Compiled,
    flag_key: str,
    user: User,
    score_in: Callable[[int], float],
    *,
    attribute: str = "risk_score",
) -> list[Calm]:
    """After how many more calm days each refusing gate lets the fading score pass.

    The day comes from the closed form of `huidu.risk` and is proven by asking the gate with the
    score of that day, which passes, and with that of the day before, which does not.

    Args:
        score_in: the score after so many more days, 0 or more, if the user stays calm.
    """
    found = []
    for step in explain(compiled, flag_key, user).refusals:
        limits = [
            need.wanted
            for need in step.needs
            if need.attribute == attribute
            and need.operator in _FALLING
            and not need.negated
            and need.outcome is Outcome.FAIL
        ]
        if step.kind is not StepKind.GATE or not limits or min(limits) <= 0:
            continue
        ratio = max(score_in(0) / min(limits), 1.0)
        about = math.ceil(PERIOD_DAYS * math.log(ratio) / -math.log(KEPT_AFTER_PERIOD))

        def passes(days: int, key: str = step.key) -> bool:
            facts = {**user.attributes, attribute: score_in(days)}
            later = msgspec.structs.replace(user, attributes=facts)
            return any(
                each.kind is StepKind.GATE and each.key == key and each.outcome is Outcome.PASS
                for each in explain(compiled, flag_key, later).steps
            )

        # Rounding may put the closed form a day off, never more.
        for days in range(max(1, about - 1), about + 2):
            if passes(days) and not passes(days - 1):
                found.append(Calm(gate=step.key, days=days))
                break
    return found
