"""Judges many users by rules, as the engine would: definitely true, definitely false, unknown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from cohorts import mappers
from huidu.engine.claims import Hysteresis
from huidu.engine.nodes import Node
from huidu.engine.predicate import Predicate, predicate
from huidu.engine.rules import Reader
from huidu.errors import RuleError
from huidu.model import Rule, User

MAX_WEIGHT: Final = 1_000
Rungs = Sequence[tuple[str, Rule]]
"""Keys and rules, in the order they are asked."""


class Judge:
    """An audience and weights, read once against the registry as it is now.

    Args:
        audience: the rule of who is eligible; ``{}`` is everybody.
        weights: ``[{"rule": {...}, "weight": 3}]``; the first match wins, else 1.
    Raises:
        RuleError: a rule or weight is wrong; the path says where.
    """

    def __init__(self, audience: Rule, weights: Sequence[Mapping[str, Any]] = ()) -> None:
        self.registry = mappers.registry()
        reader = Reader(self.registry, {each.key: each for each in mappers.cohorts()})
        read = reader.read(audience, "audience")
        self._fits, self._misfits = predicate(read, True), predicate(read, False)
        read_rules = [read]
        self._weights: list[tuple[Predicate, int]] = []
        for index, each in enumerate(weights):
            weight = each.get("weight")
            if type(weight) is not int or not 1 <= weight <= MAX_WEIGHT:
                raise RuleError(
                    f"expected a whole number from 1 to {MAX_WEIGHT}, got {weight!r}",
                    path=f"weights[{index}].weight",
                )
            node = reader.read(each.get("rule"), f"weights[{index}].rule")
            self._weights.append((predicate(node), weight))
            read_rules.append(node)
        self.by_day = any(map(asks_by_day, read_rules))
        """Whether users must be read with their daily counts."""

    def fits(self, user: User) -> bool | None:
        """Whether the user belongs to the audience; None when data is missing to say."""
        if self._fits(user.key, user.attributes):
            return True
        return False if self._misfits(user.key, user.attributes) else None

    def weight(self, user: User) -> int:
        """How many times as likely the user is drawn; a missing fact makes nobody heavier."""
        for matches, weight in self._weights:
            if matches(user.key, user.attributes):
                return weight
        return 1


def asks_by_day(rule: Node) -> bool:
    """Whether a rule looks at daily counts."""
    return any(isinstance(leaf, Hysteresis) for leaf in rule.leaves())


class Ladder:
    """Tells of each user the first rule that is definitely true, such as his tier.

    Raises:
        RuleError: a rule is wrong; the path begins with its key.
    """

    def __init__(self, reader: Reader, rungs: Rungs) -> None:
        read = [(key, reader.read(rule, key)) for key, rule in rungs]
        self._rungs = [(key, predicate(rule)) for key, rule in read]
        self.by_day = any(asks_by_day(rule) for _, rule in read)

    def rung(self, user: User) -> str:
        """The key of the first rule that fits; "" when none does."""
        fitting = (key for key, fits in self._rungs if fits(user.key, user.attributes))
        return next(fitting, "")
