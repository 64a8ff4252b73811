"""Operators and roles: Django's own, in our clothes."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as PlainGroupAdmin
from django.contrib.auth.admin import UserAdmin as PlainUserAdmin
from django.contrib.auth.models import Group, Permission, User
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.text import capfirst
from django.utils.translation import gettext, ngettext, pgettext_lazy
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminSelect2MultipleWidget

admin.site.unregister(User)
admin.site.unregister(Group)


RIGHTS = {
    "view": pgettext_lazy("right", "read"),
    "add": pgettext_lazy("right", "add"),
    "change": pgettext_lazy("right", "change"),
    "delete": pgettext_lazy("right", "delete"),
}


def right_in_words(right: Permission) -> str:
    """``Flags: change``; rights of our own by the name they have."""
    act, _under, model = right.codename.partition("_")
    kind = right.content_type.model_class()
    named = kind._meta.verbose_name_plural if kind is not None else right.content_type.name
    plain = act in RIGHTS and model == right.content_type.model
    return f"{capfirst(str(named))}: {RIGHTS[act] if plain else gettext(right.name)}"


class RightsField(forms.ModelMultipleChoiceField):  # type: ignore[type-arg]
    def label_from_instance(self, obj: Any) -> str:
        return right_in_words(obj)


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
    filter_horizontal = ()
    autocomplete_fields = ("groups",)
    readonly_fields = ("last_login", "date_joined")
    list_display = ("username", "email", "is_active", "is_superuser", "last_login")
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        (_("Person"), {"fields": (("first_name", "last_name"), "email")}),
        (
            _("Rights"),
            {"fields": ("is_active", "is_staff", "is_superuser", "groups")},
        ),
        (_("Important dates"), {"fields": (("last_login", "date_joined"),)}),
    )


@admin.register(Group)
class RoleAdmin(PlainGroupAdmin, ModelAdmin):
    """Rights that several people share; a person has those of their roles."""

    filter_horizontal = ()

    def formfield_for_manytomany(self, db_field: Any, request: Any = None, **options: Any) -> Any:
        if db_field.name == "permissions":
            options |= {"form_class": RightsField, "widget": UnfoldAdminSelect2MultipleWidget}
        field = super().formfield_for_manytomany(db_field, request, **options)
        if db_field.name == "permissions" and field is not None:
            field.help_text = ""
            # Unfold dresses every multiple choice as a plain list of four lines.
            field.widget.attrs["class"] = "unfold-admin-autocomplete admin-autocomplete"
        return field

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
