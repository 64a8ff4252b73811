"""The promotion rule as JSON lines, so that anybody can put recorded or simulated stages before it.

    in   {"type":"start","protocol":1,"rollout":..,"stage":{..},"alpha":{..},"cells":[..],"metrics":[..]}
    in   {"type":"look","k":1,"t_min":5,"cells":[..],"gauges":{..},"as_of":{..}}
    out  {"decision":"hold"|"promote"|"rollback","metric":name or null,"reason":text,...}
    in   {"type":"end"}

`start` forgets the rollout before it and, like `end`, is not answered; each `look` is answered by
exactly one line. The answer also carries `code`, `missing`, `readings` and `forecast`. A line that
cannot be understood is answered by {"error": sentence}; if it was a look, by a hold as well.
"""  # noqa: E501 - one line of the protocol is one line here

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from huidu.errors import EvidenceError
from huidu.promotion.contract import DESIGN, Decision, Look, Outcome, Plan, State
from huidu.promotion.plan import check_plan
from huidu.promotion.rule import review

VERSION: Final = 1

_DECISIONS: Final = {
    Decision.HOLD: "hold",
    Decision.PROMOTE: "promote",
    Decision.ROLL_BACK: "rollback",
}


class Session:
    """One conversation: the plan in force and its state."""

    def __init__(self) -> None:
        self._plan: Plan | None = None
        self._state = State()

    def answer(self, line: str | bytes) -> dict[str, Any] | None:
        """The answer to one line, or None where the protocol asks for none. Never raises."""
        is_look = False
        try:
            message = _parse(line)
            kind = message.get("type")
            is_look = kind == "look"
            if kind == "start":
                self._start(message)
                return None
            if kind == "look":
                return self._look(message)
            if kind == "end":
                self._plan = None
                return None
            return {"error": f'type: expected "start", "look" or "end", got {kind!r}'}
        except (EvidenceError, msgspec.ValidationError) as error:
            return _error(str(error), is_look)
        except Exception as error:  # whatever a line does, the next one must be answered
            return _error(f"{type(error).__name__}: {error}", is_look)

    def _start(self, message: dict[str, Any]) -> None:
        self._plan, self._state = None, State()
        protocol = message.get("protocol", VERSION)
        if protocol != VERSION:
            raise EvidenceError(f"expected {VERSION}, got {protocol!r}", path="protocol")
        plan = msgspec.convert({"design": DESIGN, **_without_nulls(message)}, Plan)
        check_plan(plan)
        self._plan = plan

    def _look(self, message: dict[str, Any]) -> dict[str, Any]:
        if self._plan is None:
            return _error('expected a valid "start" before a "look"', is_look=True)
        self._state, outcome = review(self._plan, self._state, msgspec.convert(message, Look))
        return _told(outcome)


def _parse(line: str | bytes) -> dict[str, Any]:
    try:
        message = msgspec.json.decode(line)
    except msgspec.DecodeError:
        # Python writes NaN and Infinity into JSON; then only the metric that holds it is at fault.
        try:
            message = json.loads(line)
        except ValueError as error:
            raise EvidenceError(f"expected one JSON object a line: {error}") from error
    if not isinstance(message, dict):
        raise EvidenceError(f"expected a JSON object, got {type(message).__name__}")
    return message


def _without_nulls(value: Any) -> Any:
    """A field that is null in a plan is a field left out."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _error(sentence: str, is_look: bool) -> dict[str, Any]:
    if not is_look:
        return {"error": sentence}
    return {
        "decision": "hold",
        "metric": None,
        "reason": sentence,
        "code": "bad_evidence",
        "error": sentence,
    }


def _told(outcome: Outcome) -> dict[str, Any]:
    return {
        "decision": _DECISIONS[outcome.decision],
        "metric": outcome.metric,
        "reason": outcome.text,
        "code": outcome.code,
        "missing": outcome.missing,
        "readings": outcome.readings,
        "forecast": outcome.forecast,
    }


def converse(lines: Iterable[str | bytes]) -> Iterator[bytes]:
    """Answer lines one by one; blank lines are skipped."""
    session = Session()
    for line in lines:
        if not line.strip():
            continue
        answer = session.answer(line)
        if answer is not None:
            yield msgspec.json.encode(answer)


def main() -> int:
    """Read stdin to its end, answer on stdout, flushing each line."""
    out = sys.stdout.buffer
    for answer in converse(sys.stdin.buffer):
        out.write(answer + b"\n")
        out.flush()
    return 0
