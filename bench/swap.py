"""How long checks wait while snapshots of 1,000 flags with 10 rules each are swapped in.

    python bench/swap.py [--swaps 20] [--only sdk|edge]        (three minutes)

In the SDK a thread checks random ones of 100 flags a thousand times a second while another thread
takes one snapshot after the other; at the edge a client asks a thousand times a second while
snapshots are published. What a check waited counts from the moment it was due, so whatever held it
is in it. Each time with one flag that changed, as mostly, and with all of them. In the SDK nothing
counts but checks that were due while a snapshot was being taken or shortly after. At the edge also
where somebody asks for all flags at once: the functions for that are made, for seconds, after each
swap. The same without any swaps is told beside it: that is the machine's. Results go to
bench/results/swap.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from bench.engine import FACTS, snapshot  # noqa: E402
from huidu.model import AttributeSource, Snapshot  # noqa: E402
from huidu.wire import snapshot as wire  # noqa: E402

FLAGS, RULES = 1_000, 10
ASKED = 100
"""Flags an application asks for."""
PER_SECOND = 1_000
TOGETHER_SECONDS = 10
"""In which the functions for all flags at once are made."""
PAUSE_SECONDS = 0.3
"""Between two swaps, and the span of the checks that follow one."""
SHARES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "most": 1.0}


def world() -> Snapshot:
    """The snapshot `bench/engine.py` measures, of attributes a caller may say."""
    made = snapshot(FLAGS, gates=RULES)
    attributes = [
        msgspec.structs.replace(each, source=AttributeSource.EITHER) for each in made.attributes
    ]
    return msgspec.structs.replace(made, attributes=attributes)


def following(changed: int) -> list[Snapshot]:
    """Two snapshots of which so many flags differ."""
    base = world()
    newer = [
        msgspec.structs.replace(each, version=2) if number < changed else each
        for number, each in enumerate(base.flags)
    ]
    return [base, msgspec.structs.replace(base, sequence=2, flags=newer)]


def sdk(swaps: int, changed: int) -> dict[str, Any]:
    """Milliseconds that checks in an application's thread waited."""
    from huidu.sdk import Client
    from huidu.sdk.snapshots import Disk

    blobs = [wire.encode(each) for each in following(changed)]
    with tempfile.TemporaryDirectory() as folder:
        nowhere, key = "http://127.0.0.1:9", "hd_server_bench"
        Disk(Path(folder), nowhere, key).save(blobs[1])
        client = Client(nowhere, key, cache=folder, stream=False, poll_seconds=3600)
    swapping, stop = threading.Event(), threading.Event()
    waits: dict[bool, list[float]] = {False: [], True: []}

    def checks() -> None:
        chance = random.Random(1)
        due = time.perf_counter()
        while not stop.is_set():
            due += 1 / PER_SECOND
            during = swapping.is_set()
            while (ahead := due - time.perf_counter()) > 0:
                time.sleep(ahead)
            client.check(f"flag-{chance.randrange(ASKED)}", f"u{chance.random()}", FACTS)
            waits[during or swapping.is_set()].append(time.perf_counter() - due)

    checking = threading.Thread(target=checks)
    checking.start()
    time.sleep(2)  # the quiet
    waits[False].clear()
    time.sleep(3)
    quiet = list(waits[False])
    waits[True].clear()
    took = []
    for number in range(swaps):
        swapping.set()
        began = time.perf_counter()
        assert client._keeper._use(blobs[number % 2], None, source="bench")
        took.append(time.perf_counter() - began)
        time.sleep(PAUSE_SECONDS)  # flags are made at their first check
        swapping.clear()
        time.sleep(PAUSE_SECONDS)
    stop.set()
    checking.join()
    client.close()
    return {
        "swap_ms": round(min(took) * 1e3),
        "quiet": at_shares(quiet),
        "swapping": at_shares(waits[True]) | {"checks": len(waits[True])},
    }


def edge(swaps: int, changed: int, *, in_bulk: bool = False) -> dict[str, Any]:
    """Milliseconds from a request's being sent until the kernel had its answer, and when due.

    Args:
        in_bulk: somebody asked for all flags at once, so functions for that are made after each
            swap while checks go on.
    """
    from tests.edge.running import SERVER, Running, Store, wait_for

    worlds = itertools.cycle(following(changed))
    store = Store()
    try:
        store.fill()
        publish = publisher(store, worlds)
        publish()
        running = Running(store)
        wait_for(lambda: running.ask("GET", "/health/ready").json["profiles_readable"])
        wait_for(lambda: running.ask("GET", "/health/ready").status == 200)

        if in_bulk:
            headers = {"Authorization": f"Bearer {SERVER}", "Content-Type": "application/json"}
            body = b'{"context":{"targetingKey":"u"}}'
            asked = running.ask("POST", "/ofrep/v1/evaluate/flags", body, headers)
            assert asked.status == 200, asked
            time.sleep(TOGETHER_SECONDS)

        def paced(seconds: float) -> subprocess.Popen[str]:
            command = [sys.executable, str(ROOT / "bench" / "paced.py")]
            command += ["--port", str(running.port), "--key", SERVER, "--rate", str(PER_SECOND)]
            command += ["--path", "/ofrep/v1/evaluate/flags/flag-500", "--seconds", str(seconds)]
            return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

        def told(asking: subprocess.Popen[str]) -> dict[str, Any]:
            found: dict[str, Any] = json.loads(asking.communicate()[0])
            return found

        quiet = told(paced(3))
        asking = paced(swaps * PAUSE_SECONDS * 2)
        while asking.poll() is None:
            publish()
            time.sleep(PAUSE_SECONDS * 2)
        swapping = told(asking)
        running.stop()
    finally:
        store.close()
    return {"quiet": quiet, "swapping": swapping}


def kills(number: int) -> dict[str, Any]:
    """Milliseconds from the publication of a kill, one flag of 1,000, until it is obeyed.

    Somebody asks for all flags at once, again and again, so functions for that are made after each.
    """
    from tests.edge.running import Running, Store, wait_for

    base = world()
    shown = list(range(0, FLAGS, 10))[:number]
    killed = [
        msgspec.structs.replace(
            base,
            flags=[
                msgspec.structs.replace(each, killed=place in shown[: count + 1])
                for place, each in enumerate(base.flags)
            ],
        )
        for count in range(number)
    ]
    store = Store()
    waits: dict[str, list[float]] = {"single": [], "bulk": []}
    try:
        store.fill()
        publish = publisher(store, iter([base, *killed]))
        publish()
        running = Running(store)
        wait_for(lambda: running.check("flag-1", "u").status == 200)
        running.bulk("u")
        time.sleep(TOGETHER_SECONDS)
        for place in shown:
            publish()
            began = time.perf_counter()
            open_ways = {"single", "bulk"}
            while open_ways:
                told = {
                    "single": running.check(f"flag-{place}", "u").json["metadata"],
                    "bulk": running.bulk("u").json["flags"][place]["metadata"],
                }
                for way in [way for way in open_ways if told[way]["why"] == "killed"]:
                    open_ways.discard(way)
                    waits[way].append(time.perf_counter() - began)
            time.sleep(PAUSE_SECONDS)
        running.stop()
    finally:
        store.close()
    return {way: at_shares(each) for way, each in waits.items()}


def publisher(store: Any, worlds: Iterator[Snapshot]) -> Callable[[], None]:
    """Publishes the next flags under the next number."""
    import datetime

    from tests.edge.running import ATTRIBUTES, ENVIRONMENT

    names = {each.name for each in ATTRIBUTES}

    def publish() -> None:
        store.sequence += 1
        now = datetime.datetime.now(datetime.UTC).isoformat()
        base = next(worlds)
        more = [each for each in base.attributes if each.name not in names]
        made = msgspec.structs.replace(
            base,
            environment=ENVIRONMENT,
            sequence=store.sequence,
            published_at=now,
            attributes=[*ATTRIBUTES, *more],
        )
        store.put(wire.encode(made))

    return publish


def at_shares(waits: list[float]) -> dict[str, float]:
    """Milliseconds at each share of the checks."""
    ordered = sorted(waits)
    last = len(ordered) - 1
    return {
        name: round(ordered[min(int(len(ordered) * share), last)] * 1e3, 2)
        for name, share in SHARES.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--swaps", type=int, default=20)
    parser.add_argument("--only", choices=["sdk", "edge", "edge asked in bulk", "kills"])
    chosen = parser.parse_args()
    found: dict[str, Any] = {
        "command": " ".join(["python", "bench/swap.py", *sys.argv[1:]]),
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {platform.system()}",
    }
    in_bulk = partial(edge, in_bulk=True)
    for name, part in (("sdk", sdk), ("edge", edge), ("edge asked in bulk", in_bulk)):
        if chosen.only is None or name.startswith(chosen.only):
            for changed in (1, FLAGS):
                about = f"{name}, {changed:,} flags changed"
                found[about] = part(chosen.swaps, changed)
                print(about, json.dumps(found[about]))
    if chosen.only in (None, "kills"):
        found["kill of one flag of 1,000, asked in bulk"] = told = kills(chosen.swaps)
        print("kills", json.dumps(told))
    if chosen.only is None:
        target = ROOT / "bench" / "results" / "swap.json"
        target.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
