"""Estimates with their intervals over the looks of a stage, as inline drawings."""

from __future__ import annotations

import math
from typing import Any

from rollout.models import Stage
from rollout.services import readings
from rollout.services.readings import Chart, Point
from rollout.services.wording import number

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 520, 170, 46, 8, 10, 24
MOST = 12
"""Charts on one page."""

FARTHEST = 5.0
"""Intervals wider than so many times the interesting range are cut at the frame."""


def of_stage(stage: Stage) -> list[dict[str, Any]]:
    """One drawing for each guard with two known looks or more."""
    drawn = [draw(chart) for chart in readings.charts(stage)[:MOST]]
    return [each for each in drawn if each is not None]


def draw(chart: Chart) -> dict[str, Any] | None:
    """Places of the estimate's line, its interval's band, the reference and the margin."""
    points = [point for point in chart.points if _is_known(point)]
    if len(points) < 2:
        return None
    low, high = _range(chart, points)
    first, last = points[0].minute, points[-1].minute
    span = max(last - first, 1e-9)

    def x(point: Point) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (point.minute - first) / span

    def y(value: float) -> float:
        share = (min(max(value, low), high) - low) / (high - low)
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - share)

    def place(point: Point, value: float | None) -> str:
        return f"{x(point):.1f},{y(value if value is not None else 0.0):.1f}"

    banded = [point for point in points if _has_interval(point)]
    upper = [place(point, point.high) for point in banded]
    lower = [place(point, point.low) for point in reversed(banded)]
    marks = [] if chart.reference is None else [("reference", chart.reference)]
    marks += [] if chart.margin is None else [("margin", chart.margin)]
    newest = points[-1]
    return {
        "label": chart.label,
        "width": WIDTH,
        "height": HEIGHT,
        "left": LEFT,
        "right": WIDTH - RIGHT,
        "base": HEIGHT - BOTTOM,
        "band": " ".join([*upper, *lower]),
        "line": " ".join(place(point, point.estimate) for point in points),
        "marks": [
            {"kind": kind, "y": f"{y(value):.1f}", "told": number(value)} for kind, value in marks
        ],
        "first_day": f"{first / 1440:.3g}",
        "last_day": f"{last / 1440:.3g}",
        "newest": number(newest.estimate) if newest.estimate is not None else "—",
        "interval": f"{number(newest.low)} – {number(newest.high)}"
        if newest.low is not None and newest.high is not None
        else "",
    }


def _is_known(point: Point) -> bool:
    return point.estimate is not None and math.isfinite(point.estimate)


def _has_interval(point: Point) -> bool:
    both = point.low is not None and point.high is not None
    return both and math.isfinite(point.low or 0.0) and math.isfinite(point.high or 0.0)


def _range(chart: Chart, points: list[Point]) -> tuple[float, float]:
    """What the drawing spans: the estimates and the marks; wide early intervals are cut."""
    core = [point.estimate for point in points if point.estimate is not None]
    core += [mark for mark in (chart.reference, chart.margin) if mark is not None]
    least, most = min(core), max(core)
    room = max(most - least, abs(most) * 0.05, 1e-9)
    ends = [
        end for point in points if _has_interval(point) for end in (point.low, point.high) if end
    ]
    low = max(min([least, *ends]), least - FARTHEST * room)
    high = min(max([most, *ends]), most + FARTHEST * room)
    pad = (high - low) * 0.06 or room
    return low - pad, high + pad
