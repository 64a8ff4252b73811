"""Columns that several tables share, with the same limits everywhere."""

from __future__ import annotations

from typing import Any

from django.core.validators import MaxValueValidator, RegexValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from huidu.model import MAX_ID_CHARACTERS as MAX_ID_CHARACTERS
from huidu.model import PPM

valid_key = RegexValidator(
    r"^[a-z][a-z0-9_.-]{0,62}$",
    _("Use a lower-case letter first, then letters, digits, '_', '-' or '.', at most 63."),
)
valid_name = RegexValidator(
    r"^[a-z][a-z0-9_]{0,62}$",
    _("Use a lower-case letter first, then letters, digits or '_', at most 63."),
)


def empty_object() -> dict[str, Any]:
    return {}


def empty_list() -> list[Any]:
    return []


def user_id_field(**options: Any) -> models.CharField[str, str]:
    return models.CharField(_("user"), max_length=MAX_ID_CHARACTERS, **options)


def key_field(**options: Any) -> models.CharField[str, str]:
    return models.CharField(_("key"), max_length=63, validators=[valid_key], **options)


def label_field(name: Any) -> models.CharField[str, str]:
    return models.CharField(name, max_length=120, blank=True, default="")


def money_field(name: Any, **options: Any) -> models.DecimalField[Any, Any]:
    """Yuan with fen, up to 999 billion."""
    return models.DecimalField(name, max_digits=14, decimal_places=2, **options)


def ppm_field(name: Any) -> models.PositiveIntegerField[int, int]:
    return models.PositiveIntegerField(
        name, validators=[MaxValueValidator(PPM)], help_text=_("Parts per million: 50,000 is 5 %.")
    )


def unknown_or(field: str, **condition: Any) -> models.Q:
    """NULL, or the condition on `field`, such as ``unknown_or("age", lte=150)``."""
    known = models.Q(**{f"{field}__{name}": value for name, value in condition.items()})
    return models.Q(**{f"{field}__isnull": True}) | known
