"""Cohorts: the visual rule editor, in words, and how many users match."""

from __future__ import annotations

from typing import Any, cast

from django.contrib import admin
from django.db.models import Count, Model
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display

from cohorts.admin.fields import LinesField, RuleField, RuleWidget
from cohorts.models import Cohort
from cohorts.wording import Vocabulary, label_of, rule_in_words
from rollout.admin.base import ServiceAdmin, ServiceForm
from rollout.admin.requests import RequestsMixin
from rollout.services import cohort_edits
from rollout.services.audit import Actor


class CohortForm(ServiceForm):
    rule = RuleField(label=_("rule"), required=False, widget=RuleWidget(preview=True))
    include = LinesField(label=_("always in"), required=False, help_text=_("User ids, one a line."))
    exclude = LinesField(label=_("never in"), required=False, help_text=_("User ids, one a line."))

    class Meta:
        model = Cohort
        fields = tuple(sorted(cohort_edits.EDITABLE))

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if self.instance.pk and "rule" in self.fields:
            # The editor then tells who would gain and lose against the rule as it is.
            self.fields["rule"].widget.options["cohort"] = self.instance.key

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        if "rule" in self.fields and cleaned.get("rule") is None and "rule" not in self.errors:
            cleaned["rule"] = {}
        return cleaned


@admin.register(Cohort)
class CohortAdmin(RequestsMixin, ServiceAdmin):
    """Who: a rule, plus a few users by name, minus a few others."""

    form = CohortForm
    change_kind = "cohort.save"
    create_by_request = True
    change_form_outer_before_template = "huidu/cohort_header.html"
    list_display = ("named", "key", "in_words", "used", "updated_at")
    search_fields = ("key", "label_zh", "label_en", "description")
    fieldsets = (
        (
            None,
            {
                "fields": (
                    "key",
                    ("label_zh", "label_en"),
                    "description",
                    "rule",
                )
            },
        ),
        (_("Users by name"), {"classes": ("collapse",), "fields": (("include", "exclude"),)}),
    )

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).annotate(used_by=Count("stages"))

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        self.words = Vocabulary.load()
        return super().get_changelist_instance(request)

    @display(description=_("cohort"), ordering="key")
    def named(self, row: Cohort) -> str:
        return label_of(row)

    @display(description=_("in words"))
    def in_words(self, row: Cohort) -> str:
        return rule_in_words(row.rule, self.words)

    @display(description=_("stages"), ordering="used_by")
    def used(self, row: Any) -> int:
        return int(row.used_by)

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        return ("key",) if obj else ()

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def environment_of(self, form: Any, row: Any) -> str:
        from rollout.admin.board import environment

        return environment()

    def payload(self, form: Any, row: Any) -> dict[str, Any]:
        return cast(
            dict[str, Any], form.values(cohort_edits.EDITABLE, changed_only=row is not None)
        )

    def create(self, form: ServiceForm, by: Actor) -> Model:
        return cohort_edits.save_cohort(
            form.values(cohort_edits.EDITABLE), by=by, reason=form.said_reason
        )

    def made(self, form: Any) -> Model:
        return Cohort.objects.get(key=form.cleaned_data["key"])

    def told(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        return {
            "subtitle": label_of(row),
            "words": rule_in_words(row.rule, Vocabulary.load()),
            "used_by": row.stages.select_related("rollout__flag"),
        }
