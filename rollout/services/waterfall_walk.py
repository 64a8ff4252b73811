"""The waterfall counted by the check itself, user by user: as everybody is now, and for rules that
no SQL can say.

Each gate's refusals are given codes of their own, so that one pass tells which gate refused first;
those it refused are asked once more without it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

import msgspec
from django.utils import timezone

from cohorts import mappers as who_mappers
from cohorts import selectors as who
from cohorts.population.flags import Step
from cohorts.population.waterfall import REGION, Cell
from cohorts.services.audience import Ladder
from huidu import history, model, reasons
from huidu.engine import Compiled
from huidu.engine.plan import Opening
from rollout.services.effects import reader_of, with_flag

REPORT_EVERY: Final = 10_000
_MARK: Final = "waterfall.gate"


def walk(
    compiled: Compiled, flag_key: str, progress: Callable[[int], None]
) -> tuple[list[Step], Counter[Cell]]:
    """What `cohorts.population.waterfall.count` tells, of the users as they are at this moment.

    Args:
        progress: told how many users were read, now and then.
    """
    flag = compiled.flags[flag_key]
    steps = _steps(compiled, flag)
    places = {step.why: place for place, step in enumerate(steps) if step.kind == "code"}
    by_gate = {step.key: place for place, step in enumerate(steps) if step.kind == "gate"}
    marked = _marked(flag)
    asked = with_flag(compiled, marked)
    gates = [(at, gate) for at, gate in enumerate(flag.gates) if gate.key in by_gate]
    by_mark = {_mark(at): by_gate[gate.key] for at, gate in gates}
    bounded = [by_gate[gate.key] for _, gate in gates if gate.region is not None]
    if len(bounded) == 1:
        by_mark[reasons.REGION_CEILING] = bounded[0]
    lasting = {mark for mark, place in by_mark.items() if steps[place].lasting}
    relaxed = {by_gate[gate.key]: with_flag(compiled, _without(marked, at)) for at, gate in gates}
    ladder = _ladder(compiled, flag)
    tiers = {tier.key: index for index, tier in enumerate(flag.tiers)}
    slot = flag.rollout.slot if flag.rollout is not None else None
    today = who.day_of(timezone.now())
    by_day = history.NAME in compiled.reads([flag_key])
    cells: Counter[Cell] = Counter()
    for number, user in enumerate(
        who.every_user(today, who_mappers.registry(), by_day=by_day), start=1
    ):
        first, only, only_gate = -1, False, False
        answer = asked.check(flag_key, user)
        if not answer.visible:
            place = by_mark.get(answer.why)
            if place is None:
                if answer.why not in places:
                    places[answer.why] = len(steps)
                    steps.append(Step("code", answer.why, answer.why, (), lasting=False))
                first = places[answer.why]
            else:
                first = place
                without = relaxed[place].check(flag_key, user)
                only = without.visible
                only_gate = steps[place].lasting and (only or without.why not in lasting)
        admission = user.admissions.get(slot) if slot is not None else None
        cell = Cell(
            user.attributes.get(REGION) or "",
            tiers.get(ladder.rung(user), -1),
            1 if admission is None else max(admission.weight, 1),
            first,
            only,
            only_gate,
        )
        cells[cell] += 1
        if number % REPORT_EVERY == 0:
            progress(number)
    return steps, cells


def _steps(compiled: Compiled, flag: model.Flag) -> list[Step]:
    """In the order of the check; refusals by codes that are not named here come last."""
    early = [
        reasons.KILLED,
        reasons.IDENTITY_MISSING,
        reasons.BLOCKED_LIST,
        reasons.FLAG_DISABLED,
        *(each.why for each in flag.prerequisites),
        *([flag.exclusion.why] if flag.exclusion else []),
    ]
    plan = compiled.plan(flag.key)
    if plan.opening is Opening.KILLED or not flag.enabled:
        return [Step("code", why, why, ()) for why in dict.fromkeys(early)]
    late = [reasons.STAGE_ROLLED_BACK, reasons.STAGE_NOT_STARTED]
    for stage in flag.rollout.stages if flag.rollout is not None else []:
        late += [stage.audience_why, stage.not_drawn_why]
    last = [] if plan.places is None else [plan.places.gate.key]
    gates = {gate.key: Step("gate", gate.key, gate.why, ()) for gate in flag.gates}
    return [
        *(Step("code", why, why, ()) for why in dict.fromkeys(early)),
        *(step for key, step in gates.items() if key not in last),
        *(Step("code", why, why, (), lasting=False) for why in dict.fromkeys(late)),
        *(msgspec.structs.replace(gates[key], lasting=False) for key in last),
        Step("code", reasons.FUNDING_NOT_RESERVED, reasons.FUNDING_NOT_RESERVED, (), lasting=False),
    ]


def _mark(index: int) -> str:
    return f"{_MARK}{index}"


def _marked(flag: model.Flag) -> model.Flag:
    gates = [
        msgspec.structs.replace(gate, why=_mark(index), unknown_why=_mark(index))
        for index, gate in enumerate(flag.gates)
    ]
    return msgspec.structs.replace(flag, gates=gates)


def _without(flag: model.Flag, index: int) -> model.Flag:
    return msgspec.structs.replace(flag, gates=flag.gates[:index] + flag.gates[index + 1 :])


def _ladder(compiled: Compiled, flag: model.Flag) -> Ladder:
    return Ladder(reader_of(compiled), [(tier.key, tier.rule) for tier in flag.tiers])
