"""Steps with a confirmation: what happens, how many users are touched, why; then a service call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from django import forms
from django.contrib import messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import escape
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.widgets import UnfoldAdminTextareaWidget

from huidu.errors import HuiduError
from rollout.admin import faults, targets
from rollout.admin.base import ToldMixin, actor
from rollout.models import ChangeRequest
from rollout.services import changes
from rollout.services.audit import Actor


class ReasonForm(forms.Form):
    """Why somebody does it; the audit log keeps the sentence."""

    reason = forms.CharField(
        label=_("Reason"),
        max_length=2_000,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3, "autofocus": True}),
        help_text=_("Required. It goes into the audit log under your name."),
        error_messages={"required": _("Say in one sentence why.")},
    )


def _nobody(row: Any) -> str:
    return ""


@dataclass(frozen=True)
class Act:
    """One step people may take on a row.

    Args:
        name: in the address.
        does: what happens, as one or two sentences.
        touched: how many users, in words; "" where no user notices anything.
        run: takes the row, who, and the cleaned form; returns a change request when a second person
            is needed, else the sentence to show, or None.
        fits: whether the row's state allows it now; the button is shown only then.
        form_for: makes the form where its fields depend on the row.
        template: of the page that asks; extends ``huidu/act.html``.
    """

    name: str
    title: Any
    icon: str
    does: Callable[[Any], str]
    run: Callable[[Any, Actor, dict[str, Any]], Any]
    fits: Callable[[Any], bool] = lambda row: True
    touched: Callable[[Any], str] = _nobody
    kind: str = "plain"
    form: type[forms.Form] = ReasonForm
    permission: str = "change"
    initial: Callable[[Any], dict[str, Any]] = field(default=lambda row: {})
    form_for: Callable[[Any], type[forms.Form]] | None = None
    template: str = "huidu/act.html"


def calling(service: Callable[..., Any], *names: str) -> Callable[..., None]:
    """A `run` that calls ``service(row, by=, reason=)``, with the named values before them."""

    def run(row: Any, by: Actor, values: dict[str, Any]) -> None:
        service(row, *(values[name] for name in names), by=by, reason=values["reason"])

    return run


def requesting(
    kind: str,
    payload: Callable[[Any, dict[str, Any]], dict[str, Any]] = lambda row, values: {},
    *,
    environment: Callable[[Any], str] = lambda row: row.flag.environment,
) -> Callable[..., ChangeRequest | None]:
    """A `run` for a change that may need a second person: it is done, or filed for them."""

    def run(row: Any, by: Actor, values: dict[str, Any]) -> ChangeRequest | None:
        return changes.do_or_request(
            kind,
            row.pk,
            payload(row, values),
            environment=environment(row),
            by=by,
            reason=values["reason"],
        )

    return run


class ActsMixin(ToldMixin):
    """Adds confirmed steps to an admin: buttons above the form, and a page for each."""

    acts: tuple[Act, ...] = ()

    def get_urls(self) -> list[URLPattern]:
        admin = cast(Any, self)
        name = f"{admin.opts.app_label}_{admin.opts.model_name}_act"
        view = admin.admin_site.admin_view(self.act_view)
        urls = cast(list[URLPattern], super().get_urls())  # type: ignore[misc]
        return [path("<path:object_id>/act/<slug:act>/", view, name=name), *urls]

    def told(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        return {**super().told(request, row), "acts": self.fitting(request, row)}

    def fitting(self, request: HttpRequest, row: Any) -> list[dict[str, Any]]:
        """The buttons of a row: those whose step its state and the person's rights allow."""
        admin = cast(Any, self)
        opts = admin.opts
        return [
            {
                "name": act.name,
                "title": act.title,
                "icon": act.icon,
                "kind": act.kind,
                "url": reverse(
                    f"admin:{opts.app_label}_{opts.model_name}_act", args=(row.pk, act.name)
                ),
            }
            for act in self.acts
            if self._allowed(request, act, row) and act.fits(row)
        ]

    def asked_with(self, row: Any) -> dict[str, Any]:
        """What the pages that ask tell beside the step, for templates of their own."""
        return {}

    def _allowed(self, request: HttpRequest, act: Act, row: Any) -> bool:
        opts = cast(Any, self).opts
        return request.user.has_perm(f"{opts.app_label}.{act.permission}_{opts.model_name}")

    def act_view(self, request: HttpRequest, object_id: str, act: str) -> HttpResponse:
        """GET asks, POST does."""
        admin = cast(Any, self)
        row = admin.get_object(request, unquote(object_id))
        step = next((each for each in self.acts if each.name == act), None)
        if row is None or step is None:
            raise Http404
        if not self._allowed(request, step, row):
            raise PermissionDenied
        opts = admin.opts
        back = reverse(f"admin:{opts.app_label}_{opts.model_name}_change", args=(row.pk,))
        if not step.fits(row):
            messages.warning(request, gettext("The state has changed; this step does not apply."))
            return HttpResponseRedirect(back)
        if "reach" in request.GET:  # counting may take a second, and nobody waits for it to stop
            return HttpResponse(escape(step.touched(row)), headers={"Cache-Control": "no-store"})
        kind = step.form if step.form_for is None else step.form_for(row)
        form = kind(request.POST if request.method == "POST" else None, initial=step.initial(row))
        if request.method == "POST" and form.is_valid():
            try:
                return self._take_step(request, step, row, form.cleaned_data, back)
            except HuiduError as fault:
                name = fault.path if fault.path in form.fields else None
                form.add_error(name, faults.in_words(fault))
        return TemplateResponse(
            request,
            step.template,
            {
                **admin.admin_site.each_context(request),
                "title": step.title,
                "subtitle": targets.name_of_row(row),
                "act": step,
                "row": row,
                "does": step.does(row),
                "counts": step.touched is not _nobody,
                "form": form,
                "back": back,
                "opts": None,
                "model_opts": opts,
                **self.asked_with(row),
            },
        )

    def _take_step(
        self,
        request: HttpRequest,
        step: Act,
        row: Model,
        values: dict[str, Any],
        back: str,
    ) -> HttpResponse:
        result = step.run(row, actor(request), values)
        if isinstance(result, ChangeRequest):
            tell_requested(request, result)
            return HttpResponseRedirect(
                reverse("admin:rollout_changerequest_change", args=(result.pk,))
            )
        if isinstance(result, HttpResponse):
            return result
        messages.success(
            request, result if isinstance(result, str) else gettext("Done: %s") % step.title
        )
        return HttpResponseRedirect(back)


def tell_requested(request: HttpRequest, change: ChangeRequest) -> None:
    """Nothing has changed yet: say so, and who can change that."""
    messages.warning(
        request,
        gettext(
            "Nothing has changed yet: change request %(number)s waits until another person "
            "approves it."
        )
        % {"number": change.pk},
    )
