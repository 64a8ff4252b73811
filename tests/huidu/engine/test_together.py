"""Flags that are alike are decided once, and every flag still has its own answer."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from huidu.engine import compile_snapshot, writer
from huidu.engine.blocks import BLOCKS_AT_ONCE, BlockWriter, Outcome
from huidu.engine.plan import Plan
from huidu.engine.together import Checks
from huidu.engine.writer import Check
from huidu.model import Admission, Cohort, Flag, Stage, Tier, ValueType, Variant
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


# Going on from what was made for the snapshot before


def made_anew(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys of the flags whose source is written from now on, for those with nothing remembered."""
    written: list[str] = []
    write = BlockWriter.flag

    def noted(self: BlockWriter, place: int, plan: Plan, checks: Mapping[str, Check]) -> None:
        if not self.holds:
            written.append(plan.flag.key)
        write(self, place, plan, checks)

    monkeypatch.setattr(BlockWriter, "flag", noted)
    return written


def drawn(number: int, **others: Any) -> Flag:
    stage = Stage(key="half", share_ppm=500_000, threshold=1 << 63)
    return alike(number, rollout=running(stage, salt=f"salt{number}", slot=number), **others)


def test_only_functions_with_a_flag_that_changed_are_made_anew(monkeypatch: pytest.MonkeyPatch):
    unlike = [
        drawn(number, gates=[gate({">": [{"var": "weekly_payments"}, number]})])
        for number in range(4 * BLOCKS_AT_ONCE)
    ]
    keys = [each.key for each in unlike]
    before = compile_snapshot(world(*unlike))
    first = before.apart(keys)
    made = before.put_together(first)
    told(first, "ada", BUSY)[0].alone = "kept by somebody"

    written = made_anew(monkeypatch)
    changed = list(unlike)
    changed[9] = msgspec.structs.replace(unlike[9], version=99, killed=True)
    after = compile_snapshot(world(*changed), before=before)
    second = after.apart(keys)
    after.put_together(second, before=made)
    assert sorted(written) == sorted(keys[BLOCKS_AT_ONCE : 2 * BLOCKS_AT_ONCE])
    for user in map(str, range(30)):
        assert second(user, BUSY) == after.evaluate_all(keys, user, BUSY)
        assert first(user, BUSY) == before.evaluate_all(keys, user, BUSY)
    assert second("ada", BUSY)[9].why == "killed"
    # What somebody kept with an outcome was made for the snapshot before.
    assert not any(hasattr(each, "alone") for each in told(second, "ada", BUSY))
    assert after.reads(keys) == before.reads(keys)


def test_nothing_is_gone_on_from_when_what_all_rest_on_changed(monkeypatch: pytest.MonkeyPatch):
    flags = [alike(number) for number in range(3)]
    keys = [each.key for each in flags]
    before = compile_snapshot(world(*flags))
    made = before.put_together(before.apart(keys))
    written = made_anew(monkeypatch)
    after = compile_snapshot(world(*flags, cohorts=[Cohort(key="new")]), before=before)
    after.put_together(after.apart(keys), before=made)
    assert written == keys


def test_a_flag_more_or_less_at_the_end_leaves_the_others(monkeypatch: pytest.MonkeyPatch):
    flags = [alike(number) for number in range(3)]
    before = compile_snapshot(world(*flags))
    keys = [each.key for each in flags]
    made = before.put_together(before.apart(keys))
    written = made_anew(monkeypatch)
    more = [*flags, alike(7)]
    after = compile_snapshot(world(*more), before=before)
    checks = after.apart([*keys, "f7"])
    made = after.put_together(checks, before=made)
    assert written == ["f7"]
    assert checks("ada", BUSY) == after.evaluate_all([*keys, "f7"], "ada", BUSY)
    fewer = compile_snapshot(world(*flags[:2]), before=after)
    checks = fewer.apart(keys[:2])
    fewer.put_together(checks, before=made)
    assert checks("ada", BUSY) == fewer.evaluate_all(keys[:2], "ada", BUSY)


def test_functions_of_one_source_are_compiled_once_and_kept_no_longer_than_they_are():
    gc.collect()
    known = len(writer._codes)
    compiled = compile_snapshot(world(*(drawn(number) for number in range(30, 50))))
    checks = [compiled.check_of(f"f{number}") for number in range(30, 50)]
    assert len(writer._codes) <= known + 1
    codes = {id(each.__code__) for each in checks}  # type: ignore[attr-defined]
    assert len(codes) == 20  # each notes its own namespace
    del checks, compiled
    assert len(writer._codes) <= known
