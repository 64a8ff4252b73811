"""Laws that hold for any stage: purity, order, silence. And a few whole stages, seeded."""

from __future__ import annotations

import math
import random

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from huidu.promotion import Arm, AsOf, Cell, CellCounts, Decision, Look, State, review
from huidu.promotion.plan import compiled
from tests.huidu.promotion_stages import COMPLAINTS, DAY, QUEUE, SUCCESS, plan

RHOS = (0.05, 0.15, 0.4)
PLAN = plan(
    SUCCESS, COMPLAINTS, QUEUE, cells=tuple(Cell(id=f"cell-{i}", rho=r) for i, r in enumerate(RHOS))
)


@st.composite
def stages(draw: st.DrawFn) -> list[Look]:
    """Up to 14 looks of a random stage, harmless or not, with gauges that come and go."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    effect = draw(st.sampled_from([1.0, 1.0, 0.9, 0.6]))
    size = draw(st.sampled_from([200, 5_000, 60_000]))
    n, happy, angry = (np.zeros((3, 2), dtype=int) for _ in range(3))
    looks = []
    for k in range(1, draw(st.integers(2, 14)) + 1):
        new = rng.binomial(size, np.array(RHOS))
        more = np.stack([new, size - new], axis=1)
        n = n + more
        happy = happy + rng.binomial(more, [0.05 * effect, 0.05])
        angry = angry + rng.binomial(more, 0.005)
        cells = tuple(
            CellCounts(
                *(
                    Arm(int(n[i, a]), {"success": int(happy[i, a]), "complaints": int(angry[i, a])})
                    for a in (0, 1)
                ),
                f"cell-{i}",
            )
            for i in range(3)
        )
        gauge = draw(st.sampled_from([0.1, 0.1, 0.95, None]))
        now = AsOf(k * DAY, k * DAY)
        looks.append(
            Look(
                k=k,
                t_min=k * DAY,
                cells=cells,
                gauges={"queue": gauge},
                as_of={"success": now, "complaints": now},
            )
        )
    return looks


def story(given_plan, looks):
    state, told = State(), []
    for one in looks:
        state, outcome = review(given_plan, state, one)
        told.append(outcome)
    return state, told


@given(stages())
@settings(max_examples=40, deadline=None)
def test_the_same_evidence_always_gets_the_same_answer(looks):
    first = story(PLAN, looks)
    compiled.cache_clear()
    copied = [msgspec.json.decode(msgspec.json.encode(one), type=Look) for one in looks]
    again_plan = msgspec.json.decode(msgspec.json.encode(PLAN), type=type(PLAN))
    assert story(again_plan, copied) == first


@given(stages(), st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_the_order_of_cells_and_metrics_in_a_look_changes_nothing(looks, chance: random.Random):
    def shuffled(one: Look) -> Look:
        cells = list(one.cells)
        chance.shuffle(cells)
        turned = [
            msgspec.structs.replace(
                cell, t=msgspec.structs.replace(cell.t, m=dict(reversed(cell.t.m.items())))
            )
            for cell in cells
        ]
        return msgspec.structs.replace(one, cells=tuple(turned))

    other = msgspec.structs.replace(PLAN, cells=tuple(reversed(PLAN.cells)))
    assert story(other, [shuffled(one) for one in looks]) == story(PLAN, looks)


@given(stages(), st.integers(0, 12))
@settings(max_examples=40, deadline=None)
def test_a_silent_look_in_between_changes_no_later_answer(looks, place):
    """All feeds dead for one look: nobody is promoted on it, and it leaves no trace."""
    place = min(place, len(looks) - 2)
    before = looks[place]
    silent = Look(
        k=before.k,
        t_min=before.t_min + 5,
        cells=tuple(CellCounts(Arm(cell.t.n), Arm(cell.c.n), cell.id) for cell in before.cells),
    )
    heard = story(PLAN, looks)[1]
    with_silence = story(PLAN, [*looks[: place + 1], silent, *looks[place + 1 :]])[1]
    assert with_silence[place + 1].decision is Decision.HOLD
    del with_silence[place + 1]
    assert with_silence == heard


@given(stages())
@settings(max_examples=30, deadline=None)
def test_a_look_told_twice_changes_nothing(looks):
    twice = [one for one in looks for _ in (0, 1)]
    once_state, once = story(PLAN, looks)
    twice_state, told = story(PLAN, twice)
    assert [o.decision for o in told[::2]] == [o.decision for o in once]
    assert twice_state == once_state


def whole_stage(seed: int, effect: float, users: int, *, promote: bool) -> Decision:
    """Looks every six hours for ten days with one guard; enough for a law, not for a benchmark."""
    rng = np.random.default_rng(seed)
    given_plan = plan(cells=(Cell(id="light", rho=0.04), Cell(id="heavy", rho=0.12)))
    if not promote:
        stage = msgspec.structs.replace(given_plan.stage, min_min=given_plan.stage.horizon_min)
        given_plan = msgspec.structs.replace(given_plan, stage=stage)
    state = State()
    n, happy = np.zeros((2, 2), dtype=int), np.zeros((2, 2), dtype=int)
    for k in range(1, 41):
        arriving = rng.poisson([users * 0.9, users * 0.1])
        new = rng.binomial(arriving, [0.04, 0.12])
        more = np.stack([new, arriving - new], axis=1)
        drift = math.exp(0.3 * math.sin(k / 3))
        rates = drift * np.array([[0.045 * effect, 0.045], [0.095 * effect, 0.095]])
        n, happy = n + more, happy + rng.binomial(more, rates)
        cells = tuple(
            CellCounts(*(Arm(int(n[i, a]), {"success": int(happy[i, a])}) for a in (0, 1)), name)
            for i, name in enumerate(("light", "heavy"))
        )
        now = AsOf(k * 360.0, k * 360.0)
        state, outcome = review(
            given_plan, state, Look(k=k, t_min=k * 360.0, cells=cells, as_of={"success": now})
        )
        if outcome.decision is not Decision.HOLD:
            break
    return outcome.decision


def at_most(share: float, runs: int) -> float:
    """Four standard errors above a promised share."""
    return share + 4 * math.sqrt(share * (1 - share) / runs)


def test_harmless_stages_are_hardly_ever_rolled_back():
    ends = [whole_stage(1_000 + i, 1.0, 5_000, promote=False) for i in range(150)]
    assert ends.count(Decision.ROLL_BACK) / 150 <= at_most(0.05, 150)


def test_stages_exactly_at_their_margin_are_hardly_ever_promoted():
    ends = [whole_stage(2_000 + i, 0.9, 5_000, promote=True) for i in range(200)]
    assert ends.count(Decision.PROMOTE) / 200 <= at_most(0.05, 200)


def test_harmless_stages_with_enough_traffic_are_promoted():
    ends = [whole_stage(3_000 + i, 1.0, 50_000, promote=True) for i in range(60)]
    assert ends.count(Decision.PROMOTE) / 60 >= 1 - at_most(0.05, 60)
