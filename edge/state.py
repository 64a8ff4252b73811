"""What a check server holds in memory: the compiled snapshot, the keys, and what follows.

Everything a check reads hangs on one `World`, made whole and then put in place by one assignment,
so no check ever sees half of a new snapshot. Only `edge.feed` writes here.
"""

from __future__ import annotations

import datetime
from typing import Final

from edge.answers import Rendered, degraded, result_of
from edge.clock import Days, Decisions, Stamps
from edge.context import sayable
from edge.settings import Settings
from huidu.engine import Compiled
from huidu.model import Answer, Attribute, AttributeSource, Flag, Snapshot, User
from huidu.wire import access, profile
from huidu.wire.access import Access, Key, KeyKind

MOST_REMEMBERED: Final = 2_048
"""Entries of each cache by request bytes; a full one is emptied, because refilling is cheap."""

Counts = dict[tuple[str, str], list[int]]
"""How often each result of each flag was given, by flag and result; each count is a list of one."""


class World:
    """One snapshot, ready to answer. Immutable but for its caches."""

    def __init__(
        self, snapshot: Snapshot, compiled: Compiled, version: str, counts: Counts
    ) -> None:
        self._counts = counts
        self.snapshot = snapshot
        self.compiled = compiled
        self.version = version
        self.sequence = snapshot.sequence
        self.published = datetime.datetime.fromisoformat(snapshot.published_at).timestamp()
        self.flags: dict[str, Flag] = {flag.key: flag for flag in snapshot.flags}
        self.client_flags = {key: flag for key, flag in self.flags.items() if flag.client_visible}
        self.attributes: dict[str, Attribute] = {each.name: each for each in snapshot.attributes}
        self.sayable: dict[KeyKind, dict[str, Attribute]] = {
            kind: sayable(snapshot.attributes, kind) for kind in KeyKind
        }
        self.callers_own = frozenset(
            each.name for each in snapshot.attributes if each.source is AttributeSource.CALLER
        )
        self._held: dict[bytes, User] = {}
        self._held_on = datetime.date.min
        self.rendered_by_id: dict[int, Rendered] = {}
        self._degraded: dict[int, tuple[Answer, Answer]] = {}

    def rendered(self, answer: Answer) -> Rendered:
        """The answer's bytes. The engine shares equal answers, so most are made only once."""
        known = self.rendered_by_id.get(id(answer))
        if known is not None:
            return known
        if len(self.rendered_by_id) >= MOST_REMEMBERED:
            self.rendered_by_id.clear()
        # Holding the answer keeps its id from being given to another.
        given = self._counts.setdefault((answer.flag, result_of(answer)), [0])
        made = Rendered(answer, self.flags[answer.flag], self.version, given)
        self.rendered_by_id[id(answer)] = made
        return made

    def degraded(self, answer: Answer) -> Answer:
        """What the answer becomes when the profile could not be read; shared like answers are."""
        known = self._degraded.get(id(answer))
        if known is not None:
            return known[1]
        if len(self._degraded) >= MOST_REMEMBERED:
            self._degraded.clear()
        made = degraded(answer, self.flags[answer.flag])
        self._degraded[id(answer)] = (answer, made)
        return made

    def held(self, record: bytes, today: datetime.date) -> User:
        """What a packed profile says today. An application asks about one user several times.

        Raises:
            ProfileError: the record cannot be read.
        """
        if today != self._held_on or len(self._held) >= MOST_REMEMBERED:
            self._held.clear()
            self._held_on = today
        known = self._held.get(record)
        if known is None:
            known = self._held[record] = profile.user_of(record, "", today, self.attributes)
        return known

    def flags_for(self, kind: KeyKind) -> dict[str, Flag]:
        """The flags a kind of key may ask for."""
        return self.client_flags if kind is KeyKind.CLIENT else self.flags


class State:
    """The memory of one check server."""

    def __init__(self, settings: Settings) -> None:
        self.environment = settings.environment
        self.world: World | None = None
        self.buckets: int | None = None
        """Number of profile hashes; None while unknown, and then no profile can be found."""
        self.stream_secret: bytes = b""
        self.days = Days(settings.day_zone)
        self.decisions = Decisions()
        self.stamps = Stamps()
        self.access_sequence = -1
        self.keys_by_id: dict[int, Key] = {}
        self.generation = 0
        """Grows whenever what was concluded from request bytes may have become wrong."""
        self._keys: dict[str, Key] = {}
        self._tokens: dict[bytes, Key] = {}

    @property
    def ready(self) -> bool:
        """Whether checks can be answered: flags and keys are known."""
        return self.world is not None and self.access_sequence >= 0

    def take_world(self, world: World) -> None:
        self.world = world
        self.generation += 1

    def take_access(self, keys: Access) -> None:
        """Swap the live keys; a revoked one is refused from the next request on."""
        self._keys = {key.digest: key for key in keys.keys}
        self.keys_by_id = {key.id: key for key in keys.keys}
        self._tokens = {}
        self.access_sequence = keys.sequence
        self.generation += 1

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
