"""Whatever is said to `python -m huidu.promotion`: one answer a look, and no promotion by accident.

Lines are good ones with some parts replaced by anything JSON can hold, and things it cannot.
"""

from __future__ import annotations

import copy
import json
import math
import subprocess
import sys
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from huidu.promotion.protocol import Session, converse

START: dict[str, Any] = {
    "type": "start",
    "protocol": 1,
    "rollout": "r",
    "stage": {"horizon_min": 20160, "min_min": 10080, "look_min": 5, "promotion_every_min": 1440},
    "alpha": {"rollback": 0.05, "promote": 0.05},
    "cells": [
        {"id": "a", "stratum": 1, "epoch": 0, "rho": 0.05, "from_min": 0, "to_min": None},
        {"id": "b", "stratum": 3, "epoch": 0, "rho": 0.15},
    ],
    "metrics": [
        {"name": "success", "kind": "binary", "harm": "decrease", "margin_rel": 0.2},
        {"name": "late", "kind": "binary_delayed", "margin_rel": 0.5, "lag_days": 30},
        {"name": "errors", "kind": "users_ratio", "margin_rel": 0.3},
        {
            "name": "slow",
            "kind": "latency",
            "margin_rel": 0.25,
            "edges_ms": [100, 400, 500],
            "baseline_index": 1,
            "margin_index": 2,
        },
        {"name": "amount", "kind": "mean", "harm": "decrease", "margin_rel": 0.2},
        {"name": "queue", "kind": "gauge", "max": 0.9, "for_looks": 3},
    ],
}


def arm(n: int) -> dict[str, Any]:
    many = n // 10
    return {
        "n": n,
        "m": {
            "success": many,
            "late": n // 50,
            "errors": {
                "bad": n // 40,
                "num": n // 20,
                "den": 9 * n,
                "num2": n // 5,
                "den2": 90 * n,
                "numden": n,
            },
            "slow": [many, n // 50, n // 80],
            "amount": {"n": n, "sum": 30.0 * n, "sumsq": 1200.0 * n, "sum_cap": None},
        },
    }


def good_look(t_min: float = 10080.0) -> dict[str, Any]:
    return {
        "type": "look",
        "k": int(t_min / 5),
        "t_min": t_min,
        "cells": [
            {"id": "a", "t": arm(5_000), "c": arm(95_000)},
            {"id": "b", "t": arm(1_500), "c": arm(8_500)},
        ],
        "gauges": {"queue": 0.5},
        "as_of": {
            name: {"t": t_min, "c": t_min}
            for name in ("success", "late", "errors", "slow", "amount")
        },
    }


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every path in a JSON value."""
    found = [path] if path else []
    children = value.items() if isinstance(value, dict) else ()
    if isinstance(value, list):
        children = enumerate(value)
    for key, child in children:
        found += places(child, (*path, key))
    return found


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-10, 10),
    st.sampled_from([2**53, 2**63, 10**400, -1, 0.5, 1e308, -0.0, math.nan, math.inf, -math.inf]),
    st.floats(),
    st.text(max_size=4),
    st.sampled_from(["binary", "mean", "gauge", "success", "increase", "look"]),
    st.lists(st.integers(-2, 3), max_size=3),
    st.dictionaries(st.sampled_from(["t", "c", "n", "m", "id"]), st.integers(-2, 9), max_size=3),
)


def spoiled(draw: Any, line: dict[str, Any], most: int) -> dict[str, Any]:
    line = copy.deepcopy(line)
    for _ in range(draw(st.integers(0, most))):
        path = draw(st.sampled_from(places(line)[1:]))
        holder: Any = line
        for step in path[:-1]:
            holder = holder[step]
        if draw(st.booleans()) and isinstance(holder, dict) and path[-1] != "type":
            del holder[path[-1]]
        else:
            holder[path[-1]] = draw(ODD)
    return line


@st.composite
def conversations(draw: Any) -> list[dict[str, Any]]:
    lines = [spoiled(draw, START, 2)]
    moments = draw(st.lists(st.sampled_from([0.0, 5.0, 1440.0, 10080.0, 11520.0]), max_size=4))
    lines += [spoiled(draw, good_look(moment), 3) for moment in moments]
    if draw(st.booleans()):
        lines.append(spoiled(draw, START, 1))
        lines.append(spoiled(draw, good_look(), 2))
    return lines


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(conversations())
def test_every_look_gets_one_answer_that_is_json_and_nothing_ends_the_conversation(lines):
    session = Session()
    for line in lines:
        answer = session.answer(json.dumps(line))
        if line.get("type") == "look":
            assert answer is not None
            assert answer["decision"] in ("hold", "promote", "rollback")
            assert isinstance(answer["reason"], str)
            assert answer["reason"]
            assert "Traceback" not in answer["reason"]
            # A fault in a look is explained, never the accident of some exception.
            assert "Error:" not in answer["reason"], answer["reason"]
            assert "NaN" not in msgspec.json.encode(answer).decode()
    # Whatever was said, the next good rollout is judged as if nothing had been.
    session.answer(json.dumps(START))
    assert session.answer(json.dumps(good_look()))["decision"] == "promote"


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60))
def test_no_bytes_at_all_end_the_conversation(line):
    answers = list(converse([line, json.dumps(START), json.dumps(good_look())]))
    assert json.loads(answers[-1])["decision"] == "promote"


def test_the_good_look_is_promoted_so_that_every_hold_below_has_its_cause():
    session = Session()
    assert session.answer(json.dumps(START)) is None
    assert session.answer(json.dumps(good_look()))["decision"] == "promote"


def _set(line: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    line = copy.deepcopy(line)
    holder: Any = line
    for step in path[:-1]:
        holder = holder[step]
    holder[path[-1]] = value
    return line


T, C = ("cells", 0, "t", "m"), ("cells", 0, "c", "m")


@pytest.mark.parametrize(
    ("path", "value", "code", "named"),
    [
        pytest.param((*T, "success"), -1, "bad_evidence", "0 or more", id="a negative count"),
        pytest.param((*T, "success"), 5_001, "bad_evidence", "5000 enrolled", id="conversions"),
        pytest.param((*T, "success"), 500.5, "bad_evidence", "whole number", id="half a user"),
        pytest.param((*C, "late"), math.nan, "bad_evidence", "finite", id="NaN"),
        pytest.param((*C, "late"), math.inf, "bad_evidence", "finite", id="infinity"),
        pytest.param((*T, "success"), True, "bad_evidence", "finite number", id="a boolean"),
        pytest.param((*T, "success"), "7", "bad_evidence", "finite number", id="a text"),
        pytest.param((*T, "errors", "bad"), 6_000, "bad_evidence", "enrolled", id="bad users"),
        pytest.param((*T, "errors", "num2"), 1, "bad_evidence", "squares", id="small squares"),
        pytest.param((*T, "slow"), [1, 2, 3], "bad_evidence", "higher edge", id="rising tail"),
        pytest.param((*T, "slow"), [500, 100], "bad_evidence", "3 counts", id="an edge missing"),
        pytest.param((*T, "amount", "n"), 5_001, "bad_evidence", "enrolled", id="amounts"),
        pytest.param((*T, "success"), None, "no_data", "no data", id="a dead feed"),
        pytest.param(("cells", 0, "t", "n"), -5, "bad_evidence", "0 or more", id="users below 0"),
        pytest.param(("cells", 1, "id"), "z", "bad_evidence", "'z'", id="an unknown cell"),
        pytest.param(("cells", 1, "id"), "a", "bad_evidence", "twice", id="a cell twice"),
        pytest.param(("t_min",), math.nan, "bad_evidence", "minutes", id="no time"),
        pytest.param(("as_of", "late"), {"t": 9e9, "c": 9e9}, "bad_evidence", "up to", id="future"),
        pytest.param(("as_of", "late"), {"t": 9_000, "c": 10_080}, "no_data", "late", id="stalled"),
        pytest.param(("gauges",), {}, "gauge_unknown", "queue", id="no reading"),
        pytest.param(("gauges", "queue"), math.nan, "gauge_unknown", "queue", id="a NaN gauge"),
    ],
)
def test_a_look_that_cannot_be_true_is_held_and_says_why(path, value, code, named):
    session = Session()
    session.answer(json.dumps(START))
    answer = session.answer(json.dumps(_set(good_look(), path, value)))
    assert answer["decision"] == "hold"
    told = {each.code: each.text for each in answer["missing"]}
    assert code in told
    assert named in told[code]


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        pytest.param(("metrics", 0, "margin_rel"), 0, "margin_rel", id="a margin of 0"),
        pytest.param(("metrics", 0, "margin_rel"), 1, "below 1", id="a decrease by everything"),
        pytest.param(("metrics", 0, "margin_rel"), math.nan, "margin_rel", id="a NaN margin"),
        pytest.param(("metrics", 1, "name"), "success", "one guard per metric", id="two guards"),
        pytest.param(("metrics",), [], "waiver", id="no guards"),
        pytest.param(("metrics", 0, "kind"), "ratio", "kind", id="an unknown kind"),
        pytest.param(("metrics", 3, "edges_ms"), [400, 100], "rising", id="falling edges"),
        pytest.param(("metrics", 3, "margin_index"), 7, "margin_index", id="no such edge"),
        pytest.param(("cells", 0, "rho"), 1.2, "probability", id="rho above 1"),
        pytest.param(("cells", 0, "rho"), math.nan, "probability", id="rho NaN"),
        pytest.param(("cells", 1, "id"), "a", "its own", id="two cells of one name"),
        pytest.param(("cells",), [], "at least one cell", id="no cells"),
        pytest.param(("alpha", "rollback"), 0, "alpha.rollback", id="no error allowed"),
        pytest.param(("alpha", "promote"), 0.9, "alpha.promote", id="all error allowed"),
        pytest.param(("stage", "min_min"), 99_999, "min_min", id="the stay beyond the horizon"),
        pytest.param(("stage", "look_min"), math.inf, "look_min", id="never a look"),
        pytest.param(("protocol",), 2, "protocol", id="another protocol"),
    ],
)
def test_a_plan_that_cannot_be_run_is_refused_and_its_looks_are_held(path, value, named):
    session = Session()
    refused = session.answer(json.dumps(_set(START, path, value)))
    assert named in refused["error"]
    assert session.answer(json.dumps(good_look()))["decision"] == "hold"


def test_a_waiver_stands_in_for_guards():
    session = Session()
    session.answer(json.dumps(START | {"metrics": [], "waiver": "internal staff only"}))
    assert session.answer(json.dumps(good_look()))["decision"] == "promote"


def test_counts_that_fall_keep_the_last_good_ones():
    session = Session()
    session.answer(json.dumps(START))
    session.answer(json.dumps(good_look(5_000)))
    fallen = _set(good_look(), (*C, "success"), 9_000)
    told = session.answer(json.dumps(fallen))
    assert told["decision"] == "hold"
    assert "counts_fell" in {each.code for each in told["missing"]}
    fewer = _set(good_look(10_085), ("cells", 0, "c", "n"), 80_000)
    told = session.answer(json.dumps(fewer))
    assert "counts_fell" in {each.code for each in told["missing"]}


def test_the_process_itself_survives_all_of_it_and_ends_with_its_input():
    lines = [b"\xff\xfe", b"[1]", b"{}", b'{"type":"look"}', json.dumps(START).encode()]
    lines += [b'{"type":"look","k":1e400}', json.dumps(good_look()).encode(), b'{"type":"end"}']
    done = subprocess.run(
        [sys.executable, "-m", "huidu.promotion"],
        input=b"\n".join(lines), capture_output=True, timeout=60, check=True,
    )  # fmt: skip
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each.get("decision") for each in answers] == [
        None, None, None, "hold", "hold", "promote",
    ]  # fmt: skip
    assert done.stderr == b""
