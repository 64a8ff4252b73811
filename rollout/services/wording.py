"""What happened and why, in people's words, in the language that is active now.

Reasons of decisions are stored with a stable code and their numbers; the sentences are made here.
A code without a sentence is told by the English text stored with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from rollout.models.guards import USUAL_FRESH_MINUTES

MINUTES_A_DAY = 1440

HOLD: dict[str, Any] = {
    "already_decided": _("this stage has ended already"),
    "bad_evidence": _("the evidence cannot be true and was not used"),
    "counts_fell": _("%(metric)s: counts fell, which cannot be; the last good ones stay"),
    "out_of_order": _("this look is older than the one before it"),
    "no_data": _("%(metric)s: the source gives no data"),
    "stale_source": _("%(metric)s: the data is %(age)s old; the limit is %(limit)s"),
    "freshness_unknown": _("%(metric)s: the source does not say up to when it is complete"),
    "sample_ratio": _(
        "the sample ratio is proven wrong: users get lost on the way into one arm. "
        "Find out why and start the stage anew"
    ),
    "sample_ratio_now": _("the sample ratio looks wrong now (chi-square %(chi_square)s)"),
    "gauge_unknown": _("%(metric)s: no reading"),
    "gauge_breached": _("%(metric)s: the reading is beyond its limit"),
    "too_good_to_be_true": _(
        "%(metric)s fell by over 60 %%: more often a silent feed than good news. "
        "A person has to look"
    ),
    "harm_suspected": _("%(metric)s: harm is suspected (e-value %(e_value)s), not proven"),
    "severity_suspected": _(
        "%(metric)s: no more users are hit, but bad requests per request exceed the margin "
        "(z %(z)s)"
    ),
    "silent_feed": _("%(metric)s: nothing new for %(users)s users. Is the feed silent?"),
    "minimum_stay": _("the minimum stay is not over, %(left)s to go"),
    "minimum_users": _("%(users)s of at least %(needed)s users were shown it"),
    "too_little_data": _("%(metric)s: too few events to prove anything"),
    "no_control": _(
        "%(metric)s: this stage has no control group, so a comparison can never conclude. "
        "Use an absolute limit"
    ),
    "limit_not_proven": _("%(metric)s: not yet proven to keep its limit"),
    "not_yet_proven": _("%(metric)s: not yet proven to be harmless"),
    "stage_left": _("the stage is over. Late outcomes of its users can still roll back"),
    "horizon_over": _("the planned time is over without a proof. Only a person can go on"),
    "next_planned_look": _("the next look that may promote is on day %(day)s"),
    "paused": _("the rollout is paused"),
    "approval_missing": _("a person has not approved the promotion yet"),
    "compliance_unsigned": _("compliance items are not signed"),
    "capacity_exhausted": _("no funding capacity is left"),
    "freeze_window": _("changes are frozen now"),
    "plan_invalid": _("the plan of the stage cannot be run: %(why)s"),
    "waiver_unsigned": _(
        "no guard must prove anything, and nobody signed the waiver. Write it again under your "
        "name, or add a guard"
    ),
    "ramp_unfinished": _("the stage has not reached its full share yet"),
    "ramp_time": _("%(left)s to go at this share"),
    "ramp_users": _("%(users)s of at least %(needed)s users were shown it at this share"),
}
ENDS: dict[str, Any] = {
    "non_inferior": _("Every guard is proven to be no worse than allowed."),
    "waived": _("This stage has no guards, with a reason on record."),
    "limit_broken": _("%(metric)s is beyond its limit: harm is proven."),
    "harm_proven": _("%(metric)s is worse than allowed: harm is proven."),
    "gauge_breached": _("%(metric)s was beyond its limit too long."),
}


def metric_name(key: str | None, labels: Mapping[str, str]) -> str:
    return labels.get(key or "", key or "")


def missing_in_words(item: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    """One reason to hold, as ``outcome.missing`` stores it.

    Args:
        item: ``{"code", "text", "metric", "values"}``.
        labels: what metrics are called.
    """
    sentence = HOLD.get(str(item.get("code")))
    if sentence is None:
        return str(item.get("text", ""))
    values = item.get("values") or {}
    parts = {name: number(value) for name, value in values.items()}
    parts["metric"] = metric_name(item.get("metric"), labels)
    parts["why"] = str(item.get("text", ""))
    parts["age"] = minutes(values.get("age_min"))
    # Told only where the metric has a limit of its own.
    parts["limit"] = minutes(values.get("limit_min", USUAL_FRESH_MINUTES))
    parts["left"] = minutes(values.get("minutes_left"))
    parts["day"] = number((values.get("due_min") or 0) / MINUTES_A_DAY)
    for name in ("chi_square", "e_value", "users", "needed", "z"):
        parts.setdefault(name, "?")
    return str(sentence) % parts


def ramp_in_words(ramp: Mapping[str, Any] | None, labels: Mapping[str, str]) -> list[str]:
    """What the next step of a ramp waited for at a look, as ``Decision.ramp`` stores it."""
    answer = (ramp or {}).get("answer") or {}
    return [missing_in_words(each, labels) for each in answer.get("missing") or []]


def outcome_in_words(outcome: Mapping[str, Any], labels: Mapping[str, str]) -> list[str]:
    """Everything a decision says: why it ended the stage, or all that is missing."""
    code, decision = str(outcome.get("code", "")), outcome.get("decision")
    if decision == "hold":
        told = [missing_in_words(each, labels) for each in outcome.get("missing") or []]
        if forecast := forecast_in_words(outcome.get("forecast"), labels):
            told.append(forecast)
        return told or [str(outcome.get("text", ""))]
    sentence = ENDS.get(code)
    if sentence is None:
        return [str(outcome.get("text", ""))]
    return [str(sentence) % {"metric": metric_name(outcome.get("metric"), labels)}]


def forecast_in_words(forecast: Mapping[str, Any] | None, labels: Mapping[str, str]) -> str:
    """As "needs about 12,800 more users, days 11 to 27"; "" without a forecast."""
    if not forecast:
        return ""
    users, day = forecast.get("users"), forecast.get("day")
    metric = metric_name(forecast.get("metric"), labels)
    if users is None or day is None:
        return gettext("%(metric)s: this traffic can never prove it") % {"metric": metric}
    early, late = forecast.get("day_early") or day, forecast.get("day_late")
    if late is None:
        days = gettext("day %(early)s or later") % {"early": round(early)}
    else:
        days = gettext("days %(early)s to %(late)s") % {"early": round(early), "late": round(late)}
    return gettext("%(metric)s needs about %(users)s more users, %(days)s") % {
        "metric": metric,
        "users": f"{users:,}",
        "days": days,
    }


def number(value: Any) -> str:
    """A number as people read it: grouped, and with few digits."""
    if value is None:
        return "?"
    if isinstance(value, str) or not math.isfinite(value):
        return str(value)
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def minutes(value: float | None) -> str:
    """A stretch of minutes: ``3 days``, ``5 hours``, ``12 minutes``."""
    if value is None:
        return "?"
    if value >= 2 * MINUTES_A_DAY:
        days = round(value / MINUTES_A_DAY, 1)
        return gettext("%(n)s days") % {"n": f"{days:g}"}
    if value >= 120:
        return gettext("%(n)s hours") % {"n": f"{value / 60:.0f}"}
    whole = max(1, round(value))
    return ngettext("%(n)d minute", "%(n)d minutes", whole) % {"n": whole}


ACTIONS: dict[str, Any] = {
    "flag.created": _("made the flag"),
    "flag.updated": _("changed the flag"),
    "flag.killed": _("stopped everything"),
    "flag.resumed": _("brought the flag back"),
    "flag.archived": _("archived the flag"),
    "gate.created": _("added a gate"),
    "gate.updated": _("changed a gate"),
    "gate.removed": _("removed a gate"),
    "tier.created": _("added a tier"),
    "tier.updated": _("changed a tier"),
    "tier.removed": _("removed a tier"),
    "stage.created": _("added a stage"),
    "stage.updated": _("changed a stage"),
    "stage.removed": _("removed a stage"),
    "guard.created": _("added a guard"),
    "guard.updated": _("changed a guard"),
    "guard.removed": _("removed a guard"),
    "cohort.created": _("made a cohort"),
    "cohort.updated": _("changed a cohort"),
    "cohort.removed": _("removed a cohort"),
    "attribute.created": _("registered an attribute"),
    "attribute.updated": _("changed an attribute"),
    "attribute.renamed": _("renamed an attribute"),
    "attribute.retired": _("retired an attribute"),
    "attribute.restored": _("took an attribute into use again"),
    "attribute.removed": _("removed an attribute"),
    "list.created": _("made a user list"),
    "list.updated": _("changed a user list"),
    "list.version_applied": _("applied an uploaded list"),
    "list.version_reverted": _("reverted an uploaded list"),
    "list.version_discarded": _("discarded an uploaded list"),
    "profile.forgotten": _("forgot a user"),
    "profile.read_protected": _("read protected values of a user"),
    "retention.applied": _("deleted values at the end of their term"),
    "partner.created": _("added a funding partner"),
    "partner.updated": _("changed a funding partner"),
    "place.released": _("took a user's place back"),
    "case.opened": _("opened a review case"),
    "case.assigned": _("handed a review case over"),
    "case.noted": _("wrote a note in a review case"),
    "case.waiting": _("waits for the customer of a review case"),
    "case.goes_on": _("went on with a review case"),
    "case.withdrawn": _("withdrew a review case"),
    "case.decided": _("decided a review case"),
    "explanation.read_as_risk": _("read anti-fraud signals"),
    "region_policy.created": _("made a region policy"),
    "region_policy.updated": _("changed a region policy"),
    "rollout.created": _("planned a rollout"),
    "rollout.submitted": _("asked for approval"),
    "rollout.approved": _("approved the rollout"),
    "rollout.rejected": _("sent the rollout back"),
    "rollout.started": _("started the rollout"),
    "rollout.clock_set": _("set the sample clock"),
    "rollout.paused": _("paused the rollout"),
    "rollout.resumed": _("went on with the rollout"),
    "rollout.promoted": _("promoted to the next stage"),
    "rollout.completed": _("completed the rollout"),
    "rollout.held": _("held the stage"),
    "rollout.stage_approved": _("approved the promotion"),
    "rollout.stage_widened": _("widened the share"),
    "rollout.draw_begun": _("had the next stage drawn"),
    "rollout.draw_cancelled": _("cancelled a draw"),
    "list.members_moved": _("moved members of a list"),
    "list.version_cancelled": _("cancelled a list version"),
    "rollout.holdback_released": _("released the holdback"),
    "rollout.acting_stopped": _("let the rollout decide without acting"),
    "rollout.acting_resumed": _("let the rollout act on its decisions again"),
    "rollout.rolled_back": _("rolled back"),
    "change.requested": _("asked for a change"),
    "change.approved": _("approved a change"),
    "change.rejected": _("refused a change"),
    "change.withdrawn": _("withdrew a change"),
    "key.created": _("made an API key"),
    "key.revoked": _("revoked an API key"),
    "compliance.created": _("added a compliance item"),
    "compliance.updated": _("changed a compliance item"),
    "compliance.signed": _("signed a compliance item"),
    "compliance.unsigned": _("withdrew a signature"),
    "metric.created": _("made a metric"),
    "metric.updated": _("changed a metric"),
    "webhook.created": _("made a webhook"),
    "text.approved": _("put a text in force"),
    "webhook.updated": _("changed a webhook"),
    "webhook.removed": _("removed a webhook"),
    "webhook.disabled": _("switched a dead webhook off"),
}


def action_in_words(action: str) -> str:
    """What an audit entry's action did; an unknown one is told by its code."""
    return str(ACTIONS.get(action, action))


KINDS: dict[str, Any] = {
    "case.correct": _("correct a fact after a review"),
    "case.grant": _("grant a user the product after a review"),
    "flag.resume": _("bring a killed flag back"),
    "flag.update": _("change a flag"),
    "rollout.promote": _("promote without waiting for evidence"),
    "rollout.resume": _("go on with a paused rollout"),
    "rollout.release_holdback": _("release the holdback"),
    "rollout.dry_run": _("let a rollout decide with or without acting"),
    "stage.save": _("change a stage"),
    "stage.widen": _("widen a running stage"),
    "stage.add_guards": _("add guards to a stage"),
    "gate.save": _("change a gate"),
    "gate.remove": _("remove a gate"),
    "tier.save": _("change a tier"),
    "guard.save": _("change a guard"),
    "guard.remove": _("remove a guard"),
    "cohort.save": _("change a cohort"),
    "attribute.save": _("change an attribute"),
    "list.apply": _("apply an uploaded list"),
    "list.revert": _("revert an uploaded list"),
    "partner.save": _("change a funding partner"),
    "region_policy.save": _("change a region policy"),
    "text.save": _("change what people are told"),
}


def kind_in_words(kind: str) -> str:
    """What a change request asks for."""
    return str(KINDS.get(kind, kind))
