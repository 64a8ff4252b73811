"""Starter roles: each can do its work and no more."""

from __future__ import annotations

import io

import pytest
from django.contrib.auth.models import Group, User
from django.core.management import call_command

from rollout.services import roles
from rollout.services.reading import RISK_PERMISSION

pytestmark = pytest.mark.django_db


def person(role: str) -> User:
    user = User.objects.create(username=role, is_staff=True)
    user.groups.add(Group.objects.get(name=role))
    return user


def test_roles_are_made_once_and_then_left_to_people() -> None:
    assert sorted(roles.make_missing()) == sorted(roles.ROLES)
    group = Group.objects.get(name="support")
    group.permissions.clear()
    out = io.StringIO()
    call_command("make_roles", stdout=out)
    assert "every role is there" in out.getvalue()
    assert not group.permissions.exists()


def test_every_right_exists() -> None:
    roles.make_missing()
    for name, codenames in roles.ROLES.items():
        named = {each for each in codenames if each != "view_*"}
        held = set(Group.objects.get(name=name).permissions.values_list("codename", flat=True))
        assert named <= held, name


@pytest.mark.parametrize(
    ("role", "may", "may_not"),
    [
        ("auditor", "rollout.view_auditentry", "rollout.change_flag"),
        ("support", "rollout.add_case", "rollout.change_case"),
        ("support", "cohorts.view_profile", RISK_PERMISSION),
        ("operator", "rollout.change_rollout", RISK_PERMISSION),
        ("risk officer", RISK_PERMISSION, "rollout.add_apikey"),
        ("risk officer", "rollout.change_case", "cohorts.change_attribute"),
        ("data engineer", "cohorts.add_importjob", "rollout.change_flag"),
    ],
)
def test_a_role_does_its_work_and_no_more(role: str, may: str, may_not: str) -> None:
    roles.make_missing()
    user = person(role)
    assert user.has_perm(may)
    assert not user.has_perm(may_not)
