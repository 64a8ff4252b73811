"""Checks of many flags as a few functions: what flags have in common is looked at once.

Each flag's source is the one its own check is made of, with every ``return`` turned into the end of
its block. Before the blocks stand the attributes, the classes of regions (flags often share a
policy) and the bytes of the key. Flags are taken a few at a time, because compiling holds the
interpreter and checks must go on meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

import msgspec

from huidu import history
from huidu.engine.plan import Plan, RegionTable
from huidu.engine.source import FlagWriter
from huidu.engine.writer import Check, Writer
from huidu.model import Admission, Answer, Attribute, AttributeSource

Checks = Callable[
    [str, Mapping[str, Any], Mapping[int, Admission] | None, frozenset[int] | None], list[Answer]
]
"""The checks of several flags: key, attributes, admissions or None, lists or None."""

T = TypeVar("T")

FLAGS_AT_ONCE: Final = 8

_RETURN: Final = re.compile(r"\breturn (.+)")
_encode: Final = msgspec.json.Encoder(order="deterministic").encode


class SharedWriter(Writer):
    """Collects the blocks of several flags, and before them what they share."""

    def __init__(self, readable: frozenset[AttributeSource]) -> None:
        super().__init__(readable)
        self.line("if type(key) is not str: key = text(key)")
        self._shared = self.lines
        self._blocks: list[str] = []
        self._answers: list[str] = []
        self._class_names: dict[tuple[bytes, str], str] = {}
        self.looked_at: set[str] = set()
        """Names of the attributes the flag that was added last looks at."""

    def flag(self, plan: Plan, checks: Mapping[str, Check]) -> None:
        """Add the block of one flag."""
        self.looked_at = set()
        answer = f"answer{len(self._answers)}"
        self._answers.append(answer)
        self.lines = []
        if plan.places is None:
            FlagWriter(plan, checks, self).write()
        else:  # its check is no source alone
            own = f"{self.constant(checks)}[{self.constant(plan.flag.key)}]"
            self.line(f"return {own}(key, attributes, admissions, lists)")
        # A block is left where its flag's own function would return; no other loop holds a return.
        self._blocks.append("    while True:")
        self._blocks += [
            "    " + _RETURN.sub(lambda found: f"{answer} = {found[1]}; break", line)
            for line in self.lines
        ]
        self._blocks.append("        break")

    def variable(self, attribute: Attribute) -> str:
        self.looked_at.add(attribute.name)
        return self._before(lambda: super(SharedWriter, self).variable(attribute))

    def days(self, attribute: Attribute) -> str:
        name = self._before(lambda: super(SharedWriter, self).days(attribute))
        if name != "None":
            self.looked_at.add(history.NAME)
        return name

    def identity(self, missing: str) -> None:
        self.line(f"if not key: return {missing}")

    def raw_key(self) -> None:
        self._before(super().raw_key)

    def region_class(self, table: RegionTable, region: str) -> str:
        """One variable for all tables of equal policies."""
        known = _encode([table.classes, table.regions, table.default]), region
        if known not in self._class_names:
            self._class_names[known] = f"class{len(self._class_names)}"
            line = f"    {self._class_names[known]} = {self.constant(table)}[{region}]"
            self._shared.append(line)
        return self._class_names[known]

    def _before(self, write: Callable[[], T]) -> T:
        """Let something be written before all blocks."""
        block, self.lines = self.lines, self._shared
        try:
            return write()
        finally:
            self.lines = block

    def functions(self) -> Checks:
        self.lines = [
            *self._shared,
            *self._blocks,
            f"    return [{', '.join(self._answers)}]",
        ]
        return self.function()  # type: ignore[return-value]


def compile_together(
    keys: Iterable[str],
    plan: Callable[[str], Plan],
    checks: Mapping[str, Check],
    reads: dict[str, frozenset[str]],
    readable: frozenset[AttributeSource],
) -> list[Checks]:
    """The checks of flags, a few to a function, in the order of `keys`.

    Args:
        plan: makes a flag ready.
        checks: where the checks of prerequisites are found when they are needed.
        reads: is told the attributes that each flag looks at itself.
    """
    made: list[Checks] = []
    waiting = list(keys)
    while waiting:
        few, waiting = waiting[:FLAGS_AT_ONCE], waiting[FLAGS_AT_ONCE:]
        writer = SharedWriter(readable)
        for key in few:
            ready = plan(key)
            writer.flag(ready, checks)
            if ready.places is None:
                reads[key] = frozenset(writer.looked_at)
        made.append(writer.functions())
    return made
