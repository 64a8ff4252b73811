"""One child process: started, watched, stopped; its log bounded in size."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

PR_SET_PDEATHSIG = 1
CLONE_NEWUSER = 0x10000000
LIBC = ctypes.CDLL(None, use_errno=True)
LOG_BYTES = 10 * 1024 * 1024
LOGS_KEPT = 3


def child_setup(signum: int = signal.SIGTERM, *, hide_root: bool = False) -> Callable[[], None]:
    """A `preexec_fn`: the kernel sends `signum` to the child when its parent dies (Linux only).

    The parent is the thread that forks: start children from the main thread.

    With `hide_root` a child of root sees itself as an ordinary user, in a user namespace of its
    own. It still owns root's files, so PostgreSQL (which refuses root) needs no second account and
    no change of owners.
    """
    parent = os.getpid()

    def arrange() -> None:
        if hide_root and sys.platform.startswith("linux") and os.geteuid() == 0:
            if LIBC.unshare(CLONE_NEWUSER) != 0:
                raise OSError(ctypes.get_errno(), "no user namespace")
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text("1000 0 1")
            Path("/proc/self/gid_map").write_text("1000 0 1")
        # After the namespace: a change of credentials clears it.
        die_with_parent(signum, parent)

    return arrange


def die_with_parent(signum: int, parent: int | None = None) -> None:
    """Ask the kernel to send us `signum` when our parent dies (Linux only).

    With `parent` given, end at once if that process is gone already.
    """
    if not sys.platform.startswith("linux"):
        return
    LIBC.prctl(PR_SET_PDEATHSIG, signum, 0, 0, 0)
    if parent is not None and os.getppid() != parent:  # it died between fork and prctl
        os._exit(1)


class Child:
    """A process of ours, in a session of its own, writing to `logs/<name>.log`.

    Args:
        name: how the terminal and the log file call it.
        command: program and arguments; servers build theirs later.
        logs: folder of the log files.
        environment: variables to set beside the inherited ones.
        stop_signal: what asks it to end in good order.
        death_signal: what the kernel sends it when the supervisor is gone.
        grace: seconds it is given for that.
    """

    hide_root = False

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        logs: Path,
        *,
        environment: Mapping[str, str] | None = None,
        stop_signal: int = signal.SIGTERM,
        death_signal: int = signal.SIGKILL,
        grace: float = 10.0,
    ) -> None:
        self.name = name
        self.logs = logs
        self.environment = dict(environment or {})
        self.stop_signal = stop_signal
        self.death_signal = death_signal
        self.grace = grace
        self.process: subprocess.Popen[bytes] | None = None
        self._command = list(command)

    def command(self) -> list[str]:
        return self._command

    def prepare(self) -> None:
        """Make what the start needs; cheap when it is already there."""

    @property
    def log(self) -> Path:
        return self.logs / f"{self.name}.log"

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start the process without waiting for it."""
        self.logs.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | self.environment,
                # A terminal's Ctrl-C must reach the supervisor alone: it stops all in order.
                start_new_session=True,
                preexec_fn=child_setup(self.death_signal, hide_root=self.hide_root),
            )
        return self.process

    def ask_to_stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(self.stop_signal)

    def kill(self) -> None:
        """End it and everything it started, at once."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def stop(self) -> None:
        """Ask the process to end, and make it end."""
        if self.process is None:
            return
        self.ask_to_stop()
        try:
            self.process.wait(self.grace)
        except subprocess.TimeoutExpired:
            self.kill()
        self.process = None

    def last_words(self, lines: int = 15) -> str:
        """The end of its log."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - 32_768))
            text = log.read().decode(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def bound_log(self, limit: int = LOG_BYTES) -> None:
        """Move a log over `limit` bytes aside; keeps `LOGS_KEPT` old ones.

        The file is copied and emptied, not renamed: the child keeps writing to what it has open,
        and appends, so it goes on at the new end. Lines written within the copying are lost.
        """
        if not self.log.exists() or self.log.stat().st_size <= limit:
            return
        for number in range(LOGS_KEPT - 1, 0, -1):
            older = self.log.with_suffix(f".log.{number}")
            if older.exists():
                older.replace(self.log.with_suffix(f".log.{number + 1}"))
        shutil.copyfile(self.log, self.log.with_suffix(".log.1"))
        os.truncate(self.log, 0)


def how_it_ended(code: int) -> str:
    """A return code of `Popen`, in words."""
    if code >= 0:
        return f"ended with code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
