"""The servers a check is measured beside: nginx, and the least an ASGI server or uvloop can do."""

from __future__ import annotations

import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NGINX = "nginx, empty 200"
UVICORN = "uvicorn, empty ASGI application"
GRANIAN = "granian, empty ASGI application"
CONSTANT, LEAST = "constant answer on uvloop", "prototype of a check"
NGINX_PORT = 9461
ASGI = """
async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive(); await send({"type": "lifespan.startup.complete"}); await receive(); return
    await receive()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"{}"})
"""
PROBE = '{"context":{"targetingKey":"u1"}}'


def commands(folder: Path, granian: str | None) -> dict[str, tuple[list[str], int]]:
    """Name -> (command, port) of all servers that need no Redis."""
    (folder / "plain.py").write_text(ASGI)
    plain = ["--host", "127.0.0.1", "--port", "9462", "plain:application"]
    uvicorn = [
        sys.executable, "-m", "uvicorn", "--app-dir", str(folder), "--loop", "uvloop",
        "--http", "httptools", "--no-access-log", "--lifespan", "off", *plain,
    ]  # fmt: skip
    found = {
        NGINX: (nginx(folder, NGINX_PORT), NGINX_PORT),
        UVICORN: (uvicorn, 9462),
        CONSTANT: (prototype(9464), 9464),
    }
    if granian:
        plain[3] = "9463"
        command = [granian, "--interface", "asgi", "--workers", "1", "--no-access-log"]
        found[GRANIAN] = [*command, "--working-dir", str(folder), *plain], 9463
    return found


def prototype(port: int, *options: str) -> list[str]:
    """A constant answer, or with a socket of Redis the least a check can be."""
    return [sys.executable, str(ROOT / "bench" / "prototype.py"), "--port", str(port), *options]


def nginx(folder: Path, port: int) -> list[str]:
    settings = f"""
    worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
    events {{ worker_connections 1024; }}
    http {{ access_log off; keepalive_requests 1000000000;
      server {{ listen 127.0.0.1:{port}; location / {{ return 200 ""; }} }} }}"""
    (folder / "nginx.conf").write_text(settings)
    return [
        shutil.which("nginx") or "/usr/sbin/nginx",
        "-p",
        str(folder),
        "-c",
        f"{folder}/nginx.conf",
    ]


@contextmanager
def serving(command: list[str], port: int) -> Iterator[int]:
    """Another server on core 0; gives the id of the process that does the work."""
    process = subprocess.Popen(
        ["taskset", "-c", "0", *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(200):
            probe = ["curl", "-s", "-o", "/dev/null", f"http://127.0.0.1:{port}/", "-d", PROBE]
            if subprocess.run(probe).returncode == 0:
                break
            time.sleep(0.02)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        yield int(children[0]) if children else process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


def versions(granian: str | None) -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("uvicorn", "uvloop", "httptools", "hiredis", "msgspec"):
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    for name, command in {
        "nginx": [shutil.which("nginx") or "/usr/sbin/nginx", "-v"],
        "wrk": ["wrk", "-v"],
        "granian": [granian, "--version"] if granian else [],
    }.items():
        if command:
            said = subprocess.run(command, capture_output=True, text=True)
            words = re.search(r"\d+\.\d+[\w.]*", said.stdout + said.stderr)
            found[name] = words[0] if words else "unknown"
    return found
