"""Profiles, with the step that forgets a person."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from cohorts.admin.users import ProfileAdmin as ReadProfileAdmin
from cohorts.models import Profile
from rollout.admin.acts import Act, ActsMixin
from rollout.services import forget
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
    fits=lambda row: True,
)

admin.site.unregister(Profile)


@admin.register(Profile)
class ProfileAdmin(ActsMixin, ReadProfileAdmin):
    """As `cohorts` shows it; who may delete profiles may forget a user."""

    acts = (FORGET,)

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        row = self.get_object(request, object_id)
        context = dict(extra_context or {})
        if row is not None:
            context["acts"] = self.fitting(request, row)
        page: HttpResponse = super().change_view(request, object_id, form_url, context)
        return page
