"""The last gate: whoever passes everything else needs a place of a funding partner.

The engine only reads whether a user has one. Taking one is the business of whoever asked
(`edge.places`): an answer with `reasons.FUNDING_NOT_RESERVED` says that one must be taken first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from huidu import reasons
from huidu.engine.answers import Answers
from huidu.engine.explain import Need, Outcome, Step, StepKind
from huidu.engine.plan import REGION_ATTRIBUTE, PlaceTable, Plan, serves
from huidu.engine.values import MEMO_LIMIT, known_value
from huidu.engine.writer import Check
from huidu.model import Admission, Answer

if TYPE_CHECKING:
    from huidu.engine.known import Known

PARTNER: Final = "funding_partner"
"""Entry of a visible answer's payload: the key of the partner that gave the place."""


def with_places(check: Check, plan: Plan, table: PlaceTable) -> Check:
    """The flag's check with the capacity gate behind it; other flags' checks know nothing of it."""
    answers = Answers(plan.flag)
    gate, slot = table.gate, table.slot
    to_take = needs_place(answers)
    no_room = answers.hidden(gate.why, reasons.TARGETING_MATCH)
    no_region = answers.hidden(gate.unknown_why, reasons.TARGETING_MATCH)
    given = Given(table)

    def with_place(
        key: str,
        attributes: Mapping[str, Any],
        admissions: Mapping[int, Admission] | None,
        lists: frozenset[int] | None,
    ) -> Answer:
        answer = check(key, attributes, admissions, lists)
        if not answer.visible:
            return answer
        place = admissions.get(slot) if admissions else None
        if place is not None:
            return given.told(answer, place)
        if answer.why == reasons.ALLOWED_LIST and not gate.absolute:
            return answer
        serving = table[region_of(plan, attributes)]
        if serving is None:
            return no_region
        return to_take if serving else no_room

    return with_place


def place_step(plan: Plan, table: PlaceTable, known: Known, place: Admission | None) -> Step:
    """What *explain* tells about the gate; how many places are left is not known here."""
    assert plan.region is not None
    gate, region = table.gate, known.value(plan.region)
    serving = table[region]
    outcome, why = Outcome.UNKNOWN, gate.unknown_why
    if place is not None:
        outcome = Outcome.PASS
    elif serving:
        why = reasons.FUNDING_NOT_RESERVED
    elif serving is not None:
        outcome, why = Outcome.FAIL, gate.why
    need = Need(
        attribute=plan.region.name,
        operator="funding partner",
        wanted=None,
        value=known.given(plan.region),
        outcome=Outcome.UNKNOWN if serving is None else _OUTCOME[bool(serving)],
    )
    partners = [
        {
            "number": each.number,
            "key": each.key,
            "serves": None if serving is None else serves(each, region),
            "open": each.is_open,
        }
        for each in table.capacity.partners
    ]
    return Step(
        kind=StepKind.GATE,
        key=gate.key,
        dimension=gate.dimension,
        outcome=outcome,
        why=None if outcome is Outcome.PASS else why,
        needs=[need],
        details={"partners": partners, "place": None if place is None else place.weight - 1},
        version=gate.version,
    )


_OUTCOME: Final = {True: Outcome.PASS, False: Outcome.FAIL}


def needs_place(answers: Answers) -> Answer:
    """The answer to a user who passes everything and has no place yet."""
    return answers.hidden(reasons.FUNDING_NOT_RESERVED, reasons.ERROR)


def region_of(plan: Plan, attributes: Mapping[str, Any]) -> Any:
    """The user's region, None when it is not known or may not be read here."""
    attribute = plan.region
    if attribute is None or attribute.source not in plan.readable:
        return None
    try:
        return known_value(attribute, attributes[REGION_ATTRIBUTE])
    except KeyError:
        return None


class Given:
    """Visible answers with the partner that gave the place; equal ones are one object."""

    def __init__(self, table: PlaceTable) -> None:
        self._keys = {each.number + 1: each.key for each in table.capacity.partners}
        self._made: dict[tuple[int, int], tuple[Answer, Answer]] = {}

    def told(self, answer: Answer, place: Admission) -> Answer:
        """The answer, naming the partner where one was charged and is still known."""
        key = self._keys.get(place.weight)
        if key is None:
            return answer
        known = self._made.get((id(answer), place.weight))
        # The answer is kept beside what was made of it, so that its id is no other's.
        if known is not None and known[0] is answer:
            return known[1]
        if len(self._made) >= MEMO_LIMIT:
            self._made.clear()
        made = msgspec.structs.replace(answer, payload=answer.payload | {PARTNER: key})
        self._made[id(answer), place.weight] = answer, made
        return made
