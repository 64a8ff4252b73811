"""A real Chromium in front of the real site, as an operator uses it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
from pytest_django.live_server_helper import LiveServer
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from local import browser as installed
from tests.rollout.admin import world

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1440,900",
)
WAIT_SECONDS = 90


class Page:
    """One window, logged in as somebody."""

    def __init__(self, driver: webdriver.Chrome, base: str) -> None:
        self.driver, self.base = driver, base

    def log_in(self, user: User, language: str) -> None:
        """As the login page would: with a session of the server's own."""
        client = Client()
        client.force_login(user, "django.contrib.auth.backends.ModelBackend")
        self.driver.get(f"{self.base}/admin/login/")
        self.driver.delete_all_cookies()
        name = settings.SESSION_COOKIE_NAME
        self.driver.add_cookie({"name": name, "value": client.cookies[name].value})
        self.driver.add_cookie({"name": "django_language", "value": language})

    def open(self, path: str) -> Page:
        self.driver.get(self.base + path)
        return self

    def one(self, selector: str) -> WebElement:
        """The first element that fits, once it is there and visible."""

        def visible(driver: webdriver.Chrome) -> WebElement | bool:
            found = driver.find_elements(By.CSS_SELECTOR, selector)
            return next((each for each in found if each.is_displayed()), False)

        return WebDriverWait(self.driver, WAIT_SECONDS).until(visible, selector)  # type: ignore[return-value, arg-type]

    def click(self, selector: str) -> None:
        """Click; once more where the page put another element in its place meanwhile."""
        for last in (False, True):
            element = self.one(selector)
            try:
                self.driver.execute_script(
                    "arguments[0].scrollIntoView({block: 'center'})", element
                )
                return element.click()
            except StaleElementReferenceException:
                if last:
                    raise

    def until(self, selector: str, words: str) -> str:
        """Wait until the element says these words; returns all it says."""
        stale = [StaleElementReferenceException]  # read while the next page took its place
        wait = WebDriverWait(self.driver, WAIT_SECONDS, ignored_exceptions=stale)
        text = self.text

        def said(_: object) -> str:
            found = text(selector)
            return found if words in found else ""

        return wait.until(said, f"{selector}: {words}")

    def text(self, selector: str) -> str:
        found = self.driver.find_elements(By.CSS_SELECTOR, selector)
        return "\n".join(each.text for each in found)

    def lines(self) -> set[str]:
        """Every visible line of the page; names of icons are no words."""
        self.driver.execute_script(
            "document.querySelectorAll('.material-symbols-outlined').forEach((e) => e.remove())"
        )
        return {line.strip() for line in self.text("body").splitlines()}

    def fill(self, selector: str, text: str) -> None:
        element = self.one(selector)
        element.clear()
        element.send_keys(text)

    def complaints(self) -> list[str]:
        """What the browser's console complained about since the last time."""
        return [
            entry["message"]
            for entry in self.driver.get_log("browser")
            if entry["level"] == "SEVERE" and "favicon" not in entry["message"]
        ]


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    found = installed.find()
    if found is None:
        pytest.skip("BROWSER TESTS SKIPPED: no chromium with chromedriver on this machine")
    options = webdriver.ChromeOptions()
    options.binary_location = found.program
    folder: Path = tmp_path_factory.mktemp("chromium")
    for flag in (*FLAGS, f"--user-data-dir={folder}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(found.driver))
    yield driver
    driver.quit()


@pytest.fixture
def bank(transactional_db: object, redis: object) -> world.World:
    return world.build(60)


@pytest.fixture
def page(chromium: webdriver.Chrome, live_server: LiveServer, bank: world.World) -> Iterator[Page]:
    chromium.get_log("browser")
    yield Page(chromium, live_server.url)
    chromium.get("about:blank")  # no script of a page asks for what the next test takes away
