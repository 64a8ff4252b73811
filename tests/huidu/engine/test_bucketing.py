"""The line is uniform, salts are independent, and no user falls between two slices."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest
from scipy import stats

from huidu import sampling
from huidu.engine.bucketing import (
    bucket,
    exclusion_salt,
    seed_of,
    seeded_bucket,
    threshold_of,
    variants_salt,
)
from huidu.model import FULL_THRESHOLD, PPM

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
USERS = 100_000
FLAGS = 28


def sequential() -> list[str]:
    return [str(number) for number in range(USERS)]


def openids() -> list[str]:
    rng = random.Random(7)
    return ["o6_bm" + "".join(rng.choices(LETTERS, k=23)) for _ in range(USERS)]


def places_of(salt: str, ids: list[str]) -> np.ndarray:
    return np.asarray(sampling.bucket_many(salt, ids))


def test_a_bucket_lies_on_the_line():
    places = [bucket("salt", key) for key in ("", "u", "用户", "\ud800", "x" * 10_000)]
    assert all(0 <= place < FULL_THRESHOLD for place in places)
    assert len(set(places)) == len(places)


def test_salt_and_key_do_not_run_into_each_other():
    assert bucket("ab", "c") != bucket("a", "bc")
    assert bucket("", "abc") != bucket("abc", "")


def test_variants_and_exclusion_have_lines_of_their_own_even_under_one_salt():
    lines = {
        bucket("s", "u"),
        bucket(variants_salt("s", "f"), "u"),
        bucket(exclusion_salt("s"), "u"),
    }
    assert len(lines) == 3


def test_variants_without_a_salt_are_dealt_by_the_flag():
    assert variants_salt("", "a") != variants_salt("", "b")


def test_a_seed_is_the_salt_once_and_for_all():
    assert seeded_bucket(seed_of("salt"), "u") == bucket("salt", "u")


@pytest.mark.parametrize("ids", [sequential, openids])
@pytest.mark.parametrize("shift", [54, 0])
def test_places_are_uniform_in_their_highest_and_lowest_bits(ids, shift):
    places = places_of("weilidai", ids())
    cells = (places >> np.uint64(shift)) & np.uint64(1023)
    counts = np.bincount(cells.astype(int), minlength=1024)
    # A fair hash fails this once in 10,000 salts; this salt is fixed.
    assert stats.chisquare(counts).pvalue > 1e-4


@pytest.mark.parametrize("ids", [sequential, openids])
def test_the_samples_of_near_identical_flags_overlap_only_by_accident(ids):
    population = ids()
    limit = np.uint64(threshold_of(50_000))
    drawn = np.array(
        [places_of(f"weilidai-{index}", population) < limit for index in range(FLAGS)],
        dtype=np.float32,
    )
    both, size = drawn @ drawn.T, drawn.sum(axis=1)
    lifts = [
        both[a, b] * USERS / (size[a] * size[b]) - 1
        for a, b in itertools.combinations(range(FLAGS), 2)
    ]
    # Independent samples: sd of a lift is 0.95 / sqrt(0.05**2 * users); here 378 pairs.
    accident = 0.95 / math.sqrt(0.05**2 * USERS)
    rms = math.sqrt(sum(lift**2 for lift in lifts) / len(lifts))
    assert rms == pytest.approx(accident, rel=4 / math.sqrt(2 * len(lifts)))
    assert max(map(abs, lifts)) < 5 * accident


@pytest.mark.parametrize("share_ppm", [1, 10, 100, 10_000, 50_000, 500_000, 999_999])
def test_a_threshold_takes_its_share_of_the_line(share_ppm):
    assert abs(threshold_of(share_ppm) * PPM - share_ppm * FULL_THRESHOLD) < PPM


def test_nobody_is_below_nothing_and_everybody_below_everything():
    places = places_of("salt", sequential())
    assert threshold_of(0) == 0
    assert threshold_of(PPM) == FULL_THRESHOLD
    assert int(places.max()) < threshold_of(PPM)


def test_slices_meet_without_gap_or_overlap():
    edges = [threshold_of(share) for share in range(0, PPM + 1, 1_000)]
    assert edges == sorted(set(edges))
    assert (edges[0], edges[-1]) == (0, FULL_THRESHOLD)
