"""What the law asks for and a person has to sign before a rollout may start."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from rollout.models import fields
from rollout.models.flags import Flag


class ComplianceItem(models.Model):
    """One line of the checklist. Unsigned, expired or not yet valid: no start, no promotion."""

    flag = models.ForeignKey(
        Flag, verbose_name=_("flag"), related_name="compliance_items", on_delete=models.CASCADE
    )
    key = fields.key_field()
    text_zh = models.TextField(_("text (Chinese)"))
    text_en = models.TextField(_("text (English)"), blank=True, default="")
    source = models.TextField(_("source"), blank=True, default="")
    valid_from = models.DateField(_("valid from"), null=True, blank=True)
    valid_to = models.DateField(_("valid to"), null=True, blank=True)
    signed_by = models.CharField(
        _("signed by"), max_length=150, blank=True, default="", editable=False
    )
    signed_at = models.DateTimeField(_("signed at"), null=True, blank=True, editable=False)

    class Meta:
        verbose_name = _("compliance item")
        verbose_name_plural = _("compliance items")
        ordering = ["flag", "key"]
        constraints = [
            models.UniqueConstraint(fields=["flag", "key"], name="compliance_item_key"),
            models.CheckConstraint(
                name="compliance_item_signature",
                condition=models.Q(signed_by="", signed_at__isnull=True)
                | (~models.Q(signed_by="") & models.Q(signed_at__isnull=False)),
            ),
            models.CheckConstraint(
                name="compliance_item_dates",
                condition=models.Q(valid_from__isnull=True)
                | models.Q(valid_to__isnull=True)
                | models.Q(valid_from__lte=models.F("valid_to")),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.flag.key}/{self.key}"
