"""Fields of rows somebody may only read: told as people say them, not as columns hold them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from django.contrib.admin import AdminSite
from django.core.exceptions import FieldDoesNotExist
from django.db import models
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from cohorts.wording import Vocabulary, label_of, rule_in_words, shown_percent


class ReadableMixin:
    """An admin that shows times, shares, rules and numbers in words to who cannot change them, and
    other rows by their names, with a link where the reader may open it."""

    model: type[models.Model]
    admin_site: AdminSite

    def get_fieldsets(self, request: HttpRequest, obj: models.Model | None = None) -> Any:
        fieldsets = super().get_fieldsets(request, obj)  # type: ignore[misc]
        if obj is None or self.has_change_permission(request, obj):  # type: ignore[attr-defined]
            return fieldsets
        return [
            (name, {**told, "fields": self._readable(told["fields"], request)})
            for name, told in fieldsets
        ]

    def _readable(self, names: Any, request: HttpRequest) -> list[Any]:
        return [
            tuple(self._readable(each, request))
            if isinstance(each, (list, tuple))
            else readable(self.model, each) or self._named(each, request) or each
            for each in names
        ]

    def _named(self, name: Any, request: HttpRequest) -> Callable[[Any], Any] | None:
        """A column that names the row a foreign key points at; None for other fields."""
        try:
            field = self.model._meta.get_field(name)
        except FieldDoesNotExist:
            return None
        if not isinstance(field, models.ForeignKey):
            return None

        def column(row: Any) -> Any:
            other = getattr(row, field.name)
            if other is None:
                return "—"
            told, kind = label_of(other, str(other)), type(other)
            admin = self.admin_site._registry.get(kind)
            if admin is None or not admin.has_view_permission(request, other):
                return told
            page = f"{kind._meta.app_label}_{kind._meta.model_name}_change"
            url = reverse(f"{self.admin_site.name}:{page}", args=[other.pk])
            return format_html('<a href="{}" class="text-link">{}</a>', url, told)

        column.short_description = field.verbose_name  # type: ignore[attr-defined]
        column.__name__ = field.name
        return column


@cache
def readable(model: type[models.Model], name: str) -> Callable[[Any], Any] | None:
    """A column of the admin that tells the field in words; None where it reads well as it is."""
    try:
        field = model._meta.get_field(name)
    except FieldDoesNotExist:
        return None
    told = _teller(field) if field.concrete else None  # a relation from elsewhere is no column
    if told is None:
        return None

    def column(row: Any) -> Any:
        value = getattr(row, name)
        return "—" if value is None else told(value)

    column.short_description = field.verbose_name  # type: ignore[attr-defined, union-attr]
    # Django looks the help text up by this name; that of a share speaks of parts per million.
    column.__name__ = f"{name}_told" if name.endswith("_ppm") else name
    return column


def _teller(field: Any) -> Callable[[Any], Any] | None:
    if isinstance(field, models.DurationField):
        from config.templatetags.huidu import span

        return span
    if isinstance(field, models.JSONField):
        return _rule if field.name == "rule" else None
    if field.choices or not isinstance(field, models.IntegerField) or field.primary_key:
        return None
    if field.name.endswith("_ppm"):
        return lambda ppm: str(shown_percent(ppm))
    return lambda number: f"{number:,}"


def _rule(rule: Any) -> Any:
    from cohorts.admin.base import folded_json

    words = rule_in_words(rule, Vocabulary.load())
    return format_html("<p>{}</p>{}", words, folded_json(rule, _("As JSON")))
