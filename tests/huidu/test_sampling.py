"""A share is exact, heavy users are drawn as often as promised, and widening removes nobody."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from huidu import sampling
from huidu.engine.bucketing import bucket
from huidu.errors import EvidenceError
from huidu.model import FULL_THRESHOLD, PPM
from huidu.sampling import draw, draw_share

N = 200_000
HEAVY_SHARE = 0.085


@pytest.fixture(scope="module")
def population() -> tuple[np.ndarray, np.ndarray]:
    """Places and weights of N users, about 8.5 % of them three times as heavy."""
    places = sampling.bucket_many("draw", (f"openid-{index}" for index in range(N)))
    weights = np.where(np.random.default_rng(7).random(N) < HEAVY_SHARE, 3, 1)
    return np.asarray(places), weights


def is_in(places, weights, threshold):
    return np.array([int(u) < threshold * int(w) for u, w in zip(places, weights, strict=True)])


@pytest.mark.parametrize("share_ppm", [0, 1, 10, 50_000, 200_000, 500_000, 999_995, PPM])
def test_a_share_is_exact_also_when_some_weigh_three_times_as_much(population, share_ppm):
    places, weights = population
    result = draw_share(places, weights, share_ppm)
    wanted = round(share_ppm * N / PPM)
    assert result.admitted == wanted
    assert is_in(places, weights, result.threshold).sum() == wanted


def test_nobody_at_nothing_and_everybody_for_ever_at_everything(population):
    places, weights = population
    assert draw_share(places, weights, 0).threshold == 0
    assert draw_share(places, weights, PPM).threshold == FULL_THRESHOLD
    # Taking all who are known is not yet a promise to all who will come.
    assert draw(places, weights, N).threshold < FULL_THRESHOLD


def test_heavy_users_are_drawn_three_times_as_likely(population):
    places, weights = population
    inside = is_in(places, weights, draw_share(places, weights, 50_000).threshold)
    rates = {w: inside[weights == w].mean() for w in (1, 3)}
    heavy, light = (weights == 3).sum(), (weights == 1).sum()
    relative_error = math.sqrt(
        (1 - rates[3]) / (rates[3] * heavy) + (1 - rates[1]) / (rates[1] * light)
    )
    assert rates[3] / rates[1] == pytest.approx(3, rel=4 * relative_error)


def test_the_ratio_falls_once_heavy_users_saturate():
    assert sampling.effective_ratio(0, 3) == 3
    assert sampling.effective_ratio(FULL_THRESHOLD // 20, 3) == pytest.approx(3)
    assert sampling.effective_ratio(FULL_THRESHOLD // 2, 3) == pytest.approx(2)
    assert sampling.effective_ratio(FULL_THRESHOLD, 3) == 1


def test_widening_keeps_everybody_who_is_in(population):
    places, weights = population
    before, threshold = np.zeros(N, dtype=bool), 0
    for share_ppm in (10_000, 50_000, 200_000, 500_000, PPM):
        threshold = draw_share(places, weights, share_ppm, at_least=threshold).threshold
        after = is_in(places, weights, threshold)
        assert not (before & ~after).any()
        before = after


def test_a_threshold_never_falls(population):
    places, weights = population
    wide = draw_share(places, weights, 200_000)
    again = draw_share(places, weights, 50_000, at_least=wide.threshold)
    assert again.threshold == wide.threshold
    assert again.admitted == wide.admitted > again.wanted


def test_users_who_arrive_later_are_admitted_at_the_rate_of_their_weight(population):
    places, weights = population
    threshold = draw_share(places, weights, 50_000).threshold
    for weight in (1, 3):
        rho = sampling.inclusion_probability(threshold, weight)
        late = [bucket("draw", f"late-{index}") for index in range(50_000)]
        rate = sum(place < threshold * weight for place in late) / len(late)
        assert rate == pytest.approx(rho, abs=4 * math.sqrt(rho * (1 - rho) / len(late)))


def test_members_count_among_the_wanted_and_stay_whatever_their_rank(population):
    places, weights = population
    members = np.zeros(N, dtype=bool)
    members[:1_000] = True
    result = draw_share(places, weights, 50_000, members=members)
    inside = is_in(places, weights, result.threshold) | members
    assert result.admitted == inside.sum() == 10_000


def test_more_members_than_wanted_admit_no_stranger():
    result = draw([1, 2, 3, 4], 1, 1, members=[False, True, True, False])
    assert (result.threshold, result.admitted) == (0, 2)


def test_who_ties_at_the_last_place_is_in_and_counted():
    result = draw([10, 10, 30], 1, 1)
    assert (result.threshold, result.admitted, result.wanted) == (11, 2, 1)


def test_the_last_point_of_the_line_can_be_drawn():
    last = FULL_THRESHOLD - 1
    for places in ([last, 5], np.array([last, 5], dtype=np.uint64)):
        assert draw(places, 1, 2).threshold == FULL_THRESHOLD
        assert draw(places, 1, 2).admitted == 2


@pytest.mark.parametrize(
    ("share_ppm", "population", "n"),
    [
        (50_000, 1_000_000, 50_000),
        (50_000, 10, 0),  # half rounds to the even number
        (50_000, 30, 2),
        (1, 1_000_000, 1),
        (1, 1_000_000_000, 1_000),
        (PPM, 7, 7),
        (0, 7, 0),
    ],
)
def test_a_share_is_rounded_once(share_ppm, population, n):
    assert sampling.size_of_draw(share_ppm, population) == n


@pytest.mark.parametrize(
    "faulty",
    [
        pytest.param(lambda: draw([1, 2], 1, 3), id="more than there are"),
        pytest.param(lambda: draw([1, 2], 1, -1), id="fewer than none"),
        pytest.param(lambda: draw([1, 2], [1], 1), id="a weight is missing"),
        pytest.param(lambda: draw([1, 2], [1, 0], 1), id="weightless"),
        pytest.param(lambda: draw(np.array([1, 2]), np.array([1, -1]), 1), id="negative weight"),
        pytest.param(lambda: draw([1, 2], 1, 1, members=[True]), id="a member is missing"),
        pytest.param(lambda: draw([1], 1, 1, at_least=FULL_THRESHOLD + 1), id="over the line"),
        pytest.param(lambda: draw_share([1], 1, PPM + 1), id="over 100 %"),
        pytest.param(lambda: sampling.expected_threshold(1, {}), id="nobody"),
    ],
)
def test_what_cannot_be_drawn_is_refused(faulty):
    with pytest.raises(EvidenceError):
        faulty()


places_and_weights = st.lists(
    st.tuples(st.integers(0, FULL_THRESHOLD - 1), st.sampled_from([1, 2, 3, 10]), st.booleans()),
    min_size=1,
    max_size=60,
    unique_by=lambda each: each[0] // each[1],
)


@given(places_and_weights, st.data())
def test_every_draw_is_exact_and_both_ways_of_drawing_agree(users, data):
    n = data.draw(st.integers(0, len(users)))
    places, weights, members = map(list, zip(*users, strict=True))
    plain = draw(places, weights, n)
    assert sum(u < plain.threshold * w for u, w in zip(places, weights, strict=True)) == n
    for mask in (None, members):
        listed = draw(places, weights, n, members=mask)
        arrays = draw(np.array(places, dtype=np.uint64), np.array(weights), n, members=mask)
        assert listed == arrays
        assert listed.admitted == max(n, sum(mask or []))


@given(places_and_weights, st.data())
def test_thresholds_are_monotone_in_the_size(users, data):
    n = data.draw(st.integers(1, len(users)))
    places, weights, _ = map(list, zip(*users, strict=True))
    assert draw(places, weights, n - 1).threshold < draw(places, weights, n).threshold


@pytest.mark.parametrize("share_ppm", [0, 10_000, 50_000, 390_000, 500_000, 900_000, PPM])
def test_the_expected_threshold_is_near_the_drawn_one(population, share_ppm):
    places, weights = population
    counts = {1: int((weights == 1).sum()), 3: int((weights == 3).sum())}
    expected = sampling.expected_threshold(share_ppm, counts)
    share = share_ppm / PPM
    deviation = math.sqrt(share * (1 - share) / N) * FULL_THRESHOLD
    drawn = draw_share(places, weights, share_ppm).threshold
    assert abs(expected - drawn) <= 4 * deviation + 1


def test_many_buckets_are_the_same_as_single_ones():
    keys = [
        "a",
        "用户",
        "\ud800",
        "openid-" + "x" * 300,
        *map(str, range(random.Random(1).randrange(99))),
    ]
    assert [int(each) for each in sampling.bucket_many("s", keys)] == [bucket("s", k) for k in keys]


def test_a_draw_needs_no_numpy(monkeypatch):
    monkeypatch.setattr(sampling, "_numpy", lambda: None)
    places = sampling.bucket_many("s", map(str, range(12_000)))
    assert isinstance(places, list)
    assert draw_share(places, 1, 50_000).admitted == 600
