"""The Celery worker of `bin/up`: as `celery worker`, but its processes never outlive it.

The kernel's signal at a parent's death is not passed on to grandchildren, so each process of the
pool asks for its own. What it was doing is done again: tasks are acknowledged late.
"""

from __future__ import annotations

import signal
import sys

from celery.signals import worker_process_init

from config.celery import app
from local.child import die_with_parent


def main() -> None:
    worker_process_init.connect(_tie_to_parent, weak=False)
    app.worker_main(["worker", "--pool=prefork", "--loglevel=INFO", *sys.argv[1:]])


def _tie_to_parent(**_: object) -> None:
    die_with_parent(signal.SIGKILL)


if __name__ == "__main__":
    main()
