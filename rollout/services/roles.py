"""The roles an installation starts with; people change them as they like afterwards."""

from __future__ import annotations

from typing import Final

from django.contrib.auth.models import Group, Permission
from django.db.models import Q

VIEW_ALL: Final = ("view_*",)

ROLES: Final[dict[str, tuple[str, ...]]] = {
    # Reads everything, changes nothing.
    "auditor": VIEW_ALL,
    # Answers customers: sees no anti-fraud signal (that takes the right to change gates).
    "support": (
        "view_flag",
        "view_rollout",
        "view_stage",
        "view_profile",
        "view_case",
        "add_case",
    ),
    # Runs releases.
    "operator": (
        *VIEW_ALL,
        "add_flag",
        "change_flag",
        "add_rollout",
        "change_rollout",
        "add_stage",
        "change_stage",
        "delete_stage",
        "add_cohort",
        "change_cohort",
        "add_guard",
        "change_guard",
        "delete_guard",
        "add_metric",
        "change_metric",
        "change_changerequest",
        "add_reasontext",
        "view_case",
        "add_case",
    ),
    # Owns the policies, reads the signals behind them, decides reviews, approves changes.
    "risk officer": (
        *VIEW_ALL,
        "read_sensitive_profile",
        "add_gate",
        "change_gate",
        "delete_gate",
        "add_tier",
        "change_tier",
        "add_regionpolicy",
        "change_regionpolicy",
        "add_fundingpartner",
        "change_fundingpartner",
        "add_complianceitem",
        "change_complianceitem",
        "change_exclusiongroup",
        "change_changerequest",
        "add_reasontext",
        "change_flag",
        "change_rollout",
        "add_case",
        "change_case",
    ),
    # Brings data in: attributes, lists, imports, keys.
    "data engineer": (
        "view_flag",
        "view_attribute",
        "add_attribute",
        "change_attribute",
        "delete_attribute",
        "view_profile",
        "view_paymentevent",
        "view_importjob",
        "add_importjob",
        "view_userlist",
        "add_userlist",
        "change_userlist",
        "view_listversion",
        "view_cohort",
        "view_metric",
        "add_metric",
        "change_metric",
        "view_draw",
        "view_snapshot",
        "view_apikey",
    ),
}
"""Codenames by role; ``view_*`` is the right to see every kind of row."""

OURS: Final = ("cohorts", "rollout")


def make_missing() -> list[str]:
    """Make the roles that are not there; one that exists is left as people have made it."""
    made = []
    for name, codenames in ROLES.items():
        group, new = Group.objects.get_or_create(name=name)
        if new:
            wanted = Q(codename__in=[each for each in codenames if each != "view_*"])
            if "view_*" in codenames:
                wanted |= Q(codename__startswith="view_")
            group.permissions.set(
                Permission.objects.filter(wanted, content_type__app_label__in=OURS)
            )
            made.append(name)
    return made
