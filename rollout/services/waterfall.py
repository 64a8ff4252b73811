"""Of everybody known: who is refused first at which step, and who would gain by relaxing one.

The check itself counts. Each gate's refusals are given codes of their own, so that one pass tells
which gate refused first; those it refused are asked once more without it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import msgspec
from django.utils import timezone

from cohorts import mappers as who_mappers
from cohorts import selectors as who
from cohorts.population.people import refuse_too_many
from cohorts.services.audience import Ladder
from huidu import history, model, reasons
from huidu.engine import Compiled, compile_snapshot
from huidu.engine.rules import Reader
from huidu.errors import InputError
from rollout.services.answering import compiled_snapshot, snapshot_in_force

REPORT_EVERY: Final = 10_000
_MARK: Final = "waterfall.gate"


@dataclass
class Step:
    """Users refused first here. `gained`: how many of them would be shown without this gate."""

    kind: str
    key: str
    why: str
    refused: int = 0
    gained: int | None = None


@dataclass
class Share:
    """How many of a group are shown."""

    users: int = 0
    shown: int = 0

    @property
    def part(self) -> float:
        """Between 0 and 1; 0 for an empty group."""
        return self.shown / self.users if self.users else 0.0


@dataclass
class Waterfall:
    """The count. `steps` in the order of the check, those before the gates by their codes."""

    flag: str
    sequence: int
    users: int = 0
    shown: int = 0
    steps: list[Step] = field(default_factory=list)
    regions: dict[str, Share] = field(default_factory=dict)
    tiers: dict[str, Share] = field(default_factory=dict)
    weights: dict[str, Share] = field(default_factory=dict)
    """By the weight in the draw, which is the weight class users are compared in."""
    stage: str = ""


def count(
    environment: str, flag_key: str, *, progress: Callable[[int], None] = lambda users: None
) -> Waterfall:
    """Count every known user by what is published now; reads every profile once.

    Args:
        progress: told how many users were read, now and then.
    Raises:
        InputError: nothing was published yet, or no such flag.
        StateError: there are too many users to count in one go.
    """
    compiled, _ = compiled_snapshot(environment, snapshot_in_force(environment))
    if flag_key not in compiled.flags:
        raise InputError(
            f"expected a published flag, got {flag_key[:100]!r}", path="flag", code="not_found"
        )
    refuse_too_many()
    flag = compiled.flags[flag_key]
    marked = _with_flag(compiled, _marked(flag))
    relaxed = [_with_flag(compiled, _without(flag, index)) for index in range(len(flag.gates))]
    tier_of = _tiers(compiled, flag)
    found = Waterfall(flag_key, compiled.snapshot.sequence)
    slot = flag.rollout.slot if flag.rollout is not None else None
    if flag.rollout is not None and flag.rollout.current >= 0:
        found.stage = flag.rollout.stages[flag.rollout.current].key
    first: Counter[str] = Counter()
    gained: Counter[int] = Counter()
    codes = {f"{_MARK}{index}": index for index in range(len(flag.gates))}
    ceilings = [index for index, gate in enumerate(flag.gates) if gate.region is not None]
    today = who.day_of(timezone.now())
    by_day = history.NAME in compiled.reads([flag_key])
    for user in who.every_user(today, who_mappers.registry(), by_day=by_day):
        answer = marked.check(flag_key, user)
        found.users += 1
        region = user.attributes.get("region") or ""
        groups = (
            found.regions.setdefault(region, Share()),
            found.tiers.setdefault(tier_of(user), Share()),
            found.weights.setdefault(str(_weight(user, slot)), Share()),
        )
        for group in groups:
            group.users += 1
            group.shown += answer.visible
        if answer.visible:
            found.shown += 1
        else:
            first[answer.why] += 1
            index = codes.get(answer.why)
            if index is None and answer.why == reasons.REGION_CEILING and len(ceilings) == 1:
                index = ceilings[0]
            if index is not None and relaxed[index].check(flag_key, user).visible:
                gained[index] += 1
        if found.users % REPORT_EVERY == 0:
            progress(found.users)
    found.steps = _steps(flag, first, gained)
    found.regions = dict(sorted(found.regions.items(), key=lambda each: -each[1].users))
    found.weights = dict(sorted(found.weights.items(), key=lambda each: int(each[0])))
    order = [tier.key for tier in flag.tiers] + [""]
    found.tiers = dict(sorted(found.tiers.items(), key=lambda each: order.index(each[0])))
    return found


def _weight(user: model.User, slot: int | None) -> int:
    admission = user.admissions.get(slot) if slot is not None else None
    return admission.weight if admission is not None else 1


def _steps(flag: model.Flag, first: Counter[str], gained: Counter[int]) -> list[Step]:
    before: list[Step] = []
    gates: list[Step] = []
    after: list[Step] = []
    early = {
        reasons.KILLED,
        reasons.IDENTITY_MISSING,
        reasons.BLOCKED_LIST,
        reasons.FLAG_DISABLED,
        *(each.why for each in flag.prerequisites),
        *([flag.exclusion.why] if flag.exclusion else []),
    }
    for index, gate in enumerate(flag.gates):
        refused = first.pop(f"{_MARK}{index}", 0)
        if gate.region is not None:
            refused += first.pop(reasons.REGION_CEILING, 0)
        gates.append(Step("gate", gate.key, gate.why, refused, gained[index]))
    for why, refused in sorted(first.items()):
        (before if why in early else after).append(Step("code", why, why, refused))
    return before + gates + after


def _marked(flag: model.Flag) -> model.Flag:
    gates = [
        msgspec.structs.replace(gate, why=f"{_MARK}{index}", unknown_why=f"{_MARK}{index}")
        for index, gate in enumerate(flag.gates)
    ]
    return msgspec.structs.replace(flag, gates=gates)


def _without(flag: model.Flag, index: int) -> model.Flag:
    return msgspec.structs.replace(flag, gates=flag.gates[:index] + flag.gates[index + 1 :])


def _with_flag(compiled: Compiled, flag: model.Flag) -> Compiled:
    flags = [flag if each.key == flag.key else each for each in compiled.snapshot.flags]
    return compile_snapshot(msgspec.structs.replace(compiled.snapshot, flags=flags))


def _tiers(compiled: Compiled, flag: model.Flag) -> Callable[[model.User], str]:
    snapshot = compiled.snapshot
    reader = Reader(
        {each.name: each for each in snapshot.attributes},
        {each.key: each for each in snapshot.cohorts},
    )
    return Ladder(reader, [(tier.key, tier.rule) for tier in flag.tiers]).rung


CSV_HEAD: Final = ("table", "key", "why", "users", "refused_or_shown", "gained_or_share")


def csv_rows(found: Waterfall) -> list[tuple[str, ...]]:
    """The tables as rows of one CSV file, safe to open in a spreadsheet."""
    rows: list[tuple[object, ...]] = [CSV_HEAD, ("all", found.flag, "", found.users, found.shown)]
    rows += [
        ("first_refusal", each.key, each.why, found.users, each.refused, each.gained)
        for each in found.steps
    ]
    for table, groups in (
        ("region", found.regions),
        ("tier", found.tiers),
        ("weight", found.weights),
    ):
        rows += [
            (table, key, "", each.users, each.shown, f"{each.part:.6f}")
            for key, each in groups.items()
        ]
    width = len(CSV_HEAD)
    return [tuple(harmless(each) for each in (*row, *[""] * (width - len(row)))) for row in rows]


def harmless(value: object) -> str:
    """A cell's text that no spreadsheet takes for a formula."""
    text = "" if value is None else str(value)
    risky = text.lstrip().startswith(("=", "+", "-", "@")) or text.startswith(("\t", "\r", "\n"))
    return f"'{text}" if risky else text
