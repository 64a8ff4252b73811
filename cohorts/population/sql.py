"""Rules as SQL over a table of users: SQL's three values are the engine's.

A claim about NULL is NULL, as the engine's claim about an unknown value is unknown, and AND, OR
and NOT of both follow Kleene. So a user matches where the expression is TRUE, and cannot be judged
where it is NULL. Texts from rules never enter the SQL: they travel as parameters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import singledispatchmethod
from typing import Any, Final

from cohorts.population import columns
from huidu.engine import claims, nodes
from huidu.model import Attribute, AttributeType

TRUE: Final = "TRUE"
FALSE: Final = "FALSE"
_NAMED: Final = re.compile(r"\$(p\d+)")


class NotHeld(Exception):  # noqa: N818 (no fault: another way of counting may answer)
    """The table cannot answer this exactly; says what it lacks."""


class Unsayable(NotHeld):
    """No table will ever answer this; the engine does."""


class Users:
    """The columns of a table of users, as expressions."""

    def __init__(self, kept: columns.Kept) -> None:
        self.kept = kept
        self._attributes = {each.name: each for each in kept.attributes}
        self._names = frozenset(kept.types())

    def fact(self, attribute: Attribute) -> str:
        """An attribute's column.

        Raises:
            NotHeld: it was registered, or got another type or range, after the table was made.
        """
        then = self._attributes.get(attribute.name)
        if then is None or (then.type, then.minimum, then.maximum) != (
            attribute.type,
            attribute.minimum,
            attribute.maximum,
        ):
            raise NotHeld(attribute.name)
        return f'"{columns.fact(attribute.name)}"'

    def codes(self, attribute: Attribute) -> list[str]:
        """The region codes that occur, by their numbers."""
        return self.kept.codes.get(attribute.name, [])

    def own(self, name: str) -> str:
        """A column that is no attribute's, such as a draw's; raises `NotHeld`."""
        if name not in self._names:
            raise NotHeld(name)
        return f'"{name}"'

    def remembers(self, slot: int) -> bool:
        """Whether admissions to this rollout are held; if not, there were none."""
        return slot in self.kept.slots


class Terms:
    """Writes rules as expressions over one table, and keeps their parameters."""

    def __init__(self, table: Users) -> None:
        self.table = table
        self._values: dict[str, Any] = {}
        self._names: dict[Any, str] = {}
        self._once: dict[str, str] = {}

    def once(self, expression: str) -> str:
        """A column of `users` that holds the expression, worked out once however often asked."""
        return self._once.setdefault(expression, f"c{len(self._once)}")

    def users(self) -> str:
        """The users with the columns of `once`, for a FROM; call it when all is written."""
        told = "{users}"
        for expression, name in self._once.items():  # a later one may name those before it
            told = f"(SELECT *, {expression} AS {name} FROM {told})"  # noqa: S608
        return told

    def parameter(self, value: Any) -> str:
        if isinstance(value, str) and ("\0" in value or not _is_unicode(value)):
            raise NotHeld("a text that no table can hold")
        identity = (type(value), value)
        if identity not in self._names:
            self._names[identity] = f"p{len(self._names)}"
            self._values[self._names[identity]] = value
        return f"${self._names[identity]}"

    def parameters(self, statement: str) -> dict[str, Any]:
        """Those that a statement names: DuckDB refuses others."""
        return {name: self._values[name] for name in set(_NAMED.findall(statement))}

    def value(self, attribute: Attribute, form: Any) -> str:
        """A rule's constant; raises `NotHeld` where SQL would compare with another number."""
        if isinstance(form, int):
            most = columns.EXACT_FLOATS if attribute.type is AttributeType.NUMBER else 1 << 63
            if not -most < form < most:
                raise NotHeld(f"{attribute.name}: {form}")
            return str(int(form))
        if attribute.type is AttributeType.SEM_VER:
            form = columns.version_key(form)
        return self.parameter(form)

    def one_of(self, subject: str, values: Iterable[str]) -> str:
        """Membership in a set of texts; false for an empty one."""
        named = ", ".join(self.parameter(each) for each in sorted(values))
        return f"{subject} IN ({named})" if named else FALSE

    @singledispatchmethod
    def rule(self, node: nodes.Node) -> str:
        """The rule as an expression that is TRUE, FALSE or NULL.

        Raises:
            NotHeld: the table cannot say.
        """
        raise NotImplementedError(type(node))

    @rule.register
    def _(self, node: nodes.Always) -> str:
        return TRUE

    @rule.register
    def _(self, node: nodes.All) -> str:
        return both([self.rule(each) for each in node.nodes])

    @rule.register
    def _(self, node: nodes.Any_) -> str:
        return either([self.rule(each) for each in node.nodes])

    @rule.register
    def _(self, node: nodes.Not) -> str:
        return f"(NOT {self.rule(node.node)})"

    @rule.register
    def _(self, node: nodes.InCohort) -> str:
        rule = self.rule(node.node)
        if not node.include and not node.exclude:
            return rule
        user = columns.USER
        never = self.one_of(user, node.exclude)
        always = self.one_of(user, node.include)
        return f"(CASE WHEN {never} THEN FALSE WHEN {always} THEN TRUE ELSE {rule} END)"

    @rule.register
    def _(self, leaf: claims.Leaf) -> str:
        claim = self.claim(leaf)
        return f"(NOT {claim})" if leaf.negated else claim

    @singledispatchmethod
    def claim(self, leaf: claims.Leaf) -> str:
        """What a leaf says when it is not negated."""
        raise NotImplementedError(type(leaf))

    @claim.register
    def _(self, leaf: claims.Is) -> str:
        column = self.table.fact(leaf.attribute)
        return f"({column})" if leaf.value else f"(NOT {column})"

    @claim.register
    def _(self, leaf: claims.Range) -> str:
        column = self.table.fact(leaf.attribute)
        parts = []
        for bound, sign in (
            (leaf.low, ">" if leaf.low_open else ">="),
            (leaf.high, "<" if leaf.high_open else "<="),
        ):
            if bound is not None:
                parts.append(f"{column} {sign} {self.value(leaf.attribute, bound)}")
        return both(parts)

    @claim.register
    def _(self, leaf: claims.Hysteresis) -> str:
        raise Unsayable("the daily counts of payments")

    @claim.register
    def _(self, leaf: claims.OneOf) -> str:
        if leaf.attribute.type is AttributeType.REGION:
            return regions(self.table, leaf.attribute, leaf.members.__contains__)
        column = self.table.fact(leaf.attribute)
        values = sorted({self.value(leaf.attribute, each) for each in leaf.members})
        return f"({column} IN ({', '.join(values)}))"

    @claim.register
    def _(self, leaf: claims.Contains) -> str:
        column, needle = self.table.fact(leaf.attribute), self.parameter(leaf.needle)
        holds = "list_contains" if leaf.attribute.type is AttributeType.STRINGS else "contains"
        return f"(CASE WHEN {column} IS NOT NULL THEN {holds}({column}, {needle}) END)"

    @claim.register
    def _(self, leaf: claims.StartsWith) -> str:
        return f"starts_with({self.table.fact(leaf.attribute)}, {self.parameter(leaf.prefix)})"

    @claim.register
    def _(self, leaf: claims.Within) -> str:
        return regions(self.table, leaf.attribute, leaf.holds)


def regions(table: Users, attribute: Attribute, holds: Callable[[str], bool]) -> str:
    """What holds of a user's region: asked once of each code that occurs, looked up by its number.

    NULL for unknown regions.
    """
    column = table.fact(attribute)
    bits = "".join("01"[holds(code)] for code in table.codes(attribute))
    return f"(get_bit('{bits}'::BIT, {column}) = 1)" if bits else "NULL::BOOLEAN"


def both(parts: list[str]) -> str:
    """All of the expressions."""
    return _joined(parts, "AND", FALSE, TRUE)


def either(parts: list[str]) -> str:
    """One of the expressions."""
    return _joined(parts, "OR", TRUE, FALSE)


def _joined(parts: list[str], word: str, settles: str, adds_nothing: str) -> str:
    if settles in parts:
        return settles
    rest = [each for each in parts if each != adds_nothing]
    if not rest:
        return adds_nothing
    return rest[0] if len(rest) == 1 else f"({f' {word} '.join(rest)})"


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
