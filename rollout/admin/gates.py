"""Gates and tiers: rules with the sentences that people hear."""

from __future__ import annotations

from typing import Any, cast

from django import forms
from django.contrib import admin
from django.db.models import Max, Model
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display

from cohorts.admin.fields import PrettyJson, RuleField, RuleWidget
from cohorts.wording import Vocabulary, label_of, rule_in_words
from rollout.admin.base import ServiceAdmin, ServiceForm
from rollout.admin.flags import gate_in_words
from rollout.admin.requests import RequestsMixin
from rollout.models import Gate, Tier
from rollout.services import gates
from rollout.services.audit import Actor


class RuleForm(ServiceForm):
    """A rule of a flag: the editor then counts by the flag's tiers."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if self.instance.pk and "rule" in self.fields:
            self.fields["rule"].widget.options["flag"] = self.instance.flag.key


class GateForm(RuleForm):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if self.instance.pk and "rule" in self.fields:
            # The editor then tells what the gate does to the flag as it is live.
            self.fields["rule"].widget.options["gate"] = self.instance.pk

    rule = RuleField(
        label=_("rule"),
        required=False,
        widget=RuleWidget(preview=True),
        help_text=_(
            "Lets pass when it is definitely true. Leave it out for a region policy or funding "
            "capacity."
        ),
    )

    class Meta:
        model = Gate
        fields = ("flag", *sorted(gates.GATE_EDITABLE))

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        # A region policy or a place takes the place of the rule; the untouched editor says "{}".
        other = cleaned.get("region_policy") is not None or cleaned.get("capacity")
        if other and cleaned.get("rule") == {}:
            cleaned["rule"] = None
        if "rule" in self.fields and not other and cleaned.get("rule") is None:
            self.add_error(
                "rule",
                forms.ValidationError(
                    _("A gate needs a rule, a region policy, or funding capacity.")
                ),
            )
        return cleaned


class OfFlag:
    """What gates, tiers and partners share: they belong to a flag and stand in an order."""

    @display(description=_("flag"), ordering="flag__key")
    def flag_name(self, row: Any) -> str:
        return label_of(row.flag)

    def environment_of(self, form: Any, row: Any) -> str:
        flag = row.flag if row is not None else form.cleaned_data["flag"]
        return str(flag.environment)

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        return ("flag",) if obj else ()

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        initial: dict[str, Any] = super().get_changeform_initial_data(request)  # type: ignore[misc]
        flag = str(initial.get("flag", ""))
        if flag.isdigit():
            rows = cast(Any, self).model.objects.filter(flag=flag)
            last = rows.aggregate(last=Max("order"))["last"]
            initial.setdefault("order", 1 if last is None else last + 1)
        return initial


@admin.register(Gate)
class GateAdmin(OfFlag, RequestsMixin, ServiceAdmin):
    """One refusal a user must get past, and what is said to whom it stops."""

    form = GateForm
    change_kind = "gate.save"
    create_by_request = True
    list_display = ("order", "named", "flag_name", "dimension", "lets_pass", "why", "enabled")
    list_display_links = ("named",)
    list_filter = ("flag", "dimension", "enabled")
    list_select_related = ("flag", "region_policy")
    search_fields = ("key", "label_zh", "label_en", "why", "flag__key", "customer_zh")
    autocomplete_fields = ("flag", "region_policy")
    fieldsets = (
        (
            None,
            {
                "fields": (
                    "flag",
                    ("order", "key"),
                    ("label_zh", "label_en"),
                    ("dimension", "enabled"),
                    "rule",
                    "region_policy",
                    "capacity",
                )
            },
        ),
        (
            _("When it refuses"),
            {
                "fields": (
                    ("why", "unknown_why"),
                    ("absolute", "keeps_shown"),
                    "source",
                )
            },
        ),
        (
            _("What people hear"),
            {
                "fields": (
                    ("customer_zh", "customer_en"),
                    ("support_zh", "support_en"),
                    ("risk_zh", "risk_en"),
                )
            },
        ),
    )

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        self.words = Vocabulary.load()
        return super().get_changelist_instance(request)

    @display(description=_("gate"), ordering="key")
    def named(self, row: Gate) -> str:
        return label_of(row)

    @display(description=_("lets pass"))
    def lets_pass(self, row: Gate) -> str:
        return gate_in_words(row, self.words)

    def erase(self, obj: Any, by: Actor, reason: str) -> None:
        gates.remove_gate(obj, by=by, reason=reason)

    def payload(self, form: Any, row: Any) -> dict[str, Any]:
        values = form.values(gates.GATE_EDITABLE, changed_only=row is not None)
        if row is not None and values.keys() & {"region_policy", "capacity"}:
            values["rule"] = form.cleaned_data["rule"]
        if values.get("region_policy") is not None:
            values["region_policy"] = values["region_policy"].key
        if row is None:
            values["flag"] = form.cleaned_data["flag"].pk
        return cast(dict[str, Any], values)

    def made(self, form: Any) -> Model:
        return Gate.objects.get(flag=form.cleaned_data["flag"], key=form.cleaned_data["key"])


class TierForm(RuleForm):
    rule = RuleField(label=_("rule"), required=False, widget=RuleWidget(preview=True))
    payload = PrettyJson(label=_("payload"), required=False)

    class Meta:
        model = Tier
        fields = ("flag", *sorted(gates.TIER_EDITABLE))

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        for name in ("rule", "payload"):
            if name in self.fields and cleaned.get(name) is None:
                cleaned[name] = {}
        return cleaned


@admin.register(Tier)
class TierAdmin(OfFlag, RequestsMixin, ServiceAdmin):
    """What users of one tier get on top; the first tier that matches counts."""

    form = TierForm
    change_kind = "tier.save"
    create_by_request = True
    list_display = ("order", "named", "flag_name", "who")
    list_display_links = ("named",)
    list_filter = ("flag",)
    list_select_related = ("flag",)
    search_fields = ("key", "label_zh", "label_en", "flag__key")
    autocomplete_fields = ("flag",)
    fieldsets = (
        (
            None,
            {"fields": ("flag", ("order", "key"), ("label_zh", "label_en"), "rule", "payload")},
        ),
    )

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        self.words = Vocabulary.load()
        return super().get_changelist_instance(request)

    @display(description=_("tier"), ordering="key")
    def named(self, row: Tier) -> str:
        return label_of(row)

    @display(description=_("rule"))
    def who(self, row: Tier) -> str:
        return rule_in_words(row.rule, self.words)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def payload(self, form: Any, row: Any) -> dict[str, Any]:
        # The service checks rule and order together, so a changed tier is told whole.
        values = form.values(gates.TIER_EDITABLE)
        if row is None:
            values["flag"] = form.cleaned_data["flag"].pk
        return cast(dict[str, Any], values)

    def made(self, form: Any) -> Model:
        return Tier.objects.get(flag=form.cleaned_data["flag"], key=form.cleaned_data["key"])
