"""The Chromium of the browser tests: found on the machine, or installed where we may."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass

CHROMIUM_NAMES = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "/snap/bin/chromium",
    "/usr/lib/chromium/chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
DRIVER_NAMES = (
    "chromedriver",
    "/usr/lib/chromium/chromedriver",
    "/usr/lib/chromium-browser/chromedriver",
    "/snap/bin/chromium.chromedriver",
    "/opt/homebrew/bin/chromedriver",
)
APT_SECONDS = 240


@dataclass(frozen=True)
class Browser:
    """Paths of a browser and of the driver that selenium steers it with."""

    program: str
    driver: str


def find() -> Browser | None:
    """The browser of this machine, or None. `HUIDU_CHROMIUM`, `HUIDU_CHROMEDRIVER` come first."""
    program = _first(os.environ.get("HUIDU_CHROMIUM", ""), *CHROMIUM_NAMES)
    driver = _first(os.environ.get("HUIDU_CHROMEDRIVER", ""), *DRIVER_NAMES)
    return Browser(program, driver) if program and driver else None


def make_ready() -> str:
    """Find or install a browser. Returns "" when there is one, else why browser tests are skipped.

    Installing is tried only as root with apt-get, and a failure of it never fails the run.
    """
    if find():
        return ""
    reason = "no chromium with chromedriver found, and only root with apt-get may install them here"
    if shutil.which("apt-get") and os.geteuid() == 0:
        print("installing chromium for the browser tests", flush=True)
        reason = _install()
    if find():
        return ""
    return f"BROWSER TESTS SKIPPED: {reason}"


def _install() -> str:
    """Try apt-get; returns the last words of what failed."""
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-y", "-q", "--no-install-recommends", "chromium"]
    for command in (["apt-get", "update", "-q"], [*install, "chromium-driver"]):
        try:
            done = subprocess.run(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=APT_SECONDS,
            )
        except subprocess.TimeoutExpired:
            return f"{' '.join(command[:2])} took over {APT_SECONDS} s"
        if done.returncode:
            lines = (done.stdout + done.stderr).strip().splitlines() or ["no output"]
            return f"{' '.join(command[:2])} failed: {lines[-1]}"
    return "chromium was installed but does not run as chromium with chromedriver"


def _first(*names: str) -> str:
    return next((path for name in names if name and (path := shutil.which(name))), "")
