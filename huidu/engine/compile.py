"""From a snapshot to answers: validated as a whole at once, compiled flag by flag when asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from huidu.engine import answers, soundness
from huidu.engine.plan import Plan, plan_of
from huidu.engine.rules import Reader
from huidu.engine.source import compile_bare, compile_flag, written
from huidu.engine.together import Checks, MadeTogether, compile_together
from huidu.engine.writer import BareCheck, Check, Writer
from huidu.errors import HuiduError, SnapshotError
from huidu.model import Admission, Answer, AttributeSource, Flag, Snapshot, User
from huidu.turns import Pause, no_pause

if TYPE_CHECKING:
    from huidu.engine.explain import Explanation

EVERY_SOURCE: Final = frozenset(AttributeSource)


def compile_snapshot(
    snapshot: Snapshot,
    *,
    readable: frozenset[AttributeSource] = EVERY_SOURCE,
    before: Compiled | None = None,
    pause: Pause = no_pause,
) -> Compiled:
    """Make a snapshot answer checks.

    Everything is validated now, so a poisoned snapshot is refused as a whole; the code of a flag
    is made at its first check (about a millisecond), so that swapping snapshots never holds the
    process. `Compiled.warm` makes it ahead of time.

    Args:
        snapshot: what was published.
        readable: attributes of other sources count as unknown, whatever a check is told about
            them. A client that holds no facts itself must not let a caller assert them.
        before: the snapshot this one follows. Flags that are the same objects in both are neither
            validated nor made again; see `Compiled.unchanged`.
        pause: called after each flag, for who makes snapshots ready while checks go on.
    Raises:
        RuleError: a rule cannot be read; the path says where.
        SnapshotError: the snapshot contradicts itself; the path says where.
    """
    try:
        return Compiled(snapshot, readable, before, pause)
    except HuiduError:
        raise
    except Exception as error:  # a struct that was never checked against its types
        raise SnapshotError(f"expected a snapshot of the right types: {error!r}") from error


class Compiled:
    """One snapshot, ready. Safe to share between threads; swap the reference to publish.

    Attributes:
        snapshot: what was compiled.
        kept: what explanations made of it and ask for again; checks keep nothing here.
        unchanged: flags whose checks answer as those of the snapshot before; without prerequisites.
    """

    __slots__ = (
        "__weakref__",
        "_attributes",
        "_checks",
        "_flags",
        "_readable",
        "_reader",
        "_reads",
        "kept",
        "snapshot",
        "unchanged",
    )

    def __init__(
        self,
        snapshot: Snapshot,
        readable: frozenset[AttributeSource] = EVERY_SOURCE,
        before: Compiled | None = None,
        pause: Pause = no_pause,
    ) -> None:
        self.snapshot = snapshot
        self._readable = readable
        soundness.check_attributes(snapshot.attributes)
        self._attributes = {each.name: each for each in snapshot.attributes}
        soundness.check_cohorts(snapshot.cohorts)
        self._reader = Reader(self._attributes, {each.key: each for each in snapshot.cohorts})
        for cohort in snapshot.cohorts:
            self._reader.cohort(cohort.key)
            pause()
        self._flags = {each.key: each for each in snapshot.flags}
        pause()
        self.unchanged = self._unchanged_since(before)
        pause()
        soundness.check_flags(snapshot.flags, self._attributes, sound=self.unchanged, pause=pause)
        for key in self._flags.keys() - self.unchanged:
            self.plan(key)  # refuses what cannot be compiled; made again when it is
            pause()
        # Those made so far. A plain dictionary, for which Python has a shortcut.
        self._checks: dict[str, Check] = {}
        self._reads: dict[str, frozenset[str]] = {}
        self.kept: dict[Any, Any] = {}
        if before is not None:
            self._take_over(before, pause)

    def _unchanged_since(self, before: Compiled | None) -> frozenset[str]:
        """Keys of flags that are the same, and all they rest on with them."""
        if before is None or self.rests_on != before.rests_on:
            return frozenset()
        # A check asks those of its prerequisites in its own snapshot.
        return frozenset(
            key
            for key, flag in self._flags.items()
            if before._flags.get(key) is flag and not flag.prerequisites
        )

    def _take_over(self, before: Compiled, pause: Pause) -> None:
        """Go on with the functions that were made for flags that did not change."""
        for key in self.unchanged:
            check = before._checks.get(key)
            if check is not None:
                self._checks[key], self._reads[key] = check, before._reads[key]
            pause()

    def evaluate(
        self,
        flag_key: str,
        key: str,
        attributes: Mapping[str, Any],
        admissions: Mapping[int, Admission] | None = None,
        lists: frozenset[int] | None = None,
    ) -> Answer:
        """The check without a `User`: the shortest way to an answer. Never raises.

        Args:
            flag_key: the flag asked for.
            key: the targeting key.
            attributes: by name, best a plain dictionary; what is missing is unknown.
            admissions: by rollout slot, as in `User`; None: nothing is remembered.
            lists: numbers of the big lists that hold the user; None: none does.
        """
        try:
            return self._checks[flag_key](key, attributes, admissions, lists)
        except Exception:
            return self._first_answer(flag_key, key, attributes, admissions, lists)

    def evaluate_all(
        self,
        flag_keys: Iterable[str],
        key: str,
        attributes: Mapping[str, Any],
        admissions: Mapping[int, Admission] | None = None,
        lists: frozenset[int] | None = None,
    ) -> list[Answer]:
        """`evaluate` for many flags, without a call between. Never raises."""
        checks = self._checks
        found: list[Answer] = []
        add = found.append
        for flag_key in flag_keys:
            try:
                add(checks[flag_key](key, attributes, admissions, lists))
            except Exception:
                add(self._first_answer(flag_key, key, attributes, admissions, lists))
        return found

    def together(self, flag_keys: Iterable[str]) -> Checks:
        """`evaluate_all` for flags that are asked again and again: half of its time. Never raises.

        Making it takes about twice as long as making the checks of the flags.
        """
        checks = self.apart(flag_keys)
        self.put_together(checks)
        return checks

    def apart(self, flag_keys: Iterable[str]) -> Checks:
        """The same before it is made: it answers at once, each flag on its own."""
        return Checks(list(flag_keys), self.evaluate_all)

    def put_together(
        self, checks: Checks, pause: Pause = no_pause, before: MadeTogether | None = None
    ) -> MadeTogether:
        """Make what `apart` did not; `pause` is called after each flag.

        Args:
            before: what was made for the same keys of an earlier snapshot. Only what changed since
                is made, and with it those flags that share a function with a flag that changed.
        """
        made = compile_together(checks.keys, self, before, pause)
        self._reads.update(made.reads)
        checks.take(made)
        return made

    def check(self, flag_key: str, user: User) -> Answer:
        """What the flag answers this user. Never raises."""
        try:
            told = user.key, user.attributes, user.admissions, user.lists
        except Exception:
            return self._without_answer(flag_key)
        return self.evaluate(flag_key, *told)

    def _first_answer(self, flag_key: str, *user: Any) -> Answer:
        """What a flag answers whose check is not made yet, or failed, or is asked of no flag."""
        try:
            if flag_key in self._flags and flag_key not in self._checks:
                return self.check_of(flag_key)(*user)
        except Exception:
            return self._without_answer(flag_key)
        return self._without_answer(flag_key)

    def _without_answer(self, flag_key: str) -> Answer:
        try:
            if flag_key not in self._flags:
                return answers.unknown_flag(flag_key)
            return answers.failed(flag_key, self._flags[flag_key])
        except Exception:  # not even a key: it cannot be looked up
            return answers.failed(str(type(flag_key)), None)

    def parts(self) -> list[Any]:
        """What this holds, piece by piece, for who lets go of it; see `huidu.turns.let_go`."""
        snapshot = self.snapshot
        made = list(self._checks.values())
        return [*snapshot.cohorts, *snapshot.flags, *made, *self.kept.values()]

    @property
    def flags(self) -> Mapping[str, Flag]:
        """The flags by key."""
        return self._flags

    def plan(self, flag_key: str) -> Plan:
        """A flag made ready; the check and the explanation are both made from it."""
        return plan_of(self._flags[flag_key], self._reader, self._attributes, self._readable)

    def kept_plan(self, flag_key: str) -> Plan:
        """`plan`, made once: an explanation and its counterfactuals walk it dozens of times."""
        plan: Plan | None = self.kept.get(flag_key)
        if plan is None:
            plan = self.kept[flag_key] = self.plan(flag_key)
        return plan

    def explain(self, flag_key: str, user: User) -> Explanation:
        """Every step of a check, not only up to the first refusal. Never raises."""
        from huidu.engine.explain import explain

        return explain(self, flag_key, user)

    def warm(self, flag_keys: Iterable[str] | None = None) -> None:
        """Make the code of these flags (of all, if none are named) before they are asked."""
        for key in self._flags if flag_keys is None else flag_keys:
            self.check_of(key)

    def check_of(self, flag_key: str) -> Check:
        """The flag's own function, for callers who keep it: (key, attributes, admissions, lists).

        It is good for this snapshot only, and unlike `evaluate` it may raise.

        Raises:
            KeyError: the snapshot has no such flag.
        """
        check = self._checks.get(flag_key)
        if check is None:
            plan = self.plan(flag_key)
            # Two threads may both compile; they make the same function, and either may stay.
            check, self._reads[flag_key] = compile_flag(plan, self.needed_by(plan.flag))
            self._checks[flag_key] = check
        return check

    def needed_by(self, flag: Flag) -> dict[str, Check]:
        """The checks of a flag's prerequisites, which its own asks. It holds them itself: through
        this object it would hold all others, itself among them, and none would ever be let go but
        by the garbage collector."""
        return {needed.flag: self.check_of(needed.flag) for needed in flag.prerequisites}

    def bare_check_of(self, flag_key: str) -> BareCheck:
        """`check_of` for callers who hold nothing about users: (key, attributes).

        It answers as `check_of` does to no admissions and no lists, sooner. It is made anew at each
        call and kept by the caller.

        Raises:
            KeyError: the snapshot has no such flag.
        """
        plan = self.plan(flag_key)
        return compile_bare(plan, self.needed_by(plan.flag))

    @property
    def rests_on(self) -> tuple[Any, ...]:
        """What all flags rest on: equal flags that rest on the same answer alike."""
        return self._readable, self.snapshot.attributes, self.snapshot.cohorts

    @property
    def readable(self) -> frozenset[AttributeSource]:
        """Sources whose attributes checks look at."""
        return self._readable

    def write(self, flag_key: str, writer: Writer) -> bool:
        """Let a writer have a flag's check, so that it takes facts from elsewhere.

        Returns:
            False, and nothing is written, where the check asks other functions, of prerequisites
            or of places, which know attributes only.
        """
        plan = self.plan(flag_key)
        if plan.places is not None or plan.flag.prerequisites:
            return False
        written(plan, {}, writer)
        return True

    def reads(self, flag_keys: Iterable[str]) -> frozenset[str]:
        """Names of all attributes that checks of these flags may look at.

        Whoever reads facts from somewhere need not read others: no answer depends on them.
        """
        found: frozenset[str] = frozenset()
        seen: set[str] = set()
        open_keys = list(flag_keys)
        while open_keys:
            key = open_keys.pop()
            if key not in seen:
                seen.add(key)
                if key not in self._reads:
                    self.check_of(key)
                found |= self._reads[key]
                open_keys += [needed.flag for needed in self._flags[key].prerequisites]
        return found
