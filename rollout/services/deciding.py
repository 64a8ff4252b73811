"""The looks that are due at some stages: locked, read, decided and recorded in one transaction.

Stages are locked and read together, but each is decided on its own rows, read under its lock.
Killed in the middle, nothing was decided; whoever comes next finds all of them due.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from django.db import connection, transaction
from django.db.models import Q, QuerySet

from huidu import promotion
from huidu.errors import EvidenceError
from huidu.promotion import contract
from huidu.promotion.ramp import Ramp, advance
from rollout.models import Decision, Rollout, Stage
from rollout.services import late, look_rows, looks, messages
from rollout.services.audit import ENGINE
from rollout.services.look_rows import LastLook, Rows
from rollout.services.recorded import plan_before

REVIEWED: Final = (Rollout.Status.RUNNING, Rollout.Status.PAUSED)


def reviewed(stage_ids: Collection[int], now: datetime) -> QuerySet[Stage]:
    """Those of the stages that are looked at now: running ones, and left ones still watched."""
    running = Q(status=Stage.Status.RUNNING, rollout__status__in=REVIEWED)
    rows = Stage.objects.filter(running | late.watched(now), pk__in=stage_ids)
    return rows.select_related("rollout__flag").order_by("pk")


def decide(stage_ids: Collection[int], now: datetime) -> list[Decision]:
    """The decisions that are due, and those still to be carried out, in order of the stages.

    A stage that another reviewer holds is passed by: its look is the other's.
    """
    with transaction.atomic():
        # Without NO KEY, the first user who meets a stage would keep its look from being held.
        locked = reviewed(stage_ids, now).select_for_update(
            of=("self",), skip_locked=True, no_key=True
        )
        stages = list(locked)
        last = look_rows.last_looks([each.pk for each in stages])
        cut_short = [each for each in stages if is_cut_short(last.get(each.pk), each)]
        going_on = [_read_again(last[each.pk].pk, each) for each in cut_short]
        due = [
            each
            for each in stages
            if each not in cut_short and is_due(last.get(each.pk), look_number(each, now))
        ]
        if not due:
            return going_on
        rows = Rows(due, now)
        made = [_decided(each, last.get(each.pk), rows) for each in due]
        return [*going_on, *_written(made, last)]


def is_cut_short(last: LastLook | None, stage: Stage) -> bool:
    """Whether harm was proven and the rollback not carried out: that waits for no other look."""
    if last is None or last.decision != Decision.Verdict.ROLL_BACK or last.acted:
        return False
    if stage.decides_only:
        return False
    # Proven in the running stage, which somebody promoted meanwhile: the left stage looks anew.
    return stage.status == Stage.Status.RUNNING or last.left


def look_number(stage: Stage, now: datetime) -> int:
    """The look that is due by the stage's clock, the first at once: one a minute in the first
    `early_minutes`, in which grave harm shows, then one per `look_minutes`."""
    minutes, early = looks.minute(stage, now), stage.early_minutes
    if minutes < early:
        return math.floor(minutes)
    return int(early) + math.floor((minutes - early) / stage.look_minutes)


def is_due(last: LastLook | None, k: int) -> bool:
    # A clock that was set back finds a look with a later number, and waits until it is past it.
    return k > (last.look if last is not None else -1)


def _read_again(decision_id: int, stage: Stage) -> Decision:
    found = Decision.objects.get(pk=decision_id)
    found.stage = stage
    return found


def _decided(stage: Stage, last: LastLook | None, rows: Rows) -> tuple[Decision, contract.Plan]:
    """One stage's decision, not written yet, and the plan it was made by."""
    now, guards, cells = rows.now, rows.guards[stage.pk], rows.cells[stage.pk]
    k = look_number(stage, now)
    before = None if last is None else _plan_kept(stage.pk, last)
    plan = looks.plan_of(stage, guards, cells, before)
    state = contract.State() if last is None else last.state
    # What stopped short of an act (dry run, next stage not ready) is decided anew.
    going_on = msgspec.structs.replace(state, decided="")
    look = looks.look_of(stage, guards, rows, k=k)
    conditions = looks.conditions_of(stage, guards, rows)
    try:
        after, outcome = promotion.review(plan, going_on, look, conditions)
    except EvidenceError as error:
        after, outcome = going_on, refused(error, conditions)
    ramp = looks.ramp_of(stage, cells, now)
    return Decision(
        stage=stage,
        look=k,
        at=now,
        decision=outcome.decision.value,
        code=outcome.code,
        metric=outcome.metric or "",
        text=outcome.text,
        reasons=msgspec.to_builtins(outcome.missing),
        # An unchanged plan or state is not written again: see `recorded.material_of`.
        plan={} if plan == before else msgspec.to_builtins(plan),
        state={} if last is not None and going_on == state else msgspec.to_builtins(going_on),
        state_after=msgspec.to_builtins(after),
        evidence={
            "look": msgspec.to_builtins(look),
            "conditions": msgspec.to_builtins(conditions),
        },
        outcome=msgspec.to_builtins(outcome),
        ramp=None if ramp is None else ramp_told(ramp, outcome),
        dry_run=stage.decides_only,
        code_version=promotion.CODE_VERSION,
    ), plan


def _written(
    made: Sequence[tuple[Decision, contract.Plan]], last: Mapping[int, LastLook]
) -> list[Decision]:
    decisions = [decision for decision, _ in made]
    _insert(decisions)
    for decision, plan in made:
        _plans[decision.stage_id] = (decision.pk, plan)
        before = last.get(decision.stage_id)
        if _is_overdue(decision) and not (before is not None and _was_overdue(before, decision)):
            messages.tell_overdue(decision.stage, decision, by=ENGINE)
    return decisions


# As one text, because what a driver does to escape arrays of JSON takes longer than the deciding.
_INSERT: Final = """
INSERT INTO rollout_decision ({columns})
SELECT {columns} FROM jsonb_to_recordset(%s::jsonb) AS made({types})
RETURNING stage_id, id
"""


def _insert(decisions: Sequence[Decision]) -> None:
    fields = [each for each in Decision._meta.concrete_fields if not each.primary_key]
    names = [f'"{each.column}"' for each in fields]
    types = [f'"{each.column}" {each.db_type(connection)}' for each in fields]
    sql = _INSERT.format(columns=", ".join(names), types=", ".join(types))
    rows = [{str(each.column): getattr(row, each.attname) for each in fields} for row in decisions]
    with connection.cursor() as cursor:
        cursor.execute(sql, [msgspec.json.encode(rows).decode()])
        numbers = dict(cursor.fetchall())
    for row in decisions:
        row.pk, row._state.adding = numbers[row.stage_id], False


def _is_overdue(decision: Decision) -> bool:
    """Whether the horizon is over, so that only a person can go on."""
    return any(each.get("code") == "horizon_over" for each in decision.reasons)


def _was_overdue(last: LastLook, decision: Decision) -> bool:
    """Whether an earlier look found the horizon over: that is told once a stage."""
    earlier = Decision.objects.filter(stage=decision.stage_id, look__lt=decision.look)
    return last.overdue or earlier.filter(reasons__contains=[{"code": "horizon_over"}]).exists()


def refused(error: EvidenceError, conditions: contract.Conditions) -> contract.Outcome:
    """A plan that cannot be run is a hold that says so."""
    missing = contract.Missing(code="plan_invalid", text=str(error))
    if conditions.waiver_unsigned:
        text = "no guard must prove anything, and nobody signed the waiver: it waives nothing"
        missing = contract.Missing(code="waiver_unsigned", text=text)
    return contract.Outcome(
        decision=contract.Decision.HOLD,
        code=missing.code,
        text=missing.text,
        missing=(missing,),
    )


def ramp_told(ramp: Ramp, outcome: contract.Outcome) -> dict[str, Any]:
    """Where a stage stood in its ramp, and what follows from it and the look."""
    answer = advance(ramp, outcome)
    return {"given": msgspec.to_builtins(ramp), "answer": msgspec.to_builtins(answer)}


_MOST_PLANS: Final = 5_000
_plans: dict[int, tuple[int, contract.Plan]] = {}
"""By stage: the newest decision this process wrote, and the plan it was made by. Rows say the same,
but an unchanged plan is written once, and may stand thousands of looks back."""


def _plan_kept(stage_id: int, last: LastLook) -> contract.Plan | None:
    # Numbers of rows are never dealt twice, so a decision that was undone is not found by this.
    known = _plans.get(stage_id)
    if known is not None and known[0] == last.pk:
        return known[1]
    if len(_plans) >= _MOST_PLANS:
        _plans.clear()
    return plan_before(stage_id, last.look)
