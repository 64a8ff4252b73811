"""Readings from a web address that answers one number as JSON.

Of Prometheus' answer to an instant query the one value is taken; any other JSON must be a number,
or an object with ``value``. The address is an operator's, so it is judged as every outgoing one.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, Final

import httpx

from huidu.errors import InputError
from rollout.services import outbound
from rollout.services.sources.sample import Sample, SourceError, finite

DEADLINE_SECONDS: Final = 5.0


def read(url: str, *, now: datetime) -> Sample:
    """The number at an address, true now.

    Raises:
        SourceError: the address is not allowed, did not answer 200, or holds no number.
    """
    try:
        status, body = outbound.send("GET", url, deadline=DEADLINE_SECONDS)
    except InputError as error:
        raise SourceError(error.message, code=error.code) from error
    except httpx.HTTPError as error:
        raise SourceError(f"{url[:120]} did not answer: {error!r}", code="source.away") from error
    if status != 200:
        raise SourceError(f"{url[:120]} answered {status}", code="source.refused")
    try:
        return Sample(number_of(json.loads(body)), now)
    except ValueError as error:
        raise SourceError("expected JSON with one number", code="source.no_number") from error


def number_of(answer: Any) -> float:
    """The number in an answer.

    Raises:
        SourceError: there is none, or there are several.
    """
    if isinstance(answer, dict) and "data" in answer:
        return finite(_of_prometheus(answer["data"]))
    if isinstance(answer, dict):
        answer = answer.get("value")
    return finite(answer)


def _of_prometheus(data: Any) -> float:
    try:
        result = data["result"]
        # An instant query answers a scalar [at, "1.5"] or a vector of {"value": [at, "1.5"]}.
        if data.get("resultType") != "scalar":
            if len(result) != 1:
                raise SourceError(
                    f"expected one series, got {len(result)}",
                    code="source.several" if result else "source.empty",
                )
            result = result[0]["value"]
        return float(result[1])
    except (TypeError, KeyError, IndexError, ValueError, AttributeError) as error:
        raise SourceError(
            f"expected Prometheus' answer, got {str(data)[:100]}", code="source.no_number"
        ) from error
