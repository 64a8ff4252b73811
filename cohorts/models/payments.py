"""Payments: the ledger, and the daily counts that windows are summed from."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from cohorts.models import fields


class PaymentEvent(models.Model):
    """One payment, kept for ever: its id is what makes counting exact over all time."""

    event_id = models.CharField(_("event"), max_length=fields.MAX_ID_CHARACTERS, primary_key=True)
    user_id = fields.user_id_field()
    day = models.DateField(_("day"), help_text=_("The calendar day in the platform's zone."))
    paid_at = models.DateTimeField(_("paid at"))
    amount_cny = fields.money_field(_("amount (CNY)"), null=True, blank=True)

    class Meta:
        verbose_name = _("payment")
        verbose_name_plural = _("payments")
        indexes = [models.Index(fields=["user_id", "paid_at"], name="payment_user")]
        constraints = [
            models.CheckConstraint(
                name="payment_ids", condition=~models.Q(event_id="") & ~models.Q(user_id="")
            ),
            # A refund is not a payment.
            models.CheckConstraint(
                name="payment_amount", condition=fields.unknown_or("amount_cny", gte=0)
            ),
        ]

    def __str__(self) -> str:
        return self.event_id


class DailyPayments(models.Model):
    """How often, and for how much, one user paid on one day."""

    pk = models.CompositePrimaryKey("user_id", "day")
    user_id = fields.user_id_field()
    day = models.DateField(_("day"))
    count = models.PositiveIntegerField(_("payments"))
    amount = models.DecimalField(_("amount (CNY)"), max_digits=30, decimal_places=2, default=0)

    class Meta:
        verbose_name = _("payments of a day")
        verbose_name_plural = _("payments by day")
        indexes = [models.Index(fields=["day"], name="daily_payments_day")]
        constraints = [
            models.CheckConstraint(
                name="daily_payments_positive", condition=models.Q(count__gte=1, amount__gte=0)
            )
        ]

    def __str__(self) -> str:
        return f"{self.user_id} on {self.day}"
