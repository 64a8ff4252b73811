"""Whether a user takes part in a stage's comparison, in which arm, and with what chance.

Treated and control users are compared as if a coin had decided, so both must pass the very same
tests. What the platform remembers of one arm only (that a drawn user keeps the product) is put
aside: a user counts who passes every gate and the stage's audience *today*, was not reached by an
earlier stage, and for whom therefore the draw of this stage alone decides.

The chance to be treated, given all that, follows from where the user's bucket u must lie:

    floor * w <= u < ceiling * w     enrolled      floor: the largest earlier threshold for the user
    u < threshold * w                treated       ceiling: of the user's region, else 2**64
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from huidu import reasons
from huidu.engine import bucketing, compile_snapshot
from huidu.engine.values import known_value
from huidu.model import (
    FULL_THRESHOLD,
    PPM,
    Admission,
    Answer,
    Attribute,
    AttributeSource,
    Flag,
    Rollout,
    RolloutStatus,
    Rule,
    Snapshot,
    Stage,
    User,
)
from rollout.models import Arm

PPB: Final = 1_000_000_000
LARGEST_STRATUM: Final = 32_767

EARLIER_STAGE: Final = "stage.earlier"
"""Reached by an earlier stage or share: nothing is left for this stage's draw to decide."""

NO_STAGE: Final = "stage.none"
"""No stage of the flag was running at that moment, so there is nothing to compare."""


class Enrolled(msgspec.Struct, frozen=True):
    """One user in one arm of one stage. `threshold` is the one that decided."""

    slot: int
    stage: str
    arm: Arm
    stratum: int
    chance_ppb: int
    threshold: int


class Ignored(msgspec.Struct, frozen=True):
    """The user tells nothing about the stage; `code` says why, mostly as the answer's `why`."""

    code: str


class Arms:
    """The coin of one flag, as one snapshot has it. Safe to share between threads.

    Args:
        flag_key: a flag of the snapshot.
        earlier_share: a threshold that the running stage itself had before it was widened.
    """

    def __init__(self, snapshot: Snapshot, flag_key: str, earlier_share: int = 0) -> None:
        flags = {each.key: each for each in snapshot.flags}
        self.flag = flags[flag_key]
        self.stage = _running_stage(self.flag)
        self._earlier_share = earlier_share
        self._callers = {
            each.name for each in snapshot.attributes if each.source is not AttributeSource.HELD
        }
        if self.stage is None:
            return
        assert self.flag.rollout is not None
        self.rollout = self.flag.rollout
        self._seed = bucketing.seed_of(self.rollout.salt)
        self._earlier = self.rollout.stages[: self.rollout.current]
        alone = msgspec.structs.replace(self.rollout, stages=[self.stage], current=0)
        needed = _with_prerequisites(flags, flag_key)
        probes = [
            *(_probe(_audience(i), each.audience) for i, each in enumerate(self._earlier)),
            *(_probe(_weight(i), each.rule) for i, each in enumerate(self.stage.weights)),
        ]
        self._compiled = compile_snapshot(
            msgspec.structs.replace(
                snapshot,
                flags=[
                    msgspec.structs.replace(self.flag, rollout=alone),
                    *(each for each in needed if each.key != flag_key),
                    *probes,
                ],
            )
        )
        plan = self._compiled.plan(flag_key)
        self._region: Attribute | None = plan.region
        self._ceilings = [each.regions for each in plan.gates if each.regions is not None]

    def place(self, user: User, said: Mapping[str, Any] | None = None) -> Enrolled | Ignored:
        """Where the user belongs.

        Args:
            user: what the platform holds.
            said: attributes the application knows; held facts among them do not count.
        """
        if self.stage is None:
            return Ignored(NO_STAGE)
        remembered = user.admissions.get(self.rollout.slot, Admission())
        facts = dict(user.attributes)
        for name, value in (said or {}).items():
            if name in self._callers and value is not None:
                facts[name] = value
        admissions = dict(user.admissions)
        admissions[self.rollout.slot] = Admission(remembered.weight, False)
        stranger = User(user.key, facts, admissions, user.lists)
        answer = self._compiled.check(self.flag.key, stranger)
        arm = _arm_of(answer)
        if arm is None:
            return Ignored(answer.why)
        weight = self._weight_of(stranger, remembered)
        return self._enrolled(stranger, arm, weight)

    def _enrolled(self, user: User, arm: Arm, weight: int) -> Enrolled | Ignored:
        assert self.stage is not None
        floor = self._earlier_share
        for i, earlier in enumerate(self._earlier):
            if earlier.threshold > floor and self._compiled.check(_audience(i), user).visible:
                floor = earlier.threshold
        low = min(floor * weight, FULL_THRESHOLD)
        if low and bucketing.seeded_bucket(self._seed, user.key) < low:
            return Ignored(EARLIER_STAGE)
        high = min(self._ceiling(user) * weight, FULL_THRESHOLD)
        drawn = min(self.stage.threshold * weight, high)
        if high <= low:
            return Ignored(EARLIER_STAGE)
        chance = max(drawn - low, 0) * PPB // (high - low)
        return Enrolled(
            self.rollout.slot,
            self.stage.key,
            arm,
            min(weight, LARGEST_STRATUM),
            chance,
            self.stage.threshold,
        )

    def _ceiling(self, user: User) -> int:
        ceiling = FULL_THRESHOLD
        for table in self._ceilings:
            assert self._region is not None
            given = user.attributes.get(self._region.name)
            found = None if given is None else table[known_value(self._region, given)]
            if found is not None:
                ceiling = min(ceiling, table.limits[found])
        return ceiling

    def _weight_of(self, user: User, remembered: Admission) -> int:
        assert self.stage is not None
        if self.rollout.sticky:
            return max(remembered.weight, 1)
        for i, each in enumerate(self.stage.weights):
            if self._compiled.check(_weight(i), user).visible:
                return each.weight
        return 1


def _arm_of(answer: Answer) -> Arm | None:
    """Passed everything: shown by the draw, or not drawn. Anything else is no coin's doing."""
    if answer.visible and answer.why == reasons.SHOWN:
        return Arm.TREATED
    return Arm.CONTROL if answer.why in reasons.CONTROL else None


def _running_stage(flag: Flag) -> Stage | None:
    rollout = flag.rollout
    if rollout is None or rollout.current < 0:
        return None
    stage = rollout.stages[rollout.current]
    if rollout.status is RolloutStatus.COMPLETED:
        # After the release the holdback is still compared with everybody else.
        return stage if stage.not_drawn_why == reasons.STAGE_HELD_BACK else None
    return stage if rollout.status in (RolloutStatus.RUNNING, RolloutStatus.PAUSED) else None


def _with_prerequisites(flags: Mapping[str, Flag], key: str) -> list[Flag]:
    found: dict[str, Flag] = {}
    waiting = [key]
    while waiting:
        flag = flags[waiting.pop()]
        if flag.key not in found:
            found[flag.key] = flag
            waiting += [each.flag for each in flag.prerequisites]
    # Slices of exclusion groups are checked for overlap only; a part of them is sound as well.
    return list(found.values())


def _probe(key: str, rule: Rule) -> Flag:
    """A flag that is visible exactly when the rule is true for the user."""
    everybody = Stage(key="all", audience=rule, share_ppm=PPM, threshold=FULL_THRESHOLD)
    return Flag(
        key=key,
        version=1,
        rollout=Rollout(
            slot=_PROBE_SLOT + _number(key),
            salt="probe",
            status=RolloutStatus.RUNNING,
            stages=[everybody],
            current=0,
        ),
    )


_PROBE_SLOT: Final = 1_000_000
"""Beyond every real slot, so that no admission is ever found under a probe's."""


def _audience(index: int) -> str:
    return f"~audience-{index}"


def _weight(index: int) -> str:
    return f"~weight-{index}"


def _number(key: str) -> int:
    kind, _, index = key.partition("-")
    return int(index) + (1_000 if kind == "~weight" else 0)


def plain_chance_ppb(threshold: int, weight: int) -> int:
    """The chance of a user whom no earlier stage and no region ceiling concerns."""
    return min(threshold * weight, FULL_THRESHOLD) * PPB // FULL_THRESHOLD
