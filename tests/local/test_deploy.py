"""The files for production name what exists. They are not run here: that needs a Docker engine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from config.environment import Environment

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"


def compose() -> dict[str, Any]:
    return dict(yaml.safe_load((DEPLOY / "compose.yaml").read_text()))


def settings() -> set[str]:
    special = {"database_url": "DATABASE_URL", "redis_url": "REDIS_URL"}
    return {special.get(name, f"HUIDU_{name.upper()}") for name in Environment.model_fields}


@pytest.mark.parametrize("service", ["migrate", "web", "edge", "worker", "beat", "places"])
def test_a_service_sets_only_what_huidu_reads(service: str) -> None:
    environment = compose()["services"][service]["environment"]
    assert environment
    assert set(environment) <= settings()


def test_the_check_servers_know_no_database() -> None:
    assert "DATABASE_URL" not in compose()["services"]["edge"]["environment"]


def test_the_example_environment_holds_no_secret_and_only_known_names() -> None:
    lines = (DEPLOY / "example.env").read_text().splitlines()
    pairs = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert pairs["HUIDU_SECRET"] == pairs["POSTGRES_PASSWORD"] == ""
    assert set(pairs) <= settings() | {"POSTGRES_PASSWORD"}


def test_the_image_copies_only_what_is_there_and_all_that_runs() -> None:
    copied = re.findall(r"^COPY (.+) \S+$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    names = {name for line in copied for name in line.split()}
    assert all((ROOT / name).exists() for name in names)
    assert {"config", "huidu", "edge", "cohorts", "rollout", "locale", "templates"} <= names


def test_every_alert_watches_a_figure_that_is_published() -> None:
    sources = [ROOT / "edge" / "metrics.py", ROOT / "rollout" / "api" / "health.py"]
    published = set(re.findall(r'"(huidu_\w+)"', "".join(path.read_text() for path in sources)))
    groups = yaml.safe_load((DEPLOY / "alerts.yaml").read_text())["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) > 5
    for rule in rules:
        for name in re.findall(r"huidu_\w+", rule["expr"]):
            assert re.sub(r"_(total|bucket)$", "", name) in published, rule["alert"]
        assert rule["annotations"]["action"]
