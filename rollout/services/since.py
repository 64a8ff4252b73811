"""What changed since: one user's answer then and now, and what made the difference."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from django.db.models import Q

from cohorts import selectors as who
from cohorts.models import Profile
from huidu import history, model
from huidu.engine import Compiled
from huidu.engine.explain import Explanation, Outcome
from huidu.errors import InputError
from rollout.mappers import iso
from rollout.models import AuditEntry
from rollout.services.answering import compiled_snapshot, snapshot_in_force

MOST_EDITS: Final = 20
_SHARED: Final = ("cohort:", "region_policy:", "exclusion:", "list:", "partner:")
RISK: Final = "risk_score"


def changed(
    environment: str,
    flag_key: str,
    since: datetime,
    now: datetime,
    *,
    compiled: Compiled,
    user: model.User,
    secret: frozenset[str] = frozenset(),
) -> dict[str, Any]:
    """The answers at both moments, the steps and facts that differ, and the edits between.

    ``because`` tries each side alone: ``settings`` says that the settings of `now` would have
    changed the answer of then by themselves, ``user`` that the user's own facts would have.

    Args:
        compiled: the snapshot in force at `now`.
        user: the user as held at `now`.
        secret: attributes to leave out.
    Raises:
        InputError: `since` is after `now`, or before the first publication.
    """
    if since > now:
        raise InputError("expected a moment before the one asked about", path="since")
    row = snapshot_in_force(environment, since)
    before, _ = compiled_snapshot(environment, row, path="since")
    user_then = who.held_user(user.key, since)
    then, today = before.explain(flag_key, user_then), compiled.explain(flag_key, user)
    same = _same(then, today)
    by_settings = not _same(then, compiled.explain(flag_key, user_then))
    by_user = not _same(then, before.explain(flag_key, user))
    return {
        "since": iso(since),
        "then": _answer(then),
        "now": _answer(today),
        "same": same,
        "because": {"settings": by_settings, "user": by_user},
        "stage": _pair(_stage(before, flag_key), _stage(compiled, flag_key)),
        "steps": _steps(then, today),
        "facts": _facts(user_then, user, since, secret),
        "edits": []
        if before.snapshot.sequence == compiled.snapshot.sequence
        else _edits(environment, flag_key, since, now),
    }


def _same(one: Explanation, other: Explanation) -> bool:
    return (one.answer.visible, one.answer.why) == (other.answer.visible, other.answer.why)


def _answer(found: Explanation) -> dict[str, Any]:
    answer = found.answer
    return {
        "visible": answer.visible,
        "why": answer.why,
        "stage": answer.stage,
        "flag_version": answer.flag_version,
        "sequence": found.sequence,
    }


def _stage(compiled: Compiled, flag_key: str) -> dict[str, Any] | None:
    flag = compiled.flags.get(flag_key)
    if flag is None or flag.rollout is None:
        return None
    rollout = flag.rollout
    key = rollout.stages[rollout.current].key if rollout.current >= 0 else None
    return {"rollout": rollout.slot, "status": rollout.status, "stage": key}


def _pair(before: Any, after: Any) -> dict[str, Any] | None:
    return None if before == after else {"before": before, "after": after}


def _steps(then: Explanation, today: Explanation) -> list[dict[str, Any]]:
    """Steps whose outcome differs; one that is not there on one side has None there."""
    sides: list[dict[tuple[str, str], Outcome]] = [
        {(each.kind, each.key): each.outcome for each in found.steps if each.kind != "variant"}
        for found in (then, today)
    ]
    return [
        {"kind": place[0], "key": place[1], "before": sides[0].get(place), "after": after}
        for place in {**sides[0], **sides[1]}
        if (after := sides[1].get(place)) != sides[0].get(place)
    ]


def _facts(
    then: model.User, today: model.User, since: datetime, secret: frozenset[str]
) -> list[dict[str, Any]]:
    one, other = dict(then.attributes), dict(today.attributes)
    return [
        {
            "attribute": name,
            "before": one.get(name),
            "after": other.get(name),
            "cause": _cause(name, today.key, one, other, since),
        }
        for name in sorted({*one, *other} - secret - {history.NAME})
        if one.get(name) != other.get(name)
    ]


def _cause(
    name: str, user_id: str, one: Mapping[str, Any], other: Mapping[str, Any], since: datetime
) -> str:
    """``decay`` when a score faded by itself since it was given, else ``update``."""
    if name != RISK or one.get(name) is None or other.get(name) is None:
        return "update"
    scored_on = Profile.objects.filter(pk=user_id).values_list("risk_scored_on", flat=True).first()
    given_before = scored_on is not None and scored_on <= who.day_of(since)
    return "decay" if given_before and other[name] < one[name] else "update"


def _kind(action: str) -> str:
    """What an edit was: a ``stage``, ``rollback``, ``kill``, ``capacity``, ``list`` or ``edit``."""
    if action == "rollout.rolled_back":
        return "rollback"
    if action.startswith(("rollout.", "stage.")):
        return "stage"
    if action in ("flag.killed", "flag.resumed"):
        return "kill"
    if action.startswith(("partner.", "place.")):
        return "capacity"
    return "list" if action.startswith("list.") else "edit"


def _edits(environment: str, flag_key: str, since: datetime, now: datetime) -> list[dict[str, Any]]:
    """Audit entries about the flag and what flags share, newest first."""
    about = Q(target=f"flag:{flag_key}")
    for kind in ("gate", "tier", "compliance", "stage", "rollout"):
        for mark in ("/", "#"):
            about |= Q(target__startswith=f"{kind}:{flag_key}{mark}")
    for kind in _SHARED:
        about |= Q(target__startswith=kind)
    rows = AuditEntry.objects.filter(
        about, environment__in=(environment, "all"), at__gt=since, at__lte=now
    ).exclude(action__startswith="explanation.")
    return [
        {
            "sequence": row.sequence,
            "at": iso(row.at),
            "actor": row.actor,
            "action": row.action,
            "target": row.target,
            "reason": row.reason,
            "approved_by": (row.after or {}).get("approved_by") or None,
            "kind": _kind(row.action),
        }
        for row in rows.order_by("-sequence")[:MOST_EDITS]
    ]
