"""Who did what, when, and why: a chain that shows when somebody changed it afterwards."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from rollout.models import fields


class AuditEntry(models.Model):
    """One change. Insert only: a trigger refuses update and delete, the hash chain shows the rest.

    `hash` is the SHA-256 over this entry's fields and `previous_hash`.
    """

    sequence = models.BigIntegerField(_("sequence"), primary_key=True)
    at = models.DateTimeField(_("at"))
    actor = models.CharField(_("who"), max_length=200)
    action = models.CharField(_("action"), max_length=63)
    environment = fields.environment_field()
    target = models.CharField(_("target"), max_length=200)
    before = models.JSONField(_("before"), null=True, blank=True)
    after = models.JSONField(_("after"), null=True, blank=True)
    reason = models.TextField(_("reason"), blank=True, default="")
    previous_hash = models.CharField(_("previous hash"), max_length=64, blank=True, default="")
    hash = models.CharField(_("hash"), max_length=64, unique=True)

    class Meta:
        verbose_name = _("audit entry")
        verbose_name_plural = _("audit log")
        ordering = ["-sequence"]
        indexes = [
            models.Index(fields=["target", "-sequence"], name="audit_target"),
            models.Index(fields=["-at"], name="audit_at"),
        ]

    def __str__(self) -> str:
        return f"{self.sequence} {self.action} {self.target}"
