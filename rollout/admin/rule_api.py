"""What the rule editor asks: the words it needs, and what a rule means and reaches."""

from __future__ import annotations

import json
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, JsonResponse
from django.utils.translation import get_language, gettext, pgettext

from cohorts import models
from cohorts.regions import name_of, regions
from cohorts.services import preview
from cohorts.wording import Vocabulary, rule_in_words
from huidu.errors import HuiduError
from rollout.admin import faults
from rollout.services.rules import validate_rule

MAX_BYTES = 512 * 1024


def check_rule(request: HttpRequest) -> JsonResponse:
    """GET: the words of the editor. POST ``{"rule", "count"}``: what the rule says and reaches.

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
    except HuiduError as fault:
        return JsonResponse({"ok": False, "path": fault.path, "message": faults.in_words(fault)})
    answer: dict[str, Any] = {"ok": True, "words": rule_in_words(rule, Vocabulary.load())}
    if asked.get("count"):
        try:
            answer["reach"] = reach(rule, asked.get("cohort"))
        except HuiduError as fault:
            return JsonResponse({"ok": False, "path": "", "message": faults.in_words(fault)})
    return JsonResponse(answer)


def reach(rule: Any, cohort: Any = None) -> dict[str, Any]:
    """How many known users match now, exactly, and in which regions most of them live.

    Args:
        cohort: key of the cohort being edited; then also who would gain and who would lose.
    """
    known = isinstance(cohort, str) and models.Cohort.objects.filter(key=cohort).exists()
    compared = preview.compare({"cohort": cohort} if known else rule, rule)
    found = compared.after
    return {
        "change": gettext("Against now: %(gain)s users gain, %(lose)s users lose")
        % {"gain": f"{compared.gain:,}", "lose": f"{compared.lose:,}"}
        if known
        else "",
        "matched": found.matched,
        "unknown": found.unknown,
        "population": found.population,
        "text": gettext("%(matched)s of %(population)s known users match")
        % {"matched": f"{found.matched:,}", "population": f"{found.population:,}"},
        "unknown_text": gettext("%(unknown)s cannot be judged: data is missing")
        % {"unknown": f"{found.unknown:,}"}
        if found.unknown
        else "",
        "regions": [[region_name(code), f"{count:,}"] for code, count in found.top_regions(6)],
    }


def region_name(code: str | None) -> str:
    return name_of(code, get_language() or "en") if code else gettext("region unknown")


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
        }
        for row in models.Attribute.objects.order_by("id")
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
        "counting": gettext("Counting …"),
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
        "op_in": gettext("is one of"),
        "op_starts_with": gettext("starts with"),
        "op_contains": gettext("contains"),
        "op_within": gettext("is in"),
        "op_^": gettext("same major version as"),
        "op_~": gettext("same minor version as"),
    }
