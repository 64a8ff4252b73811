"""JSON as the management API and change requests carry it, turned into values for services.

Rows are named by their keys (``"audience": "heavy_payers"``), durations are seconds or ISO 8601
text (``"P7D"``), moments are ISO 8601 with an offset. Everything else goes through unchanged and is
checked by the service.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any

from django.utils.dateparse import parse_datetime, parse_duration

from cohorts.models import Cohort, UserList
from huidu.errors import InputError
from rollout.models import ExclusionGroup, Metric, RegionPolicy, Stage

LONGEST_STAY = timedelta(days=3650)
LISTS: tuple[str, ...] = ("allow_lists", "block_lists")


def stage_values(payload: Mapping[str, Any]) -> dict[str, Any]:
    """A stage's fields; ``audience`` is a cohort's key or null."""
    values = {name: value for name, value in payload.items() if name != "rollout"}
    for name in ("minimum_stay", "maximum_stay"):
        if name in values:
            values[name] = duration(values[name], name)
    if "planned_at" in values:
        values["planned_at"] = moment(values["planned_at"], "planned_at")
    if "audience" in values:
        values["audience"] = _named(Cohort, values["audience"], "audience")
    return values


def gate_values(environment: str, payload: Mapping[str, Any]) -> dict[str, Any]:
    """A gate's fields; ``region_policy`` is a policy's key or null."""
    values = {name: value for name, value in payload.items() if name != "flag"}
    if "region_policy" in values:
        values["region_policy"] = _named(
            RegionPolicy, values["region_policy"], "region_policy", environment=environment
        )
    return values


def flag_values(
    environment: str, payload: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, list[UserList]]]:
    """A flag's fields, and its user lists; lists and the exclusion group are named by key."""
    values = dict(payload)
    lists: dict[str, list[UserList]] = {
        name: _lists(values.pop(name), name) for name in LISTS if name in values
    }
    if "exclusion" in values:
        values["exclusion"] = _named(
            ExclusionGroup, values["exclusion"], "exclusion", environment=environment
        )
    return values, lists


def partner_values(payload: Mapping[str, Any]) -> dict[str, Any]:
    """A funding partner's fields; ``flag`` is the flag's number and goes its own way."""
    values = {name: value for name, value in payload.items() if name != "flag"}
    for name in ("valid_from", "valid_to"):
        if name in values:
            values[name] = _day(values[name], name)
    return values


def _day(value: Any, path: str) -> date | None:
    if value is None or isinstance(value, date):
        return value
    try:
        return date.fromisoformat(value)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"expected a date such as 2026-01-31, got {str(value)[:60]!r}", path=path
        ) from error


def metric(stage: Stage, key: Any) -> Metric:
    """A metric of the stage's environment.

    Raises:
        InputError: there is none of that key.
    """
    found = _named(Metric, key, "metric", environment=stage.rollout.flag.environment)
    if found is None:
        raise InputError("expected a metric's key, got null", path="metric")
    assert isinstance(found, Metric)
    return found


def cohort(pk: int) -> Cohort:
    """The cohort of that number.

    Raises:
        InputError: there is none.
    """
    row = Cohort.objects.filter(pk=pk).first()
    if row is None:
        raise InputError(f"expected the number of a cohort, got {pk}", path="cohort")
    return row


def duration(value: Any, path: str) -> timedelta:
    """Seconds or ISO 8601 text; from 0 to ten years.

    Raises:
        InputError: something else.
    """
    found: timedelta | None = None
    if isinstance(value, timedelta):
        found = value
    elif type(value) in (int, float) and 0 <= value <= LONGEST_STAY.total_seconds():
        found = timedelta(seconds=value)
    elif isinstance(value, str) and len(value) < 60:
        try:
            found = parse_duration(value)
        except (ValueError, OverflowError):
            found = None
    if found is None or not timedelta(0) <= found <= LONGEST_STAY:
        raise InputError(
            f'expected seconds or ISO 8601 text such as "P7D", got {str(value)[:60]!r}', path=path
        )
    return found


def moment(value: Any, path: str) -> datetime | None:
    """ISO 8601 with an offset, or null.

    Raises:
        InputError: something else.
    """
    if value is None or isinstance(value, datetime):
        return value
    found: datetime | None = None
    if isinstance(value, str) and len(value) < 60:
        try:
            found = parse_datetime(value)
        except ValueError:
            found = None
    if found is None or found.tzinfo is None:
        raise InputError(
            f"expected an ISO 8601 time with an offset, got {str(value)[:60]!r}", path=path
        )
    return found


def _lists(keys: Any, path: str) -> list[UserList]:
    if not isinstance(keys, list):
        raise InputError("expected a list of user lists' keys", path=path)
    rows = [_named(UserList, key, f"{path}[{index}]") for index, key in enumerate(keys)]
    return [row for row in rows if row is not None]


def _named(model: type[Any], key: Any, path: str, **where: Any) -> Any:
    if key is None or isinstance(key, model):
        return key
    usable = isinstance(key, str) and "\0" not in key
    row = model.objects.filter(key=key, **where).first() if usable else None
    if row is None:
        raise InputError(
            f"expected the key of a {model._meta.verbose_name}, got {str(key)[:60]!r}", path=path
        )
    return row
