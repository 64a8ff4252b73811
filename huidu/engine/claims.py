"""The leaves of a rule: claims about one attribute, each as a truth and as Python source.

Unknown values are NaN in variables of numbers and days, and None in all others (see
`huidu.engine.values`), so that most comparisons fail for them by themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from huidu import history
from huidu.engine import values
from huidu.engine.nodes import TRUE, Facts, Node, Scope, both, either
from huidu.engine.values import UNKNOWN, Table
from huidu.model import Attribute, AttributeType

REGION_MEMO_LIMIT: Final = 1_024
"""Entries one region table learns; China has some 400 codes of provinces and cities."""

NUMERIC: Final = frozenset({AttributeType.INTEGER, AttributeType.NUMBER, AttributeType.DATE})


class Leaf(Node, frozen=True, kw_only=True):
    """A claim about one attribute. `operator` and `wanted` are told as they were written."""

    attribute: Attribute
    operator: str
    wanted: Any
    negated: bool = False

    def truth(self, facts: Facts) -> bool | None:
        value = facts.value(self.attribute)
        return UNKNOWN if value is UNKNOWN else self.holds(value) is not self.negated

    def source(self, claim: bool, scope: Scope) -> str:
        claim = claim is not self.negated
        variable = scope.variable(self.attribute)
        return self.when_true(variable, scope) if claim else self.when_false(variable, scope)

    def leaves(self) -> Iterator[Leaf]:
        yield self

    def holds(self, value: Any) -> bool:
        """Whether the claim holds for a known value; `negated` is not looked at."""
        raise NotImplementedError

    def when_true(self, variable: str, scope: Scope) -> str:
        raise NotImplementedError

    def when_false(self, variable: str, scope: Scope) -> str:
        raise NotImplementedError


class Is(Leaf, frozen=True, kw_only=True):
    """A boolean attribute is `value`."""

    value: bool

    def holds(self, value: Any) -> bool:
        return value is self.value

    def when_true(self, variable: str, scope: Scope) -> str:
        return f"{variable} is {self.value}"

    def when_false(self, variable: str, scope: Scope) -> str:
        return f"{variable} is {not self.value}"


class Range(Leaf, frozen=True, kw_only=True):
    """The value lies between two bounds; None is no bound. Whole numbers have closed bounds."""

    low: Any = None
    high: Any = None
    low_open: bool = False
    high_open: bool = False

    def holds(self, value: Any) -> bool:
        if self.low is not None and (value <= self.low if self.low_open else value < self.low):
            return False
        return self.high is None or (value < self.high if self.high_open else value <= self.high)

    def when_true(self, variable: str, scope: Scope) -> str:
        least, most = limits(self.attribute)
        left = _below(scope, self.attribute, self.low, self.low_open) or _below(
            scope, self.attribute, least
        )
        right = _above(scope, self.attribute, self.high, self.high_open) or _above(
            scope, self.attribute, most
        )
        return both(self._is_known(variable), f"{left}{variable}{right}")

    def when_false(self, variable: str, scope: Scope) -> str:
        least, most = limits(self.attribute)
        outside = []
        if self.low is not None:
            right = _above(scope, self.attribute, self.low, not self.low_open)
            outside.append(f"{_below(scope, self.attribute, least)}{variable}{right}")
        if self.high is not None:
            left = _below(scope, self.attribute, self.high, not self.high_open)
            outside.append(f"{left}{variable}{_above(scope, self.attribute, most)}")
        return both(self._is_known(variable), either(*outside))

    def _is_known(self, variable: str) -> str:
        # NaN stands for an unknown number and fails every comparison by itself.
        return TRUE if self.attribute.type in NUMERIC else f"{variable} is not None"


class Hysteresis(Leaf, frozen=True, kw_only=True):
    """A weekly figure came above `enter` and has not fallen below `leave` since."""

    enter: int
    leave: int

    def truth(self, facts: Facts) -> bool | None:
        value = facts.value(self.attribute)
        if value is UNKNOWN:
            return None
        if not self.leave <= value <= self.enter:
            return bool(value > self.enter)
        return history.was_inside(facts.days(self.attribute), self.enter, self.leave)

    def when_true(self, variable: str, scope: Scope) -> str:
        enter, leave = scope.constant(self.enter), scope.constant(self.leave)
        return both(
            is_known(self.attribute, variable, scope),
            f"({variable} > {enter} or {variable} >= {leave} and {self._was_inside(scope)})",
        )

    def when_false(self, variable: str, scope: Scope) -> str:
        enter, leave = scope.constant(self.enter), scope.constant(self.leave)
        was_outside = f"{self._was_inside(scope)} is False"
        return both(
            is_known(self.attribute, variable, scope),
            f"({variable} < {leave} or {variable} <= {enter} and {was_outside})",
        )

    def _was_inside(self, scope: Scope) -> str:
        """Looked at only by those whose figure of today lies between the lines."""
        days = scope.days(self.attribute)
        return f"was_inside({days}, {scope.constant(self.enter)}, {scope.constant(self.leave)})"


class OneOf(Leaf, frozen=True, kw_only=True):
    """The value equals one of some."""

    members: frozenset[Any]

    def holds(self, value: Any) -> bool:
        return value in self.members

    def when_true(self, variable: str, scope: Scope) -> str:
        # An unknown value, NaN or None, is never a member.
        if len(self.members) == 1:
            return f"{variable} == {scope.constant(next(iter(self.members)))}"
        return f"{variable} in {scope.constant(self.members)}"

    def when_false(self, variable: str, scope: Scope) -> str:
        if len(self.members) == 1:
            differs = f"{variable} != {scope.constant(next(iter(self.members)))}"
        else:
            differs = f"{variable} not in {scope.constant(self.members)}"
        return both(is_known(self.attribute, variable, scope), differs)

    def fails(self, scope: Scope) -> str:
        # A known value that is no member needs not be compared again.
        return is_known(self.attribute, scope.variable(self.attribute), scope)


class Contains(Leaf, frozen=True, kw_only=True):
    """A list holds `needle`, or a text holds it as a part."""

    needle: str

    def holds(self, value: Any) -> bool:
        return self.needle in value

    def when_true(self, variable: str, scope: Scope) -> str:
        return f"({variable} is not None and {scope.constant(self.needle)} in {variable})"

    def when_false(self, variable: str, scope: Scope) -> str:
        return f"({variable} is not None and {scope.constant(self.needle)} not in {variable})"


class StartsWith(Leaf, frozen=True, kw_only=True):
    """A text starts with `prefix`."""

    prefix: str

    def holds(self, value: Any) -> bool:
        begins: bool = value.startswith(self.prefix)
        return begins

    def when_true(self, variable: str, scope: Scope) -> str:
        prefix = scope.constant(self.prefix)
        return f"({variable} is not None and {variable}.startswith({prefix}))"

    def when_false(self, variable: str, scope: Scope) -> str:
        prefix = scope.constant(self.prefix)
        return f"({variable} is not None and not {variable}.startswith({prefix}))"


class Within(Leaf, frozen=True, kw_only=True):
    """A region is one of `codes` or lies in one of them."""

    table: WithinTable

    def holds(self, value: Any) -> bool:
        return any(code in self.table.codes for code in values.region_and_parents(value))

    def when_true(self, variable: str, scope: Scope) -> str:
        # The plain set first: the interpreter has a shortcut for it, and none for the table.
        inside, table = scope.constant(self.table.inside), scope.constant(self.table)
        return f"({variable} in {inside} or {table}[{variable}])"

    def when_false(self, variable: str, scope: Scope) -> str:
        return f"{scope.constant(self.table)}[{variable}] is False"


class WithinTable(Table[bool | None]):
    """By region code: whether it lies in one of the codes; None for what is not a region code.

    `inside` holds the codes for which that is known to be true.
    """

    __slots__ = ("codes", "inside")

    def __init__(self, codes: frozenset[str]) -> None:
        super().__init__(REGION_MEMO_LIMIT)
        self.codes = codes
        self.inside = set(codes)

    def make(self, argument: Any) -> bool | None:
        code = values.region_code(argument)
        if code is None:
            return None
        lies_within = any(each in self.codes for each in values.region_and_parents(code))
        if lies_within and len(self.inside) < REGION_MEMO_LIMIT:
            self.inside.add(code)
        return lies_within


def limits(attribute: Attribute) -> tuple[int | float | None, int | float | None]:
    """The registered range; whole bounds as integers, which compare faster."""
    if attribute.type not in (AttributeType.INTEGER, AttributeType.NUMBER):
        return None, None
    return _tidy(attribute.minimum), _tidy(attribute.maximum)


def _tidy(bound: float | None) -> int | float | None:
    return int(bound) if bound is not None and float(bound).is_integer() else bound


def is_known(attribute: Attribute, variable: str, scope: Scope) -> str:
    """Source that is true when the variable holds a known value."""
    if attribute.type is AttributeType.REGION:
        met, codes = scope.constant(values.MET_REGIONS), scope.constant(values.REGION_CODES)
        return f"({variable} in {met} or {codes}[{variable}] is not None)"
    if attribute.type not in NUMERIC:
        return f"{variable} is not None"
    least, most = limits(attribute)
    if least is None and most is None:
        return f"{variable} == {variable}"  # all but NaN
    return f"{_below(scope, attribute, least)}{variable}{_above(scope, attribute, most)}"


def _below(scope: Scope, attribute: Attribute, bound: Any, is_open: bool = False) -> str:
    if bound is None:
        return ""
    return f"{_bound(scope, attribute, bound)} {'<' if is_open else '<='} "


def _above(scope: Scope, attribute: Attribute, bound: Any, is_open: bool = False) -> str:
    if bound is None:
        return ""
    return f" {'<' if is_open else '<='} {_bound(scope, attribute, bound)}"


def _bound(scope: Scope, attribute: Attribute, bound: Any) -> str:
    """A number as a float where it is one exactly: held numbers mostly are, and two of a kind are
    compared the fastest."""
    if attribute.type is AttributeType.NUMBER and type(bound) is int and abs(bound) <= 1 << 53:
        bound = float(bound)
    return scope.constant(bound)
