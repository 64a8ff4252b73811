"""How long a first start and later starts of `bin/up` take; and an import of payments.

    .venv/bin/python bench/start.py              median of 3 first starts and 3 later starts
    .venv/bin/python bench/start.py payments.csv.gz     also `manage.py import_payments` of a file

Packages are installed already; the clock runs from the start of the process to the line that says
"ready", which is printed once a check has been answered from the demo's snapshot. Each first start
has a home of its own; nothing else should run on the machine.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from local.servers import postgres_programs, redis_program, socket_folder  # noqa: E402

ROUNDS = 3


def main() -> None:
    payments = str(Path(sys.argv[1]).resolve()) if len(sys.argv) > 1 else ""
    first: list[float] = []
    later: list[float] = []
    stop: list[float] = []
    imported: list[float] = []
    for _ in range(ROUNDS):
        home = Path(tempfile.mkdtemp(prefix="huidu-bench-"))
        try:
            for seconds in (first, later):
                up, within, down = start_and_stop(home, payments if seconds is later else "")
                seconds.append(up)
                stop.append(down)
                imported += within
        finally:
            shutil.rmtree(home, ignore_errors=True)
            shutil.rmtree(socket_folder(home), ignore_errors=True)
    seconds_of = {"first start": first, "later start": later, "stop": stop}
    if imported:
        seconds_of[f"import_payments {Path(payments).name}"] = imported
    report = {
        "command": "python bench/start.py",
        "machine": f"{os.cpu_count()} x {processor()}, {platform.system()} {platform.machine()}",
        "versions": {
            "python": platform.python_version(),
            "django": version("django"),
            "celery": version("celery"),
            "postgresql": said(str(postgres_programs() / "postgres"), "--version"),
            "redis": said(redis_program(), "--version"),
        },
        "median_seconds": {name: round(statistics.median(s), 2) for name, s in seconds_of.items()},
        "all_seconds": {name: [round(one, 2) for one in s] for name, s in seconds_of.items()},
    }
    print(json.dumps(report, indent=2))


def start_and_stop(home: Path, payments: str) -> tuple[float, list[float], float]:
    """Seconds until ready, of the import if there is one, and from Ctrl-C to the end."""
    environment = os.environ | {"HUIDU_HOME": str(home), "HUIDU_PORT": str(free_port())}
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "local.up"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    ready = None
    for line in process.stdout:
        if "Huidu is running" in line:
            ready = time.monotonic()
        if line.startswith("Ctrl-C"):
            break
    if ready is None:
        sys.exit(f"did not start; see {home}/logs")
    imported = []
    if payments:
        asked = time.monotonic()
        command = [sys.executable, "manage.py", "import_payments", payments, "-v", "0"]
        subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
        imported.append(time.monotonic() - asked)
    asked = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate()
    return ready - began, imported, time.monotonic() - asked


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def processor() -> str:
    """The processor's name; empty where the system does not tell."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if "model name" in line), "")


def said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    main()
