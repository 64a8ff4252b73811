"""A poisoned snapshot is refused as a whole; a sound one always answers."""

from __future__ import annotations

import threading
from typing import Any

import msgspec
import pytest

from huidu.engine import compile_snapshot
from huidu.engine.source import FlagWriter
from huidu.errors import HuiduError, RuleError, SnapshotError
from huidu.model import (
    FULL_THRESHOLD,
    PPM,
    Attribute,
    AttributeSource,
    AttributeType,
    Cohort,
    Exclusion,
    Flag,
    Prerequisite,
    RegionClass,
    RegionPolicy,
    Rollout,
    RolloutStatus,
    Snapshot,
    Stage,
    Tier,
    User,
    ValueType,
    Variant,
    Weight,
)
from tests.huidu.engine.worlds import flag, full, gate, gate_on, running, world


def stage(**others: Any) -> Stage:
    return Stage(**{"key": "s", "share_ppm": 500_000, "threshold": FULL_THRESHOLD // 2, **others})


def rolled(**others: Any) -> Flag:
    return flag(rollout=running(full(), **others))


def policy(**others: Any) -> RegionPolicy:
    return RegionPolicy(
        **{"classes": [RegionClass(key="open")], "regions": {}, "default": "open", **others}
    )


def region(**others: Any) -> Flag:
    return flag(gates=[gate(region=policy(**others))])


def sliced(key: str, low: int, high: int, **others: Any) -> Flag:
    exclusion = Exclusion(**{"group": "g", "salt": "s", "from_ppm": low, "to_ppm": high, **others})
    return flag(key, exclusion=exclusion, rollout=None)


def registry(*attributes: Attribute) -> Snapshot:
    return msgspec.structs.replace(world(), attributes=list(attributes))


def numbered(key: str, slot: int) -> Flag:
    return flag(key, rollout=running(full(), slot=slot))


def whole(name: str, **others: Any) -> Attribute:
    return Attribute(**{"id": 1, "name": name, "type": AttributeType.INTEGER, **others})


needs = Prerequisite
POISON = {
    "two flags of one key": world(flag("f", rollout=None), flag("f", rollout=None)),
    "a flag without a key": world(flag("")),
    "two rollouts in one slot": world(numbered("a", 1), numbered("b", 1)),
    "a negative slot": world(rolled(slot=-1)),
    "a rollout without a salt": world(rolled(salt="")),
    "a current stage that is not there": world(rolled(current=1)),
    "a current stage before the first": world(rolled(current=-2)),
    "two stages of one key": world(flag(rollout=running(full(), full()))),
    "a threshold beyond the line": world(
        flag(rollout=running(stage(threshold=FULL_THRESHOLD + 1)))
    ),
    "a negative threshold": world(flag(rollout=running(stage(threshold=-1)))),
    "a share over everything": world(flag(rollout=running(stage(share_ppm=PPM + 1)))),
    "a share that is true": world(flag(rollout=running(stage(share_ppm=True)))),
    "a part that takes everybody": world(flag(rollout=running(stage(threshold=FULL_THRESHOLD)))),
    "everybody who is not": world(flag(rollout=running(stage(share_ppm=PPM)))),
    "nobody who is somebody": world(flag(rollout=running(stage(share_ppm=0)))),
    "a threshold that falls": world(
        flag(rollout=running(stage(), stage(key="t", threshold=FULL_THRESHOLD // 4)))
    ),
    "a weight of nothing": world(flag(rollout=running(stage(weights=[Weight(rule={}, weight=0)])))),
    "an audience that cannot be read": world(flag(rollout=running(full(audience={"x": 1})))),
    "a fault in a stage to come": world(
        flag(rollout=running(full(), full(key="t", audience={"x": 1}), current=0))
    ),
    "a weight that cannot be read": world(
        flag(rollout=running(stage(weights=[Weight(rule={"x": 1}, weight=2)])))
    ),
    "no variant": world(flag(variants=[])),
    "two variants of one key": world(
        flag(variants=[Variant(key="a", value=True, share_ppm=PPM // 2)] * 2)
    ),
    "shares that do not add up": world(
        flag(variants=[Variant(key="a", value=True, share_ppm=PPM - 1)])
    ),
    "a value of another type": world(flag(variants=[Variant(key="on", value=1)])),
    "an off value of another type": world(
        flag(type=ValueType.STRING, variants=[Variant(key="on", value="x")])
    ),
    "true for a number": world(
        flag(type=ValueType.INTEGER, off_value=0, variants=[Variant(key="on", value=True)])
    ),
    "a payload JSON cannot carry": world(flag(payload={"x": float("nan")})),
    "two gates of one key": world(flag(gates=[gate({}), gate({})])),
    "a gate without a rule": world(flag(gates=[gate()])),
    "a gate with rule and region": world(flag(gates=[gate({}, region=policy())])),
    "a gate without a why": world(flag(gates=[gate({}, why="")])),
    "a gate that cannot be read": world(flag(gates=[gate({"x": 1})])),
    "a tier that cannot be read": world(flag(tiers=[Tier(key="t", rule={"x": 1})])),
    "a default class that is not there": world(region(default="none")),
    "a region of no class": world(region(regions={"440300": "none"})),
    "a region that is no code": world(region(regions={"深圳": "open"})),
    "a ceiling beyond everything": world(
        region(classes=[RegionClass(key="open", ceiling_ppm=PPM + 1)])
    ),
    "regions without the attribute": msgspec.structs.replace(world(region()), attributes=[]),
    "an empty slice": world(sliced("a", 5, 5)),
    "a slice beyond the end": world(sliced("a", 5, PPM + 1)),
    "slices that overlap": world(sliced("a", 0, 600_000), sliced("b", 599_999, PPM)),
    "a group of two salts": world(sliced("a", 0, 5), sliced("b", 5, 9, salt="t")),
    "a prerequisite that is not there": world(flag(prerequisites=[needs(flag="none")])),
    "a variant that is not there": world(
        flag("a", rollout=None), flag("b", prerequisites=[needs(flag="a", variants=["x"])])
    ),
    "a flag that needs itself": world(flag("a", prerequisites=[needs(flag="a")])),
    "prerequisites in a circle": world(
        flag("a", rollout=None, prerequisites=[needs(flag="b")]),
        flag("b", rollout=None, prerequisites=[needs(flag="a")]),
    ),
    "prerequisites that fan out": world(
        *[
            flag(
                f"f{level}",
                rollout=None,
                prerequisites=[needs(flag=f"f{level + 1}")] * (3 if level < 8 else 0),
            )
            for level in range(9)
        ]
    ),
    "an endless chain of prerequisites": world(
        *[
            flag(f"f{n}", rollout=None, prerequisites=[needs(flag=f"f{n + 1}")] if n < 3000 else [])
            for n in range(3001)
        ]
    ),
    "more gates than anybody means": world(flag(gates=[gate({}, key=f"g{n}") for n in range(101)])),
    "two cohorts of one key": world(cohorts=[Cohort(key="c"), Cohort(key="c")]),
    "a cohort that refers to itself": world(cohorts=[Cohort(key="c", rule={"cohort": "c"})]),
    "a cohort that refers to nothing": world(cohorts=[Cohort(key="c", rule={"cohort": "d"})]),
    "two attributes of one name": registry(whole("a"), whole("a", id=2)),
    "two attributes of one id": registry(whole("a"), whole("b")),
    "a range that is none": registry(whole("a", minimum=2, maximum=1)),
    "a bound that is no number": registry(whole("a", minimum=float("nan"))),
}


@pytest.mark.parametrize("poison", POISON.values(), ids=POISON)
def test_a_snapshot_that_contradicts_itself_is_refused_as_a_whole(poison: Snapshot):
    with pytest.raises((SnapshotError, RuleError)) as caught:
        compile_snapshot(poison)
    assert caught.value.path


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(Flag(key="f", version=1, gates=5), id="no list"),  # type: ignore[arg-type]
        pytest.param(Flag(key=["f"], version=1), id="no text"),  # type: ignore[arg-type]
        pytest.param(flag(rollout=Rollout(slot="0", salt="s", status=None, stages=None))),
    ],
)
def test_structs_of_the_wrong_types_are_refused_too(wrong: Flag):
    with pytest.raises(HuiduError):
        compile_snapshot(world(wrong))


def test_thresholds_may_fall_between_stages_for_different_people():
    staff = full(key="internal", audience={"var": "staff"})
    compile_snapshot(world(flag(rollout=running(staff, stage()))))


def test_a_stage_to_come_may_still_be_undrawn():
    compile_snapshot(world(flag(rollout=running(stage(), Stage(key="t", share_ppm=9), current=0))))


def test_an_unknown_flag_has_an_answer():
    answer = compile_snapshot(world()).check("nothing", User("u", {}))
    assert (answer.flag, answer.visible, answer.why, answer.reason) == (
        "nothing",
        False,
        "flag.unknown",
        "ERROR",
    )


class Broken(dict[str, Any]):
    def __getitem__(self, name: str) -> Any:
        raise RuntimeError("attributes broke")


def test_a_check_that_breaks_hides_the_product():
    compiled = compile_snapshot(gate_on({"var": "staff"}))
    answers = [
        compiled.check("f", User("u", Broken())),
        compiled.evaluate("f", "u", Broken()),
        compiled.explain("f", User("u", Broken())).answer,
        compiled.check("f", User("u", None)),  # type: ignore[arg-type]
        compiled.check("f", None),  # type: ignore[arg-type]
    ]
    for answer in answers:
        assert (answer.visible, answer.value, answer.why) == (False, False, "system.error")
        assert answer.reason == "ERROR"


@pytest.mark.parametrize("key", [None, 5, b"u", [], ""], ids=repr)
def test_whoever_has_no_key_has_no_identity(key):
    compiled = compile_snapshot(world(flag()))
    assert compiled.evaluate("f", key, {}).why == "identity.missing"


@pytest.mark.parametrize("flag_key", [None, 5, [], {}], ids=repr)
def test_a_flag_key_that_is_no_text_has_an_answer(flag_key):
    compiled = compile_snapshot(world(flag()))
    assert not compiled.evaluate(flag_key, "u", {}).visible


class Text(str):
    """What frameworks hand over as text."""

    __slots__ = ()


def test_subclasses_of_text_count_as_text():
    compiled = compile_snapshot(gate_on({"==": [{"var": "tier"}, "gold"]}))
    assert compiled.evaluate("f", Text("u"), {"tier": Text("gold")}).visible


def test_equal_answers_are_one_object():
    compiled = compile_snapshot(gate_on({"var": "staff"}))
    for staff in (True, False, None):
        first, second = (compiled.evaluate("f", key, {"staff": staff}) for key in ("u", "v"))
        assert first is second


def test_texts_from_a_snapshot_never_become_code():
    mischief = "'); __import__('os').abort() #\n\"\"\""
    snapshot = world(
        flag(
            mischief,
            gates=[gate({"==": [{"var": "tier"}, mischief]}, why=mischief)],
            block_list=frozenset({mischief}),
            rollout=running(full(key=mischief), salt=mischief),
        )
    )
    compiled = compile_snapshot(snapshot)
    source = "\n".join(FlagWriter(compiled.plan(mischief), {}).write().lines)
    assert "abort" not in source
    assert compiled.evaluate(mischief, "u", {"tier": mischief}).visible
    assert compiled.evaluate(mischief, mischief, {}).why == "blocked.list"


@pytest.mark.parametrize("region", ["410100", "000000", "4403", 440300, Text("440300"), [], None])
def test_a_refusal_by_region_says_whether_the_region_is_known(region):
    compiled = compile_snapshot(gate_on({"in": [{"var": "region"}, ["310000", "320500"]]}))
    known = isinstance(region, str) and len(region) == 6
    for _ in range(2):  # the second time the region has been met
        assert compiled.evaluate("f", "u", {"region": region}).why == (
            "refused" if known else "unknown"
        )
        told = compiled.explain("f", User("u", {"region": region}))
        assert told.answer == compiled.evaluate("f", "u", {"region": region})


def test_attributes_of_unreadable_sources_are_unknown():
    rules = [
        {">=": [{"var": "weekly_payments"}, 0]},
        {"var": "staff"},
        {"!=": [{"var": "tier"}, "gold"]},
        {"within": [{"var": "region"}, "440000"]},
        {"<": [{"var": "registered"}, "2026-01-01"]},
    ]
    facts = {
        "weekly_payments": 5,
        "staff": True,
        "tier": "base",
        "region": "440300",
        "registered": "2025-01-01",
    }
    for rule in rules:
        deaf = compile_snapshot(gate_on(rule), readable=frozenset({AttributeSource.CALLER}))
        user = User("u", facts)
        assert deaf.check("f", user).why == deaf.explain("f", user).answer.why == "unknown"
        assert compile_snapshot(gate_on(rule)).check("f", user).visible


@pytest.mark.parametrize("value", [float("inf"), -float("inf"), float("nan")])
@pytest.mark.parametrize("operator", ["<", ">", "!="])
def test_what_is_no_finite_number_is_unknown(value, operator):
    rule = {operator: [{"var": "risk"}, 0]}
    for written in (rule, {"!": rule}):
        assert compile_snapshot(gate_on(written)).evaluate("f", "u", {"risk": value}).why == (
            "unknown"
        )


def test_flags_at_the_limits_still_compile():
    rule = {"and": [{"or": [{"var": "staff"}, {"!": {"var": "staff"}}]}]}
    for _ in range(9):
        rule = {"and": [{"or": [rule, {"var": "staff"}]}]}
    variants = [Variant(key=f"v{n}", value=True, share_ppm=PPM // 100) for n in range(100)]
    big = flag(
        gates=[gate(rule, key=f"g{n}") for n in range(100)],
        tiers=[Tier(key=f"t{n}", rule=rule, payload={"n": n}) for n in range(100)],
        variants=variants,
    )
    compiled = compile_snapshot(world(big))
    assert compiled.evaluate("f", "u", {"staff": True}).payload == {"n": 0}


def test_odd_values_from_callers_do_not_fill_the_memory():
    rule = {"within": [{"var": "region"}, "440000"]}
    compiled = compile_snapshot(gate_on(rule))
    for number in range(5_000):
        compiled.evaluate("f", "u", {"region": f"{number:06d}"})
        compiled.evaluate("f", "u", {"region": f"44{number % 10_000:04d}"})
    leaf = next(iter(compiled.plan("f").gates[0].rule.leaves()))
    assert len(leaf.table) <= 1_024
    assert len(leaf.table.inside) <= 1_024
    assert compiled.evaluate("f", "u", {"region": "449999"}).visible
    assert not compiled.evaluate("f", "u", {"region": "450000"}).visible


def test_threads_may_ask_before_the_code_is_made():
    compiled = compile_snapshot(world(*[numbered(f"f{n}", n) for n in range(50)]))
    answers: list[bool] = []

    def ask() -> None:
        answers.extend(compiled.evaluate(f"f{n}", "u", {}).visible for n in range(50))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [True] * 200


def test_warming_makes_all_code_ahead():
    compiled = compile_snapshot(world(numbered("a", 1), numbered("b", 2)))
    compiled.warm(["a"])
    compiled.warm()
    assert compiled.evaluate("a", "u", {}).visible
    assert set(compiled.flags) == {"a", "b"}


@pytest.mark.parametrize("status", list(RolloutStatus))
def test_every_state_of_a_rollout_has_an_answer(status):
    answer = compile_snapshot(world(rolled(status=status))).evaluate("f", "u", {})
    open_states = {RolloutStatus.RUNNING, RolloutStatus.PAUSED, RolloutStatus.COMPLETED}
    assert answer.visible == (status in open_states)
