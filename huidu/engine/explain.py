"""Every step of one check, told as data: what was asked, what was found, what would be needed.

An explanation walks the plan the check was compiled from, past the first refusal to the end, and
comes to its own answer; tests hold it equal to the check's for every kind of snapshot and user.
It makes no sentences and hides nothing: who may read what is decided where it is shown.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from huidu.engine import answers
from huidu.history import Crossing
from huidu.model import Answer, User

if TYPE_CHECKING:
    from huidu.engine.compile import Compiled


class Outcome(enum.StrEnum):
    PASS = "pass"  # noqa: S105 (no password)
    FAIL = "fail"
    UNKNOWN = "unknown"
    SKIPPED = "skipped"  # the user is excused: on the allow list, or admitted before


class StepKind(enum.StrEnum):
    """In the order of one check."""

    KILL = "kill"
    IDENTITY = "identity"
    BLOCK_LIST = "block_list"
    ENABLED = "enabled"
    ALLOW_LIST = "allow_list"
    PREREQUISITE = "prerequisite"
    EXCLUSION = "exclusion"
    GATE = "gate"
    ROLLOUT = "rollout"
    STAGE = "stage"
    TIER = "tier"
    VARIANT = "variant"


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """One claim a rule made about the user.

    `value` is what was given, None if nothing was. `operator` and `wanted` are as the rule has
    them; `negated` says that the claim stood under an odd number of "not". `crossing` is told of
    ``hysteresis``: on which day the user came in or fell out.
    """

    attribute: str
    operator: str
    wanted: Any
    value: Any
    outcome: Outcome
    negated: bool = False
    crossing: Crossing | None = None


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step. `why` is the code it refuses with, None unless it does.

    `details` by kind: region gates tell ``region_class``, ``ceiling_ppm`` and ``payload``;
    capacity gates ``place`` (the partner's number, None without one) and ``partners``;
    exclusion ``group``, ``bucket``, ``from`` and ``to``; prerequisites ``variant`` and ``why`` of
    the other flag; stages ``audience`` (an outcome), ``drawn``, ``share_ppm`` and ``threshold``;
    tiers ``payload``; variants ``payload`` and ``bucket``.
    """

    kind: StepKind
    key: str = ""
    dimension: str = ""
    outcome: Outcome
    why: str | None = None
    needs: list[Need] = []
    details: dict[str, Any] = {}
    version: int | None = None


class Drawn(msgspec.Struct, frozen=True, kw_only=True):
    """The user's place in the current stage's draw: in when ``bucket < threshold * weight``.

    `enters_at_ppm` is the smallest share at which the user enters, read between the thresholds of
    the stages drawn so far; the population decides the rest, so it is an estimate.
    """

    bucket: int
    weight: int
    threshold: int
    share_ppm: int
    drawn: bool
    enters_at_ppm: int
    remembered: bool


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Why a check answers what it answers."""

    flag: str
    user: str
    sequence: int
    answer: Answer
    steps: list[Step]
    draw: Drawn | None = None

    @property
    def refusals(self) -> list[Step]:
        """Every step that refuses the user, not only the first."""
        return [step for step in self.steps if step.why is not None]


def explain(compiled: Compiled, flag_key: str, user: User) -> Explanation:
    """Walk one check to its end. Never raises; see `Compiled.explain`."""
    from huidu.engine.walk import Walk

    answer, draw = answers.unknown_flag(flag_key), None
    steps: list[Step] = []
    if flag_key in compiled.flags:
        try:
            walk = Walk(compiled, compiled.kept_plan(flag_key), user)
            answer, steps, draw = walk.to_the_end()
        except Exception:  # attributes that break when they are read
            answer = answers.failed(flag_key, compiled.flags[flag_key])
    return Explanation(
        flag=flag_key,
        user=user.key,
        sequence=compiled.snapshot.sequence,
        answer=answer,
        steps=steps,
        draw=draw,
    )


def enters_at(rank: int, known: Mapping[int, int], *, whole: int, full: int) -> int:
    """The smallest share at which a user of this rank enters.

    Args:
        rank: the user's bucket divided by the weight, in [0, 2**64).
        known: threshold by share, of the stages drawn so far; read straight between them.
        whole: the share of everybody, 1,000,000 ppm.
        full: the threshold of everybody, 2**64.
    Returns:
        A share in 1..whole, in the unit of `known`. Never on the other side of a known threshold.
    """
    below_share, below = 0, 0
    for share, threshold in sorted({**known, whole: full}.items()):
        if rank < threshold:
            # Smallest p with below + (p - below_share) * slope > rank, in whole numbers.
            rise, run = threshold - below, share - below_share
            return below_share + max(1, -(-(rank + 1 - below) * run // rise))
        below_share, below = share, threshold
    return whole
