"""Places: who was let in where their number is limited."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from cohorts.models import fields


class Place(models.Model):
    """One user's place in one rollout, and which funding partner gave it.

    `partner` is the partner's number; 0 where nobody was charged, because the user was shown the
    product before places were needed. A place that was released stays here, so that answers of the
    past can be told again; the user may be given another.
    """

    user_id = fields.user_id_field()
    slot = models.PositiveSmallIntegerField(_("slot"))
    partner = models.PositiveSmallIntegerField(_("number of the funding partner"), default=0)
    region = models.CharField(_("region"), max_length=6, blank=True, default="")
    day = models.DateField(_("day"))
    since = models.DateTimeField(_("since"))
    released_at = models.DateTimeField(_("released at"), null=True, blank=True)
    released_by = models.CharField(_("released by"), max_length=150, blank=True, default="")
    released_reason = models.TextField(_("why released"), blank=True, default="")

    class Meta:
        verbose_name = _("place")
        verbose_name_plural = _("places")
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["user_id", "slot"],
                name="place_one_per_user",
                condition=models.Q(released_at__isnull=True),
            )
        ]
        indexes = [
            models.Index(fields=["slot", "partner", "-id"], name="place_partner"),
            models.Index(fields=["user_id"], name="place_user"),
        ]

    def __str__(self) -> str:
        return f"{self.user_id} in {self.slot}"
