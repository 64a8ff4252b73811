"""A local check through the SDK, against the SDKs of six other platforms on the equivalent flag.

    python bench/local_check.py --peers-python PATH      # a Python that has the peers installed
    pip install UnleashClient launchdarkly-server-sdk growthbook flagsmith \\
        statsig-python-core posthog                      # into that one, not into Huidu's

The flag: region Shenzhen or Shanghai, more than 2 payments a week, 5 % of users by hash, with the
attributes given to the check. 1,000 different users, half of them outside the region. Each peer
runs in a process of its own, offline, with events off, the cheapest of many rounds of a
millisecond; every peer must admit about 5 % of the half of 20,000. The floor is an empty Python
call plus one XXH3 hash of the user's id, measured in each process, in turns with the check.
Results go to bench/results/local_check.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PEERS = [
    "huidu",
    "huidu-visible",
    "huidu-openfeature",
    "unleash",
    "launchdarkly",
    "growthbook",
    "flagsmith",
    "statsig",
    "posthog",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers-python", default=sys.executable)
    parser.add_argument("--only", choices=PEERS, action="append")
    options = parser.parse_args()
    results = {}
    for peer in options.only or PEERS:
        python = sys.executable if peer.startswith("huidu") else options.peers_python
        done = subprocess.run(
            [python, str(ROOT / "bench" / "peers" / "one_peer.py"), peer],
            capture_output=True,
            text=True,
            timeout=300,
        )
        if done.returncode:
            print(f"{peer:18} failed: {done.stderr.strip().splitlines()[-1:]}")
            results[peer] = {"error": done.stderr[-500:]}
            continue
        result = json.loads(done.stdout.splitlines()[-1])
        results[peer] = result
        print(
            f"{peer:18} {result['version']:10} {result['check_us']:9.3f} us   "
            f"{result['floors']:8.2f} floors   {result['admitted']:.2%} admitted"
        )
    ours = results.get("huidu", {}).get("floors")
    others = {
        peer: result["floors"]
        for peer, result in results.items()
        if not peer.startswith("huidu") and "floors" in result
    }
    if ours and others:
        fastest = min(others, key=others.__getitem__)
        print(f"fastest other: {fastest}, {others[fastest] / ours:.1f} times Huidu's time")
    wrapped = results.get("huidu-openfeature", {})
    if "bare_us" in wrapped:
        extra = wrapped["check_us"] - wrapped["bare_us"]
        print(
            f"OpenFeature with a provider that does nothing: {wrapped['bare_us']:.2f} us; "
            f"Huidu adds {extra:.2f} us"
        )
    record = {
        "command": " ".join(sys.argv),
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {platform.system()}",
        "results": results,
    }
    target = ROOT / "bench" / "results" / "local_check.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
