"""Draws a stage again from what is stored, and says whether its receipt agrees.

Facts go on changing after a draw, so its users cannot always be judged again. What then remains to
be checked is said to have been checked, and no more.
"""

from __future__ import annotations

from math import isclose

import msgspec

from cohorts.models import Admission, Draw
from cohorts.services import draws
from cohorts.services.audience import Judge
from huidu.engine.bucketing import FORMULA, seed_of, seeded_bucket
from huidu.errors import RuleError
from huidu.sampling import draw_share, inclusion_probability


class Verdict(msgspec.Struct, frozen=True):
    """What was found.

    Args:
        faults: where the receipt contradicts what is stored; none when it agrees.
        repeated: whether the same inputs were found again and drawn again.
    """

    faults: list[str]
    repeated: bool

    @property
    def agrees(self) -> bool:
        return not self.faults


def verify(draw: Draw) -> Verdict:
    """Check a receipt against itself, against the admissions, and by drawing again.

    1. The receipt's own numbers fit together.
    2. Everybody whom the draw admitted ranks below its threshold.
    3. The inputs are read again; where their hash is the receipt's, the draw is repeated.
    """
    faults = receipt_faults(draw) + _admission_faults(draw)
    if draw.formula != FORMULA:
        return Verdict(faults, repeated=False)
    try:
        people = draws.population(
            Judge(draw.audience, draw.weights), draw.slot, draw.salt, draw.as_of, earlier=True
        )
    except RuleError:  # a rule of then that nobody can read now
        return Verdict(faults, repeated=False)
    previous = int(draw.previous_threshold)
    if draws.input_hash(people, draw.salt, draw.share_ppm, previous) != draw.input_hash:
        return Verdict(faults, repeated=False)
    again = draw_share(
        people.buckets, people.weights, draw.share_ppm, at_least=previous, members=people.members
    )
    for name, told, found in (
        ("population", draw.population, again.population),
        ("n", draw.n, again.admitted),
        ("threshold", int(draw.threshold), again.threshold),
    ):
        if told != found:
            faults.append(f"{name}: the receipt says {told}, drawing again gives {found}")
    return Verdict(faults, repeated=True)


def receipt_faults(draw: Draw) -> list[str]:
    """Where the receipt's own numbers contradict each other."""
    faults = []
    for name, told, column in (("eligible", draw.population, "population"), ("drawn", draw.n, "n")):
        total = sum(each[name] for each in draw.strata)
        if total != told:
            faults.append(f"{column}: the receipt says {told}, its weights add up to {total}")
    for each in draw.strata:
        chance = inclusion_probability(int(draw.threshold), each["weight"])
        if not isclose(chance, each["chance"], abs_tol=1e-12):
            faults.append(
                f"weight {each['weight']}: the receipt says chance {each['chance']}, "
                f"its threshold gives {chance}"
            )
    return faults


def _admission_faults(draw: Draw) -> list[str]:
    """Weights never fall, so whoever ranked below the threshold at the draw does so still."""
    if draw.formula != FORMULA:
        return []
    seed, threshold = seed_of(draw.salt), int(draw.threshold)
    admitted = Admission.objects.filter(
        slot=draw.slot, admitted=True, via=Admission.Via.DRAW, since=draw.as_of
    )
    count = outside = 0
    for user_id, weight in admitted.values_list("user_id", "weight").iterator(chunk_size=5_000):
        count += 1
        outside += seeded_bucket(seed, user_id) // weight >= threshold
    faults = []
    if outside:
        faults.append(f"{outside} of the users drawn do not rank below the threshold")
    if count > draw.n:
        faults.append(f"n: the receipt says {draw.n}, {count} users were admitted by it")
    return faults
