"""Decisions: what was decided, why, on which evidence, and the way back to it."""

from __future__ import annotations

import math
from typing import Any, cast

from django.contrib import admin
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display

from cohorts.admin.base import ReadOnlyAdmin, badge, folded_json
from cohorts.wording import label_of, shown_percent
from huidu.errors import EvidenceError
from rollout.admin import board, charts
from rollout.admin.base import ToldMixin
from rollout.models import Decision
from rollout.services import replay
from rollout.services.wording import number, outcome_in_words, ramp_in_words

VERDICT_KIND = {"hold": "warn", "promote": "good", "roll_back": "bad"}
MOST_LOOKS = 400
"""Looks the chart draws; older ones are thinned out."""


def recent(*, most: int, **where: Any) -> list[dict[str, Any]]:
    """The last decisions, in words, newest first."""
    labels = board.metric_labels()
    rows = (
        Decision.objects.filter(**where)
        .select_related("stage__rollout__flag")
        .defer("plan", "state", "state_after", "evidence")[:most]
    )
    return [
        {
            "row": row,
            "badge": verdict(row),
            "stage": label_of(row.stage),
            "flag": label_of(row.stage.rollout.flag),
            "reasons": outcome_in_words(row.outcome, labels)[:3],
        }
        for row in rows
    ]


def verdict(row: Decision) -> SafeString:
    """The verdict; a step of a ramp is told as such, and what was only decided as that."""
    told = row.get_decision_display()
    kind = VERDICT_KIND.get(row.decision, "")
    if row.decision == Decision.Verdict.HOLD and row.acted:
        return badge(gettext("share grew"), "good")
    if row.dry_run and row.decision != Decision.Verdict.HOLD:
        told = gettext("%(verdict)s (only decided)") % {"verdict": told}
    return badge(told, kind)


@admin.register(Decision)
class DecisionAdmin(ToldMixin, ReadOnlyAdmin):
    """One look at one stage."""

    change_form_outer_before_template = "huidu/decision.html"
    list_display = (
        "at",
        "verdict_badge",
        "flag_name",
        "stage_name",
        "look",
        "reason",
        "acted",
        "by",
    )
    list_filter = ("decision", "acted", "dry_run", "stage__rollout__flag")
    list_select_related = ("stage__rollout__flag",)
    search_fields = ("code", "metric", "stage__key", "stage__rollout__flag__key")
    date_hierarchy = "at"
    fields = (("code", "metric"), ("acted", "by"))

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).defer("plan", "state", "state_after", "evidence")

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        self.labels = board.metric_labels()
        return super().get_changelist_instance(request)

    @display(description=_("verdict"), ordering="decision")
    def verdict_badge(self, row: Decision) -> SafeString:
        return verdict(row)

    @display(description=_("flag"))
    def flag_name(self, row: Decision) -> str:
        return label_of(row.stage.rollout.flag)

    @display(description=_("stage"))
    def stage_name(self, row: Decision) -> str:
        return label_of(row.stage)

    @display(description=_("reason"))
    def reason(self, row: Decision) -> str:
        told = outcome_in_words(row.outcome, self.labels)
        more = len(told) - 1
        return told[0] + (gettext(" (and %(n)s more)") % {"n": more} if more > 0 else "")

    def told(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        return page_of(row)


def page_of(row: Decision) -> dict[str, Any]:
    """Everything the page of a decision shows."""
    labels = board.metric_labels()
    return {
        "subtitle": f"{label_of(row.stage.rollout.flag)} · {label_of(row.stage)} #{row.look}",
        "decision": row,
        "verdict_badge": verdict(row),
        "reasons": outcome_in_words(row.outcome, labels),
        "ramp_told": ramp_told(row, labels),
        "readings": readings_of(row, labels),
        "chart": chart_of(row, labels),
        "charts": charts.of_stage(row.stage),
        "users": users_of(row),
        "replayed": replayed(row),
        "raw": [
            folded_json(row.evidence, gettext("Evidence as recorded")),
            folded_json(row.outcome, gettext("Outcome as recorded")),
            folded_json(row.plan, gettext("Plan, where it changed at this look")),
            folded_json(row.state_after, gettext("State carried to the next look")),
        ],
        "newer": Decision.objects.filter(stage=row.stage, look__gt=row.look)
        .order_by("look")
        .first(),
        "older": Decision.objects.filter(stage=row.stage, look__lt=row.look)
        .order_by("-look")
        .first(),
    }


def ramp_told(row: Decision, labels: dict[str, str]) -> str:
    """What this look meant for the stage's ramp, in one sentence; "" without a step to take."""
    ramp = row.ramp or {}
    answer = ramp.get("answer") or {}
    if answer.get("to_ppm") is None:
        return ""
    given = {
        "before": shown_percent(ramp["given"]["share_ppm"]),
        "after": shown_percent(answer["to_ppm"]),
    }
    if row.acted:
        return gettext("The share grew from %(before)s to %(after)s.") % given
    if answer.get("grows"):
        return gettext("The share could grow from %(before)s to %(after)s.") % given
    given["reasons"] = "; ".join(ramp_in_words(row.ramp, labels))
    return gettext("The share stays at %(before)s; %(after)s waits for: %(reasons)s.") % given


def plan_in_force(row: Decision) -> dict[str, Any]:
    """The plan the decision was made by: its own, or the last one written before it."""
    if row.plan:
        return cast(dict[str, Any], row.plan)
    before = Decision.objects.filter(stage=row.stage_id, look__lte=row.look).exclude(plan={})
    return cast(
        dict[str, Any], before.order_by("-look").values_list("plan", flat=True).first() or {}
    )


def readings_of(row: Decision, labels: dict[str, str]) -> list[dict[str, Any]]:
    """One line a guard: both arms, the estimate with its interval, evidence against its limit."""
    plan = plan_in_force(row)
    metrics = {each["name"]: each for each in plan.get("metrics", [])}
    alpha = (plan.get("alpha") or {}).get("rollback") or 0.05
    arms = arms_of(row)
    lines = []
    for reading in row.outcome.get("readings") or []:
        metric = metrics.get(reading["metric"], {})
        e_value = reading.get("e_value") or 1.0
        z, bound = reading.get("z"), reading.get("bound")
        lines.append(
            {
                "name": labels.get(reading["metric"], reading["metric"]),
                "role": role_in_words(metric.get("role")),
                "kind": metric.get("kind", ""),
                "treated": arms.get((reading["metric"], "t"), ""),
                "control": arms.get((reading["metric"], "c"), ""),
                "estimate": number(reading["estimate"]) if reading.get("estimate") else "—",
                "interval": f"{number(reading['low'])} – {number(reading['high'])}"
                if reading.get("low") is not None and reading.get("high") is not None
                else "—",
                "margin": margin_in_words(metric),
                "e_value": number(e_value),
                "e_limit": number(1 / alpha),
                "e_share": min(
                    100, max(1, round(100 * math.log1p(e_value) / math.log1p(1 / alpha)))
                ),
                "harm": e_value >= 1 / alpha,
                "z": number(z) if z is not None else "—",
                "bound": number(bound) if bound is not None else "—",
                "proven": z is not None and bound is not None and z >= bound,
            }
        )
    return lines


def role_in_words(role: str | None) -> str:
    from rollout.models import Guard

    return str(dict(Guard.Role.choices).get(role or "", role or ""))


def margin_in_words(metric: dict[str, Any]) -> str:
    if metric.get("margin_rel") is not None:
        sign = "−" if metric.get("harm") == "decrease" else "+"
        return f"{sign}{metric['margin_rel'] * 100:g} %"
    if metric.get("limit_abs") is not None:
        return f"{metric['limit_abs']:g}"
    bounds = [f"≤ {metric['max']:g}"] if metric.get("max") is not None else []
    bounds += [f"≥ {metric['min']:g}"] if metric.get("min") is not None else []
    return ", ".join(bounds) or "—"


def arms_of(row: Decision) -> dict[tuple[str, str], str]:
    """Users with the event of all users, per metric and arm, where the reading is a count."""
    look = row.evidence.get("look") or {}
    sums: dict[tuple[str, str], list[float]] = {}
    for cell in look.get("cells") or []:
        for arm in ("t", "c"):
            side = cell.get(arm) or {}
            for metric, value in (side.get("m") or {}).items():
                if isinstance(value, (int, float)):
                    total = sums.setdefault((metric, arm), [0.0, 0.0])
                    total[0] += value
                    total[1] += side.get("n") or 0
    return {
        key: f"{events:,.0f} / {users:,.0f} ({100 * events / users:.3g} %)"
        for key, (events, users) in sums.items()
        if users
    }


def users_of(row: Decision) -> dict[str, str]:
    """How many users both arms had at this look."""
    cells = (row.evidence.get("look") or {}).get("cells") or []
    totals = {arm: sum((cell.get(arm) or {}).get("n") or 0 for cell in cells) for arm in ("t", "c")}
    return {"treated": f"{totals['t']:,.0f}", "control": f"{totals['c']:,.0f}"}


def replayed(row: Decision) -> dict[str, Any]:
    """Whether deciding again from the record comes to the same answer, tried right now."""
    try:
        differences = replay.replay(row)
    except (EvidenceError, KeyError, ValueError) as error:
        return {"agrees": False, "told": str(error)}
    if differences:
        return {"agrees": False, "told": "; ".join(each.path for each in differences[:5])}
    return {"agrees": True, "told": ""}


def chart_of(row: Decision, labels: dict[str, str]) -> dict[str, Any] | None:
    """The evidence of harm of every guard over the looks so far, as an inline drawing."""
    rows = list(
        Decision.objects.filter(stage=row.stage_id, look__lte=row.look)
        .order_by("look")
        .values_list("look", "outcome__readings", "decision")
    )
    if len(rows) < 2:
        return None
    step = max(1, len(rows) // MOST_LOOKS)
    rows = rows[::step] + ([rows[-1]] if (len(rows) - 1) % step else [])
    width, height, left, bottom = 760, 220, 44, 24
    first, last = rows[0][0], rows[-1][0]
    top = max(
        [math.log10(30)]
        + [
            math.log10(max(1.0, min(each.get("e_value") or 1.0, 1e6)))
            for _look, readings, _decision in rows
            for each in readings or []
        ]
    )

    def x(look: int) -> float:
        return left + (width - left - 8) * (look - first) / max(1, last - first)

    def y(e_value: float) -> float:
        share = math.log10(max(1.0, min(e_value, 1e6))) / top
        return 10 + (height - bottom - 10) * (1 - share)

    lines: dict[str, list[str]] = {}
    for look, readings, _decision in rows:
        for each in readings or []:
            point = f"{x(look):.1f},{y(each.get('e_value') or 1.0):.1f}"
            lines.setdefault(each["metric"], []).append(point)
    return {
        "width": width,
        "height": height,
        "base": height - bottom,
        "left": left,
        "right": width - 8,
        "first": first,
        "last": last,
        "limit_y": f"{y(board.HARM_E_VALUE):.1f}",
        "one_y": f"{y(1):.1f}",
        "lines": [
            {"name": labels.get(name, name), "points": " ".join(points), "number": index % 6}
            for index, (name, points) in enumerate(lines.items())
        ],
    }
