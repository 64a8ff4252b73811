"""Changes that one person asks for and another decides."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from rollout.models import fields


class ChangeRequest(models.Model):
    """A change waiting for a second person; an API key counts as the person who made it."""

    class Status(models.TextChoices):
        PENDING = "pending", _("pending")
        APPLIED = "applied", _("approved and applied")
        REJECTED = "rejected", _("rejected")
        WITHDRAWN = "withdrawn", _("withdrawn")

    kind = models.CharField(_("kind"), max_length=31)
    environment = fields.environment_field()
    target = models.CharField(_("target"), max_length=200)
    payload = models.JSONField(_("change"), default=fields.empty_object)
    reason = models.TextField(_("reason"))
    requested_by = models.CharField(_("requested by"), max_length=150)
    requested_at = models.DateTimeField(_("requested at"), auto_now_add=True)
    status = models.CharField(
        _("status"), max_length=10, choices=Status.choices, default=Status.PENDING
    )
    decided_by = models.CharField(_("decided by"), max_length=150, blank=True, default="")
    decided_at = models.DateTimeField(_("decided at"), null=True, blank=True)
    decision_note = models.TextField(_("note"), blank=True, default="")

    class Meta:
        verbose_name = _("change request")
        verbose_name_plural = _("change requests")
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                name="change_decided_by_another",
                condition=~models.Q(status__in=["applied", "rejected"])
                | (~models.Q(decided_by="") & ~models.Q(decided_by=models.F("requested_by"))),
            ),
            models.UniqueConstraint(
                fields=["kind", "environment", "target"],
                name="change_one_pending",
                condition=models.Q(status="pending"),
            ),
        ]

    def __str__(self) -> str:
        return f"#{self.pk}"
