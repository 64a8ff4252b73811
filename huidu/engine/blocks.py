"""Writes the checks of many flags: blocks of their own, and before them what they share.

Each flag's source is the one its own check is made of, with every ``return`` turned into the end of
its block. Before the blocks stand the attributes, the classes of regions (flags often share a
policy) and the bytes of the key. Flags that are alike up to their stages share the block of what
comes before, and in it those that are alike to the end (that differ only in the answers they name)
share the rest. Blocks are compiled a few at a time, because compiling holds the interpreter and
checks must go on meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import FunctionType
from typing import Any, Final, cast

import msgspec

from huidu import history
from huidu.engine.plan import Plan, RegionTable
from huidu.engine.source import FlagWriter
from huidu.engine.values import MEMO_LIMIT, Memo, Table
from huidu.engine.writer import Check, Given, Writer, made_of
from huidu.model import Admission, Answer, Attribute, AttributeSource
from huidu.turns import Pause

BLOCKS_AT_ONCE: Final = 8

_HEAD: Final = "def check(key, attributes, admissions, lists, found):"
_TEXT: Final = "    if type(key) is not str: key = text(key)"

_RETURN: Final = re.compile(r"\breturn (.+)")
_ANSWER: Final = re.compile(r"\bA(\d+)\b")
_CONSTANT: Final = re.compile(r"\bc\d+\b")
_WORD: Final = re.compile(r"\w+")
_encode: Final = msgspec.json.Encoder(order="deterministic").encode

Lines = tuple[str, ...]


class Outcome:
    """What flags that are alike answer one user.

    Equal outcomes of one set of functions are mostly one object, so they are compared by identity.

    Attributes:
        places: which of the flags asked about these are, by position.
        answers: theirs, in the same order.
        told, alone: for whoever asks, to keep what was made of the answers, and of the answer where
            there is but one. Not set until then.
    """

    __slots__ = ("alone", "answers", "places", "told")

    alone: Any
    told: Any

    def __init__(self, places: tuple[int, ...], answers: tuple[Answer, ...]) -> None:
        self.places = places
        self.answers = answers


Part = Callable[
    [
        str,
        Mapping[str, Any],
        Mapping[int, Admission] | None,
        frozenset[int] | None,
        list[Outcome | None],
    ],
    None,
]
"""Some of the blocks: key, attributes, admissions or None, lists or None; and the list that takes
each outcome at the first of its places."""

Placed = tuple[tuple[int, ...], Part]
"""Some of the blocks, and the places of the flags they decide for."""


class BlockWriter(Writer):
    """Collects the blocks of flags, and what they share."""

    def __init__(self, readable: frozenset[AttributeSource], *, holds: bool) -> None:
        super().__init__(readable, holds=holds)
        self._shared: list[tuple[str, list[str]]] = []
        """Variables that stand before all blocks, and the lines that set them; a line looks only
        at variables before its own."""
        self._blocks: dict[Lines, dict[tuple[Lines, tuple[type, ...]], list[_Told]]] = {}
        """By source up to the stages, and by source from there (with the kinds of what it answers):
        the flags it decides for."""
        self._told = _Told(0)
        self._class_names: dict[tuple[bytes, str], str] = {}
        self.looked_at: set[str] = set()
        """Names of the attributes the flag that was added last looks at."""

    def flag(self, place: int, plan: Plan, checks: Mapping[str, Check]) -> None:
        """Add a flag, the one at a place of those asked about.

        Args:
            checks: those of its prerequisites.
        """
        told = self._begin(place)
        FlagWriter(plan, checks, self).write()
        self._end(told)

    def alone(self, place: int, check: Check) -> None:
        """Add a flag whose check is no source alone."""
        told = self._begin(place)
        alone = self.constant(_Alone(place).of)
        self.line(f"return {alone}({self.constant(check)}(key, attributes, admissions, lists))")
        self._end(told)

    def _begin(self, place: int) -> _Told:
        self.looked_at = set()
        self.lines = []
        self._stages_from: int | None = None
        self._told = _Told(place)
        return self._told

    def _end(self, told: _Told) -> None:
        end = len(self.lines) if self._stages_from is None else self._stages_from
        kinds = tuple(type(each) for each in told.given)
        alike = self._blocks.setdefault(tuple(self.lines[:end]), {})
        alike.setdefault((tuple(self.lines[end:]), kinds), []).append(told)

    def stages(self) -> None:
        self._stages_from = len(self.lines)

    def answer(self, given: Given) -> str:
        """Alike flags name their answers alike; what they are is filled in for all of them."""
        return f"A{self._told.number(given)}"

    def variable(self, attribute: Attribute) -> str:
        self.looked_at.add(attribute.name)
        return self._before(lambda: super(BlockWriter, self).variable(attribute))

    def days(self, attribute: Attribute) -> str:
        name = self._before(lambda: super(BlockWriter, self).days(attribute))
        if name != "None":
            self.looked_at.add(history.NAME)
        return name

    def identity(self, missing: str) -> None:
        self.line(f"if not key: return {missing}")

    def raw_key(self) -> str:
        return self._before(super().raw_key)

    def region_class(self, table: RegionTable, region: str) -> str:
        """One variable for all tables of equal policies."""
        known = _encode([table.classes, table.regions, table.default]), region
        if known not in self._class_names:
            name = self._class_names[known] = f"class{len(self._class_names)}"
            self._shared.append((name, [f"    {name} = {self.constant(table)}[{region}]"]))
        return self._class_names[known]

    def _before(self, write: Callable[[], str]) -> str:
        """Let a variable be set before all blocks."""
        block, self.lines = self.lines, []
        name = write()
        if self.lines:
            self._shared.append((name, self.lines))
        self.lines = block
        return name

    def parts(self, pause: Pause) -> list[Placed]:
        """The functions, each with the places it decides for. The blocks are used up."""
        made: list[Placed] = []
        few: list[str] = []
        places: list[int] = []
        blocks = 0
        all_blocks = list(self._blocks.items())
        all_blocks.reverse()
        self._blocks = {}
        while all_blocks:
            first, alike = all_blocks.pop()
            waiting = list(alike.items())
            while waiting:
                room = BLOCKS_AT_ONCE - blocks
                taken, waiting = waiting[:room], waiting[room:]
                few += self._block(first, [(rest, flags) for (rest, _), flags in taken])
                places += [flag.place for _, flags in taken for flag in flags]
                blocks += len(taken)
                pause()
                if blocks == BLOCKS_AT_ONCE:
                    made.append((tuple(places), self._part(few, pause)))
                    pause()
                    few, places, blocks = [], [], 0
        if few:
            made.append((tuple(places), self._part(few, pause)))
        return made

    def _block(self, first: Lines, alike: list[tuple[Lines, list[_Told]]]) -> Iterator[str]:
        # A block is left where its flag's own function would return; no other loop holds a return.
        yield "    while True:"
        yield from self._indented(1, first, [flag for _, flags in alike for flag in flags])
        for rest, flags in alike:
            yield "        while True:"
            yield from self._indented(2, rest, flags)
            yield "            break"
        yield "        break"

    def _indented(self, levels: int, lines: Lines, flags: list[_Told]) -> Iterator[str]:
        """Lines of flags that are alike, as they stand in a block."""
        places = tuple(flag.place for flag in flags)
        leave = rf"found[{self.constant(places[0])}] = \1; break"
        names: dict[str, str] = {}

        def outcome(answer: re.Match[str]) -> str:
            if answer[0] not in names:
                names[answer[0]] = self.constant(_outcomes(flags, places, int(answer[1])))
            return names[answer[0]]

        for line in lines:
            yield "    " * levels + _ANSWER.sub(outcome, _RETURN.sub(leave, line))

    def _part(self, lines: list[str], pause: Pause) -> Part:
        needed = set(_WORD.findall("\n".join(lines)))
        for name, setting in reversed(self._shared):
            if name in needed:
                lines[:0] = setting
                needed.update(_WORD.findall("\n".join(setting)))
        # Functions share the names of their objects, so that a thousand flags need not many.
        names: dict[str, str] = {}

        def constant(found: re.Match[str]) -> str:
            return names.setdefault(found[0], f"c{len(names)}")

        lines = [_HEAD, _TEXT, *(_CONSTANT.sub(constant, line) for line in lines)]
        named = {name: self.named[old] for old, name in names.items()}
        pause()
        return made_of(lines, named)  # type: ignore[return-value]


class _Told:
    """What a flag's source answers with, numbered as it is named.

    Attributes:
        place: of the flag.
        given: answers, and tables of answers.
    """

    def __init__(self, place: int) -> None:
        self.place = place
        self.given: list[Given] = []
        self._numbers: dict[int, int] = {}

    def number(self, given: Given) -> int:
        known = self._numbers.get(id(given))
        if known is None:
            known = self._numbers[id(given)] = len(self.given)
            self.given.append(given)  # also keeps its id from being another's
        return known


class _Outcomes(Table[Outcome]):
    """Outcomes of alike flags whose source answers with a table, by what is looked up in it."""

    __slots__ = ("given", "places")

    def __init__(self, places: tuple[int, ...], given: list[Memo[Answer]]) -> None:
        super().__init__()
        self.places = places
        self.given = given

    def make(self, argument: Any) -> Outcome:
        return Outcome(self.places, tuple(each[argument] for each in self.given))


def _outcomes(alike: Iterable[_Told], places: tuple[int, ...], number: int) -> Outcome | _Outcomes:
    """What alike flags answer with, where their source has one name for it."""
    given = [each.given[number] for each in alike]
    if not isinstance(given[0], Memo):
        return Outcome(places, tuple(given))  # type: ignore[arg-type]
    return _Outcomes(places, given)  # type: ignore[arg-type]


class _Alone:
    """Outcomes of a flag whose answers are another function's."""

    def __init__(self, place: int) -> None:
        self.places = (place,)
        self._made: dict[int, Outcome] = {}

    def of(self, answer: Answer) -> Outcome:
        known = self._made.get(id(answer))
        if known is None:
            if len(self._made) >= MEMO_LIMIT:
                self._made.clear()
            # It holds the answer, whose id is then no other's.
            known = self._made[id(answer)] = Outcome(self.places, (answer,))
        return known


def renewed(part: Part) -> Part:
    """The same blocks for another snapshot: nobody has kept anything with their outcomes yet."""
    own = cast("FunctionType", part)
    named = {name: _renewed(each) for name, each in own.__globals__.items()}
    return FunctionType(own.__code__, named)


def _renewed(named: Any) -> Any:
    if isinstance(named, Outcome):
        return Outcome(named.places, named.answers)
    if isinstance(named, _Outcomes):
        return _Outcomes(named.places, named.given)
    owner = getattr(named, "__self__", None)
    return _Alone(*owner.places).of if isinstance(owner, _Alone) else named
