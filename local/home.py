"""One installation's folder: who runs it, on which port, and what is kept there."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

HOST = "127.0.0.1"


class AlreadyRunningError(Exception):
    """Another `bin/up` runs this home."""

    def __init__(self, pid: int, url: str) -> None:
        super().__init__(f"already running at {url} (process {pid})" if pid else "already starting")
        self.pid = pid
        self.url = url


class StartError(Exception):
    """Huidu cannot start here; the sentence says why and what to do."""


@dataclass(frozen=True)
class Home:
    """A data folder and the port it is served on."""

    folder: Path
    port: int

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    @property
    def demo_file(self) -> Path:
        return self.folder / "demo.json"

    @property
    def processes_file(self) -> Path:
        return self.folder / "processes.json"

    def make(self) -> None:
        """Make the folder, for us alone. Raises `StartError` if that cannot be."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self.folder / "lock").touch(mode=0o600)
        except OSError as error:
            raise StartError(
                f"cannot write to {self.folder} ({error.strerror}); set HUIDU_HOME to a folder of "
                "your own"
            ) from error


class Lock:
    """Held by the one supervisor of a home; the kernel lets go when the process ends, however."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self._file: int | None = None

    def __enter__(self) -> Lock:
        """Raises `AlreadyRunningError` with the holder's process and address."""
        file = os.open(self.home.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            text = os.read(file, 4096)
            os.close(file)
            try:
                holder = json.loads(text)
                raise AlreadyRunningError(holder["pid"], holder["url"]) from None
            except (ValueError, KeyError):
                raise AlreadyRunningError(0, "") from None
        self._file = file
        os.ftruncate(file, 0)
        os.pwrite(file, json.dumps({"pid": os.getpid(), "url": self.home.url}).encode(), 0)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            os.ftruncate(self._file, 0)
            os.close(self._file)


def check_port(port: int) -> None:
    """Raises `StartError`, with a port that is free, when nobody may listen on `port`."""
    fault = _fault(port)
    if fault is None:
        return
    other = next((near for near in range(port + 1, min(port + 100, 65536)) if not _fault(near)), 0)
    hint = f"; this one is free: HUIDU_PORT={other} bin/up" if other else "; set HUIDU_PORT"
    why = "is taken" if fault == errno.EADDRINUSE else f"cannot be used ({os.strerror(fault)})"
    raise StartError(f"port {port} {why}{hint}")


def _fault(port: int) -> int | None:
    with socket.socket() as listener:
        # As the server will: connections that are only fading away do not count.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
            listener.listen(1)
        except OSError as error:
            return error.errno
    return None
