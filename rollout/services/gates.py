"""Gates and tiers: who passes, what is told to who does not, and what users get on top."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from django.utils import timezone

from huidu.errors import InputError
from rollout import wording
from rollout.models import Flag, Gate, Tier
from rollout.services import audit, places
from rollout.services.audit import Actor
from rollout.services.changing import (
    changing,
    needs_second_person,
    only,
    remove,
    require_second_person,
)
from rollout.services.rules import validate_rule

GATE_EDITABLE: Final = frozenset(
    {
        "order",
        "key",
        "label_zh",
        "label_en",
        "dimension",
        "enabled",
        "rule",
        "region_policy",
        "capacity",
        "why",
        "unknown_why",
        "absolute",
        "keeps_shown",
        "customer_zh",
        "customer_en",
        "support_zh",
        "support_en",
        "risk_zh",
        "risk_en",
        "source",
    }
)
TEXTS: Final = frozenset(
    {"label_zh", "label_en", "source"}
    | {f"{who}_{tongue}" for who in ("customer", "support", "risk") for tongue in ("zh", "en")}
)
"""Fields that change what is said, not who passes."""

NAMES: Final = frozenset({"label_zh", "label_en", "source"})
"""Fields that no customer reads: what people are told takes two people, like who passes."""

TIER_EDITABLE: Final = frozenset({"order", "key", "label_zh", "label_en", "rule", "payload"})


def save_gate(
    flag: Flag,
    values: Mapping[str, Any],
    *,
    by: Actor,
    gate: Gate | None = None,
    reason: str = "",
    approved_by: Actor | None = None,
) -> Gate:
    """Add a gate to a flag, or change one; its version grows.

    Raises:
        ApprovalNeededError: the flag is live and asks for two people.
        InputError, RuleError, SnapshotError: a value is wrong; `path` says which.
    """
    only(values, GATE_EDITABLE)
    if values.get("rule") is not None:
        validate_rule(values["rule"], path="rule")
    changed = {
        name for name, value in values.items() if gate is None or getattr(gate, name) != value
    }
    _keep_neutral(gate, values, changed)
    if changed - NAMES and needs_second_person(flag):
        require_second_person(flag, by, approved_by, "a gate change")
    key = values.get("key", gate.key if gate else "")
    with changing(
        gate if gate is not None else Gate(flag=flag),
        "gate.updated" if gate is not None else "gate.created",
        environment=flag.environment,
        target=f"gate:{flag.key}/{key}",
        by=by,
        reason=audit.clean_reason(reason, needed=False),
        flag=flag,
    ) as row:
        counted = row.capacity and row.enabled and not row._state.adding
        for name, value in values.items():
            setattr(row, name, value)
        if gate is not None and changed - TEXTS:
            row.version += 1
        if row.capacity and row.keeps_shown:
            raise InputError(
                "expected false: whoever has a place keeps it, and being drawn is no place",
                path="keeps_shown",
            )
        if row.capacity and row.enabled and not counted:
            places.keep_shown(flag, now=timezone.now())
    return row


def _keep_neutral(gate: Gate | None, values: Mapping[str, Any], changed: set[str]) -> None:
    """Refuse words of its own where customers must not tell one refusal from another."""
    why, dimension = (
        str(values.get(name, getattr(gate, name, ""))) for name in ("why", "dimension")
    )
    if not wording.is_neutral(why, dimension):
        return
    neutral = wording.told(wording.NEUTRAL_WHY).customer
    for language in ("zh", "en"):
        name = f"customer_{language}"
        if name in changed and values[name] not in ("", neutral.in_language(language)):
            raise InputError(
                f"expected nothing: customers must not tell {why} from other refusals, so it reads "
                f"as {wording.NEUTRAL_WHY}; change the text of that code for all of them",
                path=name,
            )


def remove_gate(gate: Gate, *, by: Actor, reason: str, approved_by: Actor | None = None) -> None:
    """Take a gate away: more people may pass.

    Raises:
        ApprovalNeededError: the flag is live and asks for two people.
    """
    reason = audit.clean_reason(reason)
    if needs_second_person(gate.flag):
        require_second_person(gate.flag, by, approved_by, "removing a gate")
    remove(
        gate,
        "gate.removed",
        environment=gate.flag.environment,
        target=f"gate:{gate.flag.key}/{gate.key}",
        by=by,
        reason=reason,
        flag=gate.flag,
    )


def save_tier(
    flag: Flag,
    values: Mapping[str, Any],
    *,
    by: Actor,
    tier: Tier | None = None,
    reason: str = "",
    approved_by: Actor | None = None,
) -> Tier:
    """Add a tier to a flag, or change one.

    Raises:
        as `save_gate`.
    """
    only(values, TIER_EDITABLE)
    validate_rule(values.get("rule", {}), path="rule")
    if needs_second_person(flag):
        require_second_person(flag, by, approved_by, "a tier change")
    key = values.get("key", tier.key if tier else "")
    with changing(
        tier if tier is not None else Tier(flag=flag),
        "tier.updated" if tier is not None else "tier.created",
        environment=flag.environment,
        target=f"tier:{flag.key}/{key}",
        by=by,
        reason=audit.clean_reason(reason, needed=False),
        flag=flag,
    ) as row:
        for name, value in values.items():
            setattr(row, name, value)
    return row
