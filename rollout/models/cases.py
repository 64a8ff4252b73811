"""Requests for a review by a person, as PIPL art. 24 gives everybody the right to."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from rollout.models import fields
from rollout.models.changes import ChangeRequest
from rollout.models.flags import Flag


class Case(models.Model):
    """One person's question about one answer, with the answer as it was: the frozen receipt.

    The receipt is written once (a trigger refuses a change); forgetting the person empties it.
    """

    class Status(models.TextChoices):
        OPEN = "open", _("new")
        IN_REVIEW = "in_review", _("in review")
        WAITING = "waiting", _("waits for the customer")
        APPROVAL = "approval", _("waits for a second person")
        DECIDED = "decided", _("decided")
        WITHDRAWN = "withdrawn", _("withdrawn")

    class Outcome(models.TextChoices):
        UPHELD = "upheld", _("the answer stands")
        CORRECTED = "corrected", _("data was corrected")
        GRANTED = "granted", _("granted by the allow list")

    class Channel(models.TextChoices):
        CUSTOMER = "customer", _("the customer, through an application")
        SUPPORT = "support", _("support")

    UNDER_WAY = (Status.OPEN, Status.IN_REVIEW, Status.WAITING, Status.APPROVAL)

    environment = fields.environment_field()
    flag = models.ForeignKey(
        Flag, verbose_name=_("flag"), related_name="cases", on_delete=models.PROTECT
    )
    user_id = models.CharField(_("user"), max_length=128, blank=True, default="")
    pseudonym = models.CharField(max_length=24, blank=True, default="")
    request_id = models.CharField(
        _("request id"), max_length=128, null=True, blank=True, help_text=_("The caller's own.")
    )
    channel = models.CharField(_("asked by"), max_length=8, choices=Channel.choices)
    claim = models.TextField(_("what the customer says"), blank=True, default="")
    opened_by = models.CharField(_("opened by"), max_length=200)
    opened_at = models.DateTimeField(_("opened at"))
    due_at = models.DateTimeField(_("due"))
    status = models.CharField(
        _("status"), max_length=9, choices=Status.choices, default=Status.OPEN
    )
    assignee = models.CharField(_("in the hands of"), max_length=150, blank=True, default="")
    why = models.CharField(_("reason code"), max_length=63)
    visible = models.BooleanField(_("was shown"), default=False)
    receipt = models.JSONField(_("receipt"), null=True)
    receipt_hash = models.CharField(_("hash of the receipt"), max_length=64)
    outcome = models.CharField(
        _("outcome"), max_length=9, choices=Outcome.choices, blank=True, default=""
    )
    proposal = models.JSONField(_("proposed"), default=fields.empty_object, blank=True)
    reply = models.TextField(_("reply to the customer"), blank=True, default="")
    decided_by = models.CharField(_("decided by"), max_length=150, blank=True, default="")
    decided_at = models.DateTimeField(_("decided at"), null=True, blank=True)
    change = models.ForeignKey(
        ChangeRequest,
        verbose_name=_("change request"),
        related_name="cases",
        null=True,
        blank=True,
        on_delete=models.PROTECT,
    )
    overdue_told_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        verbose_name = _("review case")
        verbose_name_plural = _("review cases")
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["user_id"], name="case_user"),
            models.Index(
                fields=["due_at"],
                name="case_due",
                condition=models.Q(status__in=["open", "in_review", "waiting", "approval"]),
            ),
        ]
        constraints = [
            models.UniqueConstraint(fields=["environment", "request_id"], name="case_request"),
            # Asked twice, answered once.
            models.UniqueConstraint(
                fields=["flag", "user_id"],
                name="case_one_under_way",
                condition=models.Q(status__in=["open", "in_review", "waiting", "approval"]),
            ),
            models.CheckConstraint(
                name="case_is_decided_by_somebody",
                condition=~models.Q(status="decided")
                | (~models.Q(outcome="") & ~models.Q(decided_by="")),
            ),
        ]

    def __str__(self) -> str:
        return f"#{self.pk}"


class CaseNote(models.Model):
    """What somebody wrote, or what happened, in a case; never changed, and emptied when the
    person is forgotten."""

    case = models.ForeignKey(Case, related_name="notes", on_delete=models.CASCADE)
    at = models.DateTimeField(_("at"))
    by = models.CharField(_("by"), max_length=200)
    step = models.CharField(_("step"), max_length=20)
    text = models.TextField(_("note"), blank=True, default="")

    class Meta:
        verbose_name = _("note")
        verbose_name_plural = _("notes")
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.case_id} {self.step}"
