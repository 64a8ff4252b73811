"""Fields of rows somebody may only read: told as people say them, not as columns hold them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from django.core.exceptions import FieldDoesNotExist
from django.db import models
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from cohorts.wording import Vocabulary, rule_in_words, shown_percent


class ReadableMixin:
    """An admin that shows times, shares, rules and numbers in words to who cannot change them."""

    model: type[models.Model]

    def get_fieldsets(self, request: HttpRequest, obj: models.Model | None = None) -> Any:
        fieldsets = super().get_fieldsets(request, obj)  # type: ignore[misc]
        if obj is None or self.has_change_permission(request, obj):  # type: ignore[attr-defined]
            return fieldsets
        return [
            (name, {**told, "fields": self._readable(told["fields"])}) for name, told in fieldsets
        ]

    def _readable(self, names: Any) -> list[Any]:
        return [
            tuple(self._readable(each))
            if isinstance(each, (list, tuple))
            else readable(self.model, each) or each
            for each in names
        ]


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
