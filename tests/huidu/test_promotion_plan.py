"""Plans and looks that cannot be: each is named with its path and what would be right."""

from __future__ import annotations

import math

import msgspec
import pytest

from huidu.errors import EvidenceError
from huidu.promotion import (
    Alpha,
    AsOf,
    Cell,
    CellCounts,
    Decision,
    Kind,
    Metric,
    Role,
    StageTimes,
    State,
    check_plan,
)
from tests.huidu.promotion_stages import (
    AMOUNT,
    DAY,
    ERRORS,
    QUEUE,
    SLOWNESS,
    SUCCESS,
    after,
    codes,
    counts,
    look,
    plan,
    steady,
)


def changed(metric: Metric, **fields: object) -> Metric:
    return msgspec.structs.replace(metric, **fields)


@pytest.mark.parametrize(
    ("given", "path"),
    [
        pytest.param({"metrics": (SUCCESS, SUCCESS)}, "metrics[1].name", id="two on one metric"),
        pytest.param({"metrics": ()}, "metrics", id="no guard and no waiver"),
        pytest.param(
            {"metrics": (changed(SUCCESS, role=Role.STOP),)}, "metrics", id="nothing must prove"
        ),
        pytest.param({"metrics": (changed(SUCCESS, name=""),)}, "metrics[0].name", id="no name"),
        pytest.param(
            {"metrics": (changed(SUCCESS, margin_rel=0.0),)}, "metrics[0].margin_rel", id="margin 0"
        ),
        pytest.param(
            {"metrics": (changed(SUCCESS, margin_rel=None),)}, "metrics[0].margin_rel", id="none"
        ),
        pytest.param(
            {"metrics": (changed(SUCCESS, margin_rel=1.0),)},
            "metrics[0].margin_rel",
            id="a decrease by everything",
        ),
        pytest.param(
            {"metrics": (changed(ERRORS, margin_rel=math.nan),)}, "metrics[0].margin_rel", id="NaN"
        ),
        pytest.param(
            {"metrics": (changed(SUCCESS, limit_abs=0.1),)}, "metrics[0].margin_rel", id="both"
        ),
        pytest.param(
            {"metrics": (changed(SUCCESS, margin_rel=None, limit_abs=1.5),)},
            "metrics[0].limit_abs",
            id="a share above 1",
        ),
        pytest.param(
            {"metrics": (changed(SLOWNESS, edges_ms=(3.0, 2.0, 4.0, 5.0)),)},
            "metrics[0].edges_ms",
            id="edges out of order",
        ),
        pytest.param(
            {"metrics": (changed(SLOWNESS, margin_index=4),)}, "metrics[0].margin_index", id="index"
        ),
        pytest.param(
            {"metrics": (SUCCESS, changed(QUEUE, max=None))}, "metrics[1]", id="gauge, no limit"
        ),
        pytest.param(
            {"metrics": (SUCCESS, changed(QUEUE, for_looks=0))}, "metrics[1].for_looks", id="looks"
        ),
        pytest.param({"cells": ()}, "cells", id="no cells"),
        pytest.param({"cells": (Cell(id="a", rho=1.5),)}, "cells[0].rho", id="rho"),
        pytest.param({"cells": (Cell(id="a", rho=math.nan),)}, "cells[0].rho", id="rho NaN"),
        pytest.param(
            {"cells": (Cell(id="1", rho=0.1), Cell(id=1, rho=0.1))}, "cells[1].id", id="same id"
        ),
        pytest.param(
            {"stage": StageTimes(horizon_min=DAY, min_min=2 * DAY)}, "stage.min_min", id="stay"
        ),
        pytest.param(
            {"stage": StageTimes(horizon_min=0, min_min=0)}, "stage.horizon_min", id="horizon"
        ),
        pytest.param(
            {"stage": StageTimes(horizon_min=DAY, min_min=0, early_min=math.inf)},
            "stage.early_min",
            id="early for ever",
        ),
        pytest.param({"alpha": Alpha(rollback=0.0)}, "alpha.rollback", id="no budget"),
        pytest.param({"alpha": Alpha(promote=0.9)}, "alpha.promote", id="a budget of 90 %"),
        pytest.param({"minimum_users": -1}, "minimum_users", id="negative users"),
    ],
)
def test_a_plan_that_contradicts_itself_is_refused(given, path):
    refused = msgspec.structs.replace(plan(), **given)
    with pytest.raises(EvidenceError) as caught:
        check_plan(refused)
    assert caught.value.path == path
    assert "expected" in caught.value.message


def test_an_unknown_kind_cannot_even_be_read():
    with pytest.raises(msgspec.ValidationError, match="median"):
        msgspec.convert({"name": "x", "kind": "median"}, Metric)


def one(metric, value, *, n=100):
    """A look whose treated reading is `value` and whose control reading is plausible."""
    fine = {
        "success": 5,
        "errors": {"bad": 1, "num": 2, "den": 900, "num2": 4, "den2": 9000, "numden": 20},
        "slowness": [50, 20, 2, 1],
        "amount": {"n": 90, "sum": 90.0, "sumsq": 200.0, "sum_cap": 80.0, "sumsq_cap": 150.0},
    }[metric.name]
    arms = counts(2 * n, {metric.name: (value, fine)}, rho=0.5)
    return look(1, arms)


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        (SUCCESS, -1),
        (SUCCESS, 101),
        (SUCCESS, 2.5),
        (SUCCESS, math.nan),
        (SUCCESS, math.inf),
        (SUCCESS, "5"),
        (SUCCESS, True),
        (SUCCESS, [5]),
        (SUCCESS, 10**400),
        (SUCCESS, 1e300),
        (SLOWNESS, [50, 20, 2]),
        (SLOWNESS, [20, 50, 2, 1]),
        (SLOWNESS, [500, 20, 2, 1]),
        (SLOWNESS, 7),
        (ERRORS, {"bad": 101}),
        (ERRORS, {"num": 3}),
        (ERRORS, {"bad": 1, "num": 50, "num2": 1}),
        (ERRORS, 3),
        (AMOUNT, {"n": 50, "sum": 100}),
        (AMOUNT, {"n": 50, "sum": 100, "sumsq": 10}),
        (AMOUNT, {"n": 500, "sum": 100, "sumsq": 1e6}),
        (AMOUNT, {"n": 50, "sum": math.nan, "sumsq": 1e6}),
    ],
)
def test_readings_that_cannot_be_true_are_held_with_their_path(metric, value):
    given = plan(metric, cells=(Cell(id="all", rho=0.5),))
    state, outcome = after_raw(given, one(metric, value))
    assert outcome.decision is Decision.HOLD
    assert outcome.code == "bad_evidence"
    assert f"cells[0].t.m.{metric.name}" in outcome.text
    assert state.evidence == {}


def after_raw(given, *looks):
    from huidu.promotion import review

    state = State()
    for each in looks:
        state, outcome = review(given, state, each)
    return state, outcome


def broken_users(**arms):
    cell = counts(1_000, {"success": (2, 40)})
    parts = {label: msgspec.structs.replace(getattr(cell, label), n=n) for label, n in arms.items()}
    return msgspec.structs.replace(cell, **parts)


@pytest.mark.parametrize(
    ("cells", "text"),
    [
        ((broken_users(t=-5),), "cells[0].t.n"),
        ((broken_users(c=math.nan),), "cells[0].c.n"),
        ((broken_users(t=1.5),), "cells[0].t.n"),
        ((counts(9, {"success": (0, 0)}, id="else"),), "cells[0].id"),
        ((broken_users(), broken_users()), "cells[1].id"),
    ],
)
def test_users_that_cannot_be_are_held_and_nothing_is_taken_over(cells, text):
    before, _ = after(plan(), steady(1))
    state, outcome = after(plan(), look(2, *cells), state=before)
    assert outcome.code == "bad_evidence"
    assert text in outcome.text
    assert state.evidence == before.evidence
    assert state.users == before.users


def test_cumulative_counts_must_not_fall():
    state, outcome = after(plan(), steady(2), look(2.5, counts(600_000, {"success": (3, 9)})))
    assert outcome.code == "counts_fell"
    assert state.evidence["success"].as_of == 2 * DAY
    _, fewer = after(plan(), steady(1.9), state=state)
    assert fewer.code == "out_of_order"
    _, users = after(plan(), look(3, counts(500_000, {"success": (2_000, 30_000)})), state=state)
    assert users.code == "counts_fell"


@pytest.mark.parametrize("metric", [SUCCESS, ERRORS, SLOWNESS, AMOUNT])
def test_a_look_before_the_first_user_says_nothing(metric):
    nothing = look(0.001, fresh=(metric.name,))
    _, outcome = after(plan(metric), nothing)
    assert codes(outcome) == ["minimum_stay"]
    assert outcome.readings[0].e_value == 1.0


def test_a_cell_that_vanishes_is_noticed():
    _, outcome = after(plan(), steady(2), look(3))
    assert outcome.code == "counts_fell"


@pytest.mark.parametrize("moment", [2 * DAY, math.inf, math.nan])
def test_a_source_complete_up_to_the_future_is_not_believed(moment):
    future = msgspec.structs.replace(steady(1), as_of={"success": AsOf(moment, moment)})
    state, outcome = after_raw(plan(), future)
    assert outcome.code == "bad_evidence"
    assert "as_of.success" in outcome.text
    assert state.evidence == {}


@pytest.mark.parametrize("t_min", [-1.0, math.nan, math.inf])
def test_a_look_at_an_impossible_time_moves_nothing(t_min):
    state, outcome = after_raw(plan(), msgspec.structs.replace(steady(1), t_min=t_min))
    assert outcome.code == "bad_evidence"
    assert state == State()


def test_cells_without_ids_stand_in_the_order_of_the_plan():
    given = plan(cells=(Cell(id="z", rho=0.05), Cell(id="a", rho=0.3)))
    first = counts(100_000, {"success": (250, 4_750)}, rho=0.05, id="z")
    second = counts(10_000, {"success": (300, 700)}, rho=0.3, id="a")
    named = after(given, look(1, first, second))[1]
    bare = [CellCounts(cell.t, cell.c) for cell in (first, second)]
    assert after(given, look(1, *bare))[1] == named
    assert codes(after(given, look(1, bare[0]))[1])[0] == "bad_evidence"


def test_bad_readings_of_one_metric_do_not_hide_harm_in_another():
    given = plan(SUCCESS, changed(SUCCESS, name="other"))
    now = steady(1, success=0.5)
    cell = now.cells[0]
    cell = msgspec.structs.replace(
        cell,
        t=msgspec.structs.replace(cell.t, m=cell.t.m | {"other": -3}),
        c=msgspec.structs.replace(cell.c, m=cell.c.m | {"other": 5}),
    )
    _, outcome = after(given, msgspec.structs.replace(now, cells=(cell,)))
    assert (outcome.decision, outcome.metric) == (Decision.ROLL_BACK, "success")


def test_a_kind_that_has_events_within_days_may_be_told_its_lag():
    check_plan(plan(changed(SUCCESS, kind=Kind.BINARY_DELAYED, lag_days=30.0)))
