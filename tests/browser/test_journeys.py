"""The main journeys of an operator, in both languages, in a real browser."""

from __future__ import annotations

import json
import re
from pathlib import Path

import polib
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from rollout.models import AuditEntry, ChangeRequest, Flag, Rollout, Stage
from rollout.services import rollouts, stages
from tests.browser.conftest import Page
from tests.rollout.admin import world
from tests.waiting import wait_for

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

LANGUAGES = ["zh-hans", "en"]
WORDS = {
    "zh-hans": {
        "meaning": "近 7 天支付笔数 > 3 笔",
        "matched": "60 名已知用户中有",
        "wrong": "整数",
        "lose": "名用户将失去它",
        "why": "请用一句话说明原因",
        "closed": "您所在地区暂未开放",
        "waits": "等待另一人批准",
    },
    "en": {
        "meaning": "Payments in 7 days > 3 payments",
        "matched": "of 60 known users match",
        "wrong": "a whole number",
        "lose": "lose it",
        "why": "Say in one sentence why",
        "closed": "not open in your region",
        "waits": "another person approves it",
    },
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_rule_is_edited_in_rows_and_counted(page: Page, bank: world.World, language: str) -> None:
    page.log_in(world.people()[0], language)
    page.open(f"/admin/cohorts/cohort/{bank.staff.pk}/change/")
    page.until(".hd-rule-words", "是" if language == "zh-hans" else "yes")
    page.click(".hd-rule-add button")  # a condition: weekly payments
    rows = page.driver.find_elements(By.CSS_SELECTOR, ".hd-rule-row")
    assert len(rows) == 2
    assert page.driver.switch_to.active_element.get_attribute("class").startswith("hd-select")
    page.fill(".hd-rule-row:nth-child(2) input[type=number]", "3")
    page.until(".hd-rule-words", WORDS[language]["meaning"])
    page.click(".hd-rule-count")
    page.until(".hd-reach-total", WORDS[language]["matched"])
    page.fill("input[name=reason]", "test")
    page.click("button[name=_continue]")
    page.until(".hd-table", WORDS[language]["meaning"])
    assert page.complaints() == []
    waiting = ChangeRequest.objects.filter(kind="cohort.save").first()
    assert waiting is not None  # the flag is live and asks for two people
    assert waiting.payload["rule"]["and"][1] == {">": [{"var": "weekly_payments"}, 3]}


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_wrong_rule_is_refused_at_its_row(page: Page, bank: world.World, language: str) -> None:
    page.log_in(world.people()[0], language)
    page.open("/admin/cohorts/cohort/add/")
    page.fill("input[name=key]", "wrong")
    page.click(".hd-rule-add button")
    page.click(".hd-rule-add button")
    number = page.one(".hd-rule-row:nth-child(2) input[type=number]")
    number.send_keys(Keys.CONTROL, "a")
    number.send_keys(Keys.BACKSPACE)
    page.until(".hd-rule-wrong + .hd-rule-complaint", WORDS[language]["wrong"])
    wrong = page.driver.find_elements(By.CSS_SELECTOR, ".hd-rule-row")
    assert "hd-rule-wrong" in wrong[1].get_attribute("class")
    assert "hd-rule-wrong" not in wrong[0].get_attribute("class")
    page.click("button[name=_save]")
    page.until("#content", WORDS[language]["wrong"])
    assert "/add/" in page.driver.current_url
    assert page.complaints() == []


def test_rules_survive_the_editor_unchanged(page: Page, bank: world.World) -> None:
    rule = {
        "or": [
            {"and": [{"between": [{"var": "age"}, 18, 60]}, {"!": {"var": "student"}}]},
            {"in": [{"var": "region"}, ["440300", "310000"]]},
            {"sem_ver": [{"var": "app_version"}, "^", "8.0.0"]},
            {"!": {"and": [{"cohort": "staff"}, {"starts_with": [{"var": "platform"}, "iOS"]}]}},
            {"<": [1, {"var": "weekly_payments"}, 9]},
        ]
    }
    page.log_in(world.people()[0], "en")
    page.open("/admin/cohorts/cohort/add/")
    types = {"age": "integer", "student": "boolean", "region": "region", "app_version": "sem_ver"}
    types |= {"platform": "string", "weekly_payments": "integer"}
    script = """
      const root = HuiduRules.readRoot(arguments[0], arguments[1]);
      return HuiduRules.writeRoot(root, arguments[1]);
    """
    back = page.driver.execute_script(script, rule, types)
    told = json.loads(
        json.dumps(rule).replace('{"var": "student"}}', '{"==": [{"var": "student"}, true]}}')
    )
    assert back == told


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_kill_asks_says_how_many_lose_it_and_needs_a_reason(
    page: Page, bank: world.World, language: str
) -> None:
    page.log_in(world.people()[0], language)
    page.open("/admin/")
    page.click('[data-flag="weilidai"] .hd-danger')
    page.until("[data-touched]", WORDS[language]["lose"])
    assert re.search(r"\d", page.text("[data-touched]"))
    page.click("[data-confirm]")
    page.until("form", WORDS[language]["why"])
    assert not Flag.objects.get(pk=bank.flag.pk).killed
    page.fill("textarea[name=reason]", "complaints rise")
    page.click("[data-confirm]")
    page.until(".hd-notice.hd-bad", "complaints rise")
    assert Flag.objects.get(pk=bank.flag.pk).killed
    assert AuditEntry.objects.filter(action="flag.killed", actor="wang").exists()
    assert page.complaints() == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_diagnosis_shows_every_gate_and_what_the_customer_hears(
    page: Page, bank: world.World, language: str
) -> None:
    page.log_in(world.people()[0], language)
    page.open("/admin/diagnose/?flag=weilidai&user=u0003")  # lives where the region is closed
    page.one('[data-answer="region.closed"]')
    page.until("#content", WORDS[language]["closed"])
    assert len(page.driver.find_elements(By.CSS_SELECTOR, ".hd-step")) > 8
    assert len(page.driver.find_elements(By.CSS_SELECTOR, ".hd-step.decides")) == 1
    page.open("/admin/diagnose/?flag=weilidai&user=nobody")
    page.one(".hd-notice.hd-warn")
    assert page.complaints() == []


def test_one_person_submits_another_approves_and_it_starts(page: Page, bank: world.World) -> None:
    journey = rollouts.create(bank.second, by=world.WANG, name="second")
    stages.save_stage(
        journey,
        {"order": 1, "key": "all", "label_en": "Everybody", "waiver": "a test"},
        by=world.WANG,
    )
    wang, li = world.people()
    address = f"/admin/rollout/rollout/{journey.pk}/change/"
    step(page, wang, address, "submit")
    page.open(address)
    assert not page.driver.find_elements(By.CSS_SELECTOR, '[data-act="start"]')
    page.click('[data-act="approve"]')
    page.fill("textarea[name=reason]", "I approve myself")
    page.click("[data-confirm]")
    page.until("[role=alert]", "somebody else must approve")
    step(page, li, address, "approve")
    step(page, wang, address, "start")
    journey.refresh_from_db()
    assert journey.status == Rollout.Status.RUNNING
    assert (journey.submitted_by, journey.approved_by) == ("wang", "li")
    assert page.complaints() == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_change_of_a_live_stage_waits_for_another_person(
    page: Page, bank: world.World, language: str
) -> None:
    wang, li = world.people()
    page.log_in(wang, language)
    page.open(f"/admin/rollout/stage/{bank.planned.pk}/change/")
    assert page.one("input[name=share_ppm]").get_attribute("value") == "5"
    page.fill("input[name=share_ppm]", "7.5")
    page.fill("input[name=reason]", "a little more")
    page.click("button[name=_save]")
    page.until("#main", WORDS[language]["waits"])
    assert Stage.objects.get(pk=bank.planned.pk).share_ppm == 50_000
    change = ChangeRequest.objects.get()
    assert change.payload == {"share_ppm": 75_000}
    page.log_in(li, language)
    page.open(f"/admin/rollout/changerequest/{change.pk}/change/")
    page.until(".hd-table", "7.5 %")
    page.click('[data-act="approve"]')
    page.fill("textarea[name=reason]", "checked")
    page.click("[data-confirm]")
    wait_for(lambda: Stage.objects.get(pk=bank.planned.pk).share_ppm == 75_000)
    page.until("#main", "7.5 %")
    assert page.complaints() == []


def test_no_english_is_left_on_chinese_pages(page: Page, bank: world.World) -> None:
    """Texts of the catalogue must not stand on a Chinese page in their English form."""
    catalogue = polib.pofile(str(Path("locale/zh_Hans/LC_MESSAGES/django.po")))
    english = {
        entry.msgid
        for entry in catalogue
        if entry.msgstr != entry.msgid and re.fullmatch(r"[A-Za-z][A-Za-z ,.'-]{5,}", entry.msgid)
    }
    page.log_in(world.people()[0], "zh-hans")
    left = []
    for path in (
        "/admin/",
        f"/admin/rollout/flag/{bank.flag.pk}/change/",
        f"/admin/rollout/rollout/{bank.rollout.pk}/change/",
        f"/admin/rollout/stage/{bank.planned.pk}/change/",
        f"/admin/rollout/gate/{bank.gate.pk}/change/",
        f"/admin/cohorts/cohort/{bank.cohort.pk}/change/",
        "/admin/rollout/decision/",
        "/admin/rollout/auditentry/",
        "/admin/rollout/apikey/add/",
        "/admin/diagnose/?flag=weilidai&user=u0001",
    ):
        page.open(path).one("#content")
        left += [f"{path}: {line}" for line in sorted(page.lines() & english)]
    assert left == []
    assert page.complaints() == []


def step(page: Page, user: object, address: str, act: str) -> None:
    """One confirmed step, with a reason, in English."""
    page.log_in(user, "en")  # type: ignore[arg-type]
    page.open(address)
    page.click(f'[data-act="{act}"]')
    page.fill("textarea[name=reason]", f"test of {act}")
    page.click("[data-confirm]")
    wait_for(lambda: AuditEntry.objects.filter(reason=f"test of {act}").exists())
    page.one(f'[data-act]:not([data-act="{act}"])')


def test_a_person_chooses_a_language_in_the_header(page: Page, bank: world.World) -> None:
    page.log_in(world.people()[0], "zh-hans")
    page.open("/admin/")
    page.until("#nav-sidebar", "产品开关")
    page.click('.hd-languages button[value="en"]')
    page.until("#nav-sidebar", "Flags")
    page.click('.hd-languages button[value="zh-hans"]')
    page.until("#nav-sidebar", "产品开关")
    assert page.complaints() == []


def test_a_condition_is_added_by_keyboard_alone(page: Page, bank: world.World) -> None:
    page.log_in(world.people()[0], "en")
    page.open("/admin/cohorts/cohort/add/")
    page.one(".hd-rule-add button").send_keys(Keys.ENTER)
    chosen = page.driver.switch_to.active_element
    Select(chosen).select_by_value("age")
    page.driver.switch_to.active_element.send_keys(Keys.TAB)
    page.driver.switch_to.active_element.send_keys("18")
    page.until(".hd-rule-words", "Age > ")
    area = page.driver.find_element(By.CSS_SELECTOR, "textarea[name=rule]")
    assert json.loads(area.get_attribute("value"))[">"][0] == {"var": "age"}
