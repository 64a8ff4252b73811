"""Does the promotion rule keep its promises? A seeded simulation of whole stages.

    python bench/promotion.py --runs 1000              every question; hours on a busy machine
    python bench/promotion.py --runs 20 --minutes 5    as far as five minutes reach
    python bench/promotion.py --only false_promotion --runs 1000
    python bench/promotion.py --report                 tell what has been run so far

Five guards, a look every five minutes for 14 days (4,032 looks), a weighted draw, drifting base
rates, clustered errors, outages in both arms. Rates carry exact 95 % intervals (Clopper-Pearson).

Looks at which nothing can be decided are left out, see promotion_screen.py; the question `screen`
puts every look of some stages before the rule and fails unless all is the same. Each finished
stage is one line of the log, so a run that was stopped goes on where it was, and a longer one adds
to a shorter one; `run` i of a row always is the same stage. Results per question go to
bench/results/promotion-QUESTION.json.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path
from zlib import crc32

import numpy as np

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import promotion_screen  # noqa: E402
from promotion_log import Ended, key_of, read_log  # noqa: E402
from promotion_report import TELL, report  # noqa: E402
from promotion_rows import SEED, Row, rows  # noqa: E402
from promotion_world import Stage, plan  # noqa: E402

from huidu.promotion import CODE_VERSION, DESIGN  # noqa: E402

BLOCK = 10
"""Stages of one row before the next row has its turn, so that all rows grow together."""


def simulate(row: Row, i: int) -> Ended:
    """Run i of a row: always the same stage."""
    name = row.label.partition(": ")[2] if row.question == "screen" else row.label
    origin = f"{name} {dict(row.facts).get('from', '')}".encode()
    stage = Stage(row.world, np.random.SeedSequence([SEED, crc32(origin), i]))
    given = plan(row.world, minimum_days=row.minimum_days, rolls_back=row.rolls_back)
    if row.how == "hourly":
        end = promotion_screen.run_all(given, stage, every=60 // row.world.look_min)
    else:
        end = {"screened": promotion_screen.run, "compared": promotion_screen.compare}[row.how](
            given, stage
        )
    outcome, effect = end.outcome, dict(row.facts).get("effect")
    knew = None
    if effect is not None:
        name = dict(row.facts)["metric"]
        look = promotion_screen.known_in_advance(given, stage, name, effect)
        knew = None if look is None else stage.treated_users(look)
    users = stage.treated_users(end.k)
    return Ended(outcome.decision.value, outcome.metric, end.k, users, end.asked, knew)


def work(asked: list[Row], runs: int, log: Path, minutes: float) -> None:
    """Fill the log until every row has its runs or the time is over."""
    done = read_log(log)
    until = time.monotonic() + 60 * minutes
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as out:
        out.write("\n")
        for end in range(BLOCK, runs + BLOCK, BLOCK):
            for row in asked:
                for i in range(math.ceil(min(end, runs) * row.share_of_runs)):
                    if i in done[key_of(row)]:
                        continue
                    if time.monotonic() > until:
                        return
                    ended = simulate(row, i)
                    done[key_of(row)][i] = ended
                    out.write(json.dumps([key_of(row), i, list(ended)]) + "\n")
                    out.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--runs", type=int, default=1_000, help="stages of a row; some rows run a share of them"
    )
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after so long")
    parser.add_argument("--only", choices=sorted(TELL), action="append")
    parser.add_argument("--row", action="append", help="only rows with this in their label")
    parser.add_argument("--report", action="store_true", help="run nothing, tell what there is")
    parser.add_argument(
        "--log",
        type=Path,
        default=HERE.parent / ".huidu" / "bench" / f"{CODE_VERSION}-design-{DESIGN}.jsonl",
        help="finished stages, one a line",
    )
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder of the JSON")
    given = parser.parse_args()
    asked = [row for row in rows() if given.only is None or row.question in given.only]
    if given.row:
        asked = [row for row in asked if any(part in row.label for part in given.row)]
    if not given.report:
        work(asked, given.runs, given.log, given.minutes)
    command = f"python bench/promotion.py --runs {given.runs}"
    command += "".join(f" --only {name}" for name in given.only or ())
    report(asked, given.log, given.out, command)


if __name__ == "__main__":
    main()
