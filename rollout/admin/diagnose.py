"""User diagnosis: why one user sees a product, or does not, step by step."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, cast

import msgspec
from django import forms
from django.contrib import admin, messages
from django.contrib.auth.models import AbstractBaseUser
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
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
from cohorts.admin.fields import shown_percent
from cohorts.admin.users import RISK_PERMISSION
from cohorts.models import Profile
from cohorts.wording import label_of, number
from huidu import model
from huidu.engine import Compiled
from huidu.errors import HuiduError
from rollout.admin import board, faults, step_lines
from rollout.admin.base import actor
from rollout.explanations import Wording, tell
from rollout.models import Case, Flag
from rollout.services import (
    audit,
    cases,
    places_told,
    reading,
    receipts,
    replay_receipts,
    since,
    voices,
)
from rollout.services.answering import compiled_snapshot, snapshot_in_force, standing, words_at


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


def diagnose(request: HttpRequest) -> HttpResponse:
    """GET with ``flag`` and ``user`` answers; without them it asks."""
    if not request.user.has_perm("cohorts.view_profile"):
        raise PermissionDenied
    if decision := request.GET.get("decision", "").strip().upper():
        return _of_decision(request, decision)
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
        if request.method == "POST":
            return _open_case(request, form.cleaned_data)
        try:
            context.update(_answer(request, form.cleaned_data))
        except HuiduError as fault:
            form.add_error(None, faults.in_words(fault))
    return TemplateResponse(request, "huidu/diagnose.html", context)


def _of_decision(request: HttpRequest, decision: str) -> HttpResponse:
    """The permalink of an answer that was given: explained from its receipt."""
    receipt = receipts.find(board.environment(), decision)
    flag = (
        receipt and Flag.objects.filter(environment=receipt.environment, key=receipt.flag).first()
    )
    risk = request.user.has_perm(RISK_PERMISSION)
    initial = {"flag": flag.key, "user": receipt.user} if receipt and flag else {}
    context: dict[str, Any] = {
        **admin.site.each_context(request),
        "title": gettext("User diagnosis"),
        "subtitle": gettext("An answer that was given"),
        "form": DiagnoseForm(initial=initial, risk=risk),
        "decision": decision,
    }
    if receipt is None or not flag:
        context["fault"] = gettext("No receipt of this decision is kept.")
        return TemplateResponse(request, "huidu/diagnose.html", context)
    try:
        compiled, version, _found, user = replay_receipts.explain_again(receipt)
        differ = replay_receipts.differences(receipt)
    except HuiduError as fault:
        context["fault"] = faults.in_words(fault)
        return TemplateResponse(request, "huidu/diagnose.html", context)
    at = datetime.fromtimestamp(receipt.at_ms / 1000, UTC)
    reason = request.GET.get("reason", "").strip() if risk else ""
    asked = {"flag": flag, "user": receipt.user, "reason": reason, "since": None}
    context |= _told(request, asked, compiled, version, user, at, decided=True)
    context |= {"receipt": receipt, "answered_at": at, "differ": differ}
    return TemplateResponse(request, "huidu/diagnose.html", context)


def _open_case(request: HttpRequest, asked: dict[str, Any]) -> HttpResponse:
    """Support asks for a review by a person, for the customer at the other end of the line."""
    if not request.user.has_perm("rollout.add_case"):
        raise PermissionDenied
    case, new = cases.open_case(
        board.environment(),
        asked["flag"].key,
        asked["user"],
        by=actor(request),
        channel=Case.Channel.SUPPORT,
        claim=request.POST.get("claim", "")[: cases.MAX_TEXT].replace("\0", ""),
        at=asked["at"],
    )
    told = (
        gettext("Review case #%(number)s is open.")
        if new
        else gettext("Review case #%(number)s was open already.")
    )
    messages.success(request, told % {"number": case.pk})
    return HttpResponseRedirect(reverse("admin:rollout_case_change", args=(case.pk,)))


def _answer(request: HttpRequest, asked: dict[str, Any]) -> dict[str, Any]:
    environment, now = board.environment(), asked["at"] or timezone.now()
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
    return _told(request, asked, compiled, version, user, now)


def _told(
    request: HttpRequest,
    asked: dict[str, Any],
    compiled: Compiled,
    version: str,
    user: model.User,
    now: datetime,
    *,
    decided: bool = False,
) -> dict[str, Any]:
    """What the page shows about one check by one snapshot."""
    environment, flag = board.environment(), asked["flag"]
    known = standing(environment, flag.key)
    found = places_told.settled(compiled.explain(flag.key, user), known, at=now)
    risk = bool(asked.get("reason"))
    if risk:
        by = audit.Actor.of_user(cast(AbstractBaseUser, request.user))
        reading.note(by, environment, flag.key, asked["user"], reason=asked["reason"])
    past = asked.get("at") is not None or decided
    words = words_at(environment, flag.key, now) if past else known.words
    published = compiled.flags.get(flag.key)
    language = "zh" if (get_language() or "").startswith("zh") else "en"
    audience = "risk" if risk else "support"
    inside = voices.voice(
        compiled, found, user, audience=audience, language=language, words=words, at=now
    )
    secret = frozenset() if risk else words.secret
    customer = {
        each: tell(found, published, audience="customer", language=each, words=words)
        for each in ("zh", "en")
    }
    underway = Case.objects.filter(
        flag=flag, user_id=asked["user"], status__in=Case.UNDER_WAY
    ).first()
    return {
        "open_case": underway,
        "may_open_case": underway is None and request.user.has_perm("rollout.add_case"),
        "asked_flag": flag,
        "asked_user": asked["user"],
        "known": Profile.objects.filter(pk=asked["user"]).exists(),
        "answer": inside,
        "answer_json": json.dumps(inside["payload"], ensure_ascii=False, indent=2)
        if inside["payload"]
        else "",
        "customer": customer,
        "steps": step_lines.lines(inside, flag, words.gates),
        "draw": _draw(inside["draw"]),
        "stage_name": _stage_name(flag, inside["stage"]),
        "version": version,
        "sequence": found.sequence,
        "risk_voice": risk,
        "advice": inside["changes"],
        "entry": inside["when"] if "enters_at_ppm" in (inside["when"] or {}) else None,
        "calm": [
            {**each, "gate": _gate_name(words, each["gate"])} for each in inside.get("calm", ())
        ],
        "changed": since.changed(
            environment, flag.key, asked["since"], now, compiled=compiled, user=user, secret=secret
        )
        if asked["since"]
        else None,
        "hints": [
            gettext("%(attribute)s: %(value)s, needed %(wanted)s, %(gap)s short")
            % {
                "attribute": each["label"],
                "value": number(each["value"]),
                "wanted": each["wanted"],
                "gap": number(each["gap"]),
            }
            for each in inside["missing"]
        ],
    }


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


def _gate_name(words: Wording, key: str) -> str:
    gate = words.gates.get(key)
    return label_of(gate) if gate is not None else key


def _stage_name(flag: Flag, key: str | None) -> str:
    if not key:
        return "—"
    journey = flag.rollouts.order_by("-slot").filter(stages__key=key).first()
    stage = journey.stages.filter(key=key).first() if journey else None
    return label_of(stage) if stage else key
