"""`python -m huidu.promotion`: JSON lines in, one answer a look out, and nothing can crash it."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huidu.promotion.protocol import Session

ROOT = Path(__file__).parents[2]

START: dict[str, Any] = {
    "type": "start",
    "protocol": 1,
    "rollout": "r-17",
    "stage": {"horizon_min": 20160, "min_min": 10080, "look_min": 5, "promotion_every_min": 1440},
    "alpha": {"rollback": 0.05, "promote": 0.05},
    "cells": [
        {"id": "light", "stratum": "light", "epoch": 0, "rho": 0.05, "from_min": 0, "to_min": None}
    ],
    "metrics": [
        {"name": "success", "kind": "binary", "harm": "decrease", "margin_rel": 0.1},
        {
            "name": "overdue", "kind": "binary_delayed", "harm": "increase", "margin_rel": 0.5,
            "lag_days": 30,
        },
        {"name": "errors", "kind": "users_ratio", "harm": "increase", "margin_rel": 0.25},
        {
            "name": "latency", "kind": "latency", "harm": "increase", "margin_rel": 0.25,
            "edges_ms": [100, 300, 800, 1000], "baseline_index": 2, "margin_index": 3,
        },
        {"name": "amount", "kind": "mean", "harm": "decrease", "margin_rel": 0.1},
        {
            "name": "pool", "kind": "gauge", "harm": "increase", "margin_rel": None, "max": 0.9,
            "for_looks": 3,
        },
    ],
}  # fmt: skip


def arm(n: int, success: float = 1.0) -> dict[str, Any]:
    bad = round(n * 0.02)
    return {
        "n": n,
        "m": {
            "success": round(n * 0.05 * success),
            "overdue": round(n * 0.01),
            "errors": {
                "bad": bad, "num": 2 * bad, "den": 10 * n, "num2": 6 * bad, "den2": 120 * n,
                "numden": 25 * bad,
            },
            "latency": [round(n * share) for share in (0.5, 0.1, 0.01, 0.004)],
            "amount": {
                "n": n, "sum": 5.0 * n, "sumsq": 400.0 * n, "sum_cap": 4.6 * n,
                "sumsq_cap": 300.0 * n,
            },
        },
    }  # fmt: skip


def look(k: int, **changes: Any) -> dict[str, Any]:
    t_min, n = 5.0 * k, 1_000 * k
    names = [metric["name"] for metric in START["metrics"]]
    return {
        "type": "look",
        "k": k,
        "t_min": t_min,
        "cells": [
            {"id": "light", "t": arm(n // 20, changes.pop("success", 1.0)), "c": arm(n * 19 // 20)}
        ],
        "gauges": {"pool": 0.4},
        "as_of": {name: {"t": t_min, "c": t_min} for name in names},
    } | changes


def told(*lines: Any) -> list[dict[str, Any]]:
    session = Session()
    answers = [session.answer(x if isinstance(x, str) else json.dumps(x)) for x in lines]
    return [answer for answer in answers if answer is not None]


def test_a_conversation_through_pipes_answers_each_look_before_the_next_is_sent():
    process = subprocess.Popen(
        [sys.executable, "-m", "huidu.promotion"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None

    def ask(message: Any) -> dict[str, Any]:
        process.stdin.write(json.dumps(message) + "\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    def tell(message: Any) -> None:
        process.stdin.write(json.dumps(message) + "\n")

    tell(START)
    assert ask(look(1))["decision"] == "hold"
    early = ask(look(2015))
    assert (early["decision"], early["metric"]) == ("hold", None)
    assert ask(look(2016))["decision"] == "promote"
    tell({"type": "end"})
    tell(START)
    assert ask(look(10))["decision"] == "hold"
    harmed = ask(look(200, success=0.5))
    assert (harmed["decision"], harmed["metric"]) == ("rollback", "success")
    assert "success" in harmed["reason"]
    assert "error" in ask("nonsense")
    rest, _ = process.communicate()
    assert rest == ""
    assert process.returncode == 0


def test_a_start_forgets_the_rollout_before_it():
    answers = told(START, look(200, success=0.5), START, look(1))
    assert [a["decision"] for a in answers] == ["rollback", "hold"]
    assert answers[1]["code"] == "minimum_stay"


def test_after_a_decision_further_looks_are_held():
    answers = told(START, look(200, success=0.5), look(201, success=0.5))
    assert answers[1]["decision"] == "hold"
    assert answers[1]["code"] == "already_decided"


def test_a_gauge_rolls_back_after_its_looks():
    looks = [look(k, gauges={"pool": 0.95}) for k in (1, 2, 3)]
    assert [(a["decision"], a["metric"]) for a in told(START, *looks)] == [
        ("hold", "pool"), ("hold", "pool"), ("rollback", "pool")
    ]  # fmt: skip


def dead(message: dict[str, Any]) -> dict[str, Any]:
    for label in ("t", "c"):
        message["cells"][0][label]["m"]["success"] = None
    return message | {"as_of": message["as_of"] | {"success": {"t": None, "c": None}}}


def test_a_dead_feed_is_never_promoted():
    answers = told(START, *(dead(look(k)) for k in range(1_900, 4_033, 72)))
    assert {a["decision"] for a in answers} == {"hold"}
    assert answers[-1]["code"] == "no_data"
    assert answers[-1]["metric"] == "success"


def damaged(**changes: Any) -> dict[str, Any]:
    return START | changes


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("", "JSON"),
        ("{", "JSON"),
        ("[1]", "list"),
        ('"start"', "str"),
        ({"type": "stop"}, "type"),
        ({}, "type"),
        (damaged(protocol=2), "protocol"),
        (damaged(cells=[]), "cells"),
        (damaged(cells=[{"id": "a"}]), "$.cells[0]"),
        (damaged(cells=[{"id": "a", "rho": "x"}]), "$.cells[0].rho"),
        (damaged(metrics=[{"name": "x", "kind": "median"}]), "$.metrics[0].kind"),
        (damaged(metrics=[{"name": "x", "kind": "binary", "margin_rel": 0}]), "metrics[0].margin"),
        (damaged(metrics=START["metrics"][:1] * 2), "metrics[1].name"),
        (damaged(stage={"horizon_min": 1}), "$.stage"),
        (damaged(alpha={"rollback": 7}), "alpha.rollback"),
        ({"type": "start"}, "stage"),
        ("[" * 100_000, ""),
    ],
)
def test_a_line_that_cannot_be_understood_names_its_fault(line, named):
    (answer,) = told(line)
    assert named in answer["error"]
    # Whatever came, the next rollout is served.
    assert told(line, START, look(1))[-1]["decision"] == "hold"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"k": "one"}, "$.k"),
        ({"t_min": None}, "$.t_min"),
        ({"cells": None}, "$.cells"),
        ({"cells": [{"id": "light"}]}, "$.cells[0]"),
        ({"cells": [{"id": "dark", "t": {"n": 1}, "c": {"n": 1}}]}, "cells[0].id"),
        ({"cells": [{"id": "light", "t": {"n": -1}, "c": {"n": 1}}]}, "cells[0].t.n"),
        ({"gauges": {"pool": "high"}}, "$.gauges"),
        ({"as_of": {"success": 5}}, "$.as_of"),
        ({"t_min": math.nan}, "t_min"),
    ],
)
def test_a_look_that_cannot_be_understood_is_held_in_one_line(changes, named):
    (answer,) = told(START, look(3) | changes)
    assert answer["decision"] == "hold"
    assert named in answer["reason"]


def test_a_look_before_any_start_is_held():
    (answer,) = told(look(1))
    assert answer["decision"] == "hold"
    assert "start" in answer["error"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=8,
)


@given(st.sampled_from(["start", "look"]), st.sampled_from(sorted(START) + sorted(look(1))), JSON)
def test_no_value_anywhere_crashes_the_conversation(kind, field, value):
    message = (START if kind == "start" else look(2)) | {field: value}
    session = Session()
    session.answer(json.dumps(START))
    answer = session.answer(json.dumps(message))
    if answer is not None:
        assert "error" in answer or answer["decision"] in {"hold", "promote", "rollback"}
