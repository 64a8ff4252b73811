"""Freeze windows: days on which nothing is widened, such as 春节 or the end of a quarter.

    HUIDU_FREEZE_WINDOWS="2027-02-05/2027-02-12 春节, 2027-03-31T18:00/2027-04-01T09:00 quarter"

Two days name whole days, both included; with a time of day, the moment itself. All are of
`HUIDU_DAY_ZONE`. Rollbacks and kills are never frozen.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime, time, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

_WINDOW: Final = re.compile(r"(?P<first>[0-9T:-]+)/(?P<last>[0-9T:-]+)(?:\s+(?P<name>.+))?")


class Freeze(NamedTuple):
    """From one moment to another (not included), and what people call it."""

    start: datetime
    end: datetime
    name: str = ""


def parse(text: object) -> object:
    """The windows of a setting, without a zone yet.

    Raises:
        ValueError: which part is wrong, and what would be right.
    """
    if not isinstance(text, str):
        return text
    return tuple(_window(part.strip()) for part in re.split(r"[,;，；]", text) if part.strip())


def _window(part: str) -> Freeze:
    found = _WINDOW.fullmatch(part)
    if found is None:
        raise ValueError(f"expected 2027-02-05/2027-02-12 and perhaps a name, got {part!r}")
    start, end = _moment(found["first"], part, 0), _moment(found["last"], part, 1)
    if end <= start:
        raise ValueError(f"expected a window that ends after it begins, got {part!r}")
    return Freeze(start, end, (found["name"] or "").strip())


def _moment(text: str, part: str, days: int) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"expected a day such as 2027-02-05 in {part!r}: {error}") from error
    if moment.tzinfo is not None:
        raise ValueError(f"expected times of HUIDU_DAY_ZONE, without a zone of their own: {part!r}")
    whole_day = "T" not in text and moment.time() == time()
    return moment + timedelta(days=days) if whole_day else moment


def moments(windows: Iterable[Freeze], zone: str) -> list[Freeze]:
    """The windows as moments of a zone, in order of time."""
    place = ZoneInfo(zone)
    return sorted(
        each._replace(start=each.start.replace(tzinfo=place), end=each.end.replace(tzinfo=place))
        for each in windows
    )
