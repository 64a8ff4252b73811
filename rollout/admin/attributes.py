"""The attribute registry: what rules may ask, who may say it, and where it is used."""

from __future__ import annotations

from typing import Any, cast

from django import forms
from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display
from unfold.widgets import UnfoldAdminTextInputWidget

from cohorts.admin.base import badge
from cohorts.models import Attribute, fields
from cohorts.wording import label_of, unit_of
from rollout.admin import board, targets
from rollout.admin.acts import Act, ActsMixin, ReasonForm, calling
from rollout.admin.base import ServiceAdmin, ServiceForm
from rollout.admin.requests import RequestsMixin
from rollout.services import attribute_edits, attribute_uses
from rollout.services.attribute_uses import Use
from rollout.services.audit import Actor

PROTECTED_KIND = {
    Attribute.Sensitivity.FINANCIAL: "warn",
    Attribute.Sensitivity.SENSITIVE: "warn",
    Attribute.Sensitivity.RISK: "bad",
}
KINDS: dict[str, Any] = {
    "cohort": _("cohort"),
    "gate": _("gate"),
    "tier": _("tier"),
    "stage": _("stage"),
    "change": _("change request"),
}
MODELS = {
    "cohort": "cohorts_cohort",
    "gate": "rollout_gate",
    "tier": "rollout_tier",
    "stage": "rollout_stage",
    "change": "rollout_changerequest",
}
MOST_USES = 50


class AttributeForm(ServiceForm):
    class Meta:
        model = Attribute
        fields = tuple(sorted(attribute_edits.EDITABLE))

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if self.instance.built_in:
            for name in attribute_edits.EDITABLE - attribute_edits.DESCRIBING:
                if name in self.fields:
                    self.fields[name].disabled = True


class RenameForm(ReasonForm):
    name = forms.CharField(
        label=_("New name"),
        max_length=63,
        validators=[fields.valid_name],
        widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "off"}),
    )
    field_order = ("name", "reason")


def _removed(row: Attribute, by: Actor, values: dict[str, Any]) -> HttpResponse:
    attribute_edits.remove(row, by=by, reason=values["reason"])
    return HttpResponseRedirect(reverse("admin:cohorts_attribute_changelist"))


def _nothing_rests_on(row: Attribute) -> bool:
    return not row.built_in and row.held_since is None and not attribute_uses.uses_of(row.name)


ACTS = (
    Act(
        name="retire",
        title=_("Retire"),
        icon="archive",
        does=lambda row: (
            gettext(
                "From now on no rule may use “%(name)s” and no value is taken: feeds that still "
                "send it have those items rejected. Values that are held stay for their term, and "
                "past answers are explained as before. You can take it into use again."
            )
            % {"name": label_of(row, row.name)}
        ),
        run=calling(attribute_edits.retire),
        fits=lambda row: not row.built_in and row.retired_at is None,
    ),
    Act(
        name="restore",
        title=_("Use again"),
        icon="unarchive",
        does=lambda row: (
            gettext("Rules may use “%(name)s” again, and values are taken.")
            % {"name": label_of(row, row.name)}
        ),
        run=calling(attribute_edits.restore),
        fits=lambda row: row.retired_at is not None,
    ),
    Act(
        name="rename",
        title=_("Rename"),
        icon="edit",
        form=RenameForm,
        initial=lambda row: {"name": row.name},
        does=lambda row: (
            gettext(
                "Changes the name that rules and feeds use, “%(name)s”. No rule uses it and no "
                "value was ever held, so nothing else changes. What people read are the labels: "
                "those can change at any time."
            )
            % {"name": row.name}
        ),
        run=calling(attribute_edits.rename, "name"),
        fits=_nothing_rests_on,
    ),
    Act(
        name="remove",
        title=_("Delete"),
        icon="delete",
        kind="danger",
        permission="delete",
        does=lambda row: (
            gettext(
                "Takes “%(name)s” out of the registry. No rule uses it and no value was ever held, "
                "so no user notices anything."
            )
            % {"name": label_of(row, row.name)}
        ),
        run=_removed,
        fits=_nothing_rests_on,
    ),
)


class RetiredFilter(admin.SimpleListFilter):
    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("open", _("in use")), ("retired", _("retired"))]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        if self.value() in ("open", "retired"):
            return queryset.filter(retired_at__isnull=self.value() == "open")
        return queryset


@admin.register(Attribute)
class AttributeAdmin(RequestsMixin, ActsMixin, ServiceAdmin):
    """What rules may ask about a user."""

    form = AttributeForm
    acts = ACTS
    change_kind = "attribute.save"
    change_form_outer_before_template = "huidu/attribute_header.html"
    list_display = ("named", "code", "type", "unit_name", "source", "protection", "kept", "state")
    list_filter = (RetiredFilter, "type", "source", "sensitivity", "built_in")
    search_fields = ("name", "label_zh", "label_en")
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("name", "type"),
                    ("label_zh", "label_en"),
                    ("source", "unit"),
                    ("minimum", "maximum"),
                )
            },
        ),
        (_("Protection of personal data"), {"fields": (("sensitivity", "retention_days"),)}),
    )

    @display(description=_("attribute"), ordering="name")
    def named(self, row: Attribute) -> str:
        return label_of(row, row.name)

    @display(description=_("name in rules"), ordering="name")
    def code(self, row: Attribute) -> SafeString:
        return format_html('<code class="hd-code">{}</code>', row.name)

    @display(description=_("unit"))
    def unit_name(self, row: Attribute) -> str:
        return unit_of(row.unit) or row.unit or "—"

    @display(description=_("sensitivity"), ordering="sensitivity")
    def protection(self, row: Attribute) -> SafeString:
        kind = PROTECTED_KIND.get(Attribute.Sensitivity(row.sensitivity), "")
        return badge(row.get_sensitivity_display(), kind)

    @display(description=_("kept for"), ordering="retention_days")
    def kept(self, row: Attribute) -> str:
        return kept_in_words(row)

    @display(description=_("state"), ordering="retired_at")
    def state(self, row: Attribute) -> SafeString:
        if row.retired_at is not None:
            return badge(gettext("retired"), "warn")
        return badge(gettext("built in") if row.built_in else gettext("in use"), "good")

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        return ("name",) if obj else ()

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False  # deleting is one of the steps, with its reason

    def environment_of(self, form: Any, row: Any) -> str:
        return board.environment()

    def payload(self, form: Any, row: Any) -> dict[str, Any]:
        return cast(dict[str, Any], form.values(attribute_edits.EDITABLE, changed_only=True))

    def create(self, form: ServiceForm, by: Actor) -> Model:
        values = form.values(attribute_edits.EDITABLE)
        return attribute_edits.save_attribute(values, by=by, reason=form.said_reason)

    def told(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        uses = attribute_uses.uses_of(row.name)
        return {
            **super().told(request, row),
            "subtitle": label_of(row, row.name),
            "attribute": row,
            "status_badge": self.state(row),
            "uses": [_line(use) for use in uses[:MOST_USES]],
            "more_uses": len(uses) - MOST_USES,
        }


def kept_in_words(row: Attribute) -> str:
    """How long a held value stays."""
    if row.source == Attribute.Source.CALLER:
        return gettext("never held")
    if row.retention_days is None:
        return gettext("as long as the profile")
    return gettext("%(n)s days") % {"n": f"{row.retention_days:,}"}


def _line(use: Use) -> dict[str, Any]:
    return {
        "kind": KINDS[use.kind],
        "name": use.name if use.kind == "change" else targets.name_of_row(use.row),
        "code": use.name,
        "live": use.live,
        "url": reverse(f"admin:{MODELS[use.kind]}_change", args=(use.row.pk,)),
    }
