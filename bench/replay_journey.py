"""A flag of the benchmark's own, taken through an edit, draws, erasures and a rollback.

Every check between keeps its receipt; at the end `verify_receipts` must agree with all of them.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PUBLISHED_SECONDS = 3.0
"""By then every process answers by what was published."""


def journey(
    check: Callable[[str, str], None], ingest: Callable[[list[dict[str, Any]]], Any], checks: int
) -> dict[str, Any]:
    """Check through all of it, then replay.

    Args:
        check: asks one flag for one user over HTTP.
        ingest: posts profiles.
        checks: in all, spread evenly over the phases.
    """
    from rollout.models import Receipt
    from rollout.services import flags, forget, gates, rollouts, stages
    from rollout.services.audit import Actor

    ann, bob = Actor("bench", "bench"), Actor("bench-second", "bench-second")
    mark, rng = f"{int(time.time()):x}", random.Random(11)
    key, users = f"replay-{mark}", [f"replay-{mark}-{number}" for number in range(2_000)]
    for start in range(0, len(users), 500):
        ingest(
            [
                {"user_id": each, "region": "650100", "age": rng.randint(10, 60), "staff": False}
                for each in users[start : start + 500]
            ]
        )
    flag = flags.create("production", key, by=ann, receipts_ppm=1_000_000, four_eyes=False)
    rollout = rollouts.create(flag, by=ann)
    plan = {"minimum_stay": timedelta(0), "waiver": "a benchmark"}
    only = {"==": [{"var": "region"}, "650100"]}
    for order, share in enumerate((100_000, 500_000, 1_000_000)):
        values = {"order": order, "key": f"s{order}", "share_ppm": share, **plan}
        stages.save_stage(rollout, values | {"audience": _audience(only, ann)}, by=ann)
    rollouts.submit(rollout, by=ann, reason="bench")
    rollouts.approve(rollout, by=bob, reason="bench")
    erased = set(rng.sample(users, 200))

    def gate() -> None:
        values = {"order": 1, "key": "adult", "dimension": "compliance", "why": "compliance.age"}
        rule = {">=": [{"var": "age"}, 18]}
        gates.save_gate(flag, values | {"rule": rule}, by=ann, reason="bench", approved_by=bob)

    def erase() -> None:
        for each in erased:
            forget.forget_user(each, by=ann, reason="bench")

    def widen() -> None:
        rollouts.promote(rollout, by=ann, reason="bench", approved_by=bob)

    def roll_back() -> None:
        rollout.refresh_from_db()
        rollouts.rollback(rollout, by=ann, reason="bench")

    acts: list[Callable[[], Any]] = [
        lambda: rollouts.start(rollout, by=ann, reason="bench"),  # the first draw
        gate,
        widen,  # a second draw
        erase,
        widen,  # a third
        roll_back,
    ]
    asked = 0
    kept = users
    for act in acts:
        act()
        if act is erase:
            kept = [each for each in users if each not in erased]
        time.sleep(PUBLISHED_SECONDS)
        for _ in range(checks // len(acts)):
            user = rng.choice(kept)
            check(key, user)
            asked += 1
    for _ in range(30):  # a worker takes the receipts in
        if Receipt.objects.filter(flag_key=key).exists():
            break
        time.sleep(1)
    time.sleep(PUBLISHED_SECONDS * 3)
    of_erased = Receipt.objects.filter(flag_key=key, user_id__in=erased).count()
    seen = list(Receipt.objects.filter(flag_key=key).values_list("why", flat=True))
    found = subprocess.run(
        [sys.executable, "manage.py", "verify_receipts", "--flag", key],
        cwd=ROOT,
        env=os.environ.copy(),
        capture_output=True,
        text=True,
        check=False,
    )
    line = next((each for each in found.stdout.splitlines() if "replayed," in each), found.stderr)
    return {
        "checks": asked,
        "users_erased": len(erased),
        "receipts_of_the_erased_left": of_erased,
        "answers": {why: seen.count(why) for why in sorted(set(seen))},
        "verify_receipts": line.strip()[-300:],
    }


def _audience(rule: dict[str, Any], by: Any) -> Any:
    """A cohort of the benchmark's own users."""
    from cohorts.models import Cohort
    from rollout.services import cohort_edits

    found = Cohort.objects.filter(key="bench_replay").first()
    if found is not None:
        return found
    values = {"key": "bench_replay", "rule": rule, "label_en": json.dumps(rule)[:60]}
    return cohort_edits.save_cohort(values, by=by, reason="bench")
