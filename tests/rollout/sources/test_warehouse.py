"""A DuckDB file as the warehouse: one SELECT, read-only, with a deadline."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from rollout.models import Metric
from rollout.services import sources
from rollout.services.sources import SourceError, warehouse

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.fixture
def file(tmp_path: Path, settings: Any) -> Path:
    path = tmp_path / "loans.duckdb"
    with duckdb.connect(str(path)) as made:
        made.execute("CREATE TABLE loans (bad INTEGER, all_loans INTEGER, loaded TIMESTAMPTZ)")
        made.execute("INSERT INTO loans VALUES (2, 100, '2026-03-02 11:58:00+00')")
    settings.HUIDU_WAREHOUSE_URL = f"duckdb://{path}"
    return path


def read(query: str) -> sources.Sample:
    metric = Metric(environment="production", key="overdue", source="sql", query=query)
    return sources.read(metric, now=NOW)


@pytest.mark.usefixtures("file")
def test_a_select_answers_a_value_and_its_moment():
    found = read("SELECT sum(bad) / sum(all_loans) AS value, max(loaded) AS at FROM loans")
    assert found == sources.Sample(0.02, NOW - timedelta(minutes=2))
    assert read("SELECT bad::DECIMAL(10, 2) FROM loans") == sources.Sample(2.0, NOW)


@pytest.mark.usefixtures("file")
def test_a_reading_may_be_as_old_as_its_metric_says():
    query = "SELECT bad AS value, loaded - INTERVAL 25 HOUR AS at FROM loans"
    daily = Metric(environment="production", key="m", source="sql", query=query, fresh_minutes=1560)
    assert sources.read(daily, now=NOW).at == NOW - timedelta(hours=25, minutes=2)
    daily.fresh_minutes = 1500
    with pytest.raises(SourceError, match="older than 1,500 minutes"):
        sources.read(daily, now=NOW)


@pytest.mark.usefixtures("file")
@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("SELECT bad FROM loans WHERE false", "one row, got none"),
        ("SELECT * FROM range(5)", "one row, got several"),
        ("SELECT avg(bad) FROM loans WHERE false", "NULL: unknown, not zero"),
        ("SELECT 'nan'::DOUBLE", "finite number"),
        ("SELECT 'text'", "expected a number"),
        ("SELECT true", "expected a number"),
        ("SELECT 1 AS a, 2 AS b", "column `value`"),
        ("SELECT 1 AS value, TIMESTAMP '2026-03-01 00:00' AS at", "older than 10 minutes"),
        ("SELECT 1 AS value, 'x' AS at", "expected a moment"),
        ("SELECT nothing FROM loans", "the query failed"),
        ("SELECT 1; SELECT 2", "expected one SELECT"),
        ("DELETE FROM loans", "expected one SELECT"),
        ("COPY loans TO '/tmp/loans.csv'", "expected one SELECT"),
        ("SELECT FROM WHERE", "the query"),
        ("SELECT count(*) FROM read_csv('/etc/passwd')", "the query failed"),
    ],
)
def test_anything_else_is_unknown_and_says_why(query: str, told: str):
    with pytest.raises(SourceError, match="metric overdue: ") as caught:
        read(query)
    assert told in caught.value.message


@pytest.mark.usefixtures("file")
def test_a_query_that_runs_too_long_is_stopped():
    endless = "SELECT count(*) FROM range(100000000) a, range(100000000) b WHERE a.range < b.range"
    with pytest.raises(SourceError, match=r"took longer than 0\.2 s"):
        warehouse.read(endless, now=NOW, deadline=0.2)


def test_a_missing_file_and_a_missing_setting_are_told(tmp_path: Path, settings: Any):
    settings.HUIDU_WAREHOUSE_URL = f"duckdb://{tmp_path}/none.duckdb"
    with pytest.raises(SourceError, match="cannot be opened"):
        read("SELECT 1")
    settings.HUIDU_WAREHOUSE_URL = ""
    with pytest.raises(SourceError, match="set HUIDU_WAREHOUSE_URL"):
        read("SELECT 1")
