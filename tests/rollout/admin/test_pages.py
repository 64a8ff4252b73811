"""Every page of the admin opens, in both languages, with a bounded number of queries."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.contrib import admin
from django.contrib.admin import ModelAdmin
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.http import HttpRequest
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from tests.rollout.admin import world

MOST_QUERIES = 45
"""A page needs a handful of rows of everything; a number that grows with the rows would pass it."""

pytestmark = pytest.mark.django_db


def models() -> Iterator[ModelAdmin]:  # type: ignore[type-arg]
    yield from admin.site._registry.values()


@pytest.mark.parametrize("language", ["zh-hans", "en"])
def test_every_list_form_and_row_opens(operator: Client, language: str) -> None:
    faults = []
    for page in models():
        name = f"{page.opts.app_label}_{page.opts.model_name}"
        urls = [reverse(f"admin:{name}_changelist"), reverse(f"admin:{name}_changelist") + "?q=a"]
        if page.has_add_permission(_request_of(operator)):
            urls.append(reverse(f"admin:{name}_add"))
        row = page.model._default_manager.first()
        if row is not None:
            urls.append(reverse(f"admin:{name}_change", args=(row.pk,)))
        for url in urls:
            with CaptureQueriesContext(connection) as queries:
                answer = operator.get(url, headers={"accept-language": language})
            if answer.status_code != 200 or len(queries) > MOST_QUERIES:
                faults.append(f"{url}: {answer.status_code}, {len(queries)} queries")
    assert not faults, "\n".join(faults)


def test_every_row_opens_for_who_may_only_read(bank: world.World) -> None:
    auditor = User.objects.create_user("auditor", password=world.PASSWORD, is_staff=True)
    auditor.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client = Client(headers={"accept-language": "en"})
    client.force_login(auditor, "django.contrib.auth.backends.ModelBackend")
    codes = {}
    for page in models():
        row = page.model._default_manager.first()
        if row is not None:
            name = f"admin:{page.opts.app_label}_{page.opts.model_name}_change"
            codes[name] = client.get(reverse(name, args=(row.pk,))).status_code
    assert set(codes.values()) == {200}, codes


def _request_of(client: Client) -> HttpRequest:
    request = HttpRequest()
    request.user = world.people()[0]
    return request


@pytest.mark.parametrize("language", ["zh-hans", "en"])
def test_the_board_tells_state_stages_decision_and_health(operator: Client, language: str) -> None:
    with CaptureQueriesContext(connection) as queries:
        page = operator.get(reverse("admin:index"), headers={"accept-language": language})
    text = page.content.decode()
    name = "微粒贷" if language == "zh-hans" else "Weilidai"
    assert page.status_code == 200
    assert name in text
    assert "/act/kill/" in text
    assert "5 %" in text
    assert len(queries) <= MOST_QUERIES


def test_nobody_is_told_what_they_may_not_open(bank: world.World) -> None:
    helper = User.objects.create_user("helper", password=world.PASSWORD, is_staff=True)
    helper.user_permissions.add(Permission.objects.get(codename="view_flag"))
    client = Client(headers={"accept-language": "en"})
    client.force_login(helper, "django.contrib.auth.backends.ModelBackend")
    board = client.get(reverse("admin:index")).content.decode()
    for name in ("auditentry", "decision", "changerequest"):
        assert reverse(f"admin:rollout_{name}_changelist") not in board
    page = client.get(reverse("admin:rollout_flag_change", args=(bank.flag.pk,))).content.decode()
    assert bank.gate.label_en in page
    assert reverse("admin:rollout_gate_change", args=(bank.gate.pk,)) not in page


@pytest.mark.parametrize("may_open", [True, False])
def test_a_reader_is_told_names_and_given_links_to_what_may_be_opened(
    bank: world.World, may_open: bool
) -> None:
    helper = User.objects.create_user("helper", password=world.PASSWORD, is_staff=True)
    codes = ["view_stage", "view_rollout", *(["view_cohort"] if may_open else [])]
    helper.user_permissions.set(Permission.objects.filter(codename__in=codes))
    client = Client(headers={"accept-language": "en"})
    client.force_login(helper, "django.contrib.auth.backends.ModelBackend")
    page = client.get(reverse("admin:rollout_stage_change", args=(bank.stage.pk,))).content.decode()
    audience = bank.stage.audience
    assert audience is not None
    link = reverse("admin:cohorts_cohort_change", args=(audience.pk,))
    assert (f'<a href="{link}" class="text-link">{audience.label_en}</a>' in page) == may_open
    assert audience.label_en in page
    assert (link in page) == may_open
    assert reverse("admin:rollout_rollout_change", args=(bank.rollout.pk,)) in page


def test_the_number_of_queries_of_the_board_does_not_grow_with_flags(operator: Client) -> None:
    from rollout.services import flags

    def asked() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert operator.get(reverse("admin:index")).status_code == 200
        return len(queries)

    asked()  # caches of content types and permissions
    before = asked()
    for number in range(5):
        flags.create("production", f"more-{number}", by=world.WANG)
    assert asked() <= before + 1


def test_an_empty_installation_says_what_to_do_next(redis: object) -> None:
    client = Client()
    client.force_login(world.people()[0], "django.contrib.auth.backends.ModelBackend")
    page = client.get(reverse("admin:index"), headers={"accept-language": "en"}).content.decode()
    assert "There is no flag yet" in page
    assert reverse("admin:rollout_flag_add") in page


def test_the_login_page_speaks_both_languages(db: object) -> None:
    client = Client()
    for language, word in (("zh-hans", "登录"), ("en", "Log in")):
        page = client.get(reverse("admin:login"), headers={"accept-language": language})
        assert word in page.content.decode()
