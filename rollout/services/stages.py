"""Stages and their guards: planned freely in a draft, fixed where users depend on them.

Once a stage was entered, its audience, share, weights and salt are what its users were drawn by:
they do not change (`widening.widen` draws a larger share, nothing draws a smaller one).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import copy
from datetime import timedelta
from typing import Any, Final

import msgspec

from huidu.errors import InputError, StateError
from huidu.model import PPM
from huidu.promotion.ramp import Step
from rollout.models import Guard, Metric, Rollout, Stage
from rollout.services import audit
from rollout.services.audit import Actor
from rollout.services.changing import (
    changing,
    finite,
    needs_second_person,
    only,
    remove,
    require_second_person,
)
from rollout.services.rules import validate_rule

EDITABLE: Final = frozenset(
    {
        "order",
        "key",
        "label_zh",
        "label_en",
        "audience",
        "audience_why",
        "share_ppm",
        "ramp",
        "holdback",
        "weights",
        "payload",
        "minimum_stay",
        "maximum_stay",
        "minimum_users",
        "needs_approval",
        "planned_at",
        "waiver",
        "dry_run",
        "accepted",
        "alpha_rollback",
        "alpha_promote",
        "look_minutes",
        "promotion_minutes",
    }
)
FIXED_ONCE_ENTERED: Final = frozenset(
    {"order", "key", "audience", "share_ppm", "ramp", "holdback", "weights"}
)
"""What the users of an entered stage were drawn by."""

FIXED_WHILE_EVIDENCE_COUNTS: Final = frozenset(
    {"alpha_rollback", "alpha_promote", "look_minutes", "promotion_minutes", "maximum_stay"}
)
"""Error budgets and clock of the tests: changed after a look, they would prove nothing."""

MOST_STEPS: Final = 10
"""Steps of a ramp."""

HOLDBACK_FROM: Final = 500_000
"""Fewer users than that are no release with a few held back, but a stage of a draw."""

MOST_MARGIN: Final = 10.0
"""Ten times worse than control is no margin any more."""

GUARD_EDITABLE: Final = frozenset(
    {"role", "margin_rel", "limit_abs", "maximum", "minimum", "for_looks"}
)


def save_stage(
    rollout: Rollout,
    values: Mapping[str, Any],
    *,
    by: Actor,
    stage: Stage | None = None,
    reason: str = "",
    approved_by: Actor | None = None,
) -> Stage:
    """Add a stage, or change one.

    Raises:
        StateError: the stage was entered and the change would touch what its users were drawn by,
            or the rollout is past planning.
        ApprovalNeededError: the flag is live and asks for two people.
        InputError, RuleError, SnapshotError: a value is wrong; `path` says which.
    """
    flag = rollout.flag
    only(values, EDITABLE)
    check_weights(values.get("weights", []))
    _check_alphas(values)
    changed = {
        name for name, value in values.items() if stage is None or getattr(stage, name) != value
    }
    if stage is None:
        _require_open_to_new_stages(rollout, values.get("order"))
    elif stage.status != Stage.Status.PENDING:
        _refuse_changes_to_entered(stage, changed, values)
    if changed - {"label_zh", "label_en", "planned_at"} and needs_second_person(flag):
        require_second_person(flag, by, approved_by, "a stage change")
    row = stage if stage is not None else Stage(rollout=rollout)
    key = values.get("key", row.key)
    with changing(
        row,
        "stage.updated" if stage is not None else "stage.created",
        environment=flag.environment,
        target=f"stage:{flag.key}#{rollout.slot}/{key}",
        by=by,
        reason=audit.clean_reason(reason, needed=False),
        flag=flag,
    ) as fresh:
        if stage is not None and fresh.status != Stage.Status.PENDING:
            _refuse_changes_to_entered(fresh, changed, values)  # it may have started meanwhile
        for name, value in values.items():
            setattr(fresh, name, value)
        # Written again unchanged, an unsigned one of an older row is signed as well.
        if "waiver" in changed or ("waiver" in values and not fresh.waiver_by):
            fresh.waiver_by = by.person if fresh.waiver.strip() else ""
        if changed & {"share_ppm", "ramp", "holdback", "maximum_stay"}:
            _check_share(fresh)
    return fresh


def remove_stage(stage: Stage, *, by: Actor, reason: str = "") -> None:
    """Take a planned stage out again.

    Raises:
        StateError: it was entered, or its rollout is past planning.
    """
    rollout = stage.rollout
    if stage.status != Stage.Status.PENDING or rollout.status != Rollout.Status.DRAFT:
        raise StateError(f"stage {stage} is part of a rollout that is past planning")
    remove(
        stage,
        "stage.removed",
        environment=rollout.flag.environment,
        target=f"stage:{rollout.flag.key}#{rollout.slot}/{stage.key}",
        by=by,
        reason=audit.clean_reason(reason, needed=False),
        flag=rollout.flag,
    )


def save_guard(
    stage: Stage,
    metric: Metric,
    values: Mapping[str, Any],
    *,
    by: Actor,
    reason: str = "",
    approved_by: Actor | None = None,
) -> Guard:
    """Add a guard to a stage, or change it.

    Raises:
        StateError: the stage is running or done: its plan was fixed when it started.
        InputError: a value is wrong; `path` says which.
    """
    flag = stage.rollout.flag
    only(values, GUARD_EDITABLE)
    if metric.environment != flag.environment:
        raise InputError(
            f"expected a metric of {flag.environment}, got one of {metric.environment}",
            path="metric",
        )
    _require_planned(stage)
    row = Guard.objects.filter(stage=stage, metric=metric).first()
    guard = row or Guard(stage=stage, metric=metric)
    asked = copy(guard)
    for name, value in values.items():
        setattr(asked, name, value)
    _check_guard(asked)  # nobody is asked to approve what will be refused
    if needs_second_person(flag):
        require_second_person(flag, by, approved_by, "a guard change")
    with changing(
        guard,
        "guard.updated" if row else "guard.created",
        environment=flag.environment,
        target=f"guard:{stage}/{metric.key}",
        by=by,
        reason=audit.clean_reason(reason, needed=False),
        publishes=False,
    ) as fresh:
        for name, value in values.items():
            setattr(fresh, name, value)
        _check_guard(fresh)
    return fresh


def remove_guard(guard: Guard, *, by: Actor, reason: str, approved_by: Actor | None = None) -> None:
    """Take a guard off a planned stage.

    Raises:
        StateError: the stage is running or done.
        ApprovalNeededError: the flag is live and asks for two people.
    """
    flag = guard.stage.rollout.flag
    _require_planned(guard.stage)
    if needs_second_person(flag):
        require_second_person(flag, by, approved_by, "removing a guard")
    remove(
        guard,
        "guard.removed",
        environment=flag.environment,
        target=f"guard:{guard.stage}/{guard.metric.key}",
        by=by,
        reason=audit.clean_reason(reason),
    )


def _require_planned(stage: Stage) -> None:
    if Stage.objects.filter(pk=stage.pk).exclude(status=Stage.Status.PENDING).exists():
        raise StateError(
            f"stage {stage} has started: its guards were fixed then, so that nobody can move "
            "the goal after seeing the evidence"
        )


def _require_open_to_new_stages(rollout: Rollout, order: int | None) -> None:
    if rollout.status not in (Rollout.Status.DRAFT, *Rollout.IN_EFFECT[:2]):
        raise StateError(
            f"rollout {rollout} is {rollout.status}: stages are added to a draft, or after the "
            "current stage of a running one"
        )
    if rollout.current is not None and (order or 0) <= rollout.current.order:
        raise StateError(
            f"expected an order above {rollout.current.order}, where stage {rollout.current.key} "
            f"of {rollout} stands, got {order}"
        )


def _refuse_changes_to_entered(stage: Stage, changed: set[str], values: Mapping[str, Any]) -> None:
    if "share_ppm" in changed and values["share_ppm"] < stage.share_ppm:
        raise StateError(
            f"stage {stage} reaches {stage.share_ppm:,} ppm and never less: users would lose what "
            "they were shown. Roll back instead"
        )
    if "share_ppm" in changed:
        raise StateError(f"stage {stage} has started: widen it, so that the draw is made again")
    if fixed := sorted(changed & FIXED_ONCE_ENTERED):
        raise StateError(
            f"stage {stage} has started: {', '.join(fixed)} decided who was drawn and cannot change"
        )
    if fixed := sorted(changed & FIXED_WHILE_EVIDENCE_COUNTS):
        raise StateError(
            f"stage {stage} has started: {', '.join(fixed)} belong to the plan of its evidence"
        )
    stay = values.get("minimum_stay")
    if isinstance(stay, timedelta) and stay < stage.minimum_stay:
        raise StateError(f"stage {stage} has started: its minimum stay may grow, not shrink")


def _check_share(stage: Stage) -> None:
    """A ramp grows step by step within the stage's time; a holdback leaves somebody out."""
    try:
        steps = msgspec.convert(stage.ramp, list[Step])
    except msgspec.ValidationError as error:
        raise InputError(
            f'expected [{{"share_ppm": 10000, "after_minutes": 1440}}], got {error}', path="ramp"
        ) from error
    if len(steps) > MOST_STEPS:
        raise InputError(f"expected at most {MOST_STEPS} steps, got {len(steps)}", path="ramp")
    share, minutes = stage.share_ppm, 0.0
    if steps and share <= 0:
        raise InputError("expected a first share above 0 before a ramp, got 0", path="share_ppm")
    for index, step in enumerate(steps):
        path = f"ramp[{index}]"
        if not share < step.share_ppm <= PPM:
            raise InputError(
                f"expected a share above {share:,} ppm and at most {PPM:,}, got {step.share_ppm:,}",
                path=f"{path}.share_ppm",
            )
        if not 1 <= step.after_minutes < math.inf:
            raise InputError(
                f"expected 1 minute or more, got {step.after_minutes}", path=f"{path}.after_minutes"
            )
        if step.users < 0:
            raise InputError(f"expected 0 users or more, got {step.users}", path=f"{path}.users")
        share, minutes = step.share_ppm, minutes + step.after_minutes
    longest = stage.maximum_stay.total_seconds() / 60
    if steps and minutes >= longest:
        raise InputError(
            f"expected a ramp shorter than the longest stay of {longest:,.0f} minutes, got "
            f"{minutes:,.0f}",
            path="ramp",
        )
    if stage.holdback and not HOLDBACK_FROM <= share < PPM:
        raise InputError(
            f"expected a share from {HOLDBACK_FROM:,} ppm to less than {PPM:,} with a holdback, "
            f"got {share:,}",
            path="holdback",
        )


def _check_alphas(values: Mapping[str, Any]) -> None:
    for name in ("alpha_rollback", "alpha_promote"):
        level = finite(values[name], name) if name in values else 0.05
        if level is None or not 0 < level <= 0.5:
            raise InputError(f"expected a share above 0, up to 0.5, got {level}", path=name)


def check_weights(weights: Any) -> None:
    """Raises `InputError` or `RuleError` for what is no list of rules with weights."""
    if not isinstance(weights, list):
        raise InputError('expected a list of {"rule", "weight"}', path="weights")
    for index, entry in enumerate(weights):
        path = f"weights[{index}]"
        if not isinstance(entry, dict) or set(entry) != {"rule", "weight"}:
            raise InputError('expected {"rule": {...}, "weight": 3}', path=path)
        weight = entry["weight"]
        if type(weight) is not int or not 1 <= weight <= 1_000:
            raise InputError(
                f"expected a whole number from 1 to 1,000, got {weight!r}", path=f"{path}.weight"
            )
        validate_rule(entry["rule"], path=f"{path}.rule")


def _check_limit(guard: Guard, limit: float) -> None:
    share = guard.metric.kind not in (Metric.Kind.MEAN, Metric.Kind.COUNT, Metric.Kind.GAUGE)
    if limit <= 0 or (share and limit >= 1):
        right = "a share above 0 and below 1" if share else "a limit above 0"
        raise InputError(f"expected {right}, got {limit:g}", path="limit_abs")


def _check_guard(guard: Guard) -> None:
    """A comparative guard needs one limit, an external reading needs a bound."""
    gauge = guard.metric.kind == Metric.Kind.GAUGE
    for name in ("margin_rel", "limit_abs", "maximum", "minimum"):
        setattr(guard, name, finite(getattr(guard, name), name))
    if guard.margin_rel is not None and not 0 < guard.margin_rel <= MOST_MARGIN:
        raise InputError(
            f"expected a margin above 0, up to {MOST_MARGIN:g}, got {guard.margin_rel:g}",
            path="margin_rel",
        )
    if guard.limit_abs is not None:
        _check_limit(guard, guard.limit_abs)
    if gauge and guard.maximum is None and guard.minimum is None:
        raise InputError("expected a highest or lowest reading, got neither", path="maximum")
    if gauge or guard.role == Guard.Role.WATCH:
        return
    if (guard.margin_rel is None) == (guard.limit_abs is None):
        raise InputError(
            "expected either a relative margin or an absolute limit", path="margin_rel"
        )
    decrease = guard.metric.harm == Metric.Harm.DECREASE
    if decrease and guard.margin_rel is not None and guard.margin_rel >= 1:
        raise InputError(
            f"expected a share below 1 where less is worse, got {guard.margin_rel}",
            path="margin_rel",
        )
