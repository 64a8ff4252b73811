"""What a check server holds in memory: the compiled snapshot, the keys, and what follows.

Everything a check reads hangs on one `World`, made whole and then put in place by one assignment,
so no check ever sees half of a new snapshot. Only `edge.feed` writes here.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from edge.answers import Rendered, Together, degraded, result_of
from edge.clock import Decisions, Moment, Stamps
from edge.context import sayable
from edge.places import PlaceGate
from edge.profiles import Commands
from edge.settings import Settings
from huidu import history
from huidu.engine import Compiled
from huidu.engine.together import Checks, MadeTogether, Outcomes
from huidu.model import Answer, Attribute, AttributeSource, Flag, Snapshot
from huidu.turns import Pause, let_go
from huidu.wire import access, packed
from huidu.wire.access import Access, Key, KeyKind
from huidu.wire.facts import BUILT_IN, Reading
from huidu.wire.packed import PackedCheck

MOST_REMEMBERED: Final = 2_048
"""Entries of each cache by request bytes; a full one is emptied, because refilling is cheap."""

ANSWERS_PER_FLAG: Final = 8
"""So many answers of each flag are remembered at least: asking for all flags must not empty the
cache it is filling."""

MOST_PLANS: Final = 8_192
MOST_TOGETHER: Final = 128
"""Whole bodies of bulk answers that are kept; a hundred flags make some twenty kilobytes."""

MOST_READINGS: Final = 1_024
"""Different sets of facts that worlds which follow each other remember how to read. Flags come and
go for years; past this the next world begins anew."""

T = TypeVar("T")

Counts = dict[tuple[str, str], list[int]]
"""How often each result of each flag was given, by flag and result; each count is a list of one."""


if TYPE_CHECKING:
    from edge.requests import Head, Plan


class World:
    """One snapshot, ready to answer. Immutable but for its caches."""

    def __init__(
        self,
        snapshot: Snapshot,
        compiled: Compiled,
        version: str,
        counts: Counts,
        blob: bytes = b"",
    ) -> None:
        self._counts = counts
        self.snapshot = snapshot
        self.compiled = compiled
        self.version = version
        self.blob = blob
        """The snapshot as it was published."""
        self.sequence = snapshot.sequence
        self.published = datetime.datetime.fromisoformat(snapshot.published_at).timestamp()
        self.flags: dict[str, Flag] = {flag.key: flag for flag in snapshot.flags}
        self._most = max(MOST_REMEMBERED, ANSWERS_PER_FLAG * len(self.flags))
        """Entries of each cache by answer."""
        self.client_flags = {key: flag for key, flag in self.flags.items() if flag.client_visible}
        self.attributes: dict[str, Attribute] = {each.name: each for each in snapshot.attributes}
        self.sayable: dict[KeyKind, dict[str, Attribute]] = {
            kind: sayable(snapshot.attributes, kind) for kind in KeyKind
        }
        held = [each for each in snapshot.attributes if each.source is not AttributeSource.CALLER]
        self.custom_names = {each.id: each.name for each in held}
        """Attributes that profiles hold beyond the built-in ones, by slot."""
        self._unheld = BUILT_IN.intersection(self.attributes) - {each.name for each in held}
        """Built-in facts that the registry has made the caller's own: a value held under that name
        is an accident of an older registry and does not count."""
        self._readings: dict[frozenset[str], Reading] = {}
        self._reading_of: dict[str, Reading] = {}
        self._packed_of: dict[str, list[PackedCheck | None]] = {}
        self._reading_for: dict[KeyKind, Reading] = {}
        self.checks_for: dict[KeyKind, Checks] = {}
        """The checks of all flags, for the kinds of keys that asked for them; see `evaluate_for`.
        """
        self._last_together: dict[KeyKind, MadeTogether] = {}
        """What was made last for each kind, of this snapshot or an earlier one; all worlds that
        follow each other share it."""
        self.when_asked: Callable[[World], None] = lambda _: None
        """Called when a kind asks for the first time; see `put_together`."""
        self.rendered_by_id: dict[int, Rendered] = {}
        self._together: dict[tuple[int, ...] | Outcomes, Together] = {}
        self._place_gates: dict[str, PlaceGate] = {}
        self._degraded: dict[int, tuple[Answer, Answer]] = {}

    def reading_of(self, flag: str) -> Reading:
        """What reads the held facts that checks of this flag look at."""
        known = self._reading_of.get(flag)
        if known is None:
            known = self._reading_of[flag] = self._reading([flag])
        return known

    def packed_of(self, flag: str) -> list[PackedCheck | None]:
        """What checks a flag by a record's first byte, where its caller says nothing."""
        known = self._packed_of.get(flag)
        if known is None:
            names = self.compiled.reads([flag]) - self._unheld
            known = self._packed_of[flag] = packed.check_of(self.compiled, flag, names)
        return known

    def take_over(self, before: World) -> None:
        """Go on with what was made for flags that did not change."""
        made = dict(before._packed_of)
        self._packed_of.update(
            (flag, made[flag]) for flag in self.compiled.unchanged if flag in made
        )
        self._last_together = before._last_together
        if self.custom_names == before.custom_names and len(before._readings) < MOST_READINGS:
            self._readings = before._readings
        for kind in list(before.checks_for):  # whoever asked will ask again
            self.evaluate_for(kind)

    def parts(self) -> list[Any]:
        """What this holds, piece by piece, for who lets go of it; see `huidu.turns.let_go`."""
        return [
            *self.compiled.parts(),
            *self.rendered_by_id.values(),
            *self._together,
            *self._together.values(),
            *self._packed_of.values(),
            *self._degraded.values(),
            *(part for checks in self.checks_for.values() for part in checks.parts()),
        ]

    def evaluate_for(self, kind: KeyKind) -> Checks:
        """The checks of all flags that a kind of key may ask for."""
        known = self.checks_for.get(kind)
        if known is None:
            known = self.checks_for[kind] = self.compiled.apart(self.flags_for(kind))
            self.when_asked(self)
        return known

    @property
    def is_together(self) -> bool:
        """Whether what `put_together` makes is made for all kinds of keys that asked."""
        return all(checks.are_together for checks in list(self.checks_for.values()))

    def put_together(self, pause: Pause) -> None:
        """Make the checks of all flags quick for the kinds of keys that asked for them. It takes
        seconds for a thousand flags, so it is done in a thread; until then, checks of all flags
        check one after the other, and read all that profiles hold."""
        for kind, checks in list(self.checks_for.items()):
            if not checks.are_together:
                before = self._last_together.get(kind)
                made = self.compiled.put_together(checks, pause, before)
                self._last_together[kind] = made
                if before is not None:
                    let_go(before.bare, pause)
                    let_go(before.full, pause)
            self._reading_for[kind] = self._reading(self.flags_for(kind))

    def reading_for(self, kind: KeyKind) -> Reading:
        """What reads those that checks of all flags look at which a kind of key may ask for."""
        known = self._reading_for.get(kind)
        if known is None:
            known = self._reading_known(frozenset({*self.attributes, history.NAME}))
        return known

    def _reading(self, flags: Iterable[str]) -> Reading:
        return self._reading_known(self.compiled.reads(flags))

    def _reading_known(self, names: frozenset[str]) -> Reading:
        names -= self._unheld
        return self._readings.setdefault(names, Reading(names, self.custom_names))

    def rendered(self, answer: Answer) -> Rendered:
        """The answer's bytes. The engine shares equal answers, so most are made only once."""
        known = self.rendered_by_id.get(id(answer))
        if known is not None:
            return known
        if len(self.rendered_by_id) >= self._most:
            self.rendered_by_id.clear()
        # Holding the answer keeps its id from being given to another.
        given = self._counts.setdefault((answer.flag, result_of(answer)), [0])
        made = Rendered(answer, self.flags[answer.flag], self.version, given)
        self.rendered_by_id[id(answer)] = made
        return made

    def together(self, answers: list[Answer]) -> Together:
        """The answers of all flags as one body; made only once for those who get the same."""
        ids = tuple(map(id, answers))
        known = self._together.get(ids)
        if known is None:
            known = self._made_together(ids, [self.rendered(each) for each in answers])
        return known

    def together_of(self, outcomes: Outcomes) -> Together:
        """The same, for what checks of many flags came to."""
        known = self._together.get(outcomes)
        if known is None:
            try:
                told = [each.alone for each in outcomes]  # type: ignore[union-attr]
            except AttributeError:  # one of them tells of many flags, or is new
                told = self._told(outcomes)
            known = self._made_together(outcomes, told)
        return known

    def _told(self, outcomes: Outcomes) -> list[Rendered]:
        told: list[Any] = [None] * len(outcomes)
        for one in outcomes:
            if one is None:
                continue
            try:
                rendered = one.told
            except AttributeError:
                rendered = one.told = [self.rendered(each) for each in one.answers]
                if len(rendered) == 1:
                    one.alone = rendered[0]
            for place, each in zip(one.places, rendered, strict=True):
                told[place] = each
        return told

    def _made_together(
        self, known_by: tuple[int, ...] | Outcomes, answers: list[Rendered]
    ) -> Together:
        if len(self._together) >= MOST_TOGETHER:
            self._together.clear()
        made = self._together[known_by] = Together(answers)
        return made

    def place_gate(self, flag: Flag) -> PlaceGate:
        """The capacity gate of a flag that has one."""
        known = self._place_gates.get(flag.key)
        if known is None:
            known = self._place_gates[flag.key] = PlaceGate(self, flag)
        return known

    def degraded(self, answer: Answer) -> Answer:
        """What the answer becomes when the profile could not be read; shared like answers are."""
        known = self._degraded.get(id(answer))
        if known is not None:
            return known[1]
        if len(self._degraded) >= self._most:
            self._degraded.clear()
        made = degraded(answer, self.flags[answer.flag])
        self._degraded[id(answer)] = (answer, made)
        return made

    def flags_for(self, kind: KeyKind) -> dict[str, Flag]:
        """The flags a kind of key may ask for."""
        return self.client_flags if kind is KeyKind.CLIENT else self.flags


class State:
    """The memory of one check server."""

    def __init__(self, settings: Settings) -> None:
        self.environment = settings.environment
        self.world: World | None = None
        self.commands: Commands | None = None
        """How profiles are read; None while their place is unknown, and then none can be found."""
        self.stream_secret: bytes = b""
        self.moment = Moment(settings.day_zone)
        self.decisions = Decisions()
        self.stamps = Stamps()
        self.access_sequence = -1
        self.keys_by_id: dict[int, Key] = {}
        self.generation = 0
        """Grows whenever what was concluded from request bytes may have become wrong."""
        self.plans: dict[bytes, Plan] = {}
        """What a whole head of a request means, by its bytes; see `edge.protocol`."""
        self.heads: dict[bytes, Head] = {}
        """What its header lines mean, for requests whose first line is never twice the same."""
        self._keys: dict[str, Key] = {}
        self._tokens: dict[bytes, Key] = {}

    @property
    def ready(self) -> bool:
        """Whether checks can be answered: flags and keys are known."""
        return self.world is not None and self.access_sequence >= 0

    def take_world(self, world: World) -> None:
        self.world = world
        self.forget()

    def take_access(self, keys: Access) -> None:
        """Swap the live keys; a revoked one is refused from the next request on."""
        self._keys = {key.digest: key for key in keys.keys}
        self.keys_by_id = {key.id: key for key in keys.keys}
        self._tokens = {}
        self.access_sequence = keys.sequence
        self.forget()

    def take_buckets(self, buckets: int | None) -> None:
        """Swap the number of profile hashes."""
        self.commands = None if buckets is None else Commands(buckets)
        self.forget()

    def remember(self, where: dict[bytes, T], text: bytes, meaning: T) -> None:
        """Remember what was concluded from request bytes, for as long as it holds."""
        if len(where) >= MOST_PLANS:
            where.clear()
        where[text] = meaning

    def forget(self) -> None:
        """Forget what was concluded from request bytes."""
        self.generation += 1
        self.plans.clear()
        self.heads.clear()

    def key_of(self, token: bytes) -> Key | None:
        """The live key with this text.

        Only tokens of live keys are remembered, so strangers cannot fill the memory. Looking a
        secret up by its SHA-256 tells a stranger's stopwatch nothing about the secret.
        """
        known = self._tokens.get(token)
        if known is not None:
            return known
        try:
            key = self._keys.get(access.digest(token.decode("ascii")))
        except UnicodeDecodeError:
            return None
        if key is not None:
            if len(self._tokens) >= MOST_REMEMBERED:
                self._tokens.clear()
            self._tokens[token] = key
        return key
