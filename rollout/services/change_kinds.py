"""What a change request may hold, and the service that applies each kind of it.

A payload is the JSON that the management API was sent; see `rollout.services.changes`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from cohorts.models import Attribute, ListVersion
from huidu.errors import InputError
from rollout.models import Case, Flag, FundingPartner, Gate, Guard, Rollout, Stage, Tier
from rollout.services import (
    attribute_edits,
    case_outcomes,
    cohort_edits,
    dry_run,
    flags,
    funding,
    gates,
    guard_templates,
    list_edits,
    payloads,
    reason_texts,
    region_policies,
    rollouts,
    stages,
    widening,
)
from rollout.services.audit import Actor

Apply = Callable[[int, dict[str, Any], Actor, str, Actor | None], object]


def _promote(
    target: int, payload: dict[str, Any], by: Actor, reason: str, approved_by: Actor | None
) -> object:
    """With ``{"stage": id}`` only that stage is left: an approval that comes late moves nothing."""
    stage = _get(Stage, payload["stage"]) if payload.get("stage") else None
    return rollouts.promote(
        _get(Rollout, target), by=by, reason=reason, stage=stage, approved_by=approved_by
    )


def _rollout_resume(
    target: int, payload: dict[str, Any], by: Actor, reason: str, approved_by: Actor | None
) -> object:
    return rollouts.resume(_get(Rollout, target), by=by, reason=reason, approved_by=approved_by)


def _dry_run(
    target: int, payload: dict[str, Any], by: Actor, reason: str, approved_by: Actor | None
) -> object:
    on = payload.get("dry_run")
    if type(on) is not bool:
        raise InputError(f"expected true or false, got {on!r}", path="dry_run")
    return dry_run.set_dry_run(
        _get(Rollout, target), on, by=by, reason=reason, approved_by=approved_by
    )


def _release_holdback(
    target: int, payload: dict[str, Any], by: Actor, reason: str, approved_by: Actor | None
) -> object:
    return widening.release_holdback(
        _get(Rollout, target), by=by, reason=reason, approved_by=approved_by
    )


def _widen(
    target: int, payload: dict[str, Any], by: Actor, reason: str, approved_by: Actor | None
) -> object:
    share = payload.get("share_ppm")
    if type(share) is not int:
        raise InputError(f"expected a whole number of ppm, got {share!r}", path="share_ppm")
    return widening.widen(_get(Stage, target), share, by=by, reason=reason, approved_by=approved_by)


def _flag_resume(
    target: int, payload: dict[str, Any], by: Actor, reason: str, approved_by: Actor | None
) -> object:
    return flags.resume(_get(Flag, target), by=by, reason=reason, approved_by=approved_by)


def _flag_update(
    target: int, payload: dict[str, Any], by: Actor, reason: str, approved_by: Actor | None
) -> object:
    flag = _get(Flag, target)
    values, lists = payloads.flag_values(flag.environment, payload)
    return flags.update(
        flag,
        values,
        by=by,
        reason=reason,
        approved_by=approved_by,
        allow_lists=lists.get("allow_lists"),
        block_lists=lists.get("block_lists"),
    )


def _gate_save(
    target: int, payload: dict[str, Any], by: Actor, reason: str, approved_by: Actor | None
) -> object:
    """`target` is the gate, or with ``{"flag": id}`` in the payload 0 for a new one."""
    gate = _get(Gate, target) if target else None
    flag = gate.flag if gate else _get(Flag, payload.get("flag", 0))
    values = payloads.gate_values(flag.environment, payload)
    return gates.save_gate(flag, values, by=by, gate=gate, reason=reason, approved_by=approved_by)


def _gate_remove(
    target: int, payload: dict[str, Any], by: Actor, reason: str, approved_by: Actor | None
) -> None:
    gates.remove_gate(_get(Gate, target), by=by, reason=reason, approved_by=approved_by)


def _tier_save(
    target: int, payload: dict[str, Any], by: Actor, reason: str, approved_by: Actor | None
) -> object:
    tier = _get(Tier, target) if target else None
    flag = tier.flag if tier else _get(Flag, payload.get("flag", 0))
    values = {name: value for name, value in payload.items() if name != "flag"}
    return gates.save_tier(flag, values, by=by, tier=tier, reason=reason, approved_by=approved_by)


def _stage_save(
    target: int, payload: dict[str, Any], by: Actor, reason: str, approved_by: Actor | None
) -> object:
    stage = _get(Stage, target) if target else None
    rollout = stage.rollout if stage else _get(Rollout, payload.get("rollout", 0))
    return stages.save_stage(
        rollout,
        payloads.stage_values(payload),
        by=by,
        stage=stage,
        reason=reason,
        approved_by=approved_by,
    )


def _guard_save(
    target: int, payload: dict[str, Any], by: Actor, reason: str, approved_by: Actor | None
) -> object:
    guard = _get(Guard, target) if target else None
    stage = guard.stage if guard else _get(Stage, payload.get("stage", 0))
    metric = guard.metric if guard else payloads.metric(stage, payload.get("metric"))
    if guard is None and Guard.objects.filter(stage=stage, metric=metric).exists():
        raise InputError(
            f"expected a metric that does not guard stage {stage} yet, got {metric.key}: one guard "
            "per metric, so change the one that is there",
            path="metric",
        )
    values = {name: each for name, each in payload.items() if name not in ("stage", "metric")}
    return stages.save_guard(stage, metric, values, by=by, reason=reason, approved_by=approved_by)


def _guards_add(
    target: int, payload: dict[str, Any], by: Actor, reason: str, approved_by: Actor | None
) -> object:
    """Guards from templates, all or none; `target` is the stage."""
    return guard_templates.add(
        _get(Stage, target), payload.get("guards"), by=by, reason=reason, approved_by=approved_by
    )


def _guard_remove(
    target: int, payload: dict[str, Any], by: Actor, reason: str, approved_by: Actor | None
) -> None:
    stages.remove_guard(_get(Guard, target), by=by, reason=reason, approved_by=approved_by)


def _cohort_save(
    target: int, payload: dict[str, Any], by: Actor, reason: str, approved_by: Actor | None
) -> object:
    cohort = payloads.cohort(target) if target else None
    return cohort_edits.save_cohort(
        payload, by=by, cohort=cohort, reason=reason, approved_by=approved_by
    )


def _attribute_save(
    target: int, payload: dict[str, Any], by: Actor, reason: str, approved_by: Actor | None
) -> object:
    return attribute_edits.save_attribute(
        payload,
        by=by,
        attribute=_get(Attribute, target),
        reason=reason,
        approved_by=approved_by,
    )


def _list_apply(
    target: int, payload: dict[str, Any], by: Actor, reason: str, approved_by: Actor | None
) -> object:
    version = _get(ListVersion, target)
    return list_edits.apply(version, by=by, reason=reason, approved_by=approved_by)


def _list_revert(
    target: int, payload: dict[str, Any], by: Actor, reason: str, approved_by: Actor | None
) -> object:
    version = _get(ListVersion, target)
    return list_edits.revert(version, by=by, reason=reason, approved_by=approved_by)


def _partner_save(
    target: int, payload: dict[str, Any], by: Actor, reason: str, approved_by: Actor | None
) -> object:
    partner = _get(FundingPartner, target) if target else None
    flag = partner.flag if partner else _get(Flag, payload.get("flag", 0))
    return funding.save_partner(
        flag,
        payloads.partner_values(payload),
        by=by,
        partner=partner,
        reason=reason,
        approved_by=approved_by,
    )


def _region_policy_save(
    target: int, payload: dict[str, Any], by: Actor, reason: str, approved_by: Actor | None
) -> object:
    """The whole policy as the management API shows it; its environment and key name it."""
    return region_policies.save_region_policy(
        payload["environment"],
        payload["key"],
        classes=payload["classes"],
        regions=payload["regions"],
        default=payload["default"],
        labels={name: payload.get(name, "") for name in ("label_zh", "label_en")},
        source=payload.get("source", ""),
        by=by,
        reason=reason,
        approved_by=approved_by,
    )


def _text_save(
    target: int, payload: dict[str, Any], by: Actor, reason: str, approved_by: Actor | None
) -> object:
    """The texts of one code; ``environment`` and ``code`` name it."""
    values = {name: value for name, value in payload.items() if name not in ("environment", "code")}
    return reason_texts.save_text(
        payload["environment"],
        payload["code"],
        values,
        by=by,
        reason=reason,
        approved_by=approved_by,
    )


def _case_correct(
    target: int, payload: dict[str, Any], by: Actor, reason: str, approved_by: Actor | None
) -> object:
    """What is corrected lies in the case, where it can be erased."""
    return case_outcomes.correct(_get(Case, target), by=by, approved_by=approved_by)


def _case_grant(
    target: int, payload: dict[str, Any], by: Actor, reason: str, approved_by: Actor | None
) -> object:
    return case_outcomes.grant(_get(Case, target), by=by, approved_by=approved_by)


def _get(model: type[Any], pk: Any) -> Any:
    row = model.objects.filter(pk=pk).first() if type(pk) is int and 0 < pk < 2**63 else None
    if row is None:
        name = model._meta.model_name
        raise InputError(f"expected the number of a {name}, got {pk!r}", path=name)
    return row


KINDS: Final[dict[str, Apply]] = {
    case_outcomes.CORRECT: _case_correct,
    case_outcomes.GRANT: _case_grant,
    "flag.resume": _flag_resume,
    "flag.update": _flag_update,
    "rollout.promote": _promote,
    "rollout.resume": _rollout_resume,
    "rollout.release_holdback": _release_holdback,
    "rollout.dry_run": _dry_run,
    "stage.save": _stage_save,
    "stage.widen": _widen,
    "stage.add_guards": _guards_add,
    "gate.save": _gate_save,
    "gate.remove": _gate_remove,
    "tier.save": _tier_save,
    "guard.save": _guard_save,
    "guard.remove": _guard_remove,
    "cohort.save": _cohort_save,
    "attribute.save": _attribute_save,
    "list.apply": _list_apply,
    "list.revert": _list_revert,
    "partner.save": _partner_save,
    "region_policy.save": _region_policy_save,
    "text.save": _text_save,
}
