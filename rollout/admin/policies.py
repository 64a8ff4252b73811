"""Policies: region policies, compliance items, exclusion groups."""

from __future__ import annotations

import json
from typing import Any, cast

from django.contrib import admin
from django.db.models import Count, Model
from django.http import HttpRequest
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import get_language, gettext
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display

from cohorts.admin.base import ReadOnlyAdmin, badge
from cohorts.admin.fields import shown_percent
from cohorts.regions import name_of
from cohorts.wording import label_of
from huidu.model import PPM
from rollout.admin.acts import Act, ActsMixin
from rollout.admin.base import ServiceAdmin, ServiceForm
from rollout.admin.region_form import ClassesField, RegionsField
from rollout.models import ComplianceItem, ExclusionGroup, RegionPolicy
from rollout.services import compliance, region_policies
from rollout.services.audit import Actor


class RegionPolicyForm(ServiceForm):
    classes = ClassesField(
        label=_("classes"),
        help_text=_(
            "One a line: key | ceiling in percent | Chinese name | English name | payload as JSON. "
            "A ceiling of 0 closes a region; 82 shows the product to at most 82 % of its users."
        ),
    )
    regions = RegionsField(
        label=_("regions"),
        required=False,
        help_text=_(
            "One a line: code or name, then the key of a class, such as “440300 open”. A city "
            "without a line takes its province's class, then the default."
        ),
    )

    class Meta:
        model = RegionPolicy
        fields = ("environment", "key", "label_zh", "label_en", "default_class", "source")

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if self.instance.pk:
            self.initial["classes"] = [
                {
                    "key": each.key,
                    "ceiling_ppm": each.ceiling_ppm,
                    "label_zh": each.label_zh,
                    "label_en": each.label_en,
                    "payload": each.payload,
                }
                for each in self.instance.classes.all()
            ]
            self.initial["regions"] = {
                each.code: each.region_class.key
                for each in self.instance.assignments.select_related("region_class")
            }
        else:
            self.initial.setdefault(
                "classes",
                [
                    {"key": "open", "ceiling_ppm": PPM, "label_zh": "开放", "label_en": "open"},
                    {"key": "closed", "ceiling_ppm": 0, "label_zh": "关闭", "label_en": "closed"},
                ],
            )

    def field_of(self, path: str) -> str | None:
        if path.startswith("regions"):
            return "regions"
        return "default_class" if path == "default" else super().field_of(path)


@admin.register(RegionPolicy)
class RegionPolicyAdmin(ServiceAdmin):
    """A class for every region, changed as one step."""

    form = RegionPolicyForm
    change_form_outer_before_template = "huidu/region_header.html"
    list_display = ("named", "key", "environment", "default_class", "regions_named", "version")
    list_filter = ("environment",)
    search_fields = ("key", "label_zh", "label_en", "source")
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("environment", "key"),
                    ("label_zh", "label_en"),
                    "classes",
                    "default_class",
                    "regions",
                    "source",
                )
            },
        ),
    )

    def get_fieldsets(self, request: HttpRequest, obj: Model | None = None) -> Any:
        """Who may only read finds classes and regions in the table above; they are no columns."""
        fieldsets = super().get_fieldsets(request, obj)
        if obj is None or self.has_change_permission(request, obj):
            return fieldsets
        return [
            (
                name,
                {
                    **told,
                    "fields": [
                        each for each in told["fields"] if each not in ("classes", "regions")
                    ],
                },
            )
            for name, told in fieldsets
        ]

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).annotate(regions=Count("assignments"))

    @display(description=_("region policy"), ordering="key")
    def named(self, row: RegionPolicy) -> str:
        return label_of(row)

    @display(description=_("regions named"))
    def regions_named(self, row: Any) -> int:
        return int(row.regions)

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        return ("environment", "key") if obj else ()

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def write(self, request: HttpRequest, form: ServiceForm, obj: Any, by: Actor) -> Model:
        data = form.cleaned_data
        return region_policies.save_region_policy(
            obj.environment if obj else data["environment"],
            obj.key if obj else data["key"],
            classes={
                each["key"]: {name: value for name, value in each.items() if name != "key"}
                for each in data["classes"]
            },
            regions=data["regions"] or {},
            default=data["default_class"],
            by=by,
            labels={"label_zh": data["label_zh"], "label_en": data["label_en"]},
            source=data["source"],
            reason=form.said_reason,
        )

    def told(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        language = get_language() or "en"
        assigned: dict[int, list[str]] = {}
        for each in row.assignments.all():
            assigned.setdefault(each.region_class_id, []).append(name_of(each.code, language))
        classes = [
            {
                "name": label_of(each),
                "ceiling": shown_percent(each.ceiling_ppm),
                "closed": each.ceiling_ppm == 0,
                "payload": json.dumps(each.payload, ensure_ascii=False) if each.payload else "",
                "regions": assigned.get(each.pk, []),
                "is_default": each.key == row.default_class,
            }
            for each in row.classes.all()
        ]
        return {"classes": classes, "flags": row.gates.select_related("flag")}


class ComplianceForm(ServiceForm):
    class Meta:
        model = ComplianceItem
        fields = ("flag", *sorted(compliance.EDITABLE))


def _sign(row: ComplianceItem, by: Actor, values: dict[str, Any]) -> str:
    compliance.sign(row, by=by, reason=values["reason"])
    return gettext("Signed by %(person)s.") % {"person": by.person}


SIGN = Act(
    name="sign",
    title=_("Sign"),
    icon="draw",
    kind="primary",
    does=lambda row: (
        gettext(
            "You confirm under your name that this holds: %(text)s. Say in the reason what you "
            "checked."
        )
        % {"text": text_of(row)}
    ),
    touched=lambda row: gettext("Nobody sees more or less by it; it lets the rollout start."),
    run=_sign,
    fits=lambda row: not row.signed_by,
)


def text_of(row: ComplianceItem) -> str:
    zh = (get_language() or "").startswith("zh")
    return (row.text_zh or row.text_en) if zh else (row.text_en or row.text_zh)


@admin.register(ComplianceItem)
class ComplianceItemAdmin(ActsMixin, ServiceAdmin):
    """What must be signed before a rollout starts."""

    form = ComplianceForm
    acts = (SIGN,)
    change_form_outer_before_template = "huidu/acts_header.html"
    list_display = ("key", "flag_name", "text", "signature", "valid_from", "valid_to")
    list_filter = ("flag",)
    list_select_related = ("flag",)
    search_fields = ("key", "text_zh", "text_en", "source", "flag__key")
    autocomplete_fields = ("flag",)
    readonly_fields = ("signed_by", "signed_at")
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("flag", "key"),
                    ("text_zh", "text_en"),
                    "source",
                    ("valid_from", "valid_to"),
                    ("signed_by", "signed_at"),
                )
            },
        ),
    )

    @display(description=_("flag"), ordering="flag__key")
    def flag_name(self, row: ComplianceItem) -> str:
        return label_of(row.flag)

    @display(description=_("text"))
    def text(self, row: ComplianceItem) -> str:
        told = text_of(row)
        return told if len(told) <= 80 else f"{told[:80]}…"

    @display(description=_("signature"), ordering="signed_at")
    def signature(self, row: ComplianceItem) -> SafeString:
        today = timezone.localdate()
        if not row.signed_by:
            return badge(gettext("unsigned"), "bad")
        if row.valid_to and row.valid_to < today:
            return badge(gettext("expired"), "bad")
        if row.valid_from and row.valid_from > today:
            return badge(gettext("not yet valid"), "warn")
        return badge(gettext("signed by %(person)s") % {"person": row.signed_by}, "good")

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        return (*self.readonly_fields, "flag") if obj else self.readonly_fields

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def write(self, request: HttpRequest, form: ServiceForm, obj: Any, by: Actor) -> Model:
        if obj is not None and not set(form.changed_data) & compliance.EDITABLE:
            return cast(Model, obj)  # the signature stays: its text did not change
        values = form.values(compliance.EDITABLE)
        flag = obj.flag if obj else form.cleaned_data["flag"]
        return compliance.save_item(flag, values, by=by, item=obj, reason=form.said_reason)

    def told(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        return {**super().told(request, row), "status_badge": self.signature(row)}


@admin.register(ExclusionGroup)
class ExclusionGroupAdmin(ReadOnlyAdmin):
    """Groups of flags that never share a user."""

    list_display = ("named", "key", "environment", "members")
    search_fields = ("key", "label_zh", "label_en")
    fields = ("environment", "key", "label_zh", "label_en", "why", "members")
    readonly_fields = ("members",)

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).prefetch_related("flags")

    @display(description=_("exclusion group"), ordering="key")
    def named(self, row: ExclusionGroup) -> str:
        return label_of(row)

    @display(description=_("flags and their slices"))
    def members(self, row: ExclusionGroup) -> str:
        return "; ".join(
            f"{label_of(flag)} {shown_percent(flag.exclusion_from_ppm)}–"
            f"{shown_percent(flag.exclusion_to_ppm)}"
            for flag in row.flags.all()
        )
