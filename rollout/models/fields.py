"""Columns that several tables share, with the same limits everywhere."""

from __future__ import annotations

import secrets

from django.core.validators import MaxValueValidator, RegexValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from huidu.model import PPM

KEY_PATTERN = r"^[a-z][a-z0-9_.-]{0,62}$"
CODE_PATTERN = r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*$"
ENVIRONMENT_PATTERN = r"^[a-z][a-z0-9-]{0,30}$"

valid_key = RegexValidator(
    KEY_PATTERN,
    _("Use a lower-case letter first, then letters, digits, '_', '-' or '.', at most 63."),
)
valid_code = RegexValidator(CODE_PATTERN, _("Use a dotted lower-case code, such as region.closed."))
valid_environment = RegexValidator(
    ENVIRONMENT_PATTERN, _("Use lower-case letters, digits and '-', at most 31.")
)


def new_salt() -> str:
    """64 random bits as text: two flags never share their users' ranks by accident."""
    return secrets.token_hex(8)


def empty_object() -> dict[str, object]:
    return {}


def empty_list() -> list[object]:
    return []


def environment_field() -> models.CharField[str, str]:
    return models.CharField(
        _("environment"), max_length=31, default="production", validators=[valid_environment]
    )


def key_field(unique: bool = False) -> models.CharField[str, str]:
    return models.CharField(_("key"), max_length=63, validators=[valid_key], unique=unique)


def label_field(name: object, blank: bool = True) -> models.CharField[str, str]:
    return models.CharField(name, max_length=120, blank=blank, default="")  # type: ignore[arg-type]


def ppm_field(name: object, default: int = PPM) -> models.PositiveIntegerField[int, int]:
    return models.PositiveIntegerField(
        name,  # type: ignore[arg-type]
        default=default,
        validators=[MaxValueValidator(PPM)],
        help_text=_("Parts per million: 50,000 is 5 %."),
    )


def ppm_within(field: str) -> models.Q:
    return models.Q(**{f"{field}__gte": 0, f"{field}__lte": PPM})
