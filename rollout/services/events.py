"""Events in: exposures and outcomes, read item by item and kept in one transaction.

    exposure    this user was shown, or asked about, this flag      flag, user_id, context?
    outcome     this happened to this user                          metric, user_id, value?
    complete    the source has sent everything up to `at`           metric

An item that cannot be true is rejected with a code; the others of its request are kept.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

import msgspec
from django.db import transaction

from cohorts.services.items import (
    MAX_ITEMS,
    Aware,
    Rejected,
    id_fault,
    lower,
    rejected,
)
from huidu.errors import InputError
from rollout.models import Flag, Metric
from rollout.services import exposures, outcomes
from rollout.services.exposures import Seen
from rollout.services.outcomes import Happened

AHEAD: Final = timedelta(minutes=5)
"""How far ahead of our clock an event may be dated. Later ones would make a feed look fresh."""

EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)
LARGEST_VALUE: Final = 1e15

Kind = Metric.Kind
_NEEDS_VALUE: Final = frozenset({Kind.LATENCY, Kind.MEAN, Kind.USERS_RATIO, Kind.GAUGE})
_MAY_BE_NEGATIVE: Final = frozenset({Kind.MEAN, Kind.GAUGE})


class Event(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One event as sources send it. The moment must name its offset from UTC."""

    event_id: str
    type: Literal["exposure", "outcome", "complete"]
    at: Aware
    user_id: str | None = None
    flag: str | None = None
    metric: str | None = None
    value: float | bool | None = None
    denominator: float | None = None
    context: dict[str, Any] | None = None


class Result(msgspec.Struct, frozen=True):
    """What became of the items of one request.

    `accepted` counts what is kept and what needs no keeping: an exposure that tells nothing about
    a stage (another gate refused the user, no stage runs) is accepted and counted in `ignored` by
    its code. `duplicates` add nothing: a known event id, a user already enrolled in the stage.
    """

    accepted: int
    duplicates: int
    rejected: list[Rejected]
    ignored: dict[str, int] = {}


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    events: list[msgspec.Raw]


class _LooseBody(msgspec.Struct, forbid_unknown_fields=True):
    events: list[dict[str, Any]]


_whole = msgspec.json.Decoder(_Body)
_one = msgspec.json.Decoder(Event)


def read(body: bytes) -> list[Event | Rejected]:
    """The items of ``{"events": [...]}``.

    Raises:
        InputError: the request as a whole is wrong: not JSON, of another shape, or too long.
    """
    try:
        whole = _whole.decode(body).events
    except msgspec.ValidationError as error:
        raise _shape(error) from None
    except RecursionError:
        raise InputError("expected a list of objects, got something nested far deeper") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return _read_loosely(body, error)
    _check_length(whole)
    items: list[Event | Rejected] = []
    for index, raw in enumerate(whole):
        try:
            items.append(_one.decode(raw))
        except msgspec.ValidationError as error:
            if not bytes(raw).lstrip().startswith(b"{"):
                raise InputError("expected an object", path=f"events[{index}]") from None
            items.append(rejected(index, error, Event, _WANTED))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InputError(f"expected JSON: {error}", path=f"events[{index}]") from None
    return items


def _read_loosely(body: bytes, fault: Exception) -> list[Event | Rejected]:
    """JSON as some languages write it, with NaN and Infinity: refused by item, not as a whole."""
    try:
        whole = msgspec.convert(json.loads(body), _LooseBody).events
    except msgspec.ValidationError as error:
        raise _shape(error) from None
    except (ValueError, RecursionError):
        raise InputError(f"expected JSON: {fault}") from None
    _check_length(whole)
    items: list[Event | Rejected] = []
    for index, each in enumerate(whole):
        try:
            items.append(msgspec.convert(each, Event))
        except msgspec.ValidationError as error:
            items.append(rejected(index, error, Event, _WANTED))
    return items


def ingest(environment: str, items: Sequence[Event | Rejected], *, now: datetime) -> Result:
    """Keep what can be true, each event id once, in one transaction.

    When this returns outside a transaction, everything accepted is on disk.
    """
    rejected: list[Rejected] = []
    metrics = _metrics(environment, items)
    flags = _flags(environment, items)
    seen: list[tuple[int, Seen]] = []
    happened: list[Happened] = []
    complete: dict[str, datetime] = {}
    told = 0
    for index, item in enumerate(items):
        if isinstance(item, Rejected):
            rejected.append(item)
            continue
        fault = _fault(item, metrics, flags, now)
        if fault is not None:
            rejected.append(Rejected(index, *fault))
        elif item.type == "exposure":
            assert item.flag is not None
            assert item.user_id is not None
            seen.append((index, Seen(item.flag, item.user_id, item.at, item.context or {})))
        elif item.type == "complete":
            assert item.metric is not None
            told += 1
            up_to = min(item.at, now)
            complete[item.metric] = max(up_to, complete.get(item.metric, up_to))
        else:
            happened.append(_happened(item, metrics))
    with transaction.atomic():
        exposures.write_evidence()
        new = outcomes.record(environment, happened) if happened else set()
        results = exposures.record(environment, [each for _, each in seen]) if seen else []
        for metric, up_to in sorted(complete.items()):
            outcomes.complete(environment, metric, up_to)
    ignored: Counter[str] = Counter()
    counted = Counter({exposures.ACCEPTED: told + len(new)})
    counted[exposures.DUPLICATE] += len(happened) - len(new)
    for (index, _), result in zip(seen, results, strict=True):
        if result.startswith("ignored:"):
            ignored[result.removeprefix("ignored:")] += 1
            result = exposures.ACCEPTED
        elif result == exposures.FLAG_UNKNOWN:
            rejected.append(Rejected(index, result, "expected a flag that was published by then"))
        counted[result] += 1
    rejected.sort(key=lambda each: each.index)
    return Result(
        counted[exposures.ACCEPTED], counted[exposures.DUPLICATE], rejected, dict(ignored)
    )


def _metrics(environment: str, items: Sequence[Event | Rejected]) -> dict[str, Metric]:
    keys = {each.metric for each in items if isinstance(each, Event) and _sound(each.metric)}
    rows = Metric.objects.filter(environment=environment, key__in=keys) if keys else ()
    return {each.key: each for each in rows}


def _flags(environment: str, items: Sequence[Event | Rejected]) -> set[str]:
    keys = {each.flag for each in items if isinstance(each, Event) and _sound(each.flag)}
    rows = Flag.objects.filter(environment=environment, key__in=keys, archived_at=None)
    return set(rows.values_list("key", flat=True)) if keys else set()


def _sound(key: str | None) -> bool:
    return key is not None and id_fault(key) is None


def _fault(
    event: Event, metrics: Mapping[str, Metric], flags: set[str], now: datetime
) -> tuple[str, str] | None:
    """Why a well-formed event cannot be true, as code and sentence, or None when it can."""
    metric = metrics.get(event.metric or "")
    needs_user = event.type == "exposure" or (
        event.type == "outcome" and (metric is None or metric.kind != Kind.GAUGE)
    )
    ids = [("event_id", event.event_id)]
    if needs_user or event.user_id is not None:
        ids.append(("user_id", event.user_id or ""))
    for name, text in ids:
        if sentence := id_fault(text):
            return f"{name}.invalid", sentence
    # By year first: moments near either end of the calendar cannot be moved to another zone.
    if event.at.year > now.year + 1 or event.at > now + AHEAD:
        return "at.future", f"expected a moment up to {now:%Y-%m-%dT%H:%MZ}, got {event.at}"
    if event.at.year < EARLIEST.year or event.at < EARLIEST:
        return "at.past", f"expected a moment after 2000-01-01, got {event.at}"
    if event.type == "exposure":
        if event.flag is None:
            return "flag.missing", "expected a flag's key, got none"
        if event.flag not in flags:
            return "flag.unknown", f"expected a flag's key, got {event.flag[:64]!r}"
        return None
    if event.metric is None:
        return "metric.missing", "expected a metric's key, got none"
    if metric is None:
        return "metric.unknown", f"expected a metric's key, got {event.metric[:64]!r}"
    if metric.from_warehouse:
        sentence = f"expected no events of {metric.key}: a query on the warehouse tells it"
        return "metric.from_warehouse", sentence
    return _value_fault(event, metric) if event.type == "outcome" else None


def _value_fault(event: Event, metric: Metric) -> tuple[str, str] | None:
    kind, value = Kind(metric.kind), event.value
    if value is None:
        if kind in _NEEDS_VALUE:
            return "value.missing", f"expected a number for {metric.key}, got none"
        return None
    for name, number in (("value", value), ("denominator", event.denominator)):
        if number is None:
            continue
        if not math.isfinite(number):
            return f"{name}.not_finite", f"expected a finite number, got {number}"
        if abs(number) > LARGEST_VALUE:
            return f"{name}.too_large", f"expected at most {LARGEST_VALUE:g}, got {number:g}"
        if number < 0 and kind not in _MAY_BE_NEGATIVE:
            return f"{name}.negative", f"expected 0 or more for {metric.key}, got {number:g}"
    if event.denominator is None:
        return None
    if kind != Kind.USERS_RATIO:
        return "denominator.unexpected", f"expected none for {metric.key}, which is {kind}"
    if event.denominator < max(value, 1e-9):
        return (
            "denominator.invalid",
            f"expected at least the {value:g} counted out of it, got {event.denominator:g}",
        )
    return None


def _happened(event: Event, metrics: Mapping[str, Metric]) -> Happened:
    assert event.metric is not None
    return Happened(
        event.event_id,
        event.user_id or "",
        event.metric,
        1.0 if event.value is None else float(event.value),
        event.denominator,
        event.at,
    )


def _check_length(items: Sequence[Any]) -> None:
    if len(items) > MAX_ITEMS:
        raise InputError(
            f"expected at most {MAX_ITEMS} items, got {len(items)}",
            path="events",
            code="input.too_large",
        )


def _shape(error: msgspec.ValidationError) -> InputError:
    sentence, _, path = str(error).partition(" - at `$")
    if not sentence.startswith("Expected"):
        return InputError('expected {"events": [...]} and nothing else')
    return InputError(lower(sentence), path=path.rstrip("`").lstrip("."))


_WANTED: Final = {
    "type": "exposure, outcome or complete",
    "at": "a moment as in 2026-01-31T12:00:00+08:00",
}
