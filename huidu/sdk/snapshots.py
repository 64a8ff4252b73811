"""Keeps the newest good snapshot: from disk at the start, then by stream, with polling behind it.

Only a whole, valid snapshot ever replaces the one in use. What is damaged or does not compile is
logged and passed over, and the last good one stays, in memory and on disk.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import random
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Final

from huidu.collector import resting_collector
from huidu.engine import Compiled, compile_snapshot
from huidu.errors import HuiduError
from huidu.model import AttributeSource
from huidu.sdk.transport import Transport, Unreachable
from huidu.turns import let_go_after, taking_turns
from huidu.wire import snapshot as wire

logger = logging.getLogger("huidu.sdk")

LONGEST_PAUSE_SECONDS: Final = 60.0
MOST_WAIT_SECONDS: Final = 0.1
"""So long a snapshot that was replaced is kept whole for checks that still look at it; the next
one waits behind that."""

Swap = Callable[[Compiled, Compiled | None, str], None]
"""Takes a snapshot, the one it was made to follow, and its version."""


class Disk:
    """The last good snapshot of one platform and key, in a folder of the application's choice."""

    def __init__(self, folder: Path, url: str, key: str) -> None:
        # The key decides the environment, so it is part of the name; its text never is.
        name = hashlib.sha256(f"{url}\0{key}".encode()).hexdigest()[:16]
        self.path = folder / f"huidu-{name}.snapshot"

    def load(self) -> bytes | None:
        try:
            return self.path.read_bytes()
        except OSError:
            return None

    def save(self, data: bytes) -> None:
        """Replace the file at once and whole; a disk that refuses is said in the log."""
        fresh = self.path.with_suffix(f".{os.getpid()}.{threading.get_ident()}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_bytes(data)
            fresh.replace(self.path)
        except OSError as error:
            logger.warning("sdk.snapshot_not_saved path=%s error=%s", self.path, error)
            with contextlib.suppress(OSError):
                fresh.unlink()


class Keeper:
    """Fetches snapshots in threads of its own and hands each new one to `swap`.

    Args:
        swap: called with each compiled snapshot, from one thread at a time.
        swapped: called after it.
        readable: the attribute sources whose values a check's own attributes may give.
        poll_seconds: how often to ask while no stream says when.
    """

    def __init__(
        self,
        transport: Transport,
        swap: Swap,
        swapped: Callable[[], None],
        *,
        disk: Disk | None,
        readable: frozenset[AttributeSource],
        poll_seconds: float,
        stream: bool,
    ) -> None:
        self.ready = threading.Event()
        self.attempted = threading.Event()
        self.streaming = False
        self.last_error: str | None = None
        self._transport = transport
        self._swap = swap
        self._swapped = swapped
        self._disk = disk
        self._readable = readable
        self._poll_seconds = poll_seconds
        self._stream = stream
        self._etag: str | None = None
        self._version: str | None = None
        self._reader = wire.SnapshotReader()
        self._compiled: Compiled | None = None
        self._fetching = threading.Lock()
        self._stopped = threading.Event()
        self._wake = threading.Event()
        self._start_threads()

    def _start_threads(self) -> None:
        jobs = [self._poll] + ([self._listen] if self._stream else [])
        for job in jobs:
            threading.Thread(target=job, name=f"huidu{job.__name__}", daemon=True).start()

    def load_from_disk(self) -> None:
        """Use the last good snapshot until the platform answers."""
        data = self._disk.load() if self._disk else None
        with self._fetching:
            if data is not None and not self.ready.is_set():
                self._use(data, None, source="disk")

    def after_fork(self) -> None:
        """Threads do not survive a fork, and locks may be held by threads that are gone."""
        self._fetching = threading.Lock()
        self._wake = threading.Event()
        self.streaming = False
        if not self._stopped.is_set():
            self._stopped = threading.Event()
            self._start_threads()

    def stop(self) -> None:
        self._stopped.set()
        self._wake.set()

    def refresh(self) -> None:
        """Fetch now; returns when it is done. Raises `Unreachable`."""
        with self._fetching:
            answer = self._transport.snapshot(self._etag)
            self.last_error = None
            if answer is not None:
                data, etag = answer
                if self._use(data, etag, source="platform") and self._disk:
                    self._disk.save(data)

    def _use(self, data: bytes, etag: str | None, *, source: str) -> bool:
        try:
            version = wire.version_of(data)
            if version != self._version:
                self._make(data, version)
        except HuiduError as error:
            # The ETag is not kept, so a repaired snapshot is fetched whatever its tag.
            self.last_error = str(error)
            logger.error("sdk.snapshot_refused source=%s error=%s", source, error)
            return False
        self._version, self._etag = version, etag
        self.ready.set()
        return True

    def _make(self, data: bytes, version: str) -> None:
        """Swap to the snapshot; the application's own threads have work meanwhile."""
        pause = taking_turns()
        with resting_collector():
            compiled = compile_snapshot(
                self._reader.read(data, pause),
                readable=self._readable,
                before=self._compiled,
                pause=pause,
            )
            self._swap(compiled, self._compiled, version)
        before, self._compiled = self._compiled, compiled
        # The application's own work: it may take long, and the collector has rested enough.
        self._swapped()
        if before is not None:
            whole, parts = weakref.ref(before), before.parts()
            del before
            let_go_after(whole, parts, MOST_WAIT_SECONDS, pause)

    def _poll(self) -> None:
        failures = 0
        while not self._stopped.is_set():
            try:
                self.refresh()
                failures = 0
            except Unreachable as error:
                failures += 1
                self.last_error = str(error)
                if failures == 1:
                    logger.warning("sdk.platform_unreachable error=%s", error)
            except Exception:  # the thread must outlive a fault nobody foresaw
                failures += 1
                logger.exception("sdk.refresh_failed")
            self.attempted.set()
            self._wake.wait(self._pause(failures))
            self._wake.clear()

    def _pause(self, failures: int) -> float:
        """Seconds until the next request: soon after a first failure, then ever later."""
        if failures:
            longest: float = min(LONGEST_PAUSE_SECONDS, 0.5 * 2 ** min(failures, 10))
            return random.uniform(0.5, 1.0) * longest  # noqa: S311 - keeps many clients apart
        # A live stream tells of changes; asking stays as the safety net, at a tenth of the pace.
        steady = self._poll_seconds * (10 if self.streaming else 1)
        return steady * random.uniform(0.9, 1.1)  # noqa: S311

    def _listen(self) -> None:
        failures = 0
        while not self._stopped.is_set():
            try:
                for event in self._transport.events():
                    if self._stopped.is_set():
                        return
                    if not self.streaming:  # something may have changed before we listened
                        self.streaming, failures = True, 0
                        self._wake.set()
                    if event in ("snapshot", "message"):
                        self._wake.set()
            except Unreachable:
                pass  # polling goes on and says what is wrong
            except Exception:
                logger.exception("sdk.stream_failed")
            self.streaming = False
            failures += 1
            self._stopped.wait(self._pause(failures))
