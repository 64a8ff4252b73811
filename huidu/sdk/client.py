"""The local client: the snapshot in this process, a check without any network."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar
from zoneinfo import ZoneInfo

from huidu import reasons
from huidu.engine import Compiled
from huidu.engine.writer import BareCheck
from huidu.model import Answer, AttributeSource
from huidu.sdk import lifecycle
from huidu.sdk.exposures import Exposures
from huidu.sdk.held import HeldFacts
from huidu.sdk.snapshots import Disk, Keeper
from huidu.sdk.transport import Transport, Unreachable
from huidu.sdk.values import NOTHING, Asking, overrides, refusal, shown_or, value_or
from huidu.turns import let_go, taking_turns

logger = logging.getLogger("huidu.sdk")

T = TypeVar("T")

MADE_AHEAD_SECONDS: Final = 0.3
"""So long the functions of flags that were asked for are made before a new snapshot is used; the
others' at their next check. A kill must not wait for them."""

CALLERS: Final = frozenset({AttributeSource.CALLER, AttributeSource.EITHER})


class Client(Asking):
    """Answers checks from memory. Safe to share between threads and to carry over a fork.

    No method raises because of the platform, the network or a flag: what cannot be decided is
    hidden, with reason ``ERROR``, and `value` and `visible` give the caller's own default.

    Args:
        url: the platform's address.
        key: a server key.
        held: also use what the platform holds about a user (payment counts, region, admissions).
            It is fetched at the first check of a user and kept for `held_seconds`, for at most
            `held_limit` users. Without it, only attributes given to the check count.
        cache: a folder for the last good snapshot, so that a start while the platform is away
            answers as before. None keeps none.
        poll_seconds: how often to ask for a new snapshot while the event stream is down.
        stream: listen for changes; without it they arrive with the next poll.
        timeout: seconds for one request.
        start_seconds: how long the constructor waits for a first snapshot, 0 for not at all.
        exposures: report who met the flags that ask for it (`record_on_check`).
        day_zone: the zone whose calendar days the platform counts payments in.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        held: bool = False,
        held_seconds: float = 60.0,
        held_limit: int = 10_000,
        cache: Path | str | None = None,
        poll_seconds: float = 30.0,
        stream: bool = True,
        timeout: float = 2.0,
        start_seconds: float = 5.0,
        exposures: bool = True,
        exposure_seconds: float = 2.0,
        exposure_limit: int = 100_000,
        day_zone: str = "Asia/Shanghai",
    ) -> None:
        self.version: str | None = None
        """Version of the snapshot in use, None before the first."""
        self._ready_checks: dict[str, BareCheck] = {}
        self._current: tuple[Compiled | None, dict[str, BareCheck]] = None, self._ready_checks
        self._zone = ZoneInfo(day_zone)
        self._listeners: list[Callable[[], None]] = []
        self._transport = Transport(url, key, timeout)
        self._held = (
            HeldFacts(self._transport, seconds=held_seconds, limit=held_limit) if held else None
        )
        self._exposures = (
            Exposures(self._transport, every_seconds=exposure_seconds, limit=exposure_limit)
            if exposures
            else None
        )
        self._keeper = Keeper(
            self._transport,
            self._swap,
            self._tell_listeners,
            disk=Disk(Path(cache), url, key) if cache else None,
            # What the platform vouches for is not the caller's to say: with `held` it is fetched.
            readable=frozenset(AttributeSource) if held else CALLERS,
            poll_seconds=poll_seconds,
            stream=stream,
        )
        lifecycle.follow(self)
        if start_seconds and not self.wait(start_seconds):
            logger.warning("sdk.started_without_snapshot error=%s", self._keeper.last_error)

    # Checks

    def check(self, flag: str, user: str, attributes: Mapping[str, Any] = NOTHING) -> Answer:
        """Does `user` see `flag`, and why. Never raises.

        Args:
            attributes: registered attributes by name; what is missing is unknown, which never
                lets anybody pass. Unregistered names are ignored.
        """
        try:
            return self._ready_checks[flag](user, attributes)
        except Exception:  # not made yet, or it failed: the way round says which
            return self._check_slowly(flag, user, attributes)

    def visible(
        self,
        flag: str,
        user: str,
        attributes: Mapping[str, Any] = NOTHING,
        default: bool = False,
    ) -> bool:
        """Whether `user` sees `flag`; `default` when that cannot be decided. Never raises."""
        # Said again, and not with `check`: a call between costs more than half of the floor.
        try:
            answer = self._ready_checks[flag](user, attributes)
        except Exception:
            answer = self._check_slowly(flag, user, attributes)
        # No error is visible.
        return shown_or(answer, default) if default else answer.visible

    def value(self, flag: str, user: str, default: T, attributes: Mapping[str, Any] = NOTHING) -> T:
        """The flag's value for `user`, of the type of `default`; else `default`. Never raises."""
        try:
            answer = self._ready_checks[flag](user, attributes)
        except Exception:
            answer = self._check_slowly(flag, user, attributes)
        return value_or(answer, default)

    # Life

    @property
    def ready(self) -> bool:
        """Whether there is a snapshot to answer from."""
        return self._keeper.ready.is_set()

    @property
    def streaming(self) -> bool:
        """Whether changes arrive at once; else with the next poll."""
        return self._keeper.streaming

    def wait(self, seconds: float) -> bool:
        """Wait for a first snapshot, at most `seconds`: the platform's, else the one on disk."""
        if not self._keeper.attempted.wait(seconds) or not self.ready:
            self._keeper.load_from_disk()
        return self.ready

    def refresh(self) -> bool:
        """Fetch the newest snapshot now; False when the platform cannot be reached."""
        try:
            self._keeper.refresh()
        except Unreachable as error:
            logger.warning("sdk.platform_unreachable error=%s", error)
            return False
        return True

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` after each new snapshot, from a thread of the client."""
        self._listeners.append(listener)

    def flush(self) -> bool:
        """Send the exposures gathered so far; True when all of them are sent."""
        return self._exposures is None or self._exposures.flush()

    def close(self) -> None:
        """Send what is left and stop the threads. Checks go on answering from the last snapshot."""
        self._keeper.stop()
        if self._exposures is not None:
            self._exposures.close()

    def after_fork(self) -> None:
        """Called in a forked child: connections, locks and threads are renewed."""
        self._transport.reopen()
        if self._held is not None:
            self._held.after_fork()
        if self._exposures is not None:
            self._exposures.after_fork()
        self._keeper.after_fork()

    # Inside

    def forget_checks(self) -> None:
        """Make the checks anew when they are next asked for; `huidu.sdk.testing` needs it."""
        compiled, _ = self._current
        self._ready_checks = {}
        self._current = compiled, self._ready_checks

    def _check_slowly(self, flag: str, user: str, attributes: Mapping[str, Any]) -> Answer:
        """A flag's first check on this snapshot, an overridden flag, and whatever went wrong."""
        try:
            # One read: a new snapshot must not get a check of the old one.
            compiled, ready = self._current
            if flag in overrides:
                return overrides[flag]
            if compiled is None:
                return refusal(flag, reasons.SYSTEM_NOT_READY)
            if flag not in compiled.flags:
                return refusal(flag, reasons.FLAG_UNKNOWN)
            check = ready.get(flag) or self._made(compiled, flag)
            answer = check(user, attributes)
            if flag not in overrides:
                ready[flag] = check
        except Unreachable as error:
            logger.warning("sdk.profile_unreachable flag=%s error=%s", flag, error)
            return refusal(flag, reasons.SYSTEM_ERROR)
        except Exception:  # a check answers, whatever happens
            logger.exception("sdk.check_failed flag=%s", flag)
            return refusal(flag, reasons.SYSTEM_ERROR)
        return answer

    def _made(self, compiled: Compiled, flag: str) -> BareCheck:
        """The flag's function, wrapped only in what this client and flag need."""
        if self._held is None:
            check = compiled.bare_check_of(flag)
        else:
            check = _with_held_facts(compiled, flag, self._held, self._zone)
        if self._exposures is not None and compiled.flags[flag].record_on_check:
            check = _recording(check, self._exposures)
        return check

    def _swap(self, compiled: Compiled, before: Compiled | None, version: str) -> None:
        ready: dict[str, BareCheck] = {}
        pause = taking_turns()
        current, checks = self._current
        asked = dict(checks)  # other threads may be adding to it
        # In a child of a process that was in the middle of this, they are another snapshot's.
        unchanged = compiled.unchanged if before is current else frozenset[str]()
        until = time.monotonic() + MADE_AHEAD_SECONDS
        for flag in asked:
            if flag in unchanged:
                ready[flag] = asked[flag]
            elif flag in compiled.flags and time.monotonic() < until:
                with suppress(Exception):  # its first check says what is wrong
                    ready[flag] = self._made(compiled, flag)
                pause()
        self._current = compiled, ready
        self._ready_checks = ready
        for flag in tuple(overrides):  # one that began a moment ago
            ready.pop(flag, None)
        self.version = version
        made = list(asked.values())
        del asked, current, checks
        let_go(made, pause)

    def _tell_listeners(self) -> None:
        for listener in self._listeners:
            try:
                listener()
            except Exception:  # a listener of the application must not stop updates
                logger.exception("sdk.listener_failed")


def _with_held_facts(compiled: Compiled, flag: str, held: HeldFacts, zone: ZoneInfo) -> BareCheck:
    """The flag's check on what the platform holds, and on what the caller may say beside it."""
    check = compiled.check_of(flag)
    registry = {each.name: each for each in compiled.snapshot.attributes}
    sayable = frozenset(name for name, each in registry.items() if each.source in CALLERS)

    def with_held(user: str, attributes: Mapping[str, Any]) -> Answer:
        if not user:
            return check(user, attributes, None, None)
        known = held.user(user, datetime.now(zone).date(), registry)
        facts = dict(known.attributes)
        facts.update((name, attributes[name]) for name in sayable.intersection(attributes))
        return check(user, facts, known.admissions, known.lists)

    return with_held


def _recording(check: BareCheck, exposures: Exposures) -> BareCheck:
    """`check`, with a note of who was shown the flag, or passed everything and was not drawn."""

    def recording(user: str, attributes: Mapping[str, Any]) -> Answer:
        answer = check(user, attributes)
        if answer.visible or answer.why in reasons.CONTROL:
            exposures.add(answer.flag, answer.stage, user)
        return answer

    return recording
