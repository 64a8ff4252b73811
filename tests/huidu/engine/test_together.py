"""Flags that are alike are decided once, and every flag still has its own answer."""

from __future__ import annotations

from typing import Any

from huidu.engine import compile_snapshot
from huidu.engine.blocks import BLOCKS_AT_ONCE, Outcome
from huidu.engine.together import Checks
from huidu.model import Admission, Flag, Stage, Tier, ValueType, Variant
from tests.huidu.engine.worlds import flag, full, gate, running, world

RULE = {">": [{"var": "weekly_payments"}, 20]}
BUSY, IDLE = {"weekly_payments": 21}, {"weekly_payments": 3}


def alike(number: int, **others: Any) -> Flag:
    """A flag that differs from others made so in its answers, salt and slot only."""
    rollout = running(full(payload={"n": number}), salt=f"salt{number}", slot=number)
    usual = {"version": number + 1, "gates": [gate(RULE)], "rollout": rollout}
    return flag(f"f{number}", **(usual | others))


def checks_of(*flags: Flag) -> Checks:
    return compile_snapshot(world(*flags)).together([each.key for each in flags])


def told(checks: Checks, user: str, facts: dict[str, Any]) -> list[Outcome]:
    """Each outcome once."""
    return [each for each in checks.outcomes(user, facts) if each is not None]


def test_flags_that_differ_in_their_answers_only_are_decided_once():
    flags = [alike(number) for number in range(3 * BLOCKS_AT_ONCE)]
    checks = checks_of(*flags)
    (passed,) = told(checks, "ada", BUSY)
    (refused,) = told(checks, "bob", IDLE)
    assert told(checks, "eve", BUSY) == [passed]
    assert [each.payload for each in passed.answers] == [{"n": n} for n in range(len(flags))]
    assert {each.why for each in refused.answers} == {"refused"}
    assert [each.flag_version for each in refused.answers] == [each.version for each in flags]


def test_flags_that_draw_are_decided_apart_and_answers_keep_the_order_of_flags():
    def drawn(number: int) -> Flag:
        stage = Stage(key="half", share_ppm=500_000, threshold=1 << 63)
        return alike(number, rollout=running(stage, salt=f"salt{number}", slot=number))

    flags = [drawn(number) if number % 2 else alike(number) for number in range(40)]
    compiled = compile_snapshot(world(*flags))
    checks = compiled.together([each.key for each in flags])
    assert len(told(checks, "ada", BUSY)) == 21
    # Before their draws they are alike: those who are refused there are refused once a function.
    assert len(told(checks, "ada", IDLE)) == 3
    for user in ("ada", "bob", "eve"):
        found = checks(user, BUSY)
        assert [each.flag for each in found] == [each.key for each in flags]
        assert found == compiled.evaluate_all([each.key for each in flags], user, BUSY)


def test_what_is_remembered_of_a_user_counts_for_its_flag_alone():
    flags = [
        alike(
            number,
            rollout=running(Stage(key="none", share_ppm=0, threshold=0), salt="s", slot=number),
        )
        for number in range(4)
    ]
    checks = checks_of(*flags)
    assert [each.visible for each in checks("ada", BUSY)] == [False] * 4
    remembered = {2: Admission(admitted=True, weight=1)}
    assert [each.visible for each in checks("ada", BUSY, remembered)] == [False, False, True, False]
    assert [each.visible for each in checks("ada", BUSY, {}, frozenset({7}))] == [False] * 4


def test_lists_count_where_they_hold_the_user():
    flags = [alike(number, block_lists=[number % 2]) for number in range(4)]
    checks = checks_of(*flags)
    assert len(told(checks, "ada", BUSY)) == 1
    assert all(each.visible for each in checks("ada", BUSY))
    listed = checks("ada", BUSY, None, frozenset({1}))
    assert [each.visible for each in listed] == [True, False, True, False]


def test_tiers_and_variants_are_each_flags_own():
    def tiered(number: int) -> Flag:
        variants = [
            Variant(key="a", value=number, share_ppm=500_000),
            Variant(key="b", value=-number, share_ppm=500_000),
        ]
        tiers = [Tier(key="high", rule=RULE, payload={"cap": number})]
        return alike(number, type=ValueType.INTEGER, off_value=0, variants=variants, tiers=tiers)

    flags = [tiered(number) for number in range(1, 9)]
    compiled = compile_snapshot(world(*flags))
    keys = [each.key for each in flags]
    for user in map(str, range(20)):
        for facts in (BUSY, IDLE):
            assert compiled.together(keys)(user, facts) == compiled.evaluate_all(keys, user, facts)


def test_a_check_that_fails_costs_its_own_flag_alone():
    class Odd(dict[str, Any]):
        def __getitem__(self, name: str) -> Any:
            if name == "staff":
                raise RuntimeError("broken")
            return super().__getitem__(name)

    odd = alike(9, gates=[gate({"==": [{"var": "staff"}, True]})])
    checks = checks_of(alike(1), odd, alike(2))
    assert [each.reason for each in checks("ada", Odd(BUSY))][1] == "ERROR"
    assert [each.visible for each in checks("ada", Odd(BUSY))] == [True, False, True]


def test_checks_answer_before_they_are_put_together():
    flags = [alike(number) for number in range(4)]
    compiled = compile_snapshot(world(*flags))
    checks = compiled.apart([each.key for each in flags])
    before = [checks(user, facts) for user in ("ada", "") for facts in (BUSY, IDLE)]
    assert not checks.are_together
    compiled.put_together(checks)
    assert checks.are_together
    assert before == [checks(user, facts) for user in ("ada", "") for facts in (BUSY, IDLE)]
