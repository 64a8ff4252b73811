"""Freeze windows from the environment: days of the day zone, or a sentence that stops the start."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from config import freeze
from config.environment import Environment
from rollout.services import looks


def windows(text: str, monkeypatch: pytest.MonkeyPatch) -> list[freeze.Freeze]:
    monkeypatch.setenv("HUIDU_FREEZE_WINDOWS", text)
    return freeze.moments(Environment().freeze_windows, "Asia/Shanghai")


def test_two_days_are_whole_days_of_the_day_zone(monkeypatch: pytest.MonkeyPatch):
    (found,) = windows("2027-02-05/2027-02-12 春节", monkeypatch)
    assert found.name == "春节"
    assert found.start == datetime(2027, 2, 4, 16, tzinfo=UTC)
    assert found.end == datetime(2027, 2, 12, 16, tzinfo=UTC)


def test_windows_are_sorted_and_may_name_hours(monkeypatch: pytest.MonkeyPatch):
    text = "2027-10-01/2027-10-07 国庆, 2027-03-31T18:00/2027-04-01T09:30 quarter end;"
    first, second = windows(text, monkeypatch)
    assert (first.name, second.name) == ("quarter end", "国庆")
    assert first.end - first.start == timedelta(hours=15, minutes=30)


@pytest.mark.parametrize(
    "text",
    [
        "2027-02-05",
        "2027-02-30/2027-03-01",
        "2027-02-12/2027-02-05",
        "2027-02-05/2027-02-12春节",
        "soon/later",
        "2027-02-05T10:00+08:00/2027-02-06",
        "2027-02-05T10:00/2027-02-05T10:00",
    ],
)
def test_an_odd_window_stops_the_start(text: str, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ValidationError, match="expected"):
        windows(text, monkeypatch)


def test_the_review_reads_them(settings: Any, monkeypatch: pytest.MonkeyPatch):
    settings.HUIDU_FREEZE_WINDOWS = windows("2027-02-05/2027-02-12 春节", monkeypatch)
    assert looks.is_frozen(datetime(2027, 2, 5, 0, tzinfo=UTC))
    assert looks.is_frozen(datetime(2027, 2, 12, 15, 59, tzinfo=UTC))
    assert not looks.is_frozen(datetime(2027, 2, 12, 16, tzinfo=UTC))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HUIDU_PROMETHEUS_URL", "prometheus:9090"),
        ("HUIDU_WAREHOUSE_URL", "postgres://x"),
        ("HUIDU_WAREHOUSE_URL", "duckdb:///"),
        ("HUIDU_PRIVATE_TARGETS", "10.0.0.0/99"),
        ("HUIDU_PRIVATE_TARGETS", "10.0.0"),
    ],
)
def test_odd_addresses_stop_the_start(name: str, value: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError):
        Environment()
