"""The exact weighted draw: who of a known population a stage admits.

A user of weight w who stands at u on a rollout's line has the rank ``u // w``. A stage admits the n
smallest ranks, and its threshold c is the n-th smallest rank plus one, so

    rank < c    exactly when    u < c * w                       (whole numbers, no rounding)

and a check needs only c, never a list. Heavy users are drawn exactly w times as likely until
they saturate at c * w = 2**64. Widening raises c, so whoever is in stays in; users who arrive later
are judged by the same c.

Source: order sampling with permanent random numbers (Rosén 1997; Ohlsson 1998, "sequential
Poisson sampling"). Arrays of numpy are used where it is installed; it is never required.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

import msgspec

from huidu.engine.bucketing import seed_of, seeded_bucket
from huidu.errors import EvidenceError
from huidu.model import FULL_THRESHOLD, PPM

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

    Whole = Sequence[int] | NDArray[numpy.uint64]

ARRAY_FROM: Final = 10_000
"""Populations of lists at least this long are drawn with numpy where it is installed."""


class DrawResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a draw decided.

    Attributes:
        threshold: c, in 0..2**64; a user is in when ``u < c * w`` (or was a member).
        admitted: users of the population who are in. It is `wanted` unless a larger threshold or
            more members were given, or ranks tie at the n-th place: then all who tie are in.
        wanted: n, how many the draw was asked for.
        population: users the draw chose from.
    """

    threshold: int
    admitted: int
    wanted: int
    population: int


def draw(
    buckets: Whole,
    weights: Whole | int,
    n: int,
    *,
    at_least: int = 0,
    members: Sequence[bool] | NDArray[numpy.bool_] | None = None,
) -> DrawResult:
    """Admit the n smallest ranks of a population.

    Args:
        buckets: the users' places on the rollout's line, each in [0, 2**64), each user once.
        weights: the users' weights, 1 or more, in the same order; or one weight for all.
        n: how many are to be in, 0..population.
        at_least: the threshold of the stage before; a threshold never falls.
        members: who is in already, whatever the rank (shown before); they count among the n.
    Returns:
        The smallest threshold, not below `at_least`, with which at least n users are in. Two
        users tie only if their 64-bit ranks are equal (at the n-th place about once in 10**12
        draws from ten million users); both are then in, and `admitted` says so.
    Raises:
        EvidenceError: lengths differ, n is not in 0..population, or a weight is below 1.
    """
    population = len(buckets)
    if not 0 <= n <= population:
        raise EvidenceError(f"draw: expected n in 0..{population}, got {n}")
    if not 0 <= at_least <= FULL_THRESHOLD:
        raise EvidenceError(f"draw: expected at_least in 0..2**64, got {at_least}")
    for name, given in (("weights", weights), ("members", members)):
        if given is not None and not isinstance(given, int) and len(given) != population:
            raise EvidenceError(f"draw: expected {population} {name}, got {len(given)}")
    numpy = _numpy() if population >= ARRAY_FROM or hasattr(buckets, "dtype") else None
    take = _draw_listed if numpy is None else _draw_arrays
    threshold, admitted = take(buckets, weights, n, at_least, members)
    return DrawResult(threshold=threshold, admitted=admitted, wanted=n, population=population)


def draw_share(
    buckets: Whole,
    weights: Whole | int,
    share_ppm: int,
    *,
    at_least: int = 0,
    members: Sequence[bool] | NDArray[numpy.bool_] | None = None,
) -> DrawResult:
    """Admit a share of a population: `draw` with n from `size_of_draw`.

    A share of 100 % also takes everybody who arrives later: its threshold is 2**64.

    Raises:
        EvidenceError: as `draw`, or the share is not in 0..1,000,000 ppm.
    """
    n = size_of_draw(share_ppm, len(buckets))
    if share_ppm == PPM:
        at_least = FULL_THRESHOLD
    return draw(buckets, weights, n, at_least=at_least, members=members)


def size_of_draw(share_ppm: int, population: int) -> int:
    """How many users a share is: share x population, rounded once, halves to the even number.

    Raises:
        EvidenceError: the share is not in 0..1,000,000 ppm, or the population is negative.
    """
    if not 0 <= share_ppm <= PPM or population < 0:
        raise EvidenceError(
            f"draw: expected a share in 0..{PPM} ppm of 0 or more users, "
            f"got {share_ppm} of {population}"
        )
    return round(Fraction(share_ppm * population, PPM))


def bucket_many(salt: str, keys: Iterable[str]) -> NDArray[numpy.uint64] | list[int]:
    """The places of many users on one line, in order: `bucketing.bucket` for each.

    An array of numpy (8 bytes a user) where it is installed, else a list.
    """
    seed = seed_of(salt)
    places = (seeded_bucket(seed, key) for key in keys)
    numpy = _numpy()
    return list(places) if numpy is None else numpy.fromiter(places, dtype=numpy.uint64)


def inclusion_probability(threshold: int, weight: int) -> float:
    """The chance that a user of this weight, known or yet to arrive, is in.

    rho = min(1, c * w / 2**64), the probability of treatment in the stratum of this weight.
    """
    return min(threshold * weight, FULL_THRESHOLD) / FULL_THRESHOLD


def effective_ratio(threshold: int, weight: int, base: int = 1) -> float:
    """How many times as likely a user of `weight` is in as one of `base`.

    ``weight / base`` until the heavy saturate, then less, down to 1 at 100 %.
    """
    if threshold <= 0:
        return weight / base
    return inclusion_probability(threshold, weight) / inclusion_probability(threshold, base)


def expected_threshold(share_ppm: int, users_by_weight: Mapping[int, int]) -> int:
    """The threshold that a share has on average, from a histogram of weights alone.

    For previews, and for rollouts that know no population: the size of such a draw varies, for
    N users by about ``sqrt(share * (1 - share) * N)``.

    Args:
        share_ppm: 0..1,000,000.
        users_by_weight: how many users have each weight; at least one user.
    Returns:
        c, rounded down, with sum over weights of ``users * min(1, c * w / 2**64)`` = share of all.
    Raises:
        EvidenceError: the share is out of range, a weight is below 1, or there are no users.
    """
    users = sum(users_by_weight.values())
    if not 0 <= share_ppm <= PPM or users <= 0 or min(users_by_weight) < 1:
        raise EvidenceError(
            f"draw: expected a share in 0..{PPM} ppm and users of weight 1 or more, "
            f"got {share_ppm} and {dict(users_by_weight)}"
        )
    missing = Fraction(share_ppm * users, PPM)
    rising = sum(weight * count for weight, count in users_by_weight.items())
    for weight in sorted(users_by_weight, reverse=True):
        level = missing / rising  # c / 2**64 if no further weight saturates
        if level * weight <= 1:
            return int(level * FULL_THRESHOLD)
        missing -= users_by_weight[weight]
        rising -= weight * users_by_weight[weight]
        if rising == 0:
            break
    return FULL_THRESHOLD


def _numpy() -> Any:
    try:
        import numpy
    except ImportError:
        return None
    return numpy


def _draw_listed(
    buckets: Any, weights: Any, n: int, at_least: int, members: Any
) -> tuple[int, int]:
    """Threshold and admitted users, in plain Python."""
    if isinstance(weights, int):
        weights = [weights] * len(buckets)
    if members is None:
        members = [False] * len(buckets)
    if min(weights, default=1) < 1:
        raise EvidenceError(f"draw: expected weights of 1 or more, got {min(weights)}")
    outside = sorted(
        place // weight
        for place, weight, member in zip(buckets, weights, members, strict=True)
        if not member
    )
    inside = len(buckets) - len(outside)
    threshold = max(at_least, outside[n - inside - 1] + 1 if n > inside else 0)
    return threshold, inside + sum(rank < threshold for rank in outside)


def _draw_arrays(
    buckets: Any, weights: Any, n: int, at_least: int, members: Any
) -> tuple[int, int]:
    """Threshold and admitted users, by selection instead of sorting."""
    import numpy

    ranks = numpy.asarray(buckets, dtype=numpy.uint64)
    # Checked before they become unsigned, where -1 would be the heaviest of all.
    heavy = numpy.asarray(weights)
    if heavy.size and heavy.min() < 1:
        raise EvidenceError(f"draw: expected weights of 1 or more, got {heavy.min()}")
    if not (heavy == 1).all():
        ranks = ranks // heavy.astype(numpy.uint64)
    if members is not None:
        ranks = ranks[~numpy.asarray(members, dtype=bool)]
    inside = len(buckets) - len(ranks)
    threshold = at_least
    if n > inside:
        place = n - inside - 1
        threshold = max(threshold, int(numpy.partition(ranks, place)[place]) + 1)
    # 2**64 itself is no uint64; below or at its neighbour says the same.
    below = ranks <= numpy.uint64(threshold - 1) if threshold else ranks < numpy.uint64(0)
    return threshold, inside + int(numpy.count_nonzero(below))
