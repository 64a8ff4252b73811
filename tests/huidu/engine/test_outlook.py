"""When a user would get in by waiting: the stage that reaches him, the day a score has faded."""

from __future__ import annotations

from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from huidu.engine import compile_snapshot
from huidu.engine.outlook import calm_days, entry_stage
from huidu.model import Admission, Stage, User
from huidu.risk import risk_now
from tests.huidu.engine.worlds import flag, gate, running, world

STAFF = {"==": [{"var": "staff"}, True]}


def plan(*shares: int) -> list[Stage]:
    first = Stage(key="internal", audience=STAFF, audience_why="stage.not_internal")
    later = [Stage(key=f"s{share}", share_ppm=share, threshold=0) for share in shares]
    return [first, *later]


def test_the_next_stage_is_the_first_that_reaches_the_user():
    stages = plan(50_000, 300_000, 1_000_000)
    compiled = compile_snapshot(world(flag(rollout=running(*stages, current=0))))
    seen = set()
    for number in range(60):
        user = User(f"u{number}", {"staff": False}, {0: Admission(1)})
        draw = compiled.explain("f", user).draw
        assert draw is not None
        stage = entry_stage(compiled, "f", user, draw)
        assert stage is not None
        reached = [each.share_ppm for each in stages[1:] if each.share_ppm >= draw.enters_at_ppm]
        assert stage.share_ppm == reached[0]
        seen.add(stage.key)
    assert len(seen) > 1


def test_a_stage_for_others_is_not_the_users():
    silver = {"==": [{"var": "tier"}, "silver"]}
    stages = [*plan(), Stage(key="silver", audience=silver, threshold=0, share_ppm=1_000_000)]
    compiled = compile_snapshot(world(flag(rollout=running(*stages, current=0))))
    for tier, wanted in (("silver", "silver"), ("gold", None), (None, None)):
        user = User("u", {"staff": False, "tier": tier})
        stage = entry_stage(compiled, "f", user, compiled.explain("f", user).draw)
        assert (stage.key if stage else None) == wanted


def test_without_a_stage_to_come_there_is_no_day():
    compiled = compile_snapshot(world(flag()))
    user = User("u", {})
    assert entry_stage(compiled, "f", user, compiled.explain("f", user).draw) is None
    assert entry_stage(compiled, "f", user, None) is None


@given(st.floats(1, 100), st.integers(0, 60), st.floats(0.5, 99), st.booleans())
def test_the_day_is_the_first_on_which_the_gate_lets_pass(
    base: float, passed: int, limit: float, is_open: bool
):
    rule = {"<" if is_open else "<=": [{"var": "risk"}, limit]}
    compiled = compile_snapshot(world(flag(gates=[gate(rule)])))
    scored_on = date(2026, 1, 1)
    today = scored_on + timedelta(days=passed)

    def score_in(days: int) -> float:
        return risk_now(base, scored_on, today + timedelta(days=days))

    def user_in(days: int) -> User:
        return User("u", {"risk": score_in(days)})

    found = calm_days(compiled, "f", user_in(0), score_in, attribute="risk")
    if compiled.check("f", user_in(0)).visible:
        assert found == []
        return
    (calm,) = found
    assert compiled.check("f", user_in(calm.days)).visible
    assert not any(compiled.check("f", user_in(day)).visible for day in range(calm.days))


def test_a_limit_of_nothing_is_never_reached():
    compiled = compile_snapshot(world(flag(gates=[gate({"<": [{"var": "risk"}, 0]})])))
    user = User("u", {"risk": 5.0})
    assert calm_days(compiled, "f", user, lambda days: 5.0 * 0.6**days, attribute="risk") == []
