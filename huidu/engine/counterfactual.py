"""The smallest changes a user can make that would show the flag, proven by the check itself.

A rule's truth changes only at the bounds its claims name, so the nearest values on both sides of
every bound are all that can matter. They are tried in order, fewest attributes and nearest values
first, by running the real check: what is returned flips the answer, and nothing less does.
"""

from __future__ import annotations

import enum
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from huidu.engine.claims import Hysteresis, Is, Leaf, OneOf, Range
from huidu.engine.explain import Outcome, Step, StepKind, explain
from huidu.engine.nodes import Node
from huidu.engine.plan import Plan
from huidu.engine.values import known_value
from huidu.model import Attribute, AttributeType, User

if TYPE_CHECKING:
    from huidu.engine.compile import Compiled

MAX_TRIES: Final = 4_000
"""Most users a search makes up; a search that would need more says that it was cut."""
MAX_TOGETHER: Final = 4
"""Most attributes changed at once."""
STEP: Final = 0.01
"""The next number after a bound that is not in reach itself: amounts and scores have two places."""


class Direction(enum.StrEnum):
    """The one way in which a user can move an attribute."""

    UP = "up"
    DOWN = "down"
    TRUE = "true"
    FALSE = "false"


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One attribute moved. `before` is None when nothing was known."""

    attribute: str
    before: Any
    after: Any

    @property
    def gap(self) -> int | float | None:
        """How far the value moves; None for what is not counted."""
        numbers = (self.before, self.after)
        if any(isinstance(each, bool) or not isinstance(each, int | float) for each in numbers):
            return None
        distance: int | float = abs(self.after - self.before)
        return distance if isinstance(distance, int) else round(distance, 2)


ChangeSet = tuple[Change, ...]
"""Changes that have to be made together."""


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """What a user could do.

    `sets` are alternatives of the same, smallest number of changes, each over other attributes;
    empty when the flag is shown already and when nothing the user does would show it. Then
    `immovable` names the refusing steps that no change of the user's moves; empty all the same
    when each of them moves alone, but not all of them together. `cut`: more would have to be tried
    than is allowed, so "none" means "none found".
    """

    visible: bool
    sets: list[ChangeSet] = []
    immovable: list[Step] = []
    cut: bool = False


def changes(
    compiled: Compiled, flag_key: str, user: User, *, changeable: Mapping[str, Direction]
) -> Changes:
    """What the user could change to be shown the flag. Never raises.

    Args:
        changeable: by attribute name, the way in which users can move it; all others stay.
    """
    if compiled.check(flag_key, user).visible:
        return Changes(visible=True)
    if flag_key not in compiled.flags:
        return Changes(visible=False)
    try:
        options = _options(_plans(compiled, flag_key), user, changeable)

        def shown(changed: User) -> bool:
            return compiled.check(flag_key, changed).visible

        sets, cut = _smallest(user, options, shown)
        stuck = [] if sets else _immovable(compiled, flag_key, user, options)
    except Exception:  # attributes that break when they are read
        return Changes(visible=False)
    return Changes(visible=False, sets=sets, immovable=stuck, cut=cut)


def changes_past(
    compiled: Compiled,
    flag_key: str,
    user: User,
    step: Step,
    *,
    changeable: Mapping[str, Direction],
) -> Changes:
    """What the user could change to get past one step, whatever the other steps say.

    Only the attributes the step itself asks about are moved, so the result tells nothing of others.
    """
    try:
        options = _options(_plans(compiled, flag_key), user, changeable)
        asked = {need.attribute for need in step.needs}
        options = {name: values for name, values in options.items() if name in asked}
        sets, cut = _smallest(user, options, lambda each: _passes(compiled, flag_key, each, step))
    except Exception:
        return Changes(visible=False)
    return Changes(visible=False, sets=sets, immovable=[] if sets else [step], cut=cut)


def _smallest(
    user: User, options: Mapping[str, list[Any]], reached: Callable[[User], bool]
) -> tuple[list[ChangeSet], bool]:
    """Every smallest choice of attributes with the nearest values that reach the aim."""
    tries = 0
    for size in range(1, min(MAX_TOGETHER, len(options)) + 1):
        found: list[ChangeSet] = []
        for names in itertools.combinations(sorted(options), size):
            for values in _nearest_first([options[name] for name in names]):
                if tries >= MAX_TRIES:
                    return found, True
                tries += 1
                moved = dict(zip(names, values, strict=True))
                if reached(_moved(user, moved)):
                    found.append(
                        tuple(
                            Change(attribute=name, before=user.attributes.get(name), after=value)
                            for name, value in moved.items()
                        )
                    )
                    break
        if found:
            return found, False
    return [], len(options) > MAX_TOGETHER


def _nearest_first(values: list[list[Any]]) -> Iterator[tuple[Any, ...]]:
    """Choices of one value each, by how many nearer values were passed over in sum.

    A choice so comes after every choice that is nowhere farther: the first hit is minimal.
    """
    most = sum(len(each) - 1 for each in values)
    for total in range(most + 1):
        for places in _places([len(each) for each in values], total):
            yield tuple(each[place] for each, place in zip(values, places, strict=True))


def _places(lengths: list[int], total: int) -> Iterator[tuple[int, ...]]:
    if len(lengths) == 1:
        if total < lengths[0]:
            yield (total,)
        return
    for first in range(min(total, lengths[0] - 1) + 1):
        for rest in _places(lengths[1:], total - first):
            yield (first, *rest)


def _moved(user: User, moved: Mapping[str, Any]) -> User:
    return msgspec.structs.replace(user, attributes={**user.attributes, **moved})


def _immovable(
    compiled: Compiled, flag_key: str, user: User, options: Mapping[str, list[Any]]
) -> list[Step]:
    """The refusing steps that stay whatever the user does."""
    weighed = {name for plan in _plans(compiled, flag_key) for name in _weight_names(plan)}
    stuck = []
    for step in explain(compiled, flag_key, user).refusals:
        asked = {need.attribute for need in step.needs}
        if step.kind in (StepKind.STAGE, StepKind.GATE):
            asked |= weighed
        if step.kind is StepKind.PREREQUISITE:
            asked = set(options)
        mine = {name: values for name, values in options.items() if name in asked}

        def passes(changed: User, step: Step = step) -> bool:
            return _passes(compiled, flag_key, changed, step)

        sets, cut = _smallest(user, mine, passes)
        if not sets and not cut:
            stuck.append(step)
    return stuck


def _passes(compiled: Compiled, flag_key: str, user: User, step: Step) -> bool:
    """Whether this step lets the user pass, whatever the steps before it say."""
    if step.kind is StepKind.PREREQUISITE:
        steps = [each for each in explain(compiled, flag_key, user).steps if each.key == step.key]
    else:
        steps = explain(compiled, flag_key, user).steps
    return any(
        (each.kind, each.key) == (step.kind, step.key)
        and each.outcome in (Outcome.PASS, Outcome.SKIPPED)
        for each in steps
    )


# -- values worth trying


def _options(
    plans: Iterable[Plan], user: User, changeable: Mapping[str, Direction]
) -> dict[str, list[Any]]:
    """By attribute: values in reach on both sides of every bound, nearest first."""
    claims: dict[str, list[Leaf]] = {}
    for plan in plans:
        for rule in _rules(plan):
            for leaf in rule.leaves():
                name = leaf.attribute.name
                if name in changeable and leaf.attribute.source in plan.readable:
                    claims.setdefault(name, []).append(leaf)
    found = {}
    for name, leaves in claims.items():
        values = _values(leaves, changeable[name], user.attributes.get(name))
        if values:
            found[name] = values
    return found


def _values(leaves: list[Leaf], direction: Direction, given: Any) -> list[Any]:
    attribute = leaves[0].attribute
    known = known_value(attribute, given)
    if direction in (Direction.TRUE, Direction.FALSE):
        wanted = direction is Direction.TRUE
        asked = any(isinstance(leaf, Is) for leaf in leaves)
        return [wanted] if asked and known is not wanted else []
    if attribute.type not in (AttributeType.INTEGER, AttributeType.NUMBER):
        return []
    up = direction is Direction.UP
    bounds = {bound for leaf in leaves for bound in _bounds(leaf)}
    values = {each for bound in bounds for each in _around(attribute, bound)}
    reachable = [
        value
        for value in values
        if known_value(attribute, value) is not None
        and (known is None or (value > known if up else value < known))
    ]
    return sorted(reachable, reverse=not up)


def _bounds(leaf: Leaf) -> Iterable[int | float]:
    if isinstance(leaf, Range):
        return [bound for bound in (leaf.low, leaf.high) if bound is not None]
    if isinstance(leaf, Hysteresis):
        return (leaf.enter, leaf.leave)
    return leaf.members if isinstance(leaf, OneOf) else ()


def _around(attribute: Attribute, bound: int | float) -> tuple[int | float, ...]:
    """The bound and its neighbours: every piece of the line that ends here is met."""
    if attribute.type is AttributeType.INTEGER:
        return bound - 1, bound, bound + 1
    over, under = round(bound + STEP, 2), round(bound - STEP, 2)
    return (
        under if under < bound else math.nextafter(bound, -math.inf),
        bound,
        over if over > bound else math.nextafter(bound, math.inf),
    )


def needed_flags(compiled: Compiled, flag_key: str) -> list[str]:
    """The flag and all flags it needs, as far as the snapshot has them."""
    found: list[str] = []
    waiting = [flag_key]
    while waiting:
        key = waiting.pop()
        if key in found or key not in compiled.flags:
            continue
        found.append(key)
        waiting += [needed.flag for needed in compiled.flags[key].prerequisites]
    return found


def _plans(compiled: Compiled, flag_key: str) -> list[Plan]:
    """The flag's plan and those of all flags it needs."""
    return [compiled.kept_plan(key) for key in needed_flags(compiled, flag_key)]


def _rules(plan: Plan) -> Iterator[Node]:
    yield from (gate.rule for gate in plan.gates if gate.rule is not None)
    for stage in plan.stages:
        yield stage.audience
        yield from (rule for rule, _ in stage.weights)


def _weight_names(plan: Plan) -> set[str]:
    rules = (rule for stage in plan.stages for rule, _ in stage.weights)
    return {leaf.attribute.name for rule in rules for leaf in rule.leaves()}
