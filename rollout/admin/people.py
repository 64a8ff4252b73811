"""Operators and roles: Django's own, in our clothes."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as PlainGroupAdmin
from django.contrib.auth.admin import UserAdmin as PlainUserAdmin
from django.contrib.auth.models import Group, User
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

admin.site.unregister(User)
admin.site.unregister(Group)


class OperatorForm(UserChangeForm):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if (password := self.fields.get("password")) is not None:
            password.help_text = format_html(
                '{} <a class="hd-more" href="../password/">{}</a>',
                gettext("Nobody can read a password, not even here."),
                gettext("Set a new one"),
            )


@admin.register(User)
class OperatorAdmin(PlainUserAdmin, ModelAdmin):  # type: ignore[type-arg]
    """People who may log in here."""

    form = OperatorForm
    add_form = UserCreationForm
    add_form_template = "admin/change_form.html"
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "email", "is_active", "is_superuser", "last_login")
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        (_("Person"), {"fields": (("first_name", "last_name"), "email")}),
        (
            _("Rights"),
            {"fields": (("is_active", "is_staff", "is_superuser"), "groups", "user_permissions")},
        ),
        (_("Important dates"), {"fields": (("last_login", "date_joined"),)}),
    )


@admin.register(Group)
class RoleAdmin(PlainGroupAdmin, ModelAdmin):
    """Rights that several people share."""

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Who loses it, in place of the role's rights one by one."""
        _all, counts, needed, kept = super().get_deleted_objects(objs, request)
        told = []
        for role in objs:
            people = role.user_set.count()
            line = ngettext(
                "%(role)s: %(n)s person loses it", "%(role)s: %(n)s people lose it", people
            )
            told.append(line % {"role": role, "n": f"{people:,}"})
        counts = {name: n for name, n in counts.items() if name == self.opts.verbose_name_plural}
        return told, counts, needed, kept
