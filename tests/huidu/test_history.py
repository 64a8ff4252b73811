"""In above one line until below another: the past days are summed again, nothing is remembered."""

from __future__ import annotations

import datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from huidu import history
from huidu.engine import compile_snapshot
from huidu.engine.counterfactual import Direction, changes
from huidu.errors import RuleError
from huidu.model import Attribute, AttributeSource, AttributeType, User
from huidu.wire import ring
from huidu.wire.facts import Reading
from huidu.wire.profile import Profile, encode, user_of
from tests.huidu.engine.strategies import paid_days
from tests.huidu.engine.worlds import gate_on

TODAY = datetime.date(2026, 5, 20)
RULE = {"hysteresis": [{"var": "weekly_payments"}, 20, 15]}
CHECKS = compile_snapshot(gate_on(RULE))
counts_of_days = st.lists(st.integers(0, 5), min_size=ring.DAYS, max_size=ring.DAYS)


def paying(*counts: int) -> User:
    """A user with so many payments today, yesterday, ...; none before."""
    paid = history.Paid(ring.pack(counts))
    return User("u", {"weekly_payments": sum(counts[:7]), history.NAME: paid})


def days(*stretches: tuple[int, int]) -> User:
    """So many days of so many payments each, newest first."""
    return paying(*(each for length, each in stretches for _ in range(length)))


@pytest.mark.parametrize(
    ("user", "inside", "since"),
    [
        pytest.param(days((7, 3)), True, (0, 21), id="in from above the enter line"),
        pytest.param(days((7, 2)), False, None, id="never above it"),
        pytest.param(days((7, 0), (7, 3)), False, (4, 12), id="out from below the leave line"),
        pytest.param(days((10, 2), (1, 3), (1, 14)), False, (3, 14), id="fell out long ago"),
    ],
)
def test_stories(user: User, inside: bool, since: tuple[int, int] | None):
    (step,) = [each for each in CHECKS.explain("f", user).steps if each.kind == "gate"]
    crossing = step.needs[0].crossing
    assert crossing is not None
    assert CHECKS.check("f", user).visible is crossing.inside is inside
    assert (crossing.days_ago, crossing.weekly) == (since or (None, None))


def test_between_the_lines_the_past_decides():
    between = days((7, 2))  # 14 a week is out; one more payment makes 15
    grown = paying(4, 2, 2, 2, 2, 2, 2)
    fallen = paying(2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3)
    assert [sum(history.Paid.days(u.attributes[history.NAME])[:7]) for u in (grown, fallen)] == [
        16,
        16,
    ]
    assert not CHECKS.check("f", between).visible
    assert not CHECKS.check("f", grown).visible
    assert CHECKS.check("f", fallen).visible
    crossing = history.crossing(16, fallen.attributes[history.NAME], 20, 15)
    assert crossing == history.Crossing(inside=True, days_ago=5, weekly=21)


def test_both_lines_belong_to_those_who_are_where_they_were():
    inside = days((7, 3), (7, 3))
    for weekly, visible in ((15, True), (14, False), (20, True), (21, True)):
        moved = User("u", {**inside.attributes, "weekly_payments": weekly})
        assert CHECKS.check("f", moved).visible is visible
    outside = User("u", {"weekly_payments": 20, history.NAME: history.Paid()})
    assert not CHECKS.check("f", outside).visible


def test_without_the_past_only_the_enter_line_lets_in_and_silence_is_no_consent():
    not_it = compile_snapshot(gate_on({"!": RULE}))
    for weekly, why, why_not in ((21, "shown", "refused"), (14, "refused", "shown")):
        assert CHECKS.check("f", User("u", {"weekly_payments": weekly})).why == why
        assert not_it.check("f", User("u", {"weekly_payments": weekly})).why == why_not
    for facts in ({"weekly_payments": 18}, {"weekly_payments": 18, history.NAME: [9] * 30}, {}):
        assert CHECKS.check("f", User("u", facts)).why == "unknown"
        assert not_it.check("f", User("u", facts)).why == "unknown"


def test_a_crossing_is_remembered_for_as_long_as_whole_weeks_are_known():
    quiet = [2, 2, 2, 2, 2, 2, 3]
    newest = [*(quiet * 4)][: history.WEEKS - 1]
    busy = [*newest, *[5] * 7]
    assert CHECKS.check("f", paying(*busy)).visible
    later = [*quiet[:1], *busy]
    assert len(later) > history.DAYS
    assert not CHECKS.check("f", paying(*later[: ring.DAYS])).visible


@given(counts_of_days, st.integers(-40, 1))
def test_days_are_told_from_today(counts: list[int], ahead: int):
    last = TODAY + datetime.timedelta(days=ahead)
    by_day = {last - datetime.timedelta(days=ago): count for ago, count in enumerate(counts)}
    wanted = [by_day.get(TODAY - datetime.timedelta(days=ago), 0) for ago in range(30)]
    assert list(history.Paid(ring.pack(counts), ahead).days()) == wanted


@given(paid_days(), st.integers(0, 40), st.integers(1, 12), st.integers(1, 9))
def test_the_story_ends_as_the_check_does(paid: history.Paid, weekly: int, leave: int, more: int):
    enter = leave + more
    told = history.crossing(weekly, paid, enter, leave)
    truth = weekly > enter or (weekly >= leave and history.was_inside(paid, enter, leave))
    assert told is not None
    assert told.inside is truth
    if told.days_ago is None:
        assert told.weekly is None
    else:
        weeks = [weekly, *paid.weeks()]
        assert told.weekly == weeks[told.days_ago]
        since = weeks[: told.days_ago]
        assert all(each >= leave for each in since) if truth else all(e <= enter for e in since)


@given(counts_of_days, st.integers(-35, 1))
def test_a_packed_profile_tells_its_days_by_every_reader(counts: list[int], ahead: int):
    last = TODAY + datetime.timedelta(days=ahead)
    names = {"weekly_payments", history.NAME}
    for more in ({}, {"wifi_risk": 1.5}):  # a record of each format
        record = encode(
            Profile(updated=TODAY, last_day=last, counts=ring.pack(counts), **more)  # type: ignore[arg-type]
        )
        facts, _, _ = Reading(names, {}).of(record, TODAY.toordinal())
        assert facts[history.NAME] == history.Paid(ring.pack(counts), ahead)
        assert facts[history.NAME] == user_of(record, "u", TODAY, {}).attributes[history.NAME]
        assert facts["weekly_payments"] == sum(facts[history.NAME].days()[:7])


@pytest.mark.parametrize(
    ("operands", "says"),
    [
        ([{"var": "weekly_payments"}, 20], "a list of 3"),
        ([{"var": "weekly_payments"}, 15, 20], "an enter line above the leave line"),
        ([{"var": "weekly_payments"}, 15, 15], "an enter line above the leave line"),
        ([{"var": "weekly_payments"}, 15, 0], "a leave line of 1 or more"),
        ([{"var": "weekly_payments"}, "20", 15], "a whole number"),
        ([{"var": "weekly_payments"}, 20, 15.5], "a whole number"),
        ([{"var": "friends"}, 20, 15], "hysteresis is for weekly_payments"),
        ([20, {"var": "weekly_payments"}, 15], 'expected {"var": name}'),
    ],
)
def test_faults_are_told_with_their_path(operands: list[object], says: str):
    with pytest.raises(RuleError, match=says) as fault:
        compile_snapshot(gate_on({"and": [{"hysteresis": operands}]}))
    assert "gates[0].rule[0]" in str(fault.value.path)


def test_what_is_missing_counts_from_the_line_that_holds_for_the_user():
    ways = {"weekly_payments": Direction.UP}
    fell_today = paying(0, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3)
    ((back,),) = changes(CHECKS, "f", fell_today, changeable=ways).sets
    ((first_time,),) = changes(CHECKS, "f", paying(2, 2, 2), changeable=ways).sets
    assert (back.after, first_time.after) == (15, 21)


def test_a_figure_that_callers_tell_has_no_past():
    own = Attribute(
        id=1, name="weekly_payments", type=AttributeType.INTEGER, source=AttributeSource.CALLER
    )
    checks = compile_snapshot(msgspec.structs.replace(gate_on(RULE), attributes=[own]))
    assert checks.reads(["f"]) == {"weekly_payments"}
    fallen = paying(2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3)
    assert checks.check("f", fallen).why == checks.explain("f", fallen).answer.why == "unknown"


def test_checks_without_it_read_no_days():
    plain = compile_snapshot(gate_on({">": [{"var": "weekly_payments"}, 20]}))
    assert plain.reads(["f"]) == {"weekly_payments"}
    assert CHECKS.reads(["f"]) == {"weekly_payments", history.NAME}
