"""What the rule editor asks: the words it needs, and what a rule means and reaches."""

from __future__ import annotations

import json
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, JsonResponse
from django.utils.translation import get_language, gettext, pgettext

from cohorts import models
from cohorts.regions import regions
from cohorts.wording import Vocabulary, rule_in_words
from huidu import history
from huidu.errors import HuiduError
from rollout.admin import faults, rule_reach
from rollout.services import stages
from rollout.services.rules import validate_rule

MAX_BYTES = 512 * 1024
SAMPLE = "cohorts.view_profile"


def check_rule(request: HttpRequest) -> JsonResponse:
    """GET: the words of the editor. POST ``{"rule", "count"}``: what the rule says and reaches.

    With ``"cohort": KEY``, ``"gate": NUMBER`` or ``"flag": KEY``, the reach is told against the
    cohort or gate as it is, and by the tiers of the flag. With ``"stage": {...}`` it is the reach
    of a stage instead of the rule's (`rule_reach.of_stage`).

    A rule that would be refused answers ``{"ok": false, "path", "message"}``.
    """
    if not request.user.has_perm("cohorts.view_cohort"):
        raise PermissionDenied
    if request.method != "POST":
        return JsonResponse(editor_words())
    if len(request.body) > MAX_BYTES:
        return JsonResponse({"ok": False, "path": "rule", "message": ""}, status=413)
    try:
        asked = json.loads(request.body)
    except ValueError:
        asked = None
    if not isinstance(asked, dict) or "rule" not in asked:
        return JsonResponse({"ok": False, "path": "rule", "message": ""}, status=400)
    rule = asked["rule"]
    try:
        validate_rule(rule, path="rule")
        if isinstance(asked.get("stage"), dict):
            stages.check_weights(asked["stage"].get("weights") or [])
    except HuiduError as fault:
        return JsonResponse({"ok": False, "path": fault.path, "message": faults.in_words(fault)})
    answer: dict[str, Any] = {"ok": True, "words": rule_in_words(rule, Vocabulary.load())}
    if asked.get("count"):
        try:
            answer["reach"] = rule_reach.reach(asked, sample=request.user.has_perm(SAMPLE))
        except HuiduError as fault:
            return JsonResponse({"ok": False, "path": "", "message": faults.in_words(fault)})
    return JsonResponse(answer)


def editor_words() -> dict[str, Any]:
    """Everything the editor shows, in the active language."""
    language = get_language() or "en"
    words = Vocabulary.load()
    attributes = [
        {
            "name": row.name,
            "label": words.attributes[row.name].label,
            "unit": words.attributes[row.name].unit,
            "type": row.type,
            "hysteresis": row.name == history.ATTRIBUTE,
        }
        for row in models.Attribute.objects.filter(retired_at=None).order_by("id")
    ]
    return {
        "attributes": attributes,
        "cohorts": [{"key": key, "label": label} for key, label in words.cohorts.items()],
        "regions": [[each.code, each.name(language)] for each in regions().values()],
        "texts": _texts(),
    }


def _texts() -> dict[str, str]:
    return {
        "all": gettext("all of these hold"),
        "any": gettext("any of these holds"),
        "not": gettext("not"),
        "negate": gettext("turn into its opposite"),
        "everybody": gettext("No conditions: everybody."),
        "add_claim": gettext("Add a condition"),
        "add_group": gettext("Add a group"),
        "add_cohort": gettext("Add a cohort"),
        "add_weight": gettext("Add a weight"),
        "no_weights": gettext("No weights: everybody is drawn alike."),
        "remove": gettext("Remove"),
        "up": gettext("Move up"),
        "attribute": gettext("Attribute"),
        "operator": gettext("Comparison"),
        "value": gettext("Value"),
        "enter": gettext("enters above"),
        "leave": gettext("leaves below"),
        "low": gettext("from"),
        "high": gettext("to"),
        "group": gettext("Group"),
        "cohort": gettext("Cohort"),
        "in_cohort": gettext("is in the cohort"),
        "weight": gettext("times as likely"),
        "draw_weight": gettext("Compared with others, drawn"),
        "json": gettext("Edit as JSON"),
        "visual": gettext("Edit visually"),
        "bad_json": gettext("This is not valid JSON yet."),
        "expert": gettext("This part can only be edited as JSON."),
        "region_hint": gettext("Type a name or a code"),
        "values_hint": gettext("Several values, separated by commas"),
        "count": gettext("How many users match?"),
        "count_stage": gettext("Who is eligible?"),
        "sample_user": gettext("User"),
        "sample_region": gettext("Region"),
        "sample_weekly": gettext("Payments in 7 days"),
        "counting": gettext("Counting …"),
        "everybody_exactly": gettext("Count everybody exactly"),
        "failed": gettext("The server did not answer. Try again."),
        "meaning": gettext("In words"),
        "yes": gettext("yes"),
        "no": gettext("no"),
        "comma": pgettext("between values", ", "),
        "op_==": gettext("is"),
        "op_!=": gettext("is not"),
        "op_<": gettext("less than"),
        "op_<=": gettext("at most"),
        "op_>": gettext("more than"),
        "op_>=": gettext("at least"),
        "op_between": gettext("between"),
        "op_hysteresis": gettext("with hysteresis"),
        "op_in": gettext("is one of"),
        "op_starts_with": gettext("starts with"),
        "op_contains": gettext("contains"),
        "op_within": gettext("is in"),
        "op_^": gettext("same major version as"),
        "op_~": gettext("same minor version as"),
    }
