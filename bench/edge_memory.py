"""Does memory stay flat over ten million engine checks, and over checks by HTTP?

.venv/bin/python bench/edge_memory.py [--seconds 4]
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from bench.edge_world import USERS, fill  # noqa: E402
from bench.load import load, resident_kb  # noqa: E402
from huidu.engine import compile_snapshot  # noqa: E402
from huidu.model import Flag, Snapshot  # noqa: E402
from tests.edge.running import ATTRIBUTES, Running, Store, flags, rollout, wait_for  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=4, help="of each load by HTTP")
    leak(parser.parse_args().seconds)


def leak(seconds: int) -> None:
    """Print how memory grows over ten million engine checks, and over checks by HTTP."""
    wanted = [*flags(), *(Flag(key=f"f{n}", version=1, rollout=rollout(20 + n)) for n in range(20))]
    compiled = compile_snapshot(
        Snapshot(
            environment="production",
            sequence=1,
            published_at="2026-01-01T00:00:00Z",
            attributes=ATTRIBUTES,
            cohorts=[],
            flags=wanted,
        )
    )
    keys = [flag.key for flag in wanted]
    ways = (partial(compiled.evaluate_all, keys), compiled.together(keys))
    for turn in range(10):
        for number in range(500_000 // len(keys)):
            facts = {"region": f"{number % 1_000_000:06d}", "risk_score": number % 100}
            for way in ways:
                way(f"user-{turn}-{number}", facts)
        print(f"engine: {turn + 1},000,000 checks, {resident_kb(os.getpid()):,} KiB", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="huidu-leak-"))
    store = Store()
    try:
        fill(store)
        edge = Running(store)
        wait_for(lambda: edge.ask("GET", "/health/ready").json["profiles_readable"])
        base = f"http://127.0.0.1:{edge.port}/ofrep/v1/evaluate/flags"
        asked = 0
        for path in ("/weilidai", "/weilidai", "/weilidai", "", "", "/weilidai", "/weilidai"):
            asked += load(folder, base + path, seconds, users=USERS)["requests"]
            print(
                f"HTTP: {asked:,} requests, {resident_kb(edge.process.pid):,} KiB {path or 'bulk'}"
            )
        edge.stop()
    finally:
        store.close()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
