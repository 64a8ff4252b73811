"""User diagnosis: why one user sees a product, or does not, step by step."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

import msgspec
from django import forms
from django.contrib import admin
from django.contrib.auth.models import AbstractBaseUser
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.text import capfirst
from django.utils.translation import get_language, gettext
from django.utils.translation import gettext_lazy as _
from unfold.widgets import (
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from cohorts import selectors as who
from cohorts.admin.base import badge
from cohorts.admin.fields import shown_percent
from cohorts.admin.users import RISK_PERMISSION
from cohorts.models import Profile
from cohorts.wording import SIGNS, Vocabulary, label_of
from huidu import model
from huidu.engine.explain import Explanation
from huidu.errors import HuiduError
from rollout.admin import board, faults
from rollout.advice import advice
from rollout.explanations import tell
from rollout.models import Flag
from rollout.services import audit, reading, since, waiting
from rollout.services.answering import compiled_snapshot, snapshot_in_force, words_for

OUTCOME_KIND = {"pass": "good", "fail": "bad", "unknown": "warn", "skipped": "plain"}
OUTCOMES = {
    "pass": _("passes"),
    "fail": _("refuses"),
    "unknown": _("cannot be judged"),
    "skipped": _("not asked"),
}
STEPS = {
    "kill": _("Emergency stop"),
    "identity": _("Identity"),
    "block_list": _("Block list"),
    "enabled": _("Switched on"),
    "allow_list": _("Allow list"),
    "prerequisite": _("Needed product"),
    "exclusion": _("Exclusion group"),
    "gate": _("Gate"),
    "rollout": _("Rollout"),
    "stage": _("Stage"),
    "tier": _("Tier"),
    "variant": _("Variant"),
}


class FlagField(forms.ModelChoiceField):  # type: ignore[type-arg]
    """Flags by name and key."""

    def label_from_instance(self, obj: Any) -> str:
        return f"{label_of(obj)} ({obj.key})"


class AddedField(forms.JSONField):
    """JSON that may be left out; nothing is shown as nothing."""

    def prepare_value(self, value: Any) -> Any:
        return "" if value is None else super().prepare_value(value)


class DiagnoseForm(forms.Form):
    flag = FlagField(label=_("flag"), queryset=Flag.objects.none(), widget=UnfoldAdminSelectWidget)
    user = forms.CharField(
        label=_("user id"),
        max_length=128,
        widget=UnfoldAdminTextInputWidget(attrs={"autofocus": True, "autocomplete": "off"}),
        error_messages={"required": _("Type the id of a user.")},
    )
    context = AddedField(
        label=_("what the application would add"),
        required=False,
        help_text=_('Optional, JSON such as {"app_version": "8.0.30"}.'),
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2, "class": "hd-mono"}),
    )

    at = forms.DateTimeField(
        label=_("answer as of"),
        required=False,
        help_text=_("Optional: a past moment; empty is now."),
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": "2026-01-31 09:00"}),
    )
    since = forms.DateTimeField(
        label=_("what changed since"),
        required=False,
        help_text=_("Optional: compares the answer of that moment with today's."),
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": "2026-01-31 09:00"}),
    )
    reason = forms.CharField(
        label=_("reason to read anti-fraud signals"),
        required=False,
        max_length=audit.MAX_REASON,
        help_text=_("Kept in the audit log with your name; without it they stay hidden."),
        widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "off"}),
    )

    def __init__(self, *args: Any, risk: bool = False, **options: Any) -> None:
        super().__init__(*args, **options)
        if not risk:
            del self.fields["reason"]
        for each in self.fields.values():
            each.label = capfirst(str(each.label or ""))
        flags = Flag.objects.filter(archived_at=None, environment=board.environment())
        field = self.fields["flag"]
        assert isinstance(field, forms.ModelChoiceField)
        field.queryset = flags.order_by("key")
        field.to_field_name = "key"

    def clean_context(self) -> dict[str, Any]:
        given = self.cleaned_data["context"]
        if given in (None, ""):
            return {}
        if not isinstance(given, dict):
            raise forms.ValidationError(_("Expected a JSON object in braces."))
        return given

    def clean_at(self) -> datetime | None:
        at: datetime | None = self.cleaned_data["at"]
        if at is not None and at > timezone.now():
            raise forms.ValidationError(_("Expected a past moment."))
        return at

    def clean_user(self) -> str:
        user: str = self.cleaned_data["user"]
        if "\0" in user:
            raise forms.ValidationError(_("Type the id of a user."))
        return user


@dataclass(frozen=True)
class StepLine:
    """One step as the page shows it."""

    title: str
    kind: str
    outcome: Any
    state: str
    needs: list[dict[str, str]]
    text: str
    why: str
    link: str
    decides: bool


def diagnose(request: HttpRequest) -> HttpResponse:
    """GET with ``flag`` and ``user`` answers; without them it asks."""
    if not request.user.has_perm("cohorts.view_profile"):
        raise PermissionDenied
    asked = "user" in request.GET
    initial = {"flag": request.GET.get("flag"), "user": request.GET.get("user", "")}
    risk = request.user.has_perm(RISK_PERMISSION)
    form = DiagnoseForm(request.GET if asked else None, initial=initial, risk=risk)
    context: dict[str, Any] = {
        **admin.site.each_context(request),
        "title": gettext("User diagnosis"),
        "subtitle": gettext("Why does this user see it, or not?"),
        "form": form,
        "examples": Profile.objects.order_by("user_id").values_list("user_id", flat=True)[:5]
        if not asked
        else [],
    }
    if asked and form.is_valid():
        try:
            context.update(_answer(request, form.cleaned_data))
        except HuiduError as fault:
            form.add_error(None, faults.in_words(fault))
    return TemplateResponse(request, "huidu/diagnose.html", context)


def _answer(request: HttpRequest, asked: dict[str, Any]) -> dict[str, Any]:
    environment, now = board.environment(), asked["at"] or timezone.now()
    flag: Flag = asked["flag"]
    compiled, version = compiled_snapshot(environment, snapshot_in_force(environment, asked["at"]))
    user = who.held_user(asked["user"], at=now)
    if asked["context"]:
        registry = {each.name: each for each in compiled.snapshot.attributes}
        added = {
            name: value
            for name, value in asked["context"].items()
            if name in registry and registry[name].source is not model.AttributeSource.HELD
        }
        user = msgspec.structs.replace(user, attributes={**user.attributes, **added})
    found = compiled.explain(flag.key, user)
    risk = bool(asked.get("reason"))
    if risk:
        by = audit.Actor.of_user(cast(AbstractBaseUser, request.user))
        reading.note(by, environment, flag.key, asked["user"], reason=asked["reason"])
    words = words_for(environment, flag.key)
    published = compiled.flags.get(flag.key)
    language = "zh" if (get_language() or "").startswith("zh") else "en"
    audience = "risk" if risk else "support"
    inside = tell(found, published, audience=audience, language=language, words=words)
    secret = frozenset() if risk else words.secret
    customer = {
        each: tell(found, published, audience="customer", language=each, words=words)
        for each in ("zh", "en")
    }
    return {
        "asked_flag": flag,
        "asked_user": asked["user"],
        "known": Profile.objects.filter(pk=asked["user"]).exists(),
        "answer": inside,
        "answer_json": json.dumps(inside["payload"], ensure_ascii=False, indent=2)
        if inside["payload"]
        else "",
        "customer": customer,
        "steps": _steps(inside, flag, words.gates, found),
        "draw": _draw(inside["draw"]),
        "stage_name": _stage_name(flag, inside["stage"]),
        "version": version,
        "sequence": found.sequence,
        "risk_voice": risk,
        "advice": advice(compiled, found, user, audience=audience, language=language, words=words),
        "entry": waiting.planned_entry(compiled, found, user),
        "calm": waiting.calm(compiled, found, user, now) if risk else [],
        "changed": since.changed(
            environment, flag.key, asked["since"], now, compiled=compiled, user=user, secret=secret
        )
        if asked["since"]
        else None,
        "hints": [
            gettext("%(attribute)s: %(value)s, needed %(wanted)s, %(gap)s short")
            % {
                "attribute": each["label"],
                "value": each["value"],
                "wanted": each["wanted"],
                "gap": each["gap"],
            }
            for each in inside["missing"]
        ],
    }


def _steps(told: dict[str, Any], flag: Flag, gates: Any, found: Explanation) -> list[StepLine]:
    words = Vocabulary.load()
    stages = {
        stage.key: stage
        for rollout in flag.rollouts.prefetch_related("stages")
        for stage in rollout.stages.all()
    }
    lines: list[StepLine] = []
    for step in told["steps"]:
        kind, outcome = str(step["kind"]), str(step["outcome"])
        if kind == "variant":
            continue
        row = gates.get(step["key"]) if kind == "gate" else stages.get(step["key"])
        lines.append(
            StepLine(
                title=_title(kind, step, row),
                kind=str(STEPS.get(kind, kind)),
                outcome=badge(OUTCOMES.get(outcome, outcome), OUTCOME_KIND.get(outcome, "")),
                state=outcome,
                needs=[_need(each, words) for each in step["needs"]] + _details(kind, step),
                text=step["text"],
                why=step["why"] or "",
                link=_link(kind, row, flag),
                decides=step["why"] == told["why"]
                and not told["visible"]
                and not any(line.decides for line in lines),
            )
        )
    return lines


def _title(kind: str, step: dict[str, Any], row: Any) -> str:
    if row is not None and hasattr(row, "label_zh"):
        return label_of(row)
    return str(step["key"] or STEPS.get(kind, kind))


def _link(kind: str, row: Any, flag: Flag) -> str:
    if row is None:
        return reverse("admin:rollout_flag_change", args=(flag.pk,)) if kind == "kill" else ""
    name = "gate" if kind == "gate" else "stage"
    return reverse(f"admin:rollout_{name}_change", args=(row.pk,))


def _need(need: dict[str, Any], words: Vocabulary) -> dict[str, str]:
    word = words.attributes.get(need["attribute"])
    unit = word.unit if word else ""
    value = need["value"]
    if need["operator"] == "region policy":
        needed = gettext("a region that is open")
    else:
        negation = gettext("not") + " " if need["negated"] else ""
        wanted = _said(need["wanted"], word, words, unit)
        needed = f"{negation}{_operator(need['operator'])} {wanted}"
    return {
        "label": word.label if word else need["attribute"],
        "value": gettext("unknown") if value is None else _said(value, word, words, unit),
        "needed": needed,
        "state": str(need["outcome"]),
    }


def _operator(operator: str) -> str:
    names = {
        "in": gettext("one of"),
        "within": gettext("in"),
        "between": gettext("between"),
        "contains": gettext("contains"),
        "starts_with": gettext("starts with"),
    }
    return names.get(operator) or SIGNS.get(operator, operator)


def _said(value: Any, word: Any, words: Vocabulary, unit: str) -> str:
    from cohorts.regions import name_of

    if isinstance(value, bool):
        return gettext("yes") if value else gettext("no")
    if isinstance(value, (list, tuple)):
        told = [_said(each, word, words, "") for each in value[:6]]
        return ", ".join(told) + (" …" if len(value) > 6 else "")
    if word is not None and word.type == "region" and isinstance(value, str):
        return f"{name_of(value, words.language)} {value}"
    if isinstance(value, float):
        value = round(value, 2)
    return f"{value:,} {unit}".strip() if isinstance(value, (int, float)) else str(value)


def _details(kind: str, step: dict[str, Any]) -> list[dict[str, str]]:
    details = step["details"]
    lines = []
    if kind == "gate" and details.get("region_class"):
        lines.append(
            {
                "label": gettext("class of the region"),
                "value": str(details["region_class"]),
                "needed": gettext("ceiling %(share)s")
                % {"share": shown_percent(details.get("ceiling_ppm"))},
                "state": str(step["outcome"]),
            }
        )
    if kind == "stage":
        drawn = bool(details.get("drawn"))
        lines.append(
            {
                "label": gettext("drawn"),
                "value": gettext("yes") if drawn else gettext("no"),
                "needed": gettext("share %(share)s")
                % {"share": shown_percent(details.get("share_ppm"))},
                "state": "pass" if drawn else "fail",
            }
        )
    return lines


def _draw(draw: dict[str, Any] | None) -> dict[str, Any] | None:
    if draw is None:
        return None
    bucket, threshold, weight = int(draw["bucket"]), int(draw["threshold"]), draw["weight"]
    whole = model.FULL_THRESHOLD
    return {
        **draw,
        "share": shown_percent(draw["share_ppm"]),
        "enters_at": shown_percent(draw["enters_at_ppm"]),
        "position": f"{100 * bucket / whole:.4f}",
        "limit": f"{min(100.0, 100 * threshold * weight / whole):.4f}",
    }


def _stage_name(flag: Flag, key: str | None) -> str:
    if not key:
        return "—"
    journey = flag.rollouts.order_by("-slot").filter(stages__key=key).first()
    stage = journey.stages.filter(key=key).first() if journey else None
    return label_of(stage) if stage else key
