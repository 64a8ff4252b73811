"""Why a user sees what he sees, told to the one who asks: customer, support or risk.

The engine's explanation names every step; here it is decided who may read what. Customers hear the
first refusal, and one neutral sentence for all that must not be told apart, with the same fields in
the same order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from huidu import model
from huidu.engine.explain import Explanation, Need, Outcome, Step
from rollout import script, wording
from rollout.models import Gate, ReasonText
from rollout.script import CUSTOMER_PARTS, Script
from rollout.wording import Text

AUDIENCES: Final = ("customer", "support", "risk")
DIMENSIONS_WITH_ADVICE: Final = frozenset({"activity", "value"})
"""Where customers may hear by how much they miss a condition."""

_COUNTED: Final = frozenset({"<", "<=", ">", ">="})


NAMELESS: Final = Text("", "")


@dataclass(frozen=True)
class Wording:
    """What the database says about names and texts.

    `labels` by attribute name; `secret` attributes are read by the risk voice only; `gates` and
    `stages` by key;
    `texts` are approved ones by code; `product` is what texts call the flag.
    """

    labels: Mapping[str, wording.Text] = field(default_factory=dict)
    secret: frozenset[str] = frozenset()
    gates: Mapping[str, Gate] = field(default_factory=dict)
    texts: Mapping[str, ReasonText] = field(default_factory=dict)
    product: Text = NAMELESS
    stages: Mapping[str, Text] = field(default_factory=dict)

    def stage(self, key: str | None, language: str) -> str:
        """What people call a stage; its key where it has no name."""
        label = self.stages.get(key or "")
        return (label.in_language(language) if label else "") or key or ""

    def told(self, why: str, dimension: str = "") -> Script:
        """The texts for a code: the approved ones, else those the product ships.

        Codes that customers must not tell apart share the neutral code's words, whoever says them.
        """
        found = script.merged(self.texts.get(why), script.shipped(why, dimension))
        unknown = why not in self.texts and not wording.is_known(why, dimension)
        if why == wording.NEUTRAL_WHY or not (unknown or wording.is_neutral(why, dimension)):
            return found
        neutral = self.told(wording.NEUTRAL_WHY)
        return found._replace(**{part: getattr(neutral, part) for part in CUSTOMER_PARTS})


def tell(
    found: Explanation,
    flag: model.Flag | None,
    *,
    audience: str,
    language: str,
    words: Wording,
) -> dict[str, Any]:
    """One explanation as JSON for one audience.

    Args:
        flag: as it was in the snapshot that answered; None when unknown.
        audience: one of `AUDIENCES`.
        language: ``zh`` or ``en``.
    """
    if audience == "customer":
        return _to_customer(found, flag, language, words)
    answer = found.answer
    first = _first_refusal(found)
    return {
        "flag": found.flag,
        "user": found.user,
        "audience": audience,
        "visible": answer.visible,
        "variant": answer.variant,
        "reason": answer.reason,
        "why": answer.why,
        "text": _sentence(answer.why, first, audience, language, words),
        "script": _script(found, first, language, words),
        "stage": answer.stage,
        "payload": answer.payload,
        "steps": [_step(step, audience, language, words) for step in found.steps],
        "refusals": [step.why for step in found.refusals],
        "missing": _missing(found.refusals, language, words, show_secret=audience == "risk"),
        "draw": _draw(found),
        "when": _next_stage(answer.why, flag, language, words) or _refill(first),
        "review": wording.REVIEW.in_language(language),
    }


def _to_customer(
    found: Explanation, flag: model.Flag | None, language: str, words: Wording
) -> dict[str, Any]:
    answer, first = found.answer, _first_refusal(found)
    why, dimension = answer.why, first.dimension if first else ""
    missing: list[dict[str, Any]] = []
    if not answer.visible and wording.is_neutral(why, dimension):
        why, first = wording.NEUTRAL_WHY, None
    elif first is not None and dimension in DIMENSIONS_WITH_ADVICE:
        missing = _missing([first], language, words, show_secret=False)
    return {
        "flag": found.flag,
        "user": found.user,
        "audience": "customer",
        "visible": answer.visible,
        "why": why,
        "text": f"{_sentence(why, first, 'customer', language, words)}{_space(language)}"
        f"{wording.REVIEW.in_language(language)}",
        "advice": _with_names(
            words.told(why, dimension if first else "").advice.in_language(language),
            language,
            words,
        ),
        "missing": missing,
        "when": _next_stage(why, flag, language, words) or _refill(first),
        "payload": answer.payload,
        "review": wording.REVIEW.in_language(language),
    }


def _space(language: str) -> str:
    """Between two sentences."""
    return "" if language == "zh" else " "


def _first_refusal(found: Explanation) -> Step | None:
    """The step that decided, if one refused."""
    if found.answer.visible:
        return None
    return next((step for step in found.steps if step.why == found.answer.why), None)


def _sentence(why: str, step: Step | None, audience: str, language: str, words: Wording) -> str:
    """The gate's own text for this audience, else the house's for the code."""
    gate = words.gates.get(step.key) if step is not None and step.kind == "gate" else None
    if gate is not None and step is not None and why == gate.why:
        for voice in (audience, "support") if audience == "risk" else (audience,):
            own = getattr(gate, f"{voice}_{language}") or ""
            if own:
                return str(own)
    told = words.told(why, step.dimension if step else "")
    text = (told.customer if audience == "customer" else told.support).in_language(language)
    return _with_names(text, language, words, code=why)


def _with_names(
    text: str, language: str, words: Wording, *, code: str = "", stage: str = ""
) -> str:
    """The text with its placeholders filled; see `rollout.services.reason_texts.PLACEHOLDERS`."""
    if "{" not in text:
        return text
    names = {"product": words.product.in_language(language), "code": code, "stage": stage or "—"}
    for name, value in names.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def _script(found: Explanation, step: Step | None, language: str, words: Wording) -> dict[str, Any]:
    """What support says and does: the code, the words, the next step, and the texts' version."""
    why, dimension = found.answer.why, step.dimension if step else ""
    told, own = words.told(why, dimension), words.texts.get(why)
    say = told.say.in_language(language)
    gate = words.gates.get(step.key) if step is not None and step.kind == "gate" else None
    if gate is not None and why == gate.why and not wording.is_neutral(why, dimension):
        gates_own = getattr(gate, f"customer_{language}")
        if gates_own and not (own and own.say_zh):
            advice = told.advice.in_language(language)
            say = f"{gates_own}{_space(language) if advice else ''}{advice}"
    names = {"code": why, "stage": words.stage(found.answer.stage, language)}
    return {
        "code": why,
        "say": _with_names(say, language, words, **names),
        "next_step": _with_names(told.next_step.in_language(language), language, words, **names),
        "version": own.version if own else 0,
        "approved_by": own.approved_by if own else "",
    }


def _step(step: Step, audience: str, language: str, words: Wording) -> dict[str, Any]:
    gate = words.gates.get(step.key) if step.kind == "gate" else None
    label = (gate.label_zh if language == "zh" else gate.label_en) if gate is not None else ""
    return {
        "kind": step.kind,
        "key": step.key,
        "label": label or _name(step, language, words),
        "dimension": step.dimension,
        "outcome": step.outcome,
        "why": step.why,
        "text": _sentence(step.why, step, audience, language, words) if step.why else "",
        "needs": [
            _need(need, language, words)
            for need in step.needs
            if audience == "risk" or need.attribute not in words.secret
        ],
        "details": _details(step, audience),
        "version": step.version,
    }


def _details(step: Step, audience: str) -> dict[str, Any]:
    """How many places a bank has left is the risk voice's to know."""
    if audience == "risk" or "partners" not in step.details:
        return step.details
    hidden = {"left_today"}
    partners = [
        {name: value for name, value in each.items() if name not in hidden}
        for each in step.details["partners"]
    ]
    return step.details | {"partners": partners}


def _name(step: Step, language: str, words: Wording) -> str:
    kind = wording.STEPS[step.kind].in_language(language)
    return f"{kind} {words.stage(step.key, language)}".strip()


def _need(need: Need, language: str, words: Wording) -> dict[str, Any]:
    return {
        "attribute": need.attribute,
        "label": _label(need.attribute, language, words),
        "operator": need.operator,
        "wanted": need.wanted,
        "value": need.value,
        "negated": need.negated,
        "outcome": need.outcome,
        "crossing": None if need.crossing is None else msgspec.to_builtins(need.crossing),
    }


def _missing(
    steps: list[Step], language: str, words: Wording, *, show_secret: bool
) -> list[dict[str, Any]]:
    """By how much counted conditions are missed: "3 more payments a week"."""
    found = []
    for step in steps:
        for need in step.needs:
            operator, wanted = _line(need)
            gap = _gap(need, operator, wanted)
            if gap is None or (need.attribute in words.secret and not show_secret):
                continue
            found.append(
                {
                    "attribute": need.attribute,
                    "label": _label(need.attribute, language, words),
                    "value": need.value,
                    "wanted": f"{operator} {wanted}",
                    "gap": gap,
                }
            )
    return found


def _line(need: Need) -> tuple[str, Any]:
    """The comparison a condition comes down to: of two lines, the one that holds for the user."""
    if need.crossing is None:
        return need.operator, need.wanted
    enter, leave = need.wanted
    # Who fell out only today comes back at the leave line, anybody else above the other.
    return (">=", leave) if need.crossing.days_ago == 0 else (">", enter)


def _gap(need: Need, operator: str, wanted: Any) -> float | int | None:
    """How far a counted condition is away; None when it is met or cannot be counted."""
    if need.crossing is not None and need.outcome is Outcome.FAIL and not need.negated:
        enter, leave = need.wanted
        # Who fell out only today comes back at the leave line, anybody else above the other.
        return int((leave if need.crossing.days_ago == 0 else enter + 1) - need.value)
    numbers = all(
        isinstance(each, int | float) and not isinstance(each, bool)
        for each in (need.value, wanted)
    )
    if need.outcome is not Outcome.FAIL or operator not in _COUNTED or not numbers:
        return None
    if need.negated:
        return None
    whole = isinstance(need.value, int) and isinstance(wanted, int)
    beyond = 1 if whole and operator in ("<", ">") else 0
    gap: float | int = abs(wanted - need.value) + beyond
    return gap


def _draw(found: Explanation) -> dict[str, Any] | None:
    draw = found.draw
    if draw is None:
        return None
    return {
        # Numbers up to 2**64 as text: JavaScript would round them.
        "bucket": str(draw.bucket),
        "threshold": str(draw.threshold),
        "weight": draw.weight,
        "share_ppm": draw.share_ppm,
        "drawn": draw.drawn,
        "enters_at_ppm": draw.enters_at_ppm,
        "remembered": draw.remembered,
    }


def _next_stage(
    why: str, flag: model.Flag | None, language: str, words: Wording
) -> dict[str, Any] | None:
    """The next planned stage, for users whom only the release itself keeps waiting."""
    if flag is None or flag.rollout is None or not why.startswith(("stage.", "region.ceiling")):
        return None
    following = flag.rollout.stages[flag.rollout.current + 1 :]
    if not following:
        return None
    key = following[0].key
    return {
        "stage": key,
        "label": words.stage(key, language),
        "planned_at": following[0].starts_at,
    }


def _refill(step: Step | None) -> dict[str, Any] | None:
    """When a full partner gives places again, for users whom only its places keep waiting."""
    refill_at = step.details.get("refill_at") if step is not None else None
    return None if refill_at is None else {"refill_at": refill_at}


def _label(attribute: str, language: str, words: Wording) -> str:
    label = words.labels.get(attribute)
    return (label.in_language(language) if label else "") or attribute
