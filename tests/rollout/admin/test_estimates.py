"""Of very many users a sample is counted: every page says which figures are estimates."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from cohorts.population import people
from huidu.errors import StateError
from rollout.models import WaterfallDay
from rollout.services import population, waterfall, waterfall_days
from tests.rollout.admin import world

PLACE = "production"
ESTIMATE = re.compile(r"≈ \+?[\d,]+ ± [\d,]+")


@pytest.fixture
def bank(
    transactional_db: object,
    redis: object,
    tmp_path: Any,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> world.World:
    """Sixty users, of whom about half are read."""
    settings.HUIDU_POPULATION = tmp_path / "population"
    monkeypatch.setattr(people, "FEW", 10)
    monkeypatch.setattr(people, "SAMPLE", 30)
    made = world.build(60)
    file = population.build(anew=True)
    assert file is not None
    assert file.about.sampled < file.about.users == 60
    return made


def page(path: str, language: str = "en", **asked: str) -> str:
    client = Client(headers={"accept-language": language})
    client.force_login(world.people()[0], "django.contrib.auth.backends.ModelBackend")
    answer = client.get(path, asked)
    assert answer.status_code == 200
    return answer.content.decode()


def reach(**asked: Any) -> dict[str, Any]:
    client = Client(headers={"accept-language": "en"})
    client.force_login(world.people()[0], "django.contrib.auth.backends.ModelBackend")
    sent = json.dumps({"rule": {}, "count": True, **asked})
    answer = client.post(reverse("admin:rule_check"), sent, content_type="application/json")
    told = answer.json()
    assert told["ok"], told
    return dict(told["reach"])


def test_each_figure_of_a_preview_tells_its_error(bank: world.World) -> None:
    found = reach(rule=bank.cohort.rule, cohort=bank.cohort.key, flag="weilidai")
    assert ESTIMATE.search(found["text"])
    assert found["as_of"].startswith("Estimated from ")
    lines = [line for group in found["groups"] for line in group["lines"]]
    assert len(lines) > 10
    assert all(ESTIMATE.fullmatch(line["text"]) for line in lines)
    assert all(line["share"].startswith("≈ ") for line in lines if line["share"])


def test_an_edit_that_changes_nothing_is_no_estimate(bank: world.World) -> None:
    told = reach(rule=bank.cohort.rule, cohort=bank.cohort.key)["notes"]
    assert "Against now: 0 users gain, 0 users lose" in told
    other = reach(rule={">": [{"var": "weekly_payments"}, 20]}, cohort=bank.cohort.key)["notes"]
    assert any(re.search(r"≈ 0 ± \d+ users gain, ≈ \d+ ± \d+ users lose", each) for each in other)
    gate = bank.flag.gates.get(key="adult")
    told = reach(rule=gate.rule, gate=gate.pk)["notes"]
    assert any("0 gain it and 0 lose it." in each for each in told)


def test_what_was_counted_exactly_is_told_apart_from_what_was_not(bank: world.World) -> None:
    gate = bank.flag.gates.get(key="adult")
    found = reach(rule=gate.rule, gate=gate.pk, everybody=True)
    assert "≈" not in found["text"]
    assert found["as_of"].startswith("Who matches is exact")
    assert "≈" not in json.dumps(found["groups"][0], ensure_ascii=False)
    assert "≈" in json.dumps(found["groups"][-1], ensure_ascii=False)
    # Without an effect on a flag there is nothing but exact figures.
    assert reach(rule=gate.rule, everybody=True)["as_of"].startswith("Exact")


def test_a_confirmation_tells_the_error(bank: world.World) -> None:
    steps = [
        reverse("admin:rollout_rollout_act", args=(bank.rollout.pk, "promote")),
        reverse("admin:rollout_rollout_act", args=(bank.rollout.pk, "rollback")),
        reverse("admin:rollout_flag_act", args=(bank.flag.pk, "kill")),
    ]
    for path in steps:
        for language in ("en", "zh-hans"):
            assert ESTIMATE.search(page(path, language, reach="1")), (path, language)


def test_the_waterfall_is_estimated_or_exact_as_asked(
    bank: world.World, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = reverse("admin:waterfall")
    told = page(path, flag="weilidai")
    table = told[told.index("<tbody>") : told.index("data-days")]
    cells = re.findall(r'<td class="hd-number hd-right">([^<]*)</td>', table)
    assert cells
    assert all(each == "—" or (each.startswith("≈ ") and "±" in each) for each in cells)
    assert 'name="everybody"' in told
    whole = page(path, flag="weilidai", everybody="1")
    assert "≈" not in whole
    assert 'name="everybody"' not in whole
    assert 'name="now"' in whole
    monkeypatch.setattr(people, "too_many", lambda: True)  # to be read anew for a page
    assert 'name="now"' not in page(path, flag="weilidai")


def test_a_day_is_kept_of_everybody_and_never_of_a_sample_or_another_day(
    bank: world.World, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_check = waterfall.count(PLACE, "weilidai", now=True)
    found = waterfall.of_today(PLACE, "weilidai")
    assert found.scale.exact
    assert (found.users, found.shown) == (60, by_check.shown)
    now = timezone.now()
    with pytest.raises(StateError, match="expected a count of 60 users"):
        waterfall_days.keep(PLACE, waterfall.count(PLACE, "weilidai"), now=now)
    monkeypatch.setattr(waterfall, "too_many", lambda: True)
    later = now + timedelta(days=2)
    clock = SimpleNamespace(now=lambda: later, localtime=timezone.localtime)
    monkeypatch.setattr(waterfall, "timezone", clock)
    assert waterfall_days.count_missing(now=later) == 0
    assert not WaterfallDay.objects.exists()
