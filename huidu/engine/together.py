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
from huidu.turns import Pause

Outcomes = tuple[Outcome | None, ...]
"""What flags answer one user: at the place of each flag its own outcome, or None where that of an
earlier one tells its answer too."""


class Checks:
    """The checks of many flags: each on its own at first, together once `take` has the functions.

    Args:
        keys: the flags.
        one_by_one: checks each flag alone, and never raises.
    Attributes:
        are_together: whether `take` was called.
    """

    __slots__ = ("_nothing", "_one_by_one", "_parts", "keys")

    def __init__(self, keys: list[str], one_by_one: Callable[..., list[Answer]]) -> None:
        self.keys = keys
        self._one_by_one = one_by_one
        self._nothing: list[Outcome | None] = [None] * len(keys)
        self._parts: tuple[list[Part], list[Part]] | None = None

    @property
    def are_together(self) -> bool:
        return self._parts is not None

    def take(self, bare: list[Part], full: list[Part]) -> None:
        """Go on with these functions.

        Args:
            bare: what checks those of whom nothing is remembered and whom no list holds.
            full: what checks everybody.
        """
        self._parts = bare, full

    def parts(self) -> list[Part]:
        """The functions, for who lets go of them; see `huidu.turns.let_go`."""
        return [] if self._parts is None else [*self._parts[0], *self._parts[1]]

    def outcomes(
        self,
        key: str,
        attributes: Mapping[str, Any],
        admissions: Mapping[int, Admission] | None = None,
        lists: frozenset[int] | None = None,
    ) -> Outcomes:
        """What all flags answer the user. Never raises."""
        parts = self._parts
        if parts is None:
            return self._apart(key, attributes, admissions, lists)
        found = self._nothing.copy()
        try:
            for part in parts[1 if admissions or lists else 0]:
                part(key, attributes, admissions, lists, found)
        except Exception:  # one by one, so that it costs only the flag that fails its answer
            return self._apart(key, attributes, admissions, lists)
        return tuple(found)

    def _apart(self, *user: Any) -> Outcomes:
        answers = self._one_by_one(self.keys, *user)
        return tuple(Outcome((place,), (each,)) for place, each in enumerate(answers))

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
    check_of: Callable[[str], Check],
    reads: dict[str, frozenset[str]],
    readable: frozenset[AttributeSource],
    pause: Pause,
) -> tuple[list[Part], list[Part]]:
    """The checks of flags: for users of whom nothing is remembered, and for all.

    Args:
        plan: makes a flag ready.
        check_of: makes a flag's own check.
        reads: is told the attributes that each flag looks at itself.
        pause: called after each flag.
    """

    def parts(*, holds: bool) -> list[Part]:
        writer = BlockWriter(readable, holds=holds)
        for place, key in enumerate(keys):
            ready = plan(key)
            if ready.places is not None:
                writer.alone(place, check_of(key))
            else:
                needed = {each.flag: check_of(each.flag) for each in ready.flag.prerequisites}
                writer.flag(place, ready, needed)
                if holds:
                    reads[key] = frozenset(writer.looked_at)
            pause()
        return writer.parts(pause)

    return parts(holds=False), parts(holds=True)
