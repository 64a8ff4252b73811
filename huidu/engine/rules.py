"""Rules: a typed, whitelisted subset of JsonLogic, read once against the attribute registry.

    {}                                                  everybody
    {"and": [rule, ...]}  {"or": [rule, ...]}  {"!": rule}
    {"==": [{"var": "staff"}, true]}                    ==  !=  <  <=  >  >=, either way round
    {"<=": [10, {"var": "weekly_payments"}, 30]}        < and <= also with the attribute between
    {"between": [{"var": "weekly_payments"}, 10, 30]}   both ends included
    {"hysteresis": [{"var": "weekly_payments"}, 20, 15]}   in above 20, out below 15
    {"in": [{"var": "tier"}, ["gold", "silver"]]}       one of
    {"in": ["beta", {"var": "tags"}]}                   a list holds, or a text contains
    {"starts_with": [{"var": "device"}, "iPhone"]}
    {"sem_ver": [{"var": "app_version"}, ">=", "8.0.30"]}
    {"within": [{"var": "region"}, ["440000", "310000"]]}   the region or one of its parents
    {"cohort": "heavy_payers"}
    {"var": "staff"}                                    a boolean attribute by itself

Everything else is refused, with the path of the fault. What comes from a rule is never run as
code: it becomes a tree of `huidu.engine.nodes`, and its constants stay objects.

Source: https://jsonlogic.com/operations.html; ``starts_with`` and ``sem_ver`` as flagd has them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from huidu.engine import leaves
from huidu.engine.claims import WithinTable
from huidu.engine.constants import shown
from huidu.engine.nodes import All, Always, Any_, InCohort, Node, Not
from huidu.errors import RuleError
from huidu.model import Attribute, Cohort

MAX_DEPTH: Final = 24
"""Deepest nesting of one rule, and of a rule together with the cohorts it refers to."""

MAX_NODES: Final = 1_000
"""Most steps of one rule together with the cohorts it refers to."""


def validate(
    rule: Any,
    attributes: Mapping[str, Attribute],
    cohorts: Mapping[str, Cohort],
    *,
    path: str = "rule",
) -> None:
    """Make sure that a rule can be compiled, the cohorts it refers to included.

    Args:
        rule: what somebody wrote, as decoded from JSON.
        attributes: the registry by name; rules may use only these.
        cohorts: by key, as they will be published.
        path: where the rule stands, for messages: ``cohort heavy_payers, rules``.
    Raises:
        RuleError: `path` says where, the message what stood there and what would be right.
    """
    Reader(attributes, cohorts).read(rule, path)


class Reader:
    """Reads many rules against one registry; cohorts are read once and shared."""

    def __init__(self, attributes: Mapping[str, Attribute], cohorts: Mapping[str, Cohort]) -> None:
        self._attributes = attributes
        self._cohorts = cohorts
        self._read_cohorts: dict[str, tuple[InCohort, int, int]] = {}
        self._open_cohorts: list[str] = []
        self._tables: dict[frozenset[str], WithinTable] = {}

    def read(self, rule: Any, path: str) -> Node:
        """The rule as a tree.

        Raises:
            RuleError: see `validate`.
        """
        node, _, _ = self._sized(rule, path)
        return node

    def cohort(self, key: str) -> InCohort:
        """A cohort as a tree.

        Raises:
            RuleError: no such cohort, its rule is wrong, or it refers to itself.
        """
        return self._cohort(key, f"cohort {key}")[0]

    def table(self, codes: frozenset[str]) -> WithinTable:
        """The table of a set of regions; equal sets share one, and what it has learned."""
        return self._tables.setdefault(codes, WithinTable(codes))

    def attribute(self, operand: Any, path: str) -> Attribute:
        """The attribute that ``{"var": name}`` names."""
        name = operand["var"]
        if isinstance(name, list) and len(name) == 1:
            name = name[0]
        if not isinstance(name, str):
            raise RuleError(
                f'expected {{"var": name}} without a default, got {shown(operand)}', path=path
            )
        if name not in self._attributes:
            raise RuleError(
                f"expected a registered attribute, got {shown(name)}", path=f"{path}.{name[:60]}"
            )
        return self._attributes[name]

    def _sized(self, rule: Any, path: str, depth: int = 1) -> tuple[Node, int, int]:
        """The tree, how many nodes it has, and how deep it goes."""
        if depth > MAX_DEPTH:
            raise RuleError(f"expected at most {MAX_DEPTH} levels of nesting", path=path)
        if not isinstance(rule, dict):
            raise RuleError(f"expected a rule, got {shown(rule)}", path=path)
        if not rule:
            return Always(), 1, depth
        if len(rule) != 1:
            raise RuleError(
                f"expected one operator, got {len(rule)}: {shown(sorted(map(str, rule)))}",
                path=path,
            )
        ((operator, arguments),) = rule.items()
        if operator in _MANY:
            return self._many(operator, arguments, path, depth)
        if operator == "!":
            inner = (
                arguments[0] if isinstance(arguments, list) and len(arguments) == 1 else arguments
            )
            node, size, deepest = self._sized(inner, path, depth + 1)
            return Not(node), size + 1, deepest
        if operator == "cohort":
            key = arguments[0] if isinstance(arguments, list) and len(arguments) == 1 else arguments
            cohort, size, levels = self._cohort(key, path)
            if depth + levels > MAX_DEPTH:
                raise RuleError(
                    f"expected at most {MAX_DEPTH} levels of nesting, cohorts included", path=path
                )
            return cohort, size, depth + levels
        return leaves.read(operator, arguments, path, self), 1, depth

    def _many(self, operator: str, arguments: Any, path: str, depth: int) -> tuple[Node, int, int]:
        if not isinstance(arguments, list) or not arguments:
            raise RuleError(
                f'expected a list of one or more rules under "{operator}", got {shown(arguments)}',
                path=path,
            )
        nodes, total, deepest = [], 1, depth
        for index, argument in enumerate(arguments):
            node, size, level = self._sized(argument, f"{path}[{index}]", depth + 1)
            total += size
            if total > MAX_NODES:
                raise RuleError(f"expected at most {MAX_NODES} steps, cohorts included", path=path)
            nodes.append(node)
            deepest = max(deepest, level)
        return _MANY[operator](tuple(nodes)), total, deepest

    def _cohort(self, key: Any, path: str) -> tuple[InCohort, int, int]:
        if not isinstance(key, str) or key not in self._cohorts:
            raise RuleError(f"expected the key of a cohort, got {shown(key)}", path=path)
        if key in self._read_cohorts:
            return self._read_cohorts[key]
        if key in self._open_cohorts:
            circle = " -> ".join([*self._open_cohorts[self._open_cohorts.index(key) :], key])
            raise RuleError(
                f"expected cohorts that do not refer to themselves: {circle}", path=path
            )
        if len(self._open_cohorts) >= MAX_DEPTH:
            raise RuleError(
                f"expected at most {MAX_DEPTH} levels of nesting, cohorts included", path=path
            )
        cohort = self._cohorts[key]
        self._open_cohorts.append(key)
        try:
            node, size, levels = self._sized(cohort.rule, f"cohort {key}, rules")
        finally:
            self._open_cohorts.pop()
        read = InCohort(key, node, cohort.include, cohort.exclude), size + 1, levels
        self._read_cohorts[key] = read
        return read


_MANY: Final[dict[str, Callable[[tuple[Node, ...]], Node]]] = {"and": All, "or": Any_}
