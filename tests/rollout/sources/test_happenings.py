"""Cells told by a warehouse: the same numbers as from events, restated, never guessed."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from celery.exceptions import SoftTimeLimitExceeded
from django.utils import translation

from huidu.errors import InputError, StateError
from rollout import tasks_evidence
from rollout.models import Decision, Exposure, Metric, MetricCell, RollupMark
from rollout.services import (
    evidence,
    metrics,
    readings,
    replay,
    review,
    warehouse_cells,
    wording,
)
from rollout.services.audit import Actor
from rollout.services.sources import SourceError, happenings
from tests.rollout.evidence.conftest import PLACE, World, at, complete, exposure, outcome

ANN = Actor(name="ann", person="ann")
KINDS: dict[str, dict[str, Any]] = {
    "converted": {"kind": "binary"},
    "errors": {"kind": "users_ratio"},
    "latency": {"kind": "latency", "edges": [100.0, 300.0], "baseline_index": 0, "margin_index": 1},
    "amount": {"kind": "mean", "cap": 50.0},
    "calls": {"kind": "count"},
}
SELECT = "SELECT who AS user_id, t AS at, v AS value FROM happened WHERE metric = '{}'"


class Warehouse:
    """A DuckDB file with one table; open only while it writes."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.do("CREATE TABLE happened (metric TEXT, who TEXT, t TIMESTAMPTZ, v DOUBLE, of DOUBLE)")

    def do(self, sql: str, *rows: tuple[Any, ...]) -> None:
        with duckdb.connect(self.path) as made:
            made.executemany(sql, rows) if rows else made.execute(sql)

    def add(self, *rows: tuple[Any, ...]) -> None:
        self.do("INSERT INTO happened VALUES (?, ?, ?, ?, ?)", *rows)


@pytest.fixture
def house(tmp_path: Path, settings: Any) -> Warehouse:
    made = Warehouse(tmp_path / "house.duckdb")
    settings.HUIDU_WAREHOUSE_URL = f"duckdb://{made.path}"
    return made


def told(metric: Metric) -> dict[tuple[Any, ...], Any]:
    rows = MetricCell.objects.filter(metric=metric)
    return {
        (row.arm, row.stratum, row.epoch, row.chance_ppb, row.hour): (
            row.users,
            [pytest.approx(each, rel=1e-9, abs=1e-9) for each in row.sums],
            row.latest,
        )
        for row in rows
    }


def from_sql(world: World, key: str, **values: Any) -> Metric:
    query = values.pop("query", SELECT.format(key))
    if values["kind"] == "users_ratio":
        query = query.replace("v AS value", "v AS value, of AS denominator")
    metric = world.guard(f"sql_{key}", **values).metric
    metric.source, metric.query = "sql", query
    metric.save()
    return metric


def read(world: World, metric: Metric, days: float = 3) -> warehouse_cells.Read:
    evidence.roll_up(world.stage, now=at(days))
    return warehouse_cells.read(world.stage, metric, now=at(days))


def read_all(now: datetime) -> int:
    return sum(warehouse_cells.read_anew(each, now=now) for each in warehouse_cells.wanted(now))


def totals(metric: Metric) -> dict[str, tuple[int, Any]]:
    rows = MetricCell.objects.filter(metric=metric, latest=True)
    return {row.arm: (row.users, [pytest.approx(x) for x in row.sums]) for row in rows}


def test_a_query_gives_the_totals_that_events_give(world: World, house: Warehouse):
    by_event = {key: world.guard(key, **dict(values)).metric for key, values in KINDS.items()}
    by_query = {key: from_sql(world, key, **dict(values)) for key, values in KINDS.items()}
    draw = random.Random(7)
    world.send(*(exposure(f"u{i}", at(draw.random())) for i in range(80)), now=at(3))
    events, rows = [], []
    for i in range(600):
        key, user, moment = draw.choice(list(KINDS)), f"u{i % 100}", at(draw.random() * 2)
        value = round(draw.uniform(0, 80), 2)
        of = value + 1 if key == "errors" else None
        events.append(outcome(user, key, moment, value, event_id=f"e{i}", denominator=of))
        rows.append((key, user, moment, value, of))
    world.send(*events, now=at(3))
    house.add(*rows)
    for key, metric in by_query.items():
        read(world, metric)
        assert totals(metric) == totals(by_event[key]), key
        assert MetricCell.objects.filter(metric=metric).count() > 10


def test_reading_twice_writes_nothing_and_a_late_row_restates_its_hour(
    world: World, house: Warehouse
):
    metric = from_sql(world, "amount", kind="mean", cap=50.0)
    world.send(*(exposure(f"u{i}", at()) for i in range(20)))
    house.add(*(("amount", f"u{i}", at(hours=i % 5), 10.0, None) for i in range(20)))
    assert read(world, metric).cells > 0
    before = told(metric)
    assert read(world, metric, 3.1) == (0, 0)
    house.add(("amount", "u3", at(hours=2, minutes=5), 45.0, None))
    assert read(world, metric, 3.2).restated >= 1
    arm = Exposure.objects.get(user_id="u3").arm
    changed = [key for key, numbers in told(metric).items() if before.get(key) != numbers]
    assert changed
    assert all(key[0] == arm and key[-1] >= at(hours=2) for key in changed)
    house.do("DELETE FROM happened WHERE v = 45")
    read(world, metric, 3.3)
    assert told(metric) == before


def test_users_whom_nobody_enrolled_and_earlier_happenings_do_not_count(
    world: World, house: Warehouse
):
    metric = from_sql(world, "converted", kind="binary")
    world.send(exposure("u1", at(0.5)))
    house.add(("converted", "stranger", at(1), 1, None), ("converted", "u1", at(0.4), 1, None))
    read(world, metric)
    assert told(metric) == {}
    mark = RollupMark.objects.get(stage=world.stage, metric=metric)
    assert mark.complete_to == at(1)  # the source lives, and says so


@pytest.mark.parametrize(
    ("kind", "row", "query", "sentence"),
    [
        ("count", ("m", "u", at(1), -2, None), "", "1 of 1 rows have a negative value"),
        ("mean", ("m", "u", at(1), float("nan"), None), "", "no finite number"),
        ("mean", ("m", "u", at(1), float("inf"), None), "", "no finite number"),
        ("mean", ("m", "u", at(1), 1e16, None), "", "beyond 1e+15"),
        ("mean", ("m", "u", at(1), None, None), "", "no value: unknown, not zero"),
        ("mean", ("m", None, at(1), 1, None), "", "no user_id"),
        ("mean", ("m", "u", None, 1, None), "", "no moment in column at"),
        ("mean", ("m", "u", at(9), 1, None), "", "lie in the future"),
        ("users_ratio", ("m", "u", at(1), 5, 3), "", "count more than their denominator"),
        ("mean", None, "", "answers no row: unknown, not zero"),
        ("mean", None, "SELECT who AS user_id, t AS at FROM happened", "value is missing"),
        ("mean", None, "SELECT 1 AS user_id, t AS at, v AS value FROM happened", "expected text"),
        ("mean", None, "SELECT who AS user_id, who AS at, v AS value FROM happened", "a moment"),
        ("mean", None, "SELECT who AS user_id, t AS at, who AS value FROM happened", "a number"),
        ("mean", None, SELECT.format("m").replace("v AS", "v AS x, v AS"), "column 'x'"),
        ("mean", None, "DROP TABLE happened", "expected one SELECT"),
        ("mean", None, "SELECT * FROM nowhere", "the query failed"),
    ],
)
def test_what_cannot_be_true_is_unknown_and_says_why(
    world: World, house: Warehouse, kind: str, row: Any, query: str, sentence: str
):
    metric = from_sql(world, "m", kind=kind)
    if query:
        metric.query = query
    if row:
        house.add(row)
    world.send(exposure("u", at()))
    with pytest.raises(SourceError, match="metric sql_m: ") as caught:
        read(world, metric)
    assert sentence in caught.value.message
    assert not MetricCell.objects.filter(metric=metric).exists()
    assert not RollupMark.objects.filter(metric=metric, complete_to__isnull=False).exists()


def test_a_source_that_dies_holds_the_stage_and_never_reads_zero(world: World, house: Warehouse):
    metric = from_sql(world, "converted", kind="binary")
    world.send(*(exposure(f"u{i}", at()) for i in range(40)))
    house.add(*(("converted", f"u{i}", at(3.99), 1, None) for i in range(40)))
    assert read_all(now=at(4)) > 0
    done = review.roll_up_and_review(world.stage.pk, now=at(4))
    assert done is not None
    assert not {each["code"] for each in done.decision.reasons} & {"no_data", "stale_source"}
    house.do("DELETE FROM happened")
    assert read_all(now=at(4, hours=2)) == 0
    metric.refresh_from_db()
    assert "unknown, not zero" in metric.fault
    done = review.roll_up_and_review(world.stage.pk, now=at(4, hours=2))
    assert done is not None
    assert "stale_source" in {each["code"] for each in done.decision.reasons}
    assert sum(totals(metric)[arm][0] for arm in totals(metric)) == 40


@pytest.mark.parametrize(
    ("fault", "left"),
    [
        pytest.param(SoftTimeLimitExceeded(), "", id="time is over"),
        pytest.param(RuntimeError("sick"), "metric sql_amount: RuntimeError('sick')", id="sick"),
    ],
)
def test_the_limit_ends_a_reading_and_the_next_goes_on_with_what_waits_longest(
    world: World, house: Warehouse, monkeypatch: pytest.MonkeyPatch, fault: Exception, left: str
):
    first, second = (from_sql(world, key, kind="mean") for key in ("amount", "bonus"))
    world.send(exposure("u1", at()))
    house.add(("amount", "u1", at(1), 4, None), ("bonus", "u1", at(1), 5, None))
    counted = happenings.count

    def interrupted(metric: Metric, *given: Any, **more: Any) -> Any:
        if metric.pk == first.pk:
            raise fault
        return counted(metric, *given, **more)

    with monkeypatch.context() as patched:
        patched.setattr(happenings, "count", interrupted)
        if left:
            assert tasks_evidence.read_warehouse() > 0
        else:
            with pytest.raises(SoftTimeLimitExceeded):
                tasks_evidence.read_warehouse()
    first.refresh_from_db()
    assert first.fault == left
    assert bool(totals(second)) == bool(left)
    assert not totals(first)
    with monkeypatch.context() as patched:
        patched.setattr(tasks_evidence, "WAREHOUSE_SECONDS", 0.0)
        assert tasks_evidence.read_warehouse() == 0  # no source is begun when time is over
    assert tasks_evidence.read_warehouse() > 0
    assert totals(first)
    assert totals(second)
    RollupMark.objects.filter(metric=second).update(rolled_at=None)
    assert [each.metric for each in warehouse_cells.wanted(at(3))] == [second, first]


def test_an_older_reading_that_ends_later_is_not_written(world: World, house: Warehouse):
    metric = from_sql(world, "converted", kind="binary")
    world.send(exposure("u1", at()))
    house.add(("converted", "u1", at(1), 1, None))
    read(world, metric, 3)
    house.do("DELETE FROM happened WHERE true")
    house.add(("converted", "u2", at(1), 1, None))
    assert read(world, metric, 2.9) == (0, 0)
    assert len(told(metric)) == 1


def test_rows_of_one_event_id_count_once_and_loaded_at_tells_freshness(
    world: World, house: Warehouse
):
    query = (
        "SELECT who AS user_id, t AS at, v AS value, 'x' AS event_id, "
        "TIMESTAMP '2026-03-05 10:00:00' AS loaded_at FROM happened"
    )
    metric = from_sql(world, "amount", kind="mean", query=query)
    world.send(exposure("u1", at()))
    house.add(("amount", "u1", at(1), 4, None), ("amount", "u1", at(1), 4, None))
    read(world, metric)
    (found,) = totals(metric).values()
    assert found == (1, [4, 16, 4, 16])
    mark = RollupMark.objects.get(stage=world.stage, metric=metric)
    assert mark.complete_to == at(3) - timedelta(hours=2)


def test_a_recount_from_raw_rows_leaves_what_the_warehouse_told(world: World, house: Warehouse):
    metric = from_sql(world, "converted", kind="binary")
    world.send(exposure("u1", at()))
    house.add(("converted", "u1", at(1), 1, None))
    read(world, metric)
    before = told(metric)
    evidence.recompute(world.stage, now=at(3))
    assert told(metric) == before


def test_events_of_a_warehouse_metric_are_refused(world: World, house: Warehouse):
    from_sql(world, "converted", kind="binary")
    for event in (outcome("u1", "sql_converted", at()), complete("sql_converted", at())):
        (fault,) = world.send(event).rejected
        assert fault.code == "metric.from_warehouse"


def test_a_query_is_tried_before_it_is_kept(world: World, house: Warehouse):
    house.add(("m", "u1", at(1), 5, None))
    draft = Metric(kind="mean", source="sql", query=SELECT.format("m"))
    found = metrics.try_out(PLACE, draft, by=ANN, now=at(3))
    assert list(found.columns) == ["user_id", "at", "value"]
    assert (found.total, found.latest) == (1, at(1))
    assert found.rows[0]["user_id"] == "u1"
    draft.kind = "latency"
    draft.query = SELECT.format("m").replace("v AS value", "who AS value")
    with pytest.raises(InputError, match="expected a number, got VARCHAR") as caught:
        metrics.try_out(PLACE, draft, by=ANN, now=at(3))
    assert caught.value.path == "query"


def test_the_query_of_a_running_guard_is_fixed(world: World, house: Warehouse):
    metric = from_sql(world, "converted", kind="binary")
    with pytest.raises(StateError, match="query cannot change"):
        metrics.save_metric(PLACE, {"query": "SELECT 1"}, by=ANN, metric=metric)


def days_of_loads(world: World, house: Warehouse, metric: Metric) -> list[Decision]:
    """Loaded once a day, looked at in the evening and at noon, when the load is up to a day old."""
    made = []
    for day in range(1, 5):
        users = [f"u{i}" for i in range(day * 700, day * 700 + 700)]
        world.send(*(exposure(each, at(day)) for each in users), now=at(day))
        house.add(*(("late", each, at(day, hours=1), 1.0, None) for each in users[::5]))
        for moment in (at(day, hours=2), at(day, hours=20), at(day + 1, hours=-1)):
            evidence.roll_up(world.stage, now=moment)
            warehouse_cells.read(world.stage, metric, now=moment)
            found = review.review_stage(world.stage.pk, now=moment)
            assert found is not None
            made.append(found.decision)
            if found.decision.decision != Decision.Verdict.HOLD:
                return made
    return made


def test_a_warehouse_loaded_once_a_day_promotes_where_its_metric_may_be_a_day_old(
    world: World, house: Warehouse
):
    metric = from_sql(world, "late", kind="binary", margin_rel=0.5)
    metric.fresh_minutes = 26 * 60
    metric.save()
    made = days_of_loads(world, house, metric)
    assert made[-1].decision == Decision.Verdict.PROMOTE
    told = {each["code"] for decision in made for each in decision.reasons}
    assert not told & {"stale_source", "silent_feed"}
    assert [each for decision in made for each in replay.replay(decision)] == []


def test_without_a_limit_of_its_own_it_is_stale_an_hour_after_each_load(
    world: World, house: Warehouse
):
    metric = from_sql(world, "late", kind="binary", margin_rel=0.5)
    made = days_of_loads(world, house, metric)
    # At the moment of a load its data is an hour old, and that is all the usual limit allows.
    noons = [each for i, each in enumerate(made) if i % 3]
    assert {each.decision for each in noons} == {Decision.Verdict.HOLD}
    assert all("stale_source" in {r["code"] for r in each.reasons} for each in noons)


def test_a_load_that_does_not_come_is_unknown_and_never_zero(world: World, house: Warehouse):
    metric = from_sql(world, "late", kind="binary", margin_rel=0.5)
    metric.fresh_minutes = 26 * 60
    metric.save()
    for day in (1, 2):
        users = [f"u{i}" for i in range(day * 700, day * 700 + 700)]
        world.send(*(exposure(each, at(day)) for each in users), now=at(day))
        if day == 1:
            house.add(*(("late", each, at(day, hours=1), 1.0, None) for each in users[::5]))
        read(world, metric, days=day + 0.1)
    late = review.review_stage(world.stage.pk, now=at(2, hours=4))
    assert late is not None
    stale = [each for each in late.decision.reasons if each["code"] == "stale_source"]
    assert [each["values"] for each in stale] == [{"age_min": 27 * 60.0, "limit_min": 26 * 60.0}]
    with translation.override("en"):
        in_words = wording.missing_in_words(stale[0], {"sql_late": "Late"})
    assert in_words == "Late: the data is 27 hours old; the limit is 26 hours"
    (cell,) = late.decision.evidence["look"]["cells"]
    assert cell["t"]["m"]["sql_late"] > 0


def test_nobody_loosens_freshness_while_a_stage_waits_for_it(world: World, house: Warehouse):
    metric = from_sql(world, "late", kind="binary")
    with pytest.raises(StateError, match="promote on older data"):
        metrics.save_metric(PLACE, {"fresh_minutes": 1_560}, by=ANN, metric=metric)
    metric = metrics.save_metric(PLACE, {"fresh_minutes": 30}, by=ANN, metric=metric)
    with pytest.raises(StateError, match="promote on older data"):
        metrics.save_metric(PLACE, {"fresh_minutes": None}, by=ANN, metric=metric)
    with translation.override("en"):
        told = readings.words(metric.guards.get()).fresh
    assert told.startswith("Its data may be up to 30 minutes old")


@pytest.mark.parametrize(
    ("values", "path"),
    [
        ({"kind": "mean", "source": "sql", "query": ""}, "query"),
        ({"kind": "mean", "source": "sql", "query": "DELETE FROM x"}, "query"),
        ({"kind": "mean", "source": "prometheus", "query": "up"}, "source"),
        ({"kind": "mean", "fresh_minutes": 0}, "fresh_minutes"),
        ({"kind": "mean", "fresh_minutes": 10_081}, "fresh_minutes"),
        ({"kind": "mean", "fresh_minutes": "a day"}, "fresh_minutes"),
    ],
)
def test_a_source_that_nobody_asks_is_refused(world: World, values: dict[str, Any], path: str):
    with pytest.raises(InputError) as caught:
        metrics.save_metric(PLACE, {"key": "odd", **values}, by=ANN)
    assert caught.value.path == path
