"""Long user lists: made here, replaced by uploads, and every upload compared before it counts."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display
from unfold.widgets import UnfoldAdminFileFieldWidget, UnfoldAdminSelectWidget

from cohorts import downloads, memberships
from cohorts.admin.base import ReadOnlyAdmin, badge
from cohorts.admin.fields import DaysField
from cohorts.models import MEMBER_STATES, ListState, ListVersion, UserList, UserListMember
from cohorts.services import list_uploads, list_versions
from cohorts.wording import label_of
from huidu.errors import HuiduError, InputError
from rollout.admin import board, faults
from rollout.admin.acts import Act, ActsMixin, calling, requesting
from rollout.admin.base import ServiceAdmin, ServiceForm, actor
from rollout.services import list_edits
from rollout.services.audit import Actor

State = ListVersion.State
STATE_KIND = {
    State.COMPARING: "warn",
    State.READY: "info",
    State.APPLYING: "warn",
    State.APPLIED: "good",
    State.REVERTING: "warn",
    State.FAILED: "bad",
}


class UserListForm(ServiceForm):
    invitation_lifetime = DaysField(
        label=_("invitations last"),
        required=False,
        help_text=_("Such as 30 days; invited users leave the list then. Empty: for ever."),
    )

    class Meta:
        model = UserList
        fields = tuple(sorted(list_edits.EDITABLE))


class UploadForm(forms.Form):
    """A file, and what it means."""

    file = forms.FileField(
        label=_("File"),
        widget=UnfoldAdminFileFieldWidget,
        help_text=_(
            "CSV or .gz: one user id a line, or a column named user_id; columns named state and at "
            "may follow. Up to 1 GB; a long file is compared in the background."
        ),
    )
    mode = forms.ChoiceField(
        label=_("What the file means"),
        choices=ListVersion.Mode.choices,
        widget=UnfoldAdminSelectWidget,
    )
    encoding = forms.ChoiceField(
        label=_("Encoding"),
        choices=[("utf-8", "UTF-8"), ("gb18030", "GBK / GB18030")],
        widget=UnfoldAdminSelectWidget,
    )
    member_state = forms.ChoiceField(
        label=_("Users without a state are"),
        choices=[(each.value, each.label) for each in MEMBER_STATES],
        initial=ListState.ACCEPTED.value,
        required=False,
        widget=UnfoldAdminSelectWidget,
        help_text=_(
            "Invited and accepted users are on the list; expired and removed ones are not."
        ),
    )


def _touched(row: ListVersion) -> str:
    return gettext(
        "%(added)s users are added, %(removed)s are removed, %(changed)s change their state, "
        "%(unchanged)s stay as they are."
    ) % {name: f"{getattr(row, name):,}" for name in ("added", "removed", "changed", "unchanged")}


def _flags(row: ListVersion) -> str:
    named = ", ".join(label_of(flag) for flag in list_edits.flags_using(row.list))
    return gettext("Used by: %s.") % named if named else gettext("No flag uses this list.")


def _here(row: ListVersion) -> str:
    """A list belongs to no environment: its changes are asked for where the board looks."""
    return board.environment()


ACTS = (
    Act(
        name="apply",
        title=_("Apply"),
        icon="check",
        kind="primary",
        does=lambda row: gettext("The list becomes what was compared.") + f" {_flags(row)}",
        touched=_touched,
        run=requesting("list.apply", environment=_here),
        fits=lambda row: row.state == State.READY,
    ),
    Act(
        name="discard",
        title=_("Discard"),
        icon="delete",
        does=lambda row: gettext("Drops the comparison. The list stays as it is."),
        run=calling(list_edits.discard),
        fits=lambda row: row.state == State.READY,
    ),
    Act(
        name="cancel",
        title=_("Cancel"),
        icon="cancel",
        kind="danger",
        does=lambda row: (
            gettext("Stops the comparison. The list stays as it is.")
            if row.state == State.COMPARING
            else gettext("What was applied so far is undone; the list becomes what it was before.")
        ),
        touched=lambda row: (
            gettext("%s users change.") % f"{row.done:,}" if row.state == State.APPLYING else ""
        ),
        run=calling(list_edits.cancel),
        fits=lambda row: row.state in (State.COMPARING, State.APPLYING),
    ),
    Act(
        name="revert",
        title=_("Revert"),
        icon="undo",
        kind="danger",
        does=lambda row: (
            gettext("Those who were added go, those who were removed come back.")
            + f" {_flags(row)}"
        ),
        touched=lambda row: gettext("%s users change.") % f"{list_versions.differing(row):,}",
        run=requesting("list.revert", environment=_here),
        fits=lambda row: row.state == State.APPLIED and list_versions.is_newest(row),
    ),
)


MEMBERS = 20
"""Members shown at a time."""

FIELDS = (("key", "kind"), ("label_zh", "label_en"), "description", "invitation_lifetime")


@admin.register(UserList)
class UserListAdmin(ServiceAdmin):
    """Long lists. Their members change by uploads, with a comparison before."""

    form = UserListForm
    change_form_outer_before_template = "huidu/list_header.html"
    list_display = ("named", "key", "kind", "size", "version", "updated_at")
    list_filter = ("kind",)
    search_fields = ("key", "label_zh", "label_en", "description")
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("key", "kind"),
                    ("label_zh", "label_en"),
                    "description",
                    "invitation_lifetime",
                )
            },
        ),
    )

    @display(description=_("user list"), ordering="key")
    def named(self, row: UserList) -> str:
        return label_of(row)

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        return ("key", "kind") if obj else ()

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False  # flags and the versions' history refer to it

    def write(self, request: HttpRequest, form: ServiceForm, obj: Any, by: Actor) -> Model:
        values = form.values(list_edits.EDITABLE, changed_only=obj is not None)
        return list_edits.save_list(values, by=by, row=obj, reason=form.said_reason)

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.upload_view)
        ours = path("<path:object_id>/upload/", view, name="cohorts_userlist_upload")
        return [ours, *super().get_urls()]

    def upload_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """GET asks for a file, POST compares it and shows what it would change."""
        row = self.get_object(request, unquote(object_id))
        if row is None:
            raise Http404
        if not self.has_change_permission(request, row):
            raise PermissionDenied
        form = UploadForm(request.POST or None, request.FILES or None)
        if request.method == "POST" and form.is_valid():
            sent = form.cleaned_data
            try:
                version = list_uploads.submit(
                    row.pk,
                    sent["file"].file,
                    sent["file"].size,
                    file_name=sent["file"].name,
                    by=actor(request).name,
                    mode=sent["mode"],
                    encoding=sent["encoding"],
                    member_state=sent["member_state"] or ListState.ACCEPTED.value,
                )
                url = reverse("admin:cohorts_listversion_change", args=(version.pk,))
                return HttpResponseRedirect(url)
            except HuiduError as fault:
                name = fault.path if fault.path in form.fields else None
                form.add_error(name, faults.in_words(fault))
        context = {
            **self.admin_site.each_context(request),
            "title": gettext("Upload and compare"),
            "subtitle": label_of(row),
            "row": row,
            "form": form,
            "back": reverse("admin:cohorts_userlist_change", args=(row.pk,)),
        }
        return TemplateResponse(request, "huidu/list_upload.html", context)

    def told(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        sent = request.GET
        user, state, after = (sent.get(name, "")[:128] for name in ("user", "state", "after"))
        found = memberships.page(row.pk, state=state, after=after, size=MEMBERS + 1)
        moves = memberships.history(user, row.pk) if user else []
        return {
            "subtitle": label_of(row),
            "list": row,
            "may_upload": self.has_change_permission(request, row),
            "counts": memberships.counts(row),
            "sought": user,
            "chosen": state,
            "states": [(each.value, each.label) for each in MEMBER_STATES],
            "moves": [
                {
                    "state": ListState(each.state).label,
                    "at": each.at,
                    "by": each.by,
                    "on": each.state in memberships.MEMBERS,
                }
                for each in reversed(moves)
            ],
            "member": UserListMember.objects.filter(list=row, user_id=user).first(),
            "members": found[:MEMBERS],
            "following": found[MEMBERS - 1].user_id if len(found) > MEMBERS else "",
            "after": after,
            "versions": [
                {"row": each, "badge": state_badge(each)} for each in row.versions.all()[:20]
            ],
        }


def state_badge(row: ListVersion) -> SafeString:
    return badge(row.get_state_display(), STATE_KIND.get(State(row.state), ""))


@admin.register(ListVersion)
class ListVersionAdmin(ActsMixin, ReadOnlyAdmin):
    """One upload: what it would change, or did."""

    acts = ACTS
    change_form_outer_before_template = "huidu/list_version_header.html"
    list_display = ("__str__", "mode", "state_badge", "added", "removed", "uploaded_at")
    list_filter = ("state", "list")
    list_select_related = ("list",)
    fields = (
        ("list", "mode"),
        "file_name",
        "sha256",
        ("uploaded_by", "uploaded_at"),
        ("base", "applied_as"),
        "finished_at",
    )

    @display(description=_("state"), ordering="state")
    def state_badge(self, row: ListVersion) -> SafeString:
        return state_badge(row)

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.rejects_view)
        ours = path("<path:object_id>/invalid/", view, name="cohorts_listversion_rejects")
        return [ours, *super().get_urls()]

    def rejects_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """All invalid lines as CSV."""
        row = self.get_object(request, unquote(object_id))
        if row is None:
            raise Http404
        if not self.has_view_permission(request, row):
            raise PermissionDenied
        return downloads.rejects(row)

    def told(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        done, of = list_versions.progress(row)
        return {
            **super().told(request, row),
            "subtitle": f"{label_of(row.list)} · {row.file_name}",
            "version": row,
            "status_badge": state_badge(row),
            "sample": list_versions.sample(row),
            "busy": row.state in list_versions.UNDER_WAY,
            "comparing": row.state == State.COMPARING,
            "percent": min(100, round(100 * done / of)) if of else 0,
            "differing": list_versions.differing(row),
            "problem": faults.in_words(InputError(row.problem)) if row.problem else "",
            "used": _flags(row),
        }
