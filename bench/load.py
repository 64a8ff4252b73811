"""Load on a server on core 0, asked from core 1: what wrk saw, and the CPU time it cost."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from tests.edge.running import SERVER  # noqa: E402

CONNECTIONS = 64
SCRIPT = """
local n, users = 0, %(users)d
wrk.method = "POST"
wrk.headers["Authorization"] = "Bearer %(key)s"
wrk.headers["Content-Type"] = "application/json"
request = function()
  n = (n * 1103515245 + 12345) %% 2147483648
  local body = '{"context":{"targetingKey":"u' .. (n %% users) .. '"}}'
  return wrk.format(nil, nil, nil, body)
end
"""


def cpu_seconds(process: int) -> float:
    """User and system time a process has used."""
    return sum(cpu_times(process))


def cpu_times(process: int) -> tuple[float, float]:
    """User time a process has used, and system time."""
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    tick = os.sysconf("SC_CLK_TCK")
    return int(fields[11]) / tick, int(fields[12]) / tick


def load(
    folder: Path, url: str, seconds: int, *, users: int = 0, script: Path | None = None
) -> dict[str, Any]:
    """Ask for some seconds, users in turn or by a script of wrk's; what wrk says."""
    command = ["taskset", "-c", "1", "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency"]
    command += ["--timeout", "20s"]
    if users:
        script = folder / "ask.lua"
        script.write_text(SCRIPT % {"users": users, "key": SERVER})
    if script:
        command += ["-s", str(script)]
    said = subprocess.run([*command, url], capture_output=True, text=True, check=True).stdout
    number = re.search(r"(\d+) requests in ([\d.]+)s", said)
    assert number, said
    if bad := re.search(r"Non-2xx.*|Socket errors.*", said):
        raise SystemExit(f"{url}: {bad[0]}")
    latency = dict(re.findall(r"(50|99)%\s+(\S+)", said))
    return {"requests": int(number[1]), "per_second": int(number[1]) / float(number[2])} | latency


def run(
    folder: Path, url: str, seconds: int, process: int, redis: int, **options: int
) -> dict[str, Any]:
    """CPU time per request of the server and of Redis, in microseconds, and what wrk saw."""
    before, redis_before = cpu_times(process), cpu_seconds(redis)
    said = load(folder, url, seconds, **options)
    user, system = (
        (now - then) / said["requests"] * 1e6
        for now, then in zip(cpu_times(process), before, strict=True)
    )
    behind = (cpu_seconds(redis) - redis_before) / said["requests"] * 1e6
    return {
        "cpu_us": round(user + system, 2),
        "system_us": round(system, 2),
        "redis_cpu_us": round(behind, 2),
        "per_second": round(said["per_second"]),
        "p50": said["50"],
        "p99": said["99"],
    }


def pace(port: int, rate: float, seconds: int, *, users: int = 0) -> dict[str, Any]:
    """Ask at a steady rate from the other core; see `bench/paced.py`."""
    command = ["taskset", "-c", "1", sys.executable, str(ROOT / "bench" / "paced.py")]
    command += ["--port", str(port), "--rate", str(rate), "--seconds", str(seconds)]
    if users:
        command += ["--path", "/ofrep/v1/evaluate/flags/weilidai"]
        command += ["--key", SERVER, "--users", str(users)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    measured: dict[str, Any] = json.loads(said)
    return measured


def resident_kb(process: int) -> int:
    """Memory of a process that is in RAM, in KiB."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{process}/status").read_text())
    assert found
    return int(found[1])
