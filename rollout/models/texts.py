"""What people are told for a `why` code, version by version."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from rollout.models import fields


def text_field(name: object) -> models.TextField[str, str]:
    return models.TextField(name, blank=True, default="")  # type: ignore[arg-type]


class ReasonText(models.Model):
    """One approved version of the texts of a code; written once, in force until the next one.

    A text left empty is the one the product ships. `say` is what support tells the customer,
    `next_step` what support does then.
    """

    environment = fields.environment_field()
    code = models.CharField(_("reason code"), max_length=63, validators=[fields.valid_code])
    version = models.PositiveIntegerField(_("version"), editable=False)
    customer_zh = text_field(_("customer hears (Chinese)"))
    customer_en = text_field(_("customer hears (English)"))
    advice_zh = text_field(_("what the customer can do (Chinese)"))
    advice_en = text_field(_("what the customer can do (English)"))
    support_zh = text_field(_("support reads (Chinese)"))
    support_en = text_field(_("support reads (English)"))
    say_zh = text_field(_("what support says (Chinese)"))
    say_en = text_field(_("what support says (English)"))
    next_step_zh = text_field(_("next step of support (Chinese)"))
    next_step_en = text_field(_("next step of support (English)"))
    reason = models.TextField(_("reason"))
    written_by = models.CharField(_("written by"), max_length=150)
    approved_by = models.CharField(_("approved by"), max_length=150)
    live_from = models.DateTimeField(_("in force from"))

    class Meta:
        verbose_name = _("reason text")
        verbose_name_plural = _("reason texts")
        ordering = ["code", "-version"]
        constraints = [
            models.UniqueConstraint(
                fields=["environment", "code", "version"], name="reason_text_version"
            ),
            models.CheckConstraint(
                name="reason_text_approved_by_another",
                condition=~models.Q(approved_by="") & ~models.Q(approved_by=models.F("written_by")),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.code} v{self.version}"
