"""Figures for Prometheus. Checks only add to plain integers; text is made when somebody scrapes."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Final

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from edge.answers import Together
    from edge.server import Edge
    from edge.state import Counts

BOUNDS: Final = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
"""Upper bounds of the latency histogram, in seconds."""

MOST_UNCOUNTED: Final = 128


class Metrics:
    """What happened in this process since it started."""

    def __init__(self) -> None:
        self.asked = 0
        self.answers: Counts = {}
        self.refused: dict[int, int] = {}
        self._uncounted: deque[Together] = deque()
        self._latency = [0] * (len(BOUNDS) + 1)
        self._latency_sum = 0.0

    def observe(self, seconds: float) -> None:
        """Note how long one sampled read took, from its turn of the loop to its answer."""
        self._latency[bisect_left(BOUNDS, seconds)] += 1
        self._latency_sum += seconds

    def count(self, together: Together) -> None:
        """Count the answers of all flags to one user; they are added up when somebody looks."""
        if not together.times:
            if len(self._uncounted) >= MOST_UNCOUNTED:
                self.add_up()
            self._uncounted.append(together)
        together.times += 1

    def add_up(self) -> None:
        """Bring `answers` up to date."""
        once = [each.answers for each in self._uncounted if each.times == 1]
        counts = Counter(chain.from_iterable(once))
        for together in self._uncounted:
            if together.times > 1:
                for each in together.answers:
                    counts[each] += together.times
            together.times = 0
        for rendered, times in counts.items():
            rendered.given[0] += times
        self._uncounted.clear()

    @property
    def uncounted(self) -> int:
        """How many bodies were given whose answers are not added up yet."""
        return len(self._uncounted)

    def add_up_oldest(self) -> None:
        """Add up the answers of one body, if there is one."""
        if self._uncounted:
            together = self._uncounted.popleft()
            for rendered in together.answers:
                rendered.given[0] += together.times
            together.times = 0

    def latency(self) -> tuple[list[tuple[str, float]], float]:
        """Cumulative counts by upper bound, and the sum of all seconds."""
        total, buckets = 0, []
        for bound, count in zip([*map(str, BOUNDS), "+Inf"], self._latency, strict=True):
            total += count
            buckets.append((bound, float(total)))
        return buckets, self._latency_sum


class EdgeCollector(Collector):
    """The figures of one `Edge`, for any registry."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    def collect(self) -> Iterator[Metric]:
        edge, metrics = self._edge, self._edge.metrics
        metrics.add_up()
        checks = CounterMetricFamily(
            "huidu_checks", "Answers of flags given, by result.", labels=["flag", "result"]
        )
        for (flag, result), count in list(metrics.answers.items()):
            checks.add_metric([flag, result], count[0])
        yield checks
        refused = CounterMetricFamily(
            "huidu_check_requests_refused", "Requests answered with an error.", labels=["status"]
        )
        for status, number in list(metrics.refused.items()):
            refused.add_metric([str(status)], number)
        yield refused
        latency = HistogramMetricFamily(
            "huidu_check_seconds",
            "From a check's turn of the loop to its answer; one in 64 is timed.",
        )
        buckets, total = metrics.latency()
        latency.add_metric([], buckets, sum_value=total)
        yield latency
        yield CounterMetricFamily(
            "huidu_check_requests", "Requests for checks.", value=metrics.asked
        )
        world = edge.state.world
        sequence = world.sequence if world is not None else 0
        age = time.time() - world.published if world is not None else 0.0
        yield _gauge("huidu_snapshot_sequence", "The snapshot served.", sequence)
        yield _gauge(
            "huidu_snapshot_age_seconds",
            "Since the served snapshot was published.",
            age,
        )
        yield CounterMetricFamily(
            "huidu_publications_refused", "Publications not served.", value=edge.feed.refused
        )
        yield _gauge(
            "huidu_profiles_readable",
            "1 while profiles are read from Redis, 0 while checks fail static.",
            edge.profiles.readable,
        )
        yield CounterMetricFamily(
            "huidu_profile_deadlines_missed",
            "Profile reads Redis was too slow for.",
            value=edge.profiles.deadlines_missed,
        )
        yield _gauge("huidu_stream_listeners", "Open event streams.", len(edge.listeners))
        places = CounterMetricFamily(
            "huidu_places_asked", "Users without a place who passed all else.", labels=["result"]
        )
        for result in ("taken", "refused", "unanswered"):
            places.add_metric([result], getattr(edge.places, result))
        yield places
        yield CounterMetricFamily(
            "huidu_exposures_sent", "Exposures taken at checks.", value=edge.exposures.sent
        )
        yield CounterMetricFamily(
            "huidu_exposures_dropped",
            "Exposures lost because Redis was away too long.",
            value=edge.exposures.dropped,
        )
        yield CounterMetricFamily(
            "huidu_receipts_sent", "Receipts of checks on their way.", value=edge.receipts.sent
        )
        yield CounterMetricFamily(
            "huidu_receipts_dropped",
            "Receipts lost because Redis was away too long.",
            value=edge.receipts.dropped,
        )


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=float(value))


def register(edge: Edge, registry: CollectorRegistry = REGISTRY) -> EdgeCollector:
    """Add an edge's figures to a registry, by default the one Django's /metrics shows too."""
    collector = EdgeCollector(edge)
    registry.register(collector)
    return collector
