"""Admin pages that change something: every write is a service call, every refusal a sentence."""

from __future__ import annotations

import re
from typing import Any, cast

from django import forms
from django.contrib import messages
from django.contrib.auth.models import AbstractBaseUser
from django.db.models import Model, URLField
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.text import capfirst
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin
from unfold.widgets import UnfoldAdminTextInputWidget

from cohorts.admin.readable import ReadableMixin
from huidu.errors import HuiduError
from rollout.admin import faults
from rollout.services.audit import Actor


def actor(request: HttpRequest) -> Actor:
    """Who acts: the person who is logged in."""
    return Actor.of_user(cast(AbstractBaseUser, request.user))


def form_field(db_field: Any, **options: Any) -> Any:
    """A column's form field; an address typed without its scheme is meant as https."""
    if isinstance(db_field, URLField):
        options["assume_scheme"] = "https"
    return db_field.formfield(**options)


class ServiceForm(forms.ModelForm):  # type: ignore[type-arg]
    """A form whose rows a service writes; its refusal comes back to the field it is about."""

    reason = forms.CharField(
        label=_("Reason for this change"),
        required=False,
        max_length=500,
        help_text=_("One sentence for the audit log: what changes, and why."),
        widget=UnfoldAdminTextInputWidget,
    )
    fault: HuiduError | None = None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        columns = {each.name for each in self.instance._meta.concrete_fields}
        for name, field in self.fields.items():
            field.label = capfirst(str(field.label or ""))
            if self.instance.pk is None and field.initial is None and name in columns:
                # Fields of our own, unlike Django's, do not know the column's default.
                self.initial.setdefault(
                    name, self.instance._meta.get_field(name).value_from_object(self.instance)
                )

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if self.fault is not None:
            field = self.field_of(self.fault.path)
            error = forms.ValidationError(faults.in_words(self.fault), code=self.fault.code)
            self.add_error(field, error)
            if field is not None:
                self.fields[field].widget.attrs["data-fault-path"] = self.fault.path
        return cleaned

    def field_of(self, path: str) -> str | None:
        """The field a fault's path is about: ``weights[0].rule`` and ``cohort a, rule`` too."""
        for word in re.findall(r"[a-z_]+", path.split(", ")[-1])[:1]:
            if word == "rules" and "rule" in self.fields:
                return "rule"
            if word in self.fields:
                return cast(str, word)
        return "rule" if "rule" in self.fields and path else None

    def values(self, editable: frozenset[str], *, changed_only: bool = False) -> dict[str, Any]:
        """The cleaned values a service may take; of a changed row only what really changed."""
        names = set(self.changed_data) if changed_only else set(self.cleaned_data)
        return {
            name: self.cleaned_data[name]
            for name in self.cleaned_data
            if name in editable and name in names
        }

    @property
    def said_reason(self) -> str:
        return str(self.cleaned_data.get("reason") or "")


class ToldMixin:
    """What a row's page tells beside its form: each class gives only what it adds."""

    def told(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """Names for the page's template, also ``title`` and ``subtitle``; `row` as it is stored."""
        return {}

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **options: Any
    ) -> HttpResponse:
        """Called once the person may see the row, and only when there is a page to show."""
        admin, row = cast(ModelAdmin, self), options.get("obj")
        if options.get("change") and row is not None:
            if request.method == "POST":  # a refused form has put its values on the row
                row = admin.get_object(request, str(row.pk))
            context.update(self.told(request, row))
        page = super().render_change_form(request, context, *args, **options)  # type: ignore[misc]
        return cast(HttpResponse, page)


class ServiceAdmin(ToldMixin, ReadableMixin, ModelAdmin):
    """Saves by `write` and deletes by `erase`, which call services; nothing else writes.

    A service refuses by raising: the transaction is rolled back, and the form is shown again with
    the sentence at its field.
    """

    form = ServiceForm
    actions = None  # bulk deletes would pass the services by
    list_per_page = 50
    show_full_result_count = False
    compressed_fields = True
    warn_unsaved_form = True
    linked_by: tuple[str, ...] = ()
    """Lookups that addresses may filter the list by, beside those of its own filters."""

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest) -> bool:
        return lookup in self.linked_by or bool(super().lookup_allowed(lookup, value, request))

    def write(self, request: HttpRequest, form: ServiceForm, obj: Model | None, by: Actor) -> Model:
        """Store the form by a service and return the row. `obj` is None for a new one."""
        raise NotImplementedError

    def erase(self, obj: Model, by: Actor, reason: str) -> None:
        raise NotImplementedError

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        try:
            return super().changeform_view(request, object_id, form_url, extra_context)
        except HuiduError as fault:
            request.huidu_fault = fault  # type: ignore[attr-defined]
            return super().changeform_view(request, object_id, form_url, extra_context)

    def get_form(
        self, request: HttpRequest, obj: Model | None = None, change: bool = False, **options: Any
    ) -> type[ServiceForm]:
        form = super().get_form(request, obj, change=change, **options)
        fault = getattr(request, "huidu_fault", None)
        return type(form.__name__, (form,), {"fault": fault}) if fault is not None else form

    def get_fieldsets(self, request: HttpRequest, obj: Model | None = None) -> Any:
        fieldsets = list(super().get_fieldsets(request, obj))
        told = {name for _name, options in fieldsets for name in flatten(options["fields"])}
        if "reason" not in told and self.may_write(request, obj):
            fieldsets.append((None, {"fields": ("reason",)}))
        return fieldsets

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **options: Any) -> Any:
        if isinstance(db_field, URLField):
            options["assume_scheme"] = "https"
        field = super().formfield_for_dbfield(db_field, request, **options)
        if isinstance(field, forms.CharField) and isinstance(field.widget, forms.Textarea):
            field.widget.attrs["rows"] = 3  # sentences, not essays
        return field

    def may_write(self, request: HttpRequest, obj: Model | None) -> bool:
        if obj is None:
            return bool(self.has_add_permission(request))
        return bool(self.has_change_permission(request, obj))

    def save_form(self, request: HttpRequest, form: ServiceForm, change: bool) -> Model:
        """The row as it was: services set the fields on a fresh, locked copy."""
        return cast(Model, form.instance)

    def save_model(self, request: HttpRequest, obj: Model, form: Any, change: bool) -> None:
        before = type(obj)._default_manager.filter(pk=obj.pk).first() if change else None
        row = self.write(request, form, before, actor(request))
        obj.pk = row.pk
        obj.refresh_from_db()
        obj._state.adding = False

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Nothing: the service has written what belongs to the row."""

    def construct_change_message(
        self, request: HttpRequest, form: Any, formsets: Any, add: bool = False
    ) -> list[Any]:
        return []

    def log_addition(self, request: HttpRequest, obj: Model, message: Any) -> Any:
        """Our audit log tells it, with the reason and in a chain; Django's own would not."""

    log_change = log_addition

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        """As `log_addition`."""

    def delete_model(self, request: HttpRequest, obj: Model) -> None:
        self.erase(obj, actor(request), gettext("deleted in the admin"))

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponseBase:
        try:
            return cast(HttpResponse, super().delete_view(request, object_id, extra_context))
        except HuiduError as fault:
            messages.error(request, faults.in_words(fault))
            from django.http import HttpResponseRedirect

            return HttpResponseRedirect(request.path.replace("/delete/", "/change/"))


def flatten(names: Any) -> list[str]:
    """Field names of a fieldset, rows of several included."""
    flat: list[str] = []
    for name in names:
        flat.extend(name if isinstance(name, (list, tuple)) else [name])
    return flat
