"""Profiles, with the steps that show protected values and that forget a person."""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.core.signing import BadSignature, TimestampSigner
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from cohorts.admin.users import ProfileAdmin as ReadProfileAdmin
from cohorts.admin.users import facts_list, held_facts, in_words
from cohorts.models import Profile
from cohorts.wording import label_of, unit_of, with_unit
from huidu.risk import risk_now
from rollout.admin.acts import Act, ActsMixin
from rollout.services import forget, protected
from rollout.services.audit import Actor


def _touched(row: Profile) -> str:
    rows = forget.held(row.pk)
    named = ", ".join(
        f"{model._meta.verbose_name_plural} {count:,}" for model, count in rows.items()
    )
    return gettext("%(rows)s rows go: %(tables)s.") % {
        "rows": f"{sum(rows.values()):,}",
        "tables": named,
    }


def _forget(row: Profile, by: Actor, values: dict[str, Any]) -> HttpResponse:
    forget.forget_user(row.pk, by=by, reason=values["reason"])
    return HttpResponseRedirect(reverse("admin:cohorts_profile_changelist"))


FORGET = Act(
    name="forget",
    title=_("Forget this user"),
    icon="person_remove",
    kind="danger",
    permission="delete",
    does=lambda row: gettext(
        "The user's profile, payments, list memberships, admissions, exposures and outcomes are "
        "deleted for good. The audit log keeps a pseudonym."
    ),
    touched=_touched,
    run=_forget,
)

SHOWN_FOR = 300
"""Seconds for which a person who gave a reason may look at one user's protected values."""

_signer = TimestampSigner(salt="huidu.protected")


def _reveal(row: Profile, by: Actor, values: dict[str, Any]) -> HttpResponse:
    """Logged before anything is shown; the page then shows it to this person for a while."""
    person = get_user_model().objects.get(username=by.person)
    held = _held(row, protected.readable(person, protected.protected().values()))
    protected.note(by, row.pk, held.keys(), environment="all", reason=values["reason"])
    token = _signer.sign_object([by.name, row.pk])
    url = reverse("admin:cohorts_profile_change", args=(row.pk,))
    return HttpResponseRedirect(f"{url}?{urlencode({'shown': token})}")


REVEAL = Act(
    name="reveal",
    title=_("Show protected values"),
    icon="visibility",
    permission="read_sensitive",
    does=lambda row: gettext(
        "Shows you this user's protected values for five minutes. Your name and reason go into the "
        "audit log first."
    ),
    run=_reveal,
)

admin.site.unregister(Profile)


@admin.register(Profile)
class ProfileAdmin(ActsMixin, ReadProfileAdmin):
    """As `cohorts` shows it; who may delete profiles may forget a user."""

    acts = (REVEAL, FORGET)

    def told(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        return {**super().told(request, row), "protected": _shown(request, row)}


def _shown(request: HttpRequest, row: Profile) -> SafeString | None:
    """The protected values, for the person who gave a reason a moment ago; None for all others."""
    try:
        told = _signer.unsign_object(request.GET.get("shown", ""), max_age=SHOWN_FOR)
    except (BadSignature, ValueError):
        return None
    if told != [request.user.get_username(), row.pk]:
        return None
    attributes = protected.protected()
    held = _held(row, protected.readable(request.user, attributes.values()))
    if "risk_score" in held and row.risk_scored_on is not None:
        score = risk_now(float(held["risk_score"]), row.risk_scored_on, timezone.localdate())
        held["risk_score"] = round(score, 2)
    return facts_list(
        (label_of(each, name), _in_words(held[name], each.unit))
        for name, each in attributes.items()
        if name in held
    )


def _in_words(fact: Any, unit: str) -> str:
    counted = isinstance(fact, (int, float, Decimal)) and not isinstance(fact, bool)
    return with_unit(fact, unit_of(unit)) if counted else in_words(fact)


def _held(row: Profile, names: Collection[str]) -> dict[str, Any]:
    return {name: fact for name, fact in held_facts(row).items() if name in names}
