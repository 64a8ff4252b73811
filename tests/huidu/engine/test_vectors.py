"""The engine passes the conformance cases every other speaker of Huidu runs too."""

from __future__ import annotations

import datetime

import pytest

from huidu import sampling, vectors
from huidu.engine import bucketing, compile_snapshot
from huidu.risk import risk_now
from tests.huidu.engine import reference

CASES = [
    pytest.param(name, index, id=f"{name}: {case.description}")
    for name in vectors.SUITES
    for index, case in enumerate(vectors.load(name).cases)
]


@pytest.mark.parametrize(("name", "index"), CASES)
def test_the_engine_answers_as_the_vectors_say(name: str, index: int):
    suite = vectors.load(name)
    case = suite.cases[index]
    compiled = compile_snapshot(suite.snapshot)
    for answer in (
        compiled.check(case.flag, case.user),
        compiled.explain(case.flag, case.user).answer,
        reference.check(suite.snapshot, case.flag, case.user),
    ):
        said = {field: getattr(answer, field) for field in case.expect.__struct_fields__}
        wanted = {field: getattr(case.expect, field) for field in case.expect.__struct_fields__}
        assert said == wanted


def test_there_are_enough_cases_and_each_says_what_it_is():
    suites = [vectors.load(name) for name in vectors.SUITES]
    assert sum(len(suite.cases) for suite in suites) >= 150
    for suite in suites:
        said = [case.description for case in suite.cases]
        assert len(set(said)) == len(said)


@pytest.mark.parametrize(("salt", "key", "place"), vectors.buckets())
def test_the_formula_is_frozen(salt: str, key: str, place: int):
    assert bucketing.FORMULA == 1
    assert bucketing.bucket(salt, key) == place
    assert bucketing.seeded_bucket(bucketing.seed_of(salt), key) == place


@pytest.mark.parametrize("case", vectors.draws(), ids=lambda case: f"{case['share_ppm']} ppm")
def test_draws_choose_the_same_users(case):
    places = [bucketing.bucket(case["salt"], key) for key in case["keys"]]
    result = sampling.draw_share(places, case["weights"], case["share_ppm"])
    admitted = [
        key
        for key, place, weight in zip(case["keys"], places, case["weights"], strict=True)
        if place < result.threshold * weight
    ]
    assert (result.threshold, admitted) == (case["threshold"], case["admitted"])


@pytest.mark.parametrize("case", vectors.risks(), ids=lambda case: f"{case['today']}")
def test_risk_fades_alike_everywhere(case):
    scored_on, today = map(datetime.date.fromisoformat, (case["scored_on"], case["today"]))
    assert risk_now(case["base"], scored_on, today) == pytest.approx(case["risk"], abs=1e-8)
