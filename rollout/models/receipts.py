"""Receipts of answered checks, in one partition a month (made by SQL, see the migration)."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from rollout.models import fields


class Receipt(models.Model):
    """One answer that was given; `body` is `huidu.wire.receipt`, all that is needed to replay it.

    A decision id begins with its moment, so one receipt is found in one partition.
    """

    pk = models.CompositePrimaryKey("at", "decision_id")
    at = models.DateTimeField(_("at"))
    decision_id = models.CharField(_("decision id"), max_length=32)
    environment = fields.environment_field()
    flag_key = models.CharField(_("flag"), max_length=63)
    user_id = models.CharField(_("user"), max_length=128)
    sequence = models.BigIntegerField(_("snapshot"))
    visible = models.BooleanField(_("shown"))
    why = models.CharField(_("reason code"), max_length=63)
    body = models.BinaryField(_("receipt"))

    class Meta:
        verbose_name = _("receipt")
        verbose_name_plural = _("receipts")
        ordering = ["-at", "decision_id"]
        managed = False

    def __str__(self) -> str:
        return self.decision_id
