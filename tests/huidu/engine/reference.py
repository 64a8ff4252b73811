"""The order of one check, written down a second time: slowly, plainly, and by itself.

It shares no code with the engine but the hash. Where the two differ, one of them is wrong.
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Mapping
from typing import Any

import msgspec
import xxhash

from huidu.model import Answer, Attribute, AttributeType, Flag, Snapshot, Stage, User

TWO_64 = 2**64


def bucket(salt: str, key: str) -> int:
    salt_bytes = salt.encode("utf-8", "surrogatepass")
    prefix = b"huidu bucket 1\x00" + len(salt_bytes).to_bytes(8, "little")
    seed = xxhash.xxh3_64(prefix + salt_bytes).intdigest()
    return xxhash.xxh3_64(key.encode("utf-8", "surrogatepass"), seed=seed).intdigest()


class Rules:
    """Three-valued truth of a rule as it was written."""

    def __init__(self, snapshot: Snapshot, user: User) -> None:
        self.attributes = {each.name: each for each in snapshot.attributes}
        self.cohorts = {each.key: each for each in snapshot.cohorts}
        self.user = user

    def truth(self, rule: Mapping[str, Any]) -> bool | None:
        if not rule:
            return True
        ((operator, args),) = rule.items()
        if operator == "and":
            truths = [self.truth(each) for each in args]
            return False if False in truths else (None if None in truths else True)
        if operator == "or":
            truths = [self.truth(each) for each in args]
            return True if True in truths else (None if None in truths else False)
        if operator == "!":
            truth = self.truth(args[0] if isinstance(args, list) else args)
            return None if truth is None else not truth
        if operator == "cohort":
            cohort = self.cohorts[args]
            if self.user.key in cohort.exclude:
                return False
            return True if self.user.key in cohort.include else self.truth(cohort.rule)
        if operator == "var":
            return self.value(args)
        if operator == "in" and isinstance(args[1], dict):
            value = self.value(args[1]["var"])
            return None if value is None else args[0] in value
        if len(args) == 3 and operator in ("<", "<="):
            low, value, high = args[0], self.value(args[1]["var"]), args[2]
            if value is None:
                return None
            low, high = self.constant(args[1], low), self.constant(args[1], high)
            return low < value < high if operator == "<" else low <= value <= high
        if not isinstance(args[0], dict):
            operator = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}.get(operator, operator)
            args = [args[1], args[0]]
        value = self.value(args[0]["var"])
        if value is None:
            return None
        if operator == "hysteresis":
            return self.hysteresis(value, *args[1:])
        if operator == "sem_ver":
            return self.sem_ver(value, args[1], version(args[2]))
        if operator == "within":
            codes = args[1] if isinstance(args[1], list) else [args[1]]
            return any(c in codes for c in (value, value[:4] + "00", value[:2] + "0000"))
        if operator == "in":
            return value in [self.constant(args[0], each) for each in args[1]]
        if operator == "starts_with":
            return value[: len(args[1])] == args[1]
        if operator == "between":
            return self.constant(args[0], args[1]) <= value <= self.constant(args[0], args[2])
        wanted = self.constant(args[0], args[1])
        return {
            "==": lambda: value == wanted,
            "!=": lambda: value != wanted,
            "<": lambda: value < wanted,
            "<=": lambda: value <= wanted,
            ">": lambda: value > wanted,
            ">=": lambda: value >= wanted,
        }[operator]()

    def hysteresis(self, today: float, enter: int, leave: int) -> bool | None:
        """From the oldest day that is known on: in above one line, out below the other."""
        paid = self.user.attributes.get("weekly_payments.days")
        if paid is None:
            return None if leave <= today <= enter else today > enter
        counts = list(paid.days())
        inside = False
        for ago in range(23, -1, -1):
            weekly = sum(counts[ago : ago + 7]) if ago else today
            if weekly > enter:
                inside = True
            elif weekly < leave:
                inside = False
        return inside

    def sem_ver(self, value: Any, how: str, wanted: Any) -> bool:
        match how:
            case "=":
                return value == wanted
            case "!=":
                return value != wanted
            case "<":
                return value < wanted
            case "<=":
                return value <= wanted
            case ">":
                return value > wanted
            case ">=":
                return value >= wanted
            case "~":
                return value[:2] == wanted[:2]
            case "^":
                return value[0] == wanted[0]
        raise AssertionError(how)

    def constant(self, operand: dict[str, str], written: Any) -> Any:
        if self.attributes[operand["var"]].type is AttributeType.DATE:
            return datetime.date.fromisoformat(written)
        return written

    def value(self, name: str) -> Any:
        """The value if it is known, else None."""
        return known(self.attributes[name], self.user.attributes.get(name))


def known(attribute: Attribute, value: Any) -> Any:
    match attribute.type:
        case AttributeType.INTEGER:
            if isinstance(value, bool) or not isinstance(value, int | float):
                return None
            if isinstance(value, float) and (not math.isfinite(value) or value % 1):
                return None
            return in_range(attribute, value)
        case AttributeType.NUMBER:
            if isinstance(value, bool) or not isinstance(value, int | float):
                return None
            return in_range(attribute, value) if math.isfinite(value) else None
        case AttributeType.BOOLEAN:
            return value if isinstance(value, bool) else None
        case AttributeType.STRING:
            return value if isinstance(value, str) else None
        case AttributeType.REGION:
            fits = isinstance(value, str) and re.fullmatch("[0-9]{6}", value)
            return value if fits else None
        case AttributeType.DATE:
            if not isinstance(value, str) or not re.fullmatch(r"\d{4}-\d\d-\d\d", value, re.A):
                return None
            try:
                return datetime.date.fromisoformat(value)
            except ValueError:
                return None
        case AttributeType.SEM_VER:
            return version(value)
        case AttributeType.STRINGS:
            fits = isinstance(value, list) and all(isinstance(each, str) for each in value)
            return value if fits else None
    raise AssertionError(attribute.type)


def in_range(attribute: Attribute, value: float) -> float | None:
    low = -math.inf if attribute.minimum is None else attribute.minimum
    high = math.inf if attribute.maximum is None else attribute.maximum
    return value if low <= value <= high else None


def version(value: Any) -> Any:
    """Major, minor, patch, is a release, and the identifiers of a pre-release."""
    if not isinstance(value, str):
        return None
    text = value.removeprefix("v").split("+")[0]
    core, dash, pre = text.partition("-")
    numbers = core.split(".")
    if not 1 <= len(numbers) <= 3 or not all(re.fullmatch("[0-9]{1,18}", n) for n in numbers):
        return None
    if dash and not all(re.fullmatch("[0-9A-Za-z-]+", part) for part in pre.split(".")):
        return None
    major, minor, patch = [*map(int, numbers), 0, 0][:3]
    identifiers = [
        (0, int(part), "") if part.isdigit() else (1, 0, part) for part in pre.split(".")
    ]
    return (major, minor, patch, not dash, identifiers if dash else [])


def check(snapshot: Snapshot, flag_key: str, user: User) -> Answer:
    """One check, step by step."""
    flags = {each.key: each for each in snapshot.flags}
    if flag_key not in flags:
        return Answer(
            flag=flag_key,
            visible=False,
            value=None,
            variant=None,
            reason="ERROR",
            why="flag.unknown",
            stage=None,
            payload={},
            flag_version=0,
        )
    flag = flags[flag_key]
    rules = Rules(snapshot, user)
    rollout = flag.rollout
    status = rollout.status.value if rollout else "none"
    opened: list[Stage] = []
    if rollout and status in ("running", "paused", "completed"):
        opened = rollout.stages[: rollout.current + 1]

    def no(why: str, reason: str = "TARGETING_MATCH") -> Answer:
        return Answer(
            flag=flag.key,
            visible=False,
            value=flag.off_value,
            variant=flag.off_variant,
            reason=reason,
            why=why,
            stage=opened[-1].key if opened else None,
            payload={},
            flag_version=flag.version,
        )

    if flag.killed or status == "killed":
        return no("killed", "DISABLED")
    if user.key == "":
        return no("identity.missing", "ERROR")
    if user.key in flag.block_list or user.lists & set(flag.block_lists):
        return no("blocked.list")
    if not flag.enabled:
        return no("flag.disabled", "DISABLED")
    allowed = user.key in flag.allow_list or bool(user.lists & set(flag.allow_lists))
    for needed in flag.prerequisites:
        other = check(snapshot, needed.flag, user)
        if not other.visible or (needed.variants and other.variant not in needed.variants):
            return no(needed.why)
    if flag.exclusion is not None:
        place = bucket("exclusion:" + flag.exclusion.salt, user.key)
        low, high = (p * TWO_64 // 10**6 for p in (flag.exclusion.from_ppm, flag.exclusion.to_ppm))
        if not low <= place < high:
            return no(flag.exclusion.why, "SPLIT")

    admission = user.admissions.get(rollout.slot) if rollout and rollout.sticky else None
    admitted = admission is not None and admission.admitted
    rank_of = bucket(rollout.salt, user.key) if rollout else None

    def weight(stage: Stage | None) -> int:
        if rollout and rollout.sticky:
            return admission.weight if admission is not None and admission.weight else 1
        for each in stage.weights if stage else []:
            if rules.truth(each.rule) is True:
                return each.weight
        return 1

    region_payloads = []
    for gate in flag.gates:
        if gate.capacity is not None:
            continue
        excused = (admitted and gate.keeps_shown) or (allowed and not gate.absolute)
        if gate.rule is not None:
            truth = rules.truth(gate.rule)
            if truth is not True and not excused:
                return no(gate.why if truth is False else gate.unknown_why)
            continue
        assert gate.region is not None
        classes = {each.key: each for each in gate.region.classes}
        region = rules.value("region")
        key = gate.region.default
        for code in reversed([region, region[:4] + "00", region[:2] + "0000"] if region else []):
            key = gate.region.regions.get(code, key)
        region_payloads.append(classes[key].payload)
        if excused:
            continue
        if region is None:
            return no(gate.unknown_why)
        if classes[key].ceiling_ppm == 0:
            return no(gate.why)
        ceiling = classes[key].ceiling_ppm * TWO_64 // 10**6
        if rank_of is not None and rank_of >= ceiling * weight(opened[-1] if opened else None):
            return no("region.ceiling")

    if status == "rolled_back":
        return no("stage.rolled_back", "DISABLED")
    if not opened:
        return no("stage.not_started", "DEFAULT")
    assert rank_of is not None
    admitting: Stage | None = opened[-1] if allowed or admitted else None
    for stage in reversed(opened):
        fits = rules.truth(stage.audience) is True
        if admitting is None and fits and rank_of < stage.threshold * weight(stage):
            admitting = stage
    if admitting is None:
        truth = rules.truth(opened[-1].audience)
        if truth is True:
            return no(opened[-1].not_drawn_why, "SPLIT")
        return no("data.missing" if truth is None else opened[-1].audience_why)
    answer = yes(flag, admitting, rules, user.key, allowed, region_payloads)
    for gate in flag.gates:
        if gate.capacity is None:
            continue
        place = user.admissions.get(32_768 + rollout.slot) if rollout else None
        if place is not None:
            giver = [each.key for each in gate.capacity.partners if each.number == place.weight - 1]
            told = {"funding_partner": giver[0]} if giver else {}
            return msgspec.structs.replace(answer, payload=answer.payload | told)
        if allowed and not gate.absolute:
            return answer
        region = rules.value("region")
        if region is None:
            return no(gate.unknown_why)
        codes = {region, region[:4] + "00", region[:2] + "0000"}
        if not any(
            each.is_open and (each.everywhere or codes & each.regions)
            for each in gate.capacity.partners
        ):
            return no(gate.why)
        return no("funding.not_reserved", "ERROR")
    return answer


def yes(
    flag: Flag,
    stage: Stage,
    rules: Rules,
    key: str,
    allowed: bool,
    region_payloads: list[dict[str, Any]],
) -> Answer:
    payload = dict(flag.payload) | stage.payload
    for tier in flag.tiers:
        if rules.truth(tier.rule) is True:
            payload |= tier.payload
            break
    place, upto, dealt = bucket("variants:" + (flag.salt or flag.key), key), 0, flag.variants[-1]
    for variant in flag.variants:
        upto += variant.share_ppm
        if place < upto * TWO_64 // 10**6:
            dealt = variant
            break
    payload |= dealt.payload
    for each in region_payloads:
        payload |= each
    reason = "SPLIT" if stage.threshold < TWO_64 and not allowed else "TARGETING_MATCH"
    return Answer(
        flag=flag.key,
        visible=True,
        value=dealt.value,
        variant=dealt.key,
        reason=reason,
        why="allowed.list" if allowed else "shown",
        stage=stage.key,
        payload=payload,
        flag_version=flag.version,
    )
