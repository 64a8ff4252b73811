"""Hypothesis strategies: sound snapshots of every shape, and users who fit them more or less."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from huidu import history
from huidu.model import (
    FULL_THRESHOLD,
    PPM,
    Admission,
    Attribute,
    AttributeType,
    Capacity,
    Cohort,
    Exclusion,
    Flag,
    Gate,
    Partner,
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
    place_of,
    place_slot,
)
from huidu.wire import ring

ATTRIBUTES = [
    Attribute(id=1, name="weekly_payments", type=AttributeType.INTEGER, minimum=0, maximum=500),
    Attribute(id=2, name="friends", type=AttributeType.INTEGER),
    Attribute(id=3, name="yearly_spend", type=AttributeType.NUMBER, minimum=0),
    Attribute(id=4, name="risk", type=AttributeType.NUMBER),
    Attribute(id=5, name="tier", type=AttributeType.STRING),
    Attribute(id=6, name="staff", type=AttributeType.BOOLEAN),
    Attribute(id=7, name="registered", type=AttributeType.DATE),
    Attribute(id=8, name="region", type=AttributeType.REGION),
    Attribute(id=9, name="app_version", type=AttributeType.SEM_VER),
    Attribute(id=10, name="tags", type=AttributeType.STRINGS),
]

KEYS = ["u1", "u2", "u3", "openid-42", "用户"]
CODES = ["440305", "440300", "440000", "310000", "410100", "540100", "540000"]

_wholes = st.integers(0, 12)
_numbers = st.one_of(st.integers(0, 5), st.sampled_from([0.0, 0.5, 2.5, 1e9]))
_texts = st.sampled_from(["gold", "silver", "go", "", "金"])
_days = st.sampled_from(["2025-12-31", "2026-01-01", "2026-01-02", "2024-02-29"])
_codes = st.sampled_from(CODES)
_versions = st.sampled_from(
    ["8.0.30", "8.0.4", "8.1", "9", "8.0.30-rc.1", "8.0.30-rc.10", "8.0.30-beta", "v8.0.30+b"]
)

GOOD: dict[str, st.SearchStrategy[Any]] = {
    "weekly_payments": _wholes,
    "friends": st.integers(-3, 3),
    "yearly_spend": _numbers,
    "risk": _numbers,
    "tier": _texts,
    "staff": st.booleans(),
    "registered": _days,
    "region": _codes,
    "app_version": _versions,
    "tags": _texts,
}

_odd_numbers: list[Any] = [-1, 3.0, 3.5, 501, float("nan"), float("inf"), -float("inf")]
_odd_texts: list[Any] = ["", "x", "44030", "44030x", "2026-13-01", "20260101", "8..1"]
ODD = st.sampled_from(
    [None, True, False, *_odd_numbers, *_odd_texts, [], ["gold"], [1], {}, b"8"],
)

_ORDERED = ["weekly_payments", "friends", "yearly_spend", "risk", "registered"]
_EQUAL = [*_ORDERED, "tier", "region", "staff"]
_LISTED = [*_ORDERED, "tier", "region"]


@st.composite
def leaves(draw: st.DrawFn, cohorts: tuple[str, ...] = ()) -> dict[str, Any]:
    """One claim."""
    kinds = ["order", "equal", "between", "chain", "in", "holds", "starts", "version", "within"]
    more = ["flag", "always", "hysteresis", *(["cohort"] * 3 if cohorts else [])]
    kind = draw(st.sampled_from([*kinds, *more]))
    if kind == "hysteresis":
        leave = draw(st.integers(1, 12))
        return {"hysteresis": [{"var": "weekly_payments"}, leave + draw(st.integers(1, 9)), leave]}
    if kind == "always":
        return {}
    if kind == "cohort":
        return {"cohort": draw(st.sampled_from(cohorts))}
    if kind == "flag":
        return {"var": "staff"}
    if kind == "starts":
        return {"starts_with": [{"var": "tier"}, draw(_texts)]}
    if kind == "holds":
        return {"in": [draw(_texts), {"var": draw(st.sampled_from(["tags", "tier"]))}]}
    if kind == "version":
        how = draw(st.sampled_from(["=", "!=", "<", "<=", ">", ">=", "~", "^"]))
        return {"sem_ver": [{"var": "app_version"}, how, draw(_versions)]}
    if kind == "within":
        codes = draw(st.one_of(_codes, st.lists(_codes, min_size=1, max_size=3)))
        return {"within": [{"var": "region"}, codes]}
    names = {"equal": _EQUAL, "in": _LISTED}.get(kind, _ORDERED)
    name = draw(st.sampled_from(names))
    values = GOOD[name]
    if kind == "in":
        return {"in": [{"var": name}, draw(st.lists(values, min_size=1, max_size=3))]}
    if kind in ("between", "chain"):
        low, high = sorted([draw(values), draw(values)])
        if kind == "between":
            return {"between": [{"var": name}, low, high]}
        return {draw(st.sampled_from(["<", "<="])): [low, {"var": name}, high]}
    symbols = ["==", "!="] if kind == "equal" else ["<", "<=", ">", ">="]
    operands = [{"var": name}, draw(values)]
    if draw(st.booleans()):
        operands.reverse()
    return {draw(st.sampled_from(symbols)): operands}


def rules(cohorts: tuple[str, ...] = ()) -> st.SearchStrategy[dict[str, Any]]:
    """Rules of some depth."""
    return st.recursive(
        leaves(cohorts),
        lambda inner: st.one_of(
            st.lists(inner, min_size=1, max_size=3).map(lambda each: {"and": each}),
            st.lists(inner, min_size=1, max_size=3).map(lambda each: {"or": each}),
            inner.map(lambda each: {"!": each}),
        ),
        max_leaves=5,
    )


_keys = st.frozensets(st.sampled_from(KEYS), max_size=2)
_shares = st.sampled_from([0, 1, 50_000, 400_000, 500_000, 999_999, PPM])
_payloads = st.dictionaries(st.sampled_from(["cap", "limit", "note"]), _wholes, max_size=2)


@st.composite
def policies(draw: st.DrawFn) -> RegionPolicy:
    names = ["open", "restricted", "closed"]
    return RegionPolicy(
        classes=[
            RegionClass(key=name, ceiling_ppm=draw(_shares), payload=draw(_payloads))
            for name in names
        ],
        regions=draw(st.dictionaries(_codes, st.sampled_from(names), max_size=4)),
        default=draw(st.sampled_from(names)),
    )


@st.composite
def gates(draw: st.DrawFn, key: str, cohorts: tuple[str, ...]) -> Gate:
    by_region = draw(st.booleans())
    return Gate(
        key=key,
        dimension="region" if by_region else "activity",
        why=f"{key}.refused",
        unknown_why=draw(st.sampled_from(["data.missing", f"{key}.refused"])),
        rule=None if by_region else draw(rules(cohorts)),
        region=draw(policies()) if by_region else None,
        absolute=draw(st.booleans()),
        keeps_shown=draw(st.booleans()),
    )


@st.composite
def capacity_gates(draw: st.DrawFn) -> Gate:
    partners = [
        Partner(
            number=number,
            key=f"bank-{number}",
            everywhere=draw(st.booleans()),
            regions=draw(st.frozensets(_codes, max_size=2)),
            is_open=draw(st.sampled_from([True, True, False])),
        )
        for number in range(1, draw(st.integers(1, 3)))
    ]
    return Gate(
        key="places",
        dimension="funding",
        why="funding.no_capacity",
        capacity=Capacity(partners=partners),
        absolute=draw(st.booleans()),
    )


@st.composite
def rollouts(draw: st.DrawFn, slot: int, cohorts: tuple[str, ...]) -> Rollout:
    audiences = [*draw(st.lists(rules(cohorts), min_size=1, max_size=2)), {}]
    reached: dict[str, int] = {}
    stages = []
    for index in range(draw(st.integers(0, 4))):
        audience = draw(st.sampled_from(audiences))
        share = max(draw(_shares), reached.get(repr(audience), 0))
        reached[repr(audience)] = share
        weights = draw(
            st.lists(st.builds(Weight, rule=rules(cohorts), weight=st.integers(1, 4)), max_size=2)
        )
        stages.append(
            Stage(
                key=f"s{index}",
                audience=audience,
                audience_why=f"s{index}.not_for_you",
                share_ppm=share,
                threshold=share * FULL_THRESHOLD // PPM,
                weights=weights,
                payload=draw(_payloads),
            )
        )
    running = [RolloutStatus.RUNNING] * 6
    return Rollout(
        slot=slot,
        salt=draw(st.sampled_from(["a", "b", "盐"])),
        status=draw(st.sampled_from([*running, *RolloutStatus])),
        stages=stages,
        current=draw(st.integers(min(0, len(stages) - 1), len(stages) - 1)),
        sticky=draw(st.booleans()),
    )


@st.composite
def flags(draw: st.DrawFn, key: str, slot: int, cohorts: tuple[str, ...], others: int) -> Flag:
    """A flag whose prerequisites are among the flags f0 .. f(others - 1)."""
    cut = draw(_shares)
    variants = [Variant(key="on", value="on", payload=draw(_payloads))]
    if draw(st.booleans()):
        variants = [
            Variant(key="a", value="A", share_ppm=cut, payload=draw(_payloads)),
            Variant(key="b", value="B", share_ppm=PPM - cut, payload=draw(_payloads)),
        ]
    numbers = st.lists(st.integers(1, 3), max_size=1)
    needed = st.sampled_from([f"f{index}" for index in range(others)]) if others else st.nothing()
    seldom = st.sampled_from([True] + [False] * 12)
    return Flag(
        key=key,
        version=draw(st.integers(1, 3)),
        type=ValueType.STRING,
        variants=variants,
        off_value="off",
        enabled=not draw(seldom),
        killed=draw(seldom),
        salt=draw(st.sampled_from(["", "a"])),
        block_list=draw(st.one_of(st.just(frozenset()), _keys)),
        allow_list=draw(_keys),
        block_lists=draw(numbers),
        allow_lists=draw(numbers),
        prerequisites=draw(
            st.lists(
                st.builds(
                    Prerequisite,
                    flag=needed,
                    variants=st.just([]),
                    why=st.just("needs.other"),
                ),
                max_size=1 if others else 0,
            )
        ),
        exclusion=draw(
            st.one_of(
                st.none(),
                st.builds(
                    Exclusion,
                    group=st.just(f"group-{key}"),
                    salt=st.just("a"),
                    from_ppm=st.sampled_from([0, 1]),
                    to_ppm=st.sampled_from([500_000, PPM]),
                ),
            )
        ),
        gates=[
            *draw(st.lists(capacity_gates(), max_size=1)),
            *(draw(gates(f"g{index}", cohorts)) for index in range(draw(st.integers(0, 3)))),
        ],
        tiers=[
            Tier(key=f"t{index}", rule=draw(rules(cohorts)), payload=draw(_payloads))
            for index in range(draw(st.integers(0, 2)))
        ],
        rollout=draw(st.one_of(*[rollouts(slot, cohorts)] * 5, st.none())),
        payload=draw(_payloads),
    )


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    """A sound snapshot of one to three flags and up to three cohorts."""
    cohorts: list[Cohort] = []
    for index in range(draw(st.integers(0, 3))):
        known = tuple(each.key for each in cohorts)
        cohorts.append(
            Cohort(
                key=f"c{index}", rule=draw(rules(known)), include=draw(_keys), exclude=draw(_keys)
            )
        )
    names = tuple(each.key for each in cohorts)
    count = draw(st.integers(1, 3))
    return Snapshot(
        environment="test",
        sequence=1,
        published_at="2026-01-01T00:00:00Z",
        attributes=ATTRIBUTES,
        cohorts=cohorts,
        flags=[draw(flags(f"f{index}", index, names, index)) for index in range(count)],
    )


@st.composite
def paid_days(draw: st.DrawFn) -> history.Paid:
    """A month of payments, in stretches of more and of fewer."""
    counts: list[int] = []
    while len(counts) < ring.DAYS:
        counts += [draw(st.sampled_from([0, 0, 1, 2, 3, 4]))] * draw(st.integers(1, 9))
    return history.Paid(ring.pack(counts[: ring.DAYS]), draw(st.integers(-9, 1)))


@st.composite
def users(draw: st.DrawFn) -> User:
    """A user with some attributes good, some odd, some missing."""
    attributes: dict[str, Any] = {}
    for name, good in GOOD.items():
        kind = draw(st.sampled_from(["good"] * 6 + ["odd", "missing"]))
        if kind == "good":
            attributes[name] = draw(st.lists(_texts, max_size=2) if name == "tags" else good)
        elif kind == "odd":
            attributes[name] = draw(ODD)
    if draw(st.booleans()):
        attributes[history.NAME] = draw(paid_days())
    return User(
        key=draw(st.sampled_from([*KEYS, *KEYS, "", "\ud800"])),
        attributes=attributes,
        admissions=draw(
            st.dictionaries(
                st.integers(0, 2),
                st.builds(Admission, weight=st.integers(0, 4), admitted=st.booleans()),
                max_size=3,
            )
        )
        | draw(
            st.dictionaries(
                st.integers(0, 2).map(place_slot), st.integers(0, 3).map(place_of), max_size=2
            )
        ),
        lists=draw(st.frozensets(st.integers(1, 3), max_size=1)),
    )
