"""bin/test: everything that must hold before a change is kept.

Usage:
    bin/test               ruff, mypy, translations, then every test that is not slow
    bin/test ARGUMENT...   pytest alone, from the checkout's root, with exactly these arguments:
                           bin/test tests/edge -k etag    bin/test -m slow    bin/test -n 2 -x

Generated examples are the same in every run; others are looked for with
`bin/test --hypothesis-profile=explore tests/huidu`.

Tests run on real PostgreSQL and Redis, started for the run in a throw-away folder. Browser tests
need a Chromium; without one they are skipped, and the run says so.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from local import browser

ROOT = Path(__file__).resolve().parent.parent
TYPED = ["huidu", "edge", "cohorts/services", "rollout/services", "local", "config"]
# A file stays on one worker: some tell one story in order, and fixtures are made once.
ALL_TESTS = ["-q", "-n", "2", "--dist", "loadfile", "-m", "not slow"]
# Read by tests/conftest.py, so that pytest's last lines cannot hide what failed before it.
FAILED_CHECKS = "HUIDU_FAILED_CHECKS"
BROWSER_NOTE = "HUIDU_BROWSER_NOTE"


def main(arguments: Sequence[str]) -> int:
    if {"-h", "--help"} & set(arguments):
        print(__doc__)
        return 0
    os.chdir(ROOT)
    # mypy and the translations read the settings: no folder of this machine may change the answer.
    os.environ.setdefault("HUIDU_SECRET", "only-for-checks")
    if arguments:
        return pytest(arguments)
    failed = [name for name, command in checks().items() if not passes(name, command)]
    os.environ[FAILED_CHECKS] = ", ".join(failed)
    os.environ[BROWSER_NOTE] = browser.make_ready()
    return pytest(ALL_TESTS) or int(bool(failed))


def checks() -> dict[str, list[str]]:
    """Each check by its name, as the command that makes it."""
    typed = [path for path in TYPED if (ROOT / path).exists()]
    typed += [f"{path}.py" for path in TYPED if (ROOT / f"{path}.py").exists()]
    python = [sys.executable, "-m"]
    return {
        "ruff check": [*python, "ruff", "check", "--quiet", "."],
        "ruff format": [*python, "ruff", "format", "--check", "--quiet", "."],
        "mypy": [*python, "mypy", *typed],
        "translations": [*python, "local.translations", "check"],
    }


def passes(name: str, command: list[str]) -> bool:
    """Run one check; print a line, and what it said when it failed."""
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True)
    word = "failed" if done.returncode else "ok"
    print(f"{name}: {word} ({time.monotonic() - began:.1f} s)", flush=True)
    if done.returncode:
        print((done.stdout + done.stderr).rstrip(), flush=True)
    return done.returncode == 0


def pytest(arguments: Sequence[str]) -> int:
    return subprocess.run([sys.executable, "-m", "pytest", *arguments]).returncode


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
