"""A machine without a browser skips the browser tests, loudly."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from local import browser


def program(folder: Path, name: str, script: str = "exit 0") -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that holds every program there is."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("HUIDU_CHROMIUM", raising=False)
    monkeypatch.delenv("HUIDU_CHROMEDRIVER", raising=False)
    for names in ("CHROMIUM_NAMES", "DRIVER_NAMES"):
        kept = [name for name in getattr(browser, names) if not name.startswith("/")]
        monkeypatch.setattr(browser, names, tuple(kept))
    return tmp_path


def test_a_browser_is_found_with_its_driver(only: Path) -> None:
    chromium, driver = program(only, "chromium"), program(only, "chromedriver")
    assert browser.find() == browser.Browser(str(chromium), str(driver))
    assert browser.make_ready() == ""


def test_a_browser_without_a_driver_is_none(only: Path) -> None:
    program(only, "chromium")
    assert browser.find() is None


def test_without_a_browser_the_reason_is_said(only: Path) -> None:
    assert browser.make_ready().startswith("BROWSER TESTS SKIPPED: no chromium")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root installs packages")
def test_a_failed_installation_is_said_and_fails_nothing(only: Path) -> None:
    program(only, "apt-get", "echo 'E: no network' >&2; exit 100")
    said = browser.make_ready()
    assert said == "BROWSER TESTS SKIPPED: apt-get update failed: E: no network"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root installs packages")
def test_an_installed_browser_is_used(only: Path) -> None:
    for name in ("chromium", "chromedriver"):
        program(only, f"new-{name}")
    script = f"/bin/ln -sf {only}/new-chromium {only}/chromium; /bin/ln -sf {only}/new-chromedriver"
    program(only, "apt-get", f"{script} {only}/chromedriver")
    assert browser.make_ready() == ""
