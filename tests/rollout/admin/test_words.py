"""Rules, decisions and refusals in people's words, in both languages."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest
from django.utils import translation

from cohorts.regions import name_of, regions
from cohorts.wording import Vocabulary, Word, rule_in_words, unit_of, with_unit
from huidu.errors import RuleError, StateError
from huidu.promotion import gather, texts
from rollout.admin import faults
from rollout.services import wording

WORDS = {
    "weekly_payments": Word("近 7 天支付笔数", "笔", "integer"),
    "region": Word("地区", "", "region"),
    "staff": Word("内部员工", "", "boolean"),
}


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ({}, "所有人"),
        ({">": [{"var": "weekly_payments"}, 20]}, "近 7 天支付笔数 > 20 笔"),
        ({"<": [20, {"var": "weekly_payments"}]}, "近 7 天支付笔数 > 20 笔"),
        ({"<=": [10, {"var": "weekly_payments"}, 30]}, "近 7 天支付笔数 介于 10 与 30 笔 之间"),
        ({"within": [{"var": "region"}, ["440300", "310000"]]}, "地区 属于 深圳市, 上海市"),
        ({"==": [{"var": "staff"}, True]}, "内部员工：是"),
        ({"!": {"var": "staff"}}, "不满足（内部员工：是）"),
        (
            {"hysteresis": [{"var": "weekly_payments"}, 20, 15]},
            "近 7 天支付笔数：高于 20 时进入，低于 15 笔 时退出",
        ),
        ({"cohort": "heavy"}, "属于人群“高频”"),
        (
            {"or": [{"var": "staff"}, {"and": [{"cohort": "heavy"}, {"var": "staff"}]}]},
            "内部员工：是 或 （属于人群“高频” 且 内部员工：是）",
        ),
        ({"strange": [1]}, '{"strange": [1]}'),
    ],
)
def test_a_rule_is_told_in_chinese(rule: Any, told: str) -> None:
    with translation.override("zh-hans"):
        assert rule_in_words(rule, Vocabulary("zh-hans", WORDS, {"heavy": "高频"})) == told


@pytest.mark.parametrize(
    ("value", "zh", "en"),
    [
        (0.0, "0 元", "CNY 0.00"),
        (12.5, "12.50 元", "CNY 12.50"),
        (200_000, "200,000 元", "CNY 200,000.00"),
    ],
)
def test_money_is_written_as_each_language_writes_it(value: float, zh: str, en: str) -> None:
    for language, told in (("zh-hans", zh), ("en", en)):
        with translation.override(language):
            assert with_unit(value, unit_of("CNY")) == told


def test_regions_are_called_by_name_districts_by_the_city_around_them() -> None:
    assert name_of("440300", "zh-hans") == "深圳市"
    assert name_of("440305", "en") == "Shenzhen 440305"
    assert name_of("999999", "en") == "999999"
    assert all(region.parent in {"", *regions()} for region in regions().values())


def codes() -> set[str]:
    """Every hold reason that the promotion rule can give, read from its sources."""
    source = inspect.getsource(texts) + inspect.getsource(gather)
    found = set(re.findall(r'code="([a-z_]+)"', source))
    return found | set(re.findall(r'given\.\w+, "([a-z_]+)"', source))


def test_every_hold_reason_has_a_sentence_of_its_own() -> None:
    assert codes() - set(wording.HOLD) == set()


@pytest.mark.parametrize("code", sorted(wording.HOLD))
def test_a_reason_is_told_even_without_its_numbers(code: str) -> None:
    item = {"code": code, "text": "x", "metric": "complaints", "values": {}}
    with translation.override("zh-hans"):
        told = wording.missing_in_words(item, {"complaints": "客诉率"})
    assert re.search("[一-鿿]", told)
    assert "%(" not in told


def test_a_forecast_says_how_many_users_are_missing() -> None:
    forecast = {
        "metric": "complaints",
        "users": 12_800,
        "day": 20,
        "day_early": 11.2,
        "day_late": 27.4,
    }
    with translation.override("en"):
        told = wording.forecast_in_words(forecast, {"complaints": "Complaints"})
    assert told == "Complaints needs about 12,800 more users, days 11 to 27"


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (
            RuleError("expected a whole number of 0 or more, got null", path="rule"),
            "应为不小于 0 的整数，实际为 null。",
        ),
        (
            StateError("rollout a#1 has no stages yet: add one before starting"),
            "该发布计划还没有阶段，请先添加。",
        ),
        (StateError("nobody foresaw this"), "已被拒绝（state.conflict）：nobody foresaw this"),
    ],
)
def test_refusals_are_told_in_chinese(fault: Any, told: str) -> None:
    with translation.override("zh-hans"):
        assert faults.in_words(fault) == told
