"""Checks of many flags as a few functions: what flags have in common is looked at once.

There are two sets of functions: one for users of whom nothing is remembered and whom no list holds,
which has nothing left of admissions and lists, and one for all others. `huidu.engine.blocks` writes
them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from huidu.engine.blocks import BlockWriter, Outcome, Part, Placed, renewed
from huidu.model import Admission, Answer, Flag
from huidu.turns import Pause

if TYPE_CHECKING:
    from huidu.engine.compile import Compiled

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

    def take(self, made: MadeTogether) -> None:
        """Go on with these functions."""
        self._parts = [part for _, part in made.bare], [part for _, part in made.full]

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


class MadeTogether(msgspec.Struct, frozen=True, gc=False):
    """What was made for the flags of one snapshot, to go on from with the next.

    Attributes:
        flags: at the place of each, the flag itself.
        rests_on: what all of them rest on; see `Compiled.rests_on`.
        reads: names of the attributes that each flag looks at itself.
        bare: what checks those of whom nothing is remembered and whom no list holds.
        full: what checks everybody.
    """

    flags: list[Flag]
    rests_on: tuple[Any, ...]
    reads: dict[str, frozenset[str]]
    bare: list[Placed]
    full: list[Placed]


def compile_together(
    keys: list[str], compiled: Compiled, before: MadeTogether | None, pause: Pause
) -> MadeTogether:
    """The checks of flags.

    Args:
        before: made for an earlier snapshot. Functions all of whose flags are the same objects at
            the same places are made of its functions, without their source.
        pause: called after each flag.
    """
    flags = [compiled.flags[key] for key in keys]
    made = MadeTogether(flags, compiled.rests_on, {}, [], [])
    same: set[int] = set()
    if before is not None and before.rests_on == made.rests_on:
        same = {
            place
            for place, (flag, older) in enumerate(zip(flags, before.flags, strict=False))
            # Prerequisites are asked in their own snapshot.
            if flag is older and not flag.prerequisites
        }
        kept = [keys[place] for place in same if keys[place] in before.reads]
        made.reads.update((key, before.reads[key]) for key in kept)
    for holds, older, parts in (
        (False, before.bare if before else [], made.bare),
        (True, before.full if before else [], made.full),
    ):
        for places, part in older:
            if same.issuperset(places):
                parts.append((places, renewed(part)))
                pause()
        done = {place for places, _ in parts for place in places}
        writer = BlockWriter(compiled.readable, holds=holds)
        for place in sorted(set(range(len(keys))) - done):
            plan = compiled.plan(keys[place])
            if plan.places is not None:
                writer.alone(place, compiled.check_of(keys[place]))
            else:
                writer.flag(place, plan, compiled.needed_by(plan.flag))
                if holds:
                    made.reads[keys[place]] = frozenset(writer.looked_at)
            pause()
        parts += writer.parts(pause)
    return made
