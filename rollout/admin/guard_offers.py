"""Guards from templates: one page, ticked and ready, with what each one means."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldBooleanWidget

from cohorts.admin.fields import UnitInput
from cohorts.wording import label_of
from rollout.admin.acts import Act, ReasonForm
from rollout.models import Guard, Metric, Stage
from rollout.services import changes, guard_templates, readings
from rollout.services.audit import Actor
from rollout.services.guard_templates import Offer


class OffersForm(ReasonForm):
    """A tick, a role and a limit for every template that is still open."""

    offers: tuple[Offer, ...] = ()
    reason = forms.CharField(
        label=_("Reason"),
        max_length=2_000,
        required=False,
        help_text=_("One sentence for the audit log: what changes, and why."),
        widget=ReasonForm.base_fields["reason"].widget,
    )

    def lines(self) -> list[dict[str, Any]]:
        """What the page shows, a line an offer."""
        return [
            {
                "name": label_of(each.guard.metric),
                "why": each.template.why,
                "is_there": each.is_there,
                "metric_is_new": each.metric_is_new,
                "words": [_marked(text, each.guard) for text in readings.words(each.guard) if text],
                "pick": None if each.is_there else self[f"pick_{each.template.key}"],
                "role": None if each.is_there else self[f"role_{each.template.key}"],
                "limit": None if each.is_there else self[f"limit_{each.template.key}"],
            }
            for each in self.offers
        ]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        chosen = []
        for each in self.offers:
            key = each.template.key
            if each.is_there or not cleaned.get(f"pick_{key}"):
                continue
            limit = cleaned.get(f"limit_{key}")
            entry: dict[str, Any] = {"template": key, "role": cleaned.get(f"role_{key}")}
            if _is_gauge(each):
                entry["maximum"] = limit
            elif limit is not None:
                entry["margin_rel"] = limit / 100
            chosen.append(entry)
        if not chosen:
            raise forms.ValidationError(_("Choose at least one guard."))
        cleaned["guards"] = chosen
        return cleaned


def form_for(stage: Stage) -> type[OffersForm]:
    """The form of one stage: fields for every template whose metric does not guard it yet."""
    offers = tuple(guard_templates.offered(stage))
    fields: dict[str, Any] = {"offers": offers}
    for each in offers:
        if each.is_there:
            continue
        key, guard = each.template.key, each.guard
        fields[f"pick_{key}"] = forms.BooleanField(
            required=False, initial=True, widget=UnfoldBooleanWidget()
        )
        roles = [
            choice
            for choice in Guard.Role.choices
            if not (_is_gauge(each) and choice[0] == Guard.Role.MUST_PROVE)
        ]
        fields[f"role_{key}"] = forms.ChoiceField(
            choices=roles, initial=guard.role, widget=UnfoldAdminSelectWidget()
        )
        if _is_gauge(each):
            fields[f"limit_{key}"] = forms.FloatField(
                initial=guard.maximum, widget=UnitInput(guard.metric.unit)
            )
        else:
            fields[f"limit_{key}"] = forms.FloatField(
                initial=f"{(guard.margin_rel or 0) * 100:g}",
                min_value=0.01,
                max_value=1_000,
                widget=UnitInput("%", {"data-margin": key}),
            )
    return type("OffersForm", (OffersForm,), fields)


def _is_gauge(offer: Offer) -> bool:
    return bool(offer.guard.metric.kind == Metric.Kind.GAUGE)


def _marked(sentence: str, guard: Guard) -> SafeString:
    """The sentence with its margin and half of it in places that follow what is typed."""
    told = str(escape(sentence))
    if guard.margin_rel is not None:
        for name, share in (("half", guard.margin_rel / 2), ("margin", guard.margin_rel)):
            text = readings.percent(share)
            marked = f'<b data-{name}-of="{guard.metric.key}">{text}</b>'
            told = told.replace(f" {text}", f" {marked}", 1)
    return mark_safe(told)  # noqa: S308 - escaped above


def _run(stage: Stage, by: Actor, values: dict[str, Any]) -> Any:
    filed = changes.do_or_request(
        "stage.add_guards",
        stage.pk,
        {"guards": values["guards"]},
        environment=stage.rollout.flag.environment,
        by=by,
        reason=values["reason"] or gettext("guards from templates"),
    )
    return filed or gettext("%(n)s guards added.") % {"n": len(values["guards"])}


ADD_GUARDS = Act(
    name="guards",
    title=_("Add guards from templates"),
    icon="verified_user",
    form_for=form_for,
    template="huidu/guard_offers.html",
    does=lambda stage: gettext(
        "What a consumer loan usually watches. Change what does not fit, then add all of it with "
        "one click; each guard can still be changed until the stage starts."
    ),
    run=_run,
    fits=lambda stage: (
        stage.status == Stage.Status.PENDING
        and any(not each.is_there for each in guard_templates.offered(stage))
    ),
)
