"""Keeps children running: starts them again when they die, stops them in order.

One thread, woken by signals. A child that dies is started again after a pause that doubles with
each death and is forgotten once the child has stayed up for a while.
"""

from __future__ import annotations

import contextlib
import select
import signal
import socket
import time
from collections.abc import Callable, Sequence
from types import FrameType, TracebackType

from local.child import Child, how_it_ended
from local.processes import Register

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
HEALTHY_AFTER = 30.0
LOG_CHECK_SECONDS = 10.0
WORDS_SHOWN = 6
HURRIED_GRACE = 3.0
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Backoff:
    """How long to wait before a dead child is started again, in seconds."""

    def __init__(
        self,
        first: float = FIRST_PAUSE,
        longest: float = LONGEST_PAUSE,
        healthy_after: float = HEALTHY_AFTER,
    ) -> None:
        self.first = first
        self.longest = longest
        self.healthy_after = healthy_after
        self.deaths = 0

    def pause_after(self, lived: float) -> float:
        """Note a death after `lived` seconds; returns the pause before the next start."""
        self.deaths = 1 if lived >= self.healthy_after else self.deaths + 1
        return min(self.longest, self.first * 2.0 ** min(self.deaths - 1, 30))


class Signals:
    """Signals as something to wait for. `stops` counts the requests to stop."""

    def __init__(self) -> None:
        self.stops = 0
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._before: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}

    def __enter__(self) -> Signals:
        for signum in STOPPING:
            self._before[signum] = signal.signal(signum, self._note_stop)
        # Without a handler of Python's a SIGCHLD would wake nobody.
        self._before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        signal.set_wakeup_fd(-1)
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
        self._reader.close()
        self._writer.close()

    def wait(self, seconds: float) -> None:
        """Return when a signal arrived or `seconds` have passed."""
        select.select([self._reader], [], [], max(0.0, seconds))
        with contextlib.suppress(BlockingIOError):
            while self._reader.recv(4096):
                pass

    def _note_stop(self, signum: int, frame: FrameType | None) -> None:
        self.stops += 1


class Watched:
    """A child with the state of its restarts."""

    def __init__(self, child: Child, backoff: Backoff) -> None:
        self.child = child
        self.backoff = backoff
        self.started_at = 0.0
        self.due_at: float | None = None
        self.deaths = 0


class Supervisor:
    """The running children of one home.

    Args:
        signals: the entered signals of this process.
        register: where children are recorded for the next start's sweep.
        say: prints one line for people.
        backoff: makes the restart policy of each child.
    """

    def __init__(
        self,
        signals: Signals,
        register: Register,
        say: Callable[[str], None],
        backoff: Callable[[], Backoff] = Backoff,
    ) -> None:
        self.signals = signals
        self.register = register
        self.say = say
        self._backoff = backoff
        self._watched: dict[str, Watched] = {}
        self._logs_at = 0.0

    def start(self, child: Child) -> None:
        """Start a child and keep it running from now on."""
        watched = Watched(child, self._backoff())
        self._watched[child.name] = watched
        self._spawn(watched)

    def deaths(self, child: Child) -> int:
        """How often a child has died since it was started first."""
        return self._watched[child.name].deaths

    def wait(self, seconds: float) -> None:
        """Sleep up to `seconds`, or until a signal; then see to the children."""
        now = time.monotonic()
        due = [watched.due_at for watched in self._watched.values() if watched.due_at is not None]
        self.signals.wait(min([seconds, *(at - now for at in due)]))
        self._look_after()

    def run(self) -> None:
        """Keep all children running until somebody asks to stop."""
        while not self.signals.stops:
            self.wait(LOG_CHECK_SECONDS)

    def stop(self, phases: Sequence[Sequence[str]], hurried: Sequence[str] = ()) -> None:
        """Stop the children named, phase by phase; each phase waits for its own.

        Another request to stop, while this goes on, kills those named in `hurried` and gives the
        others little time. Whatever no phase names is stopped at the end.
        """
        named = {name for phase in phases for name in phase}
        rest = [name for name in self._watched if name not in named]
        requests = self.signals.stops
        for phase in [*phases, rest]:
            children = [self._watched[name].child for name in phase if name in self._watched]
            self._stop_together(children, requests, hurried)
        self._watched.clear()
        self.register.clear()

    def _stop_together(
        self, children: Sequence[Child], requests: int, hurried: Sequence[str]
    ) -> None:
        for child in children:
            child.ask_to_stop()
        began = time.monotonic()
        while alive := [child for child in children if child.alive]:
            waited = time.monotonic() - began
            hurry = self.signals.stops > requests
            for child in alive:
                grace = min(HURRIED_GRACE, child.grace) if hurry else child.grace
                if waited > grace or (hurry and child.name in hurried):
                    child.kill()
            self.signals.wait(0.1)

    def _spawn(self, watched: Watched) -> None:
        child = watched.child
        watched.due_at = None
        watched.started_at = time.monotonic()
        child.prepare()
        process = child.spawn()
        self.register.add(child.name, process.pid, child.stop_signal)

    def _look_after(self) -> None:
        now = time.monotonic()
        for watched in self._watched.values():
            if watched.due_at is not None:
                if now >= watched.due_at:
                    self._spawn(watched)
                    self.say(f"{watched.child.name}: started again")
            elif not watched.child.alive:
                self._note_death(watched, now)
        if now - self._logs_at > LOG_CHECK_SECONDS:
            self._logs_at = now
            for watched in self._watched.values():
                watched.child.bound_log()

    def _note_death(self, watched: Watched, now: float) -> None:
        child = watched.child
        assert child.process is not None
        watched.deaths += 1
        pause = watched.backoff.pause_after(now - watched.started_at)
        watched.due_at = now + pause
        words = child.last_words(WORDS_SHOWN)
        said = "".join(f"\n    {line}" for line in words.splitlines())
        ended = how_it_ended(child.process.returncode)
        self.say(f"{child.name}: {ended}; starts again in {pause:g} s ({child.log}){said}")
