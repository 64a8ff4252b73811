"""Who may ask, and whom we tell."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.utils.translation import gettext_lazy as _

from huidu.wire.access import KeyKind
from rollout.models import fields


class ApiKey(models.Model):
    """An API key, stored as SHA-256 only; its text is shown once, when it is made."""

    class Kind(models.TextChoices):
        SERVER = KeyKind.SERVER.value, _("server")
        CLIENT = KeyKind.CLIENT.value, _("client")
        INGEST = KeyKind.INGEST.value, _("ingest")
        ADMIN = KeyKind.ADMIN.value, _("administration")

    environment = fields.environment_field()
    kind = models.CharField(_("kind"), max_length=6, choices=Kind.choices)
    name = models.CharField(_("name"), max_length=120)
    digest = models.CharField(_("digest"), max_length=64, unique=True, editable=False)
    prefix = models.CharField(
        _("begins with"), max_length=20, editable=False, help_text=_("To tell keys apart.")
    )
    created_by = models.CharField(_("created by"), max_length=150)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    revoked_at = models.DateTimeField(_("revoked at"), null=True, blank=True, editable=False)
    revoked_by = models.CharField(
        _("revoked by"), max_length=150, blank=True, default="", editable=False
    )
    last_used = models.DateTimeField(_("last used"), null=True, blank=True, editable=False)

    class Meta:
        verbose_name = _("API key")
        verbose_name_plural = _("API keys")
        ordering = ["environment", "kind", "name"]
        constraints = [
            models.UniqueConstraint(
                fields=["environment", "name"],
                name="api_key_name",
                condition=models.Q(revoked_at__isnull=True),
            )
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"


class Webhook(models.Model):
    """An address that is told about decisions, kills and publications."""

    environment = fields.environment_field()
    name = models.CharField(_("name"), max_length=120)
    url = models.URLField(_("address"), max_length=500)
    secret = models.CharField(_("signing secret"), max_length=120)
    events: ArrayField[list[str], list[str]] = ArrayField(
        models.CharField(max_length=63),
        verbose_name=_("events"),
        default=list,
        blank=True,
        help_text=_("Empty: all events."),
    )
    enabled = models.BooleanField(_("enabled"), default=True)
    failures = models.PositiveIntegerField(_("failures in a row"), default=0, editable=False)
    last_ok = models.DateTimeField(_("last delivered"), null=True, blank=True, editable=False)
    last_error = models.TextField(_("last error"), blank=True, default="", editable=False)
    failing_since = models.DateTimeField(_("failing since"), null=True, blank=True, editable=False)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)

    class Meta:
        verbose_name = _("webhook")
        verbose_name_plural = _("webhooks")
        ordering = ["environment", "name"]
        constraints = [models.UniqueConstraint(fields=["environment", "name"], name="webhook_name")]

    def __str__(self) -> str:
        return self.name


class Delivery(models.Model):
    """One message on its way to one receiver: a webhook, or an e-mail address.

    `message` is the id the receiver sees, the same at every attempt, so it can count it once.
    """

    message = models.CharField(_("message"), max_length=63)
    event = models.CharField(_("event"), max_length=63)
    webhook = models.ForeignKey(
        Webhook,
        verbose_name=_("webhook"),
        related_name="deliveries",
        null=True,
        blank=True,
        on_delete=models.CASCADE,
    )
    address = models.CharField(_("e-mail address"), max_length=254, blank=True, default="")
    body = models.JSONField(_("body"))
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    attempts = models.PositiveIntegerField(_("attempts"), default=0)
    next_at = models.DateTimeField(_("next attempt"), null=True, blank=True)
    status = models.PositiveIntegerField(_("HTTP status"), null=True, blank=True)
    error = models.TextField(_("last error"), blank=True, default="")
    delivered_at = models.DateTimeField(_("delivered at"), null=True, blank=True)

    class Meta:
        verbose_name = _("delivery")
        verbose_name_plural = _("deliveries")
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["message", "webhook", "address"],
                name="delivery_once",
                nulls_distinct=False,
            )
        ]
        indexes = [
            models.Index(
                fields=["next_at"],
                name="delivery_due",
                condition=models.Q(next_at__isnull=False),
            )
        ]

    def __str__(self) -> str:
        return f"{self.event} {self.message}"
