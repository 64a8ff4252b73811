"""Steps on a stage's share: a ramp while it is planned, a larger share while it runs."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

from django import forms
from django.utils.translation import gettext, pgettext_lazy
from django.utils.translation import gettext_lazy as _
from unfold.widgets import UnfoldAdminTextInputWidget

from cohorts.admin.fields import DaysField, PercentField, UnitInput, percent_of, shown_percent
from rollout.admin.acts import Act, ReasonForm, requesting
from rollout.models import Rollout, Stage


class WidenForm(ReasonForm):
    share_ppm = PercentField(label=_("new share"))
    field_order = ("share_ppm", "reason")


def _environment(stage: Stage) -> str:
    return str(stage.rollout.flag.environment)


class SharesField(forms.CharField):
    """Shares in percent with commas between them, ascending; its value is parts per million."""

    default_error_messages = {
        "shares": _("Type rising shares in percent with commas between them, such as 0.25, 1, 5."),
    }

    def to_python(self, value: Any) -> Any:
        share = PercentField()
        parts = re.split(r"[,，、;\s]+", (super().to_python(value) or "").replace("%", "").strip())
        try:
            found = [share.clean(each) for each in parts if each]
        except forms.ValidationError as error:
            raise forms.ValidationError(self.error_messages["shares"], code="shares") from error
        if not found or found != sorted(set(found)) or found[0] <= 0:
            raise forms.ValidationError(self.error_messages["shares"], code="shares")
        return found


class RampForm(ReasonForm):
    shares = SharesField(
        label=_("Shares in percent"),
        widget=UnfoldAdminTextInputWidget,
        help_text=_("The last one is where the stage ends. A single share takes the ramp away."),
    )
    stay = DaysField(label=_("Days at each share, at least"))
    users = forms.IntegerField(
        label=_("Users shown it at each share, at least"),
        min_value=0,
        max_value=1_000_000_000,
        widget=UnitInput(pgettext_lazy("unit", "users"), {"step": 1}),
    )
    field_order = ("shares", "stay", "users", "reason")


def _ramp(stage: Stage, values: dict[str, Any]) -> dict[str, Any]:
    first, *rest = values["shares"]
    minutes = values["stay"].total_seconds() / 60
    return {
        "share_ppm": first,
        "ramp": [
            {"share_ppm": each, "after_minutes": minutes, "users": values["users"]} for each in rest
        ],
    }


def _usual_ramp(stage: Stage) -> dict[str, Any]:
    """The ramp as planned, else 0.25 % and 1 % before the stage's own share."""
    shares = [stage.share_ppm, *(each["share_ppm"] for each in stage.ramp)]
    if not stage.ramp:
        shares = [*(each for each in (2_500, 10_000) if each < stage.share_ppm), stage.share_ppm]
    step = stage.ramp[0] if stage.ramp else {"after_minutes": 1_440, "users": 50}
    return {
        "shares": ", ".join(f"{each / 10_000:g}" for each in shares),
        "stay": timedelta(minutes=step["after_minutes"]),
        "users": step.get("users", 0),
    }


RAMP = Act(
    name="ramp",
    title=_("Begin with a small share"),
    icon="stairs",
    form=RampForm,
    does=lambda stage: gettext(
        "A grave fault then meets few users: with 0.25 % instead of 5 % about a twentieth of them. "
        "The share grows by itself while nothing speaks against the stage; the proof for its "
        "promotion mostly comes from the last share."
    ),
    run=requesting("stage.save", _ramp, environment=_environment),
    fits=lambda stage: stage.status == Stage.Status.PENDING and stage.full_share_ppm > 0,
    initial=_usual_ramp,
)


WIDEN = Act(
    name="widen",
    title=_("Widen the share"),
    icon="expand",
    kind="warn",
    form=WidenForm,
    does=lambda stage: gettext(
        "Draws the stage again with a larger share. Users drawn before stay; a new period of "
        "evidence begins."
    ),
    touched=lambda stage: (
        gettext("Now %(share)s, %(users)s users drawn.")
        % {"share": shown_percent(stage.share_ppm), "users": f"{stage.drawn or 0:,}"}
    ),
    run=requesting(
        "stage.widen",
        lambda stage, values: {"share_ppm": values["share_ppm"]},
        environment=_environment,
    ),
    fits=lambda stage: (
        stage.status == Stage.Status.RUNNING
        and stage.rollout.status == Rollout.Status.RUNNING
        and stage.share_ppm < 1_000_000
    ),
    initial=lambda stage: {"share_ppm": percent_of(stage.share_ppm)},
)
