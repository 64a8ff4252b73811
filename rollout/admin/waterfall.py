"""The population waterfall: who is refused first where, who would gain, and how fair it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import get_language, gettext

from cohorts import downloads
from cohorts.admin.fields import shown_percent
from cohorts.population import people
from cohorts.population.figures import Scale
from cohorts.regions import name_of
from cohorts.wording import label_of
from huidu.errors import HuiduError
from rollout.admin import board, effect_told, faults
from rollout.models import Flag, Tier, WaterfallDay
from rollout.services import waterfall, waterfall_days
from rollout.services.answering import words_for

SHOWN_COLOR = "#16a34a"
COLORS = (
    "#2563eb",
    "#d97706",
    "#7c3aed",
    "#dc2626",
    "#0891b2",
    "#db2777",
    "#65a30d",
    "#475569",
    "#ea580c",
    "#4f46e5",
    "#0d9488",
    "#a16207",
)


def page(request: HttpRequest) -> HttpResponse:
    """GET with ``flag`` counts everybody, with ``now`` as of this moment, with ``format=csv`` as a
    file; without a flag it asks for one.
    """
    if not (
        request.user.has_perm("cohorts.view_profile") and request.user.has_perm("rollout.view_flag")
    ):
        raise PermissionDenied
    environment = board.environment()
    context: dict[str, Any] = {
        **admin.site.each_context(request),
        "title": gettext("Population waterfall"),
        "subtitle": gettext("Who is refused first, and where?"),
        "flags": Flag.objects.filter(archived_at=None, environment=environment).order_by("key"),
        "asked": request.GET.get("flag", ""),
    }
    if context["asked"]:
        try:
            key = context["asked"].replace("\0", "")
            found = waterfall.count(
                environment,
                key,
                now="now" in request.GET,
                everybody="everybody" in request.GET,
            )
        except HuiduError as fault:
            context["fault"] = faults.in_words(fault)
        else:
            if request.GET.get("format") == "csv":
                return _file("waterfall", waterfall.csv_rows(found))
            days = waterfall_days.course(environment, found.flag)
            if request.GET.get("format") == "days":
                return _file("waterfall-by-day", waterfall_days.csv_rows(days))
            context |= _told(found, environment) | {"days": _days(days, environment)}
    return TemplateResponse(request, "huidu/waterfall.html", context)


def _told(found: waterfall.Waterfall, environment: str) -> dict[str, object]:
    scale = found.scale
    named = _names(environment, found.flag)
    rows = Tier.objects.filter(flag__key=found.flag, flag__environment=environment)
    tiers = {each.key: label_of(each) for each in rows}
    left, steps = found.users, []
    for step in found.steps:
        left -= step.refused
        steps.append(
            {
                "label": named(step.key),
                "why": step.why,
                "refused": effect_told.figure(scale, step.refused),
                "left": effect_told.figure(scale, left),
                "left_width": _width(left, found.users),
                "refused_width": _width(step.refused, found.users),
                "eligible": _more(scale, step.eligible),
                "gained": _more(scale, step.gained),
            }
        )
    language = get_language() or "en"
    return {
        "found": found,
        "exact": scale.exact,
        "too_many": people.too_many(),
        "users": f"{scale.users:,}",
        "shown": effect_told.figure(scale, found.shown),
        "open": effect_told.figure(scale, found.open),
        "steps": steps,
        "groups": [
            (gettext("Region"), _shares(scale, found.regions, lambda key: name_of(key, language))),
            (gettext("Tier"), _shares(scale, found.tiers, lambda key: tiers.get(key, key))),
            (gettext("Weight in the draw"), _shares(scale, found.weights, str)),
        ],
    }


def _names(environment: str, flag_key: str) -> Callable[[str], str]:
    """What people call a gate by its key, or a refusal by its code."""
    gates = words_for(environment, flag_key).gates
    chinese = (get_language() or "en").startswith("zh")

    def named(key: str) -> str:
        gate = gates.get(key)
        label = (gate.label_zh if chinese else gate.label_en) if gate is not None else ""
        return label or effect_told.code_named(key)

    return named


def _width(users: int, whole: int) -> str:
    return f"{100 * users / max(whole, 1):.2f}"


def _more(scale: Scale, counted: int | None) -> str:
    return "—" if counted is None else effect_told.in_digits(scale.of(counted), "+")


def _percent(part: float) -> str:
    """A share with two decimals."""
    return shown_percent(round(part * 10_000) * 100)


def _shares(
    scale: Scale, groups: dict[str, waterfall.Share], named: Callable[[str], str]
) -> list[dict[str, object]]:
    return [
        {
            "label": named(key) if key else gettext("unknown"),
            "users": effect_told.figure(scale, each.users),
            "shown": effect_told.figure(scale, each.shown),
            "share": _part(scale, each),
        }
        for key, each in groups.items()
    ]


def _part(scale: Scale, group: waterfall.Share) -> str:
    """The share of a group that is shown it, with its error where a sample was read."""
    told = _percent(group.part)
    whole = scale.of(group.users).users
    if scale.exact or not group.users:
        return told
    error = Scale(group.users, whole).of(group.shown).error / whole
    return f"≈ {told} ± {_percent(error)}"


def _days(rows: list[WaterfallDay], environment: str) -> list[dict[str, object]]:
    """Each day as one bar: the shown, then the refused by their first gate."""
    if not rows:
        return []
    named = _names(environment, rows[0].flag_key)
    days = []
    for row in rows:
        parts = [{"name": gettext("Shown"), "users": row.shown, "color": SHOWN_COLOR}]
        for place, each in enumerate(row.steps):
            color = COLORS[place % len(COLORS)]
            name = named(each["key"])
            parts.append({"name": name, "users": each["refused"], "color": color})
        whole = max(row.users, 1)
        days.append(
            {
                "row": row,
                "share": _percent(row.shown / whole),
                "parts": [
                    {**part, "width": _width(int(str(part["users"])), whole)}
                    for part in parts
                    if part["users"]
                ],
            }
        )
    return days


def _file(name: str, rows: list[tuple[str, ...]]) -> HttpResponse:
    return downloads.as_csv(rows, f"{name}.csv")
