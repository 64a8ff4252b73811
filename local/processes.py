"""Which processes belong to a home, so that a start can clear away what a killed one left behind.

A process id alone proves nothing, for numbers are used again: a process is known by its id together
with the moment it began.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

SWEEP_SECONDS = 10.0


@dataclass(frozen=True)
class Known:
    """A child as it was recorded: `began` is an opaque word that no other process shares."""

    name: str
    pid: int
    began: str
    stop_signal: int = signal.SIGTERM

    def lives(self) -> bool:
        return beginning(self.pid) == self.began


def beginning(pid: int) -> str:
    """When the process began, as a word to compare; empty when there is none (or a zombie)."""
    if sys.platform.startswith("linux"):
        try:
            # The name may hold blanks and brackets; the fields after the last bracket do not.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        except OSError:
            return ""
        return "" if fields[0] in "ZX" else f"{boot} {fields[19]}"
    shown = subprocess.run(
        ["ps", "-o", "lstart=,stat=", "-p", str(pid)], capture_output=True, text=True
    )
    began, _, state = shown.stdout.strip().rpartition(" ")
    return "" if state.startswith("Z") else began.strip()


def command_of(pid: int) -> str:
    """The command line of a process; empty when there is none."""
    if sys.platform.startswith("linux"):
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        except OSError:
            return ""
    shown = subprocess.run(
        ["ps", "-ww", "-o", "args=", "-p", str(pid)], capture_output=True, text=True
    )
    return shown.stdout.strip()


class Register:
    """The children of one home, in a file that outlives a killed supervisor."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.known: dict[str, Known] = {}

    def add(self, name: str, pid: int, stop_signal: int) -> None:
        self.known[name] = Known(name, pid, beginning(pid), int(stop_signal))
        self._write()

    def clear(self) -> None:
        self.known = {}
        self.file.unlink(missing_ok=True)

    def left_behind(self) -> list[Known]:
        """Recorded children of an earlier supervisor that still live."""
        try:
            recorded = [Known(**entry) for entry in json.loads(self.file.read_text())]
        except (OSError, ValueError, TypeError):
            return []  # none yet, or cut off by a crash of the machine, which left no process
        return [known for known in recorded if known.began and known.lives()]

    def _write(self) -> None:
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps([asdict(known) for known in self.known.values()]))
        new.replace(self.file)


def sweep(
    leftovers: Iterable[Known], say: Callable[[str], None], seconds: float = SWEEP_SECONDS
) -> None:
    """End processes an earlier supervisor left behind: asked first, killed after `seconds`."""
    waiting = list(leftovers)
    if not waiting:
        return
    names = ", ".join(f"{known.name} ({known.pid})" for known in waiting)
    say(f"ending what an earlier run left behind: {names}")
    for known in waiting:
        _signal(known, known.stop_signal)
    deadline = time.monotonic() + seconds
    while waiting and time.monotonic() < deadline:
        time.sleep(0.05)
        waiting = [known for known in waiting if known.lives()]
    for known in waiting:
        _signal(known, signal.SIGKILL, group=True)
    while any(known.lives() for known in waiting):
        time.sleep(0.02)


def _signal(known: Known, signum: int, *, group: bool = False) -> None:
    """Signal the process, or all it started: each child leads a process group of its own."""
    with contextlib.suppress(ProcessLookupError):
        if known.lives():
            os.kill(-known.pid if group else known.pid, signum)
