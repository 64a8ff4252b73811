"""Checks of many flags as a few functions: what flags have in common is looked at once.

There are two sets of functions: one for users of whom nothing is remembered and whom no list holds,
which has nothing left of admissions and lists, and one for all others. `huidu.engine.blocks` writes
them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from huidu.engine.blocks import BlockWriter, Outcome, Part
from huidu.engine.plan import Plan
from huidu.engine.writer import Check
from huidu.model import Admission, Answer, AttributeSource

Outcomes = tuple[Outcome | None, ...]
"""What flags answer one user: at the place of each flag its own outcome, or None where that of an
earlier one tells its answer too."""


class Checks:
    """The checks of many flags.

    Args:
        keys: the flags.
        bare: what checks those of whom nothing is remembered and whom no list holds.
        full: what checks everybody.
        one_by_one: does the same for each flag alone, and never raises.
    """

    __slots__ = ("_bare", "_full", "_keys", "_nothing", "_one_by_one")

    def __init__(
        self,
        keys: list[str],
        bare: list[Part],
        full: list[Part],
        one_by_one: Callable[..., list[Answer]],
    ) -> None:
        self._keys = keys
        self._bare, self._full = bare, full
        self._one_by_one = one_by_one
        self._nothing: list[Outcome | None] = [None] * len(keys)

    def outcomes(
        self,
        key: str,
        attributes: Mapping[str, Any],
        admissions: Mapping[int, Admission] | None = None,
        lists: frozenset[int] | None = None,
    ) -> Outcomes:
        """What all flags answer the user. Never raises."""
        found = self._nothing.copy()
        try:
            for part in self._full if admissions or lists else self._bare:
                part(key, attributes, admissions, lists, found)
        except Exception:  # one by one, so that it costs only the flag that fails its answer
            answers = self._one_by_one(self._keys, key, attributes, admissions, lists)
            return tuple(Outcome((place,), (each,)) for place, each in enumerate(answers))
        return tuple(found)

    def __call__(
        self,
        key: str,
        attributes: Mapping[str, Any],
        admissions: Mapping[int, Admission] | None = None,
        lists: frozenset[int] | None = None,
    ) -> list[Answer]:
        """What each flag answers the user. Never raises."""
        return answers_of(self.outcomes(key, attributes, admissions, lists))


def answers_of(outcomes: Sequence[Outcome | None]) -> list[Answer]:
    """The answer of each flag."""
    found: list[Any] = [None] * len(outcomes)
    for outcome in outcomes:
        if outcome is not None:
            for place, answer in zip(outcome.places, outcome.answers, strict=True):
                found[place] = answer
    return found


def compile_together(
    keys: list[str],
    plan: Callable[[str], Plan],
    checks: Mapping[str, Check],
    reads: dict[str, frozenset[str]],
    readable: frozenset[AttributeSource],
) -> tuple[list[Part], list[Part]]:
    """The checks of flags: for users of whom nothing is remembered, and for all.

    Args:
        plan: makes a flag ready.
        checks: where the checks of prerequisites are found when they are needed.
        reads: is told the attributes that each flag looks at itself.
    """

    def parts(*, holds: bool) -> list[Part]:
        writer = BlockWriter(readable, holds=holds)
        for place, key in enumerate(keys):
            ready = plan(key)
            writer.flag(place, ready, checks)
            if holds and ready.places is None:
                reads[key] = frozenset(writer.looked_at)
        return writer.parts()

    return parts(holds=False), parts(holds=True)
