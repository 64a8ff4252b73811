"""Saving where a second person may be needed: do it now, or file a change request."""

from __future__ import annotations

from typing import Any, cast

from django.db.models import Model
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from huidu.errors import InputError
from rollout.admin.acts import tell_requested
from rollout.admin.base import ServiceForm, actor
from rollout.models import ChangeRequest
from rollout.services import changes
from rollout.services.audit import Actor


class RequestsMixin:
    """An admin whose changes `rollout.services.changes` does or files.

    `payload` tells the change as JSON, so the same form serves both ways.
    """

    change_kind: str
    create_by_request = False
    """Whether adding a row may need a second person as well (gates and stages of a live flag)."""

    def payload(self, form: Any, row: Any) -> dict[str, Any]:
        """The change as JSON; `row` is None for a new one."""
        raise NotImplementedError

    def create(self, form: ServiceForm, by: Actor) -> Model:
        """Make a row that never needs a second person."""
        raise NotImplementedError

    def made(self, form: Any) -> Model:
        """The row that the service has just made from the form."""
        raise NotImplementedError

    def environment_of(self, form: Any, row: Any) -> str:
        return str(row.environment)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        by = actor(request)
        row = type(obj)._default_manager.get(pk=obj.pk) if change else None
        if row is None and not self.create_by_request:
            self._take(obj, self.create(form, by))
            return
        payload = self.payload(form, row)
        if row is not None and not payload:
            return
        filed = self._do_or_file(request, form, row, payload, by)
        if filed is not None:
            request.huidu_filed = filed  # type: ignore[attr-defined]
            return
        self._take(obj, row if row is not None else self.made(form))

    def _do_or_file(
        self, request: HttpRequest, form: Any, row: Any, payload: dict[str, Any], by: Actor
    ) -> ChangeRequest | None:
        try:
            return changes.do_or_request(
                self.change_kind,
                row.pk if row is not None else 0,
                payload,
                environment=self.environment_of(form, row),
                by=by,
                reason=form.said_reason,
            )
        except InputError as fault:
            if fault.path == "reason":
                raise InputError(
                    "expected a sentence that says why, got nothing", path="reason"
                ) from fault
            raise

    def _take(self, obj: Any, row: Any) -> None:
        obj.pk = row.pk
        obj.refresh_from_db()
        obj._state.adding = False

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: Any = None) -> Any:
        return self._filed(request) or super().response_add(  # type: ignore[misc]
            request, obj, post_url_continue
        )

    def response_change(self, request: HttpRequest, obj: Any) -> Any:
        return self._filed(request) or super().response_change(request, obj)  # type: ignore[misc]

    def _filed(self, request: HttpRequest) -> HttpResponse | None:
        filed = cast("ChangeRequest | None", getattr(request, "huidu_filed", None))
        if filed is None:
            return None
        tell_requested(request, filed)
        return HttpResponseRedirect(reverse("admin:rollout_changerequest_change", args=(filed.pk,)))
