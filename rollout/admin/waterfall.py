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
from cohorts.regions import name_of
from huidu.errors import HuiduError
from rollout.admin import board, faults
from rollout.models import Flag, WaterfallDay
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
    """GET with ``flag`` counts everybody; with ``format=csv`` as a file; without them it asks."""
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
            found = waterfall.count(environment, context["asked"].replace("\0", ""))
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
    language = get_language() or "en"
    gates = words_for(environment, found.flag).gates
    left, steps = found.users, []
    for step in found.steps:
        left -= step.refused
        row = gates.get(step.key)
        label = (row.label_zh if language.startswith("zh") else row.label_en) if row else ""
        steps.append({"label": label or step.key, "step": step, "left": left})
    return {
        "found": found,
        "steps": steps,
        "groups": [
            (gettext("Region"), _shares(found.regions, lambda key: name_of(key, language))),
            (gettext("Tier"), _shares(found.tiers, str)),
            (gettext("Weight in the draw"), _shares(found.weights, str)),
        ],
    }


def _shares(
    groups: dict[str, waterfall.Share], named: Callable[[str], str]
) -> list[dict[str, object]]:
    return [
        {
            "label": named(key) if key else "—",
            "users": each.users,
            "shown": each.shown,
            "share": shown_percent(round(each.part * 1_000_000)),
        }
        for key, each in groups.items()
    ]


def _days(rows: list[WaterfallDay], environment: str) -> list[dict[str, object]]:
    """Each day as one bar: the shown, then the refused by their first gate."""
    if not rows:
        return []
    chinese = (get_language() or "en").startswith("zh")
    gates = words_for(environment, rows[0].flag_key).gates
    days = []
    for row in rows:
        parts = [{"name": gettext("Shown"), "users": row.shown, "color": SHOWN_COLOR}]
        for place, each in enumerate(row.steps):
            gate = gates.get(each["key"])
            label = (gate.label_zh if chinese else gate.label_en) if gate is not None else ""
            color = COLORS[place % len(COLORS)]
            parts.append({"name": label or each["key"], "users": each["refused"], "color": color})
        whole = max(row.users, 1)
        days.append(
            {
                "row": row,
                "share": shown_percent(round(1_000_000 * row.shown / whole)),
                "parts": [
                    {**part, "width": f"{100 * int(str(part['users'])) / whole:.2f}"}
                    for part in parts
                    if part["users"]
                ],
            }
        )
    return days


def _file(name: str, rows: list[tuple[str, ...]]) -> HttpResponse:
    return downloads.as_csv(rows, f"{name}.csv")
