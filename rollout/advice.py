"""What a refused user can do, told to the one who asks.

Customers hear what would get them past the one step that is named to them, and nothing about the
steps behind it: the same words whether an anti-fraud gate waits there or not. For refusals that
must not be told apart there is no advice at all. Support and risk hear what would show the flag.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from huidu import model, reasons
from huidu.engine import Compiled
from huidu.engine.counterfactual import Changes, ChangeSet, Direction, changes, changes_past
from huidu.engine.explain import Explanation, Step, StepKind
from rollout import wording
from rollout.explanations import Wording
from rollout.wording import Text

CHANGEABLE: Final[dict[str, Direction]] = {
    "weekly_payments": Direction.UP,
    "monthly_payments": Direction.UP,
    "yearly_spend_cny": Direction.UP,
    "outstanding_balance_cny": Direction.DOWN,
    "consent": Direction.TRUE,
    "optout": Direction.FALSE,
}
"""What users can move, and which way. Anti-fraud signals must never be listed here: telling how to
get past them would defeat them. Neither are age, region or assets: nobody is told to change those.
"""

_MORE: Final = Text("{label}：再增加 {gap}（{before} → {after}）", "{label}: {gap} more ({moves})")
_LESS: Final = Text("{label}：减少 {gap}（{before} → {after}）", "{label}: {gap} less ({moves})")
_REACH: Final = Text("{label}：达到 {after}", "{label}: reach {after}")
_YES: Final = Text("{label}：改为“是”", "{label}: set to yes")
_NO: Final = Text("{label}：改为“否”", "{label}: set to no")
_NOT_HIS: Final = Text(
    "用户自己无法改变以下步骤：{steps}。", "Nothing the user does moves these steps: {steps}."
)
_TOGETHER: Final = Text(
    "没有任何改变能同时满足所有条件。", "No change meets all conditions at the same time."
)
_CUT: Final = Text(
    "可能的组合过多，未全部检查。", "There are too many combinations; not all were tried."
)


def advice(
    compiled: Compiled,
    found: Explanation,
    user: model.User,
    *,
    audience: str,
    language: str,
    words: Wording,
) -> dict[str, Any]:
    """The changes as JSON: ``sets`` of changes that do it, and ``text`` when there are none."""
    user = _with_place(compiled, found, user)
    if audience == "customer":
        return {"sets": _for_customers(compiled, found, user, language, words), "text": ""}
    result = changes(compiled, found.flag, user, changeable=CHANGEABLE)
    stuck = [_named(step, language, words) for step in result.immovable]
    return {
        "sets": [_set(each, language, words) for each in result.sets],
        "text": _text(result, stuck, language),
        "immovable": [
            {"kind": step.kind, "key": step.key, "label": label, "why": step.why}
            for step, label in zip(result.immovable, stuck, strict=True)
        ],
        "cut": result.cut,
    }


def _with_place(compiled: Compiled, found: Explanation, user: model.User) -> model.User:
    """The user with the place he would get by a check: it is no change that he has to make."""
    flag = compiled.flags.get(found.flag)
    waits = any(step.why == reasons.FUNDING_NOT_RESERVED for step in found.refusals)
    if flag is None or flag.rollout is None or not waits:
        return user
    place = {model.place_slot(flag.rollout.slot): model.place_of(0)}
    return msgspec.structs.replace(user, admissions={**user.admissions, **place})


def _for_customers(
    compiled: Compiled, found: Explanation, user: model.User, language: str, words: Wording
) -> list[list[dict[str, Any]]]:
    step = found.refusals[0] if found.refusals and not found.answer.visible else None
    if step is None or step.kind is not StepKind.GATE or step.why is None:
        return []
    if wording.is_neutral(step.why, step.dimension):
        return []
    if any(need.attribute in words.secret for need in step.needs):
        return []
    result = changes_past(compiled, found.flag, user, step, changeable=CHANGEABLE)
    return [_set(each, language, words) for each in result.sets]


def _text(result: Changes, stuck: list[str], language: str) -> str:
    if result.visible or result.sets:
        return ""
    if stuck:
        comma = "、" if language == "zh" else ", "
        return _NOT_HIS.in_language(language).format(steps=comma.join(stuck))
    return (_CUT if result.cut else _TOGETHER).in_language(language)


def _set(one: ChangeSet, language: str, words: Wording) -> list[dict[str, Any]]:
    told = []
    for each in one:
        label = words.labels.get(each.attribute)
        name = (label.in_language(language) if label else "") or each.attribute
        sentence = _YES if each.after is True else _NO if each.after is False else _REACH
        before, after = _number(each.before), _number(each.after)
        if each.gap is not None:
            sentence = _MORE if each.after > each.before else _LESS
        told.append(
            {
                "attribute": each.attribute,
                "label": name,
                "before": each.before,
                "after": each.after,
                "gap": each.gap,
                "text": sentence.in_language(language).format(
                    label=name,
                    gap=_number(each.gap),
                    before=before,
                    after=after,
                    moves=f"{before} → {after}",
                ),
            }
        )
    return told


def _number(value: Any) -> str:
    if isinstance(value, float):  # money and scores: 0, not 0.0
        value = int(value) if value.is_integer() else round(value, 2)
    return f"{value:,}" if isinstance(value, int | float) else str(value)


def _named(step: Step, language: str, words: Wording) -> str:
    gate = words.gates.get(step.key) if step.kind is StepKind.GATE else None
    label = (gate.label_zh if language == "zh" else gate.label_en) if gate is not None else ""
    kind = wording.STEPS[step.kind].in_language(language)
    return label or f"{kind} {words.stage(step.key, language)}".strip()
