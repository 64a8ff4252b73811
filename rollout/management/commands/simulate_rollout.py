"""Plays a whole journey, staff to everybody, against the running installation, in minutes.

Users are checked and report events over HTTP, as an application's would; the worker's own ticks
review, promote and roll back. The command only sends, watches, and asks again at the end.
"""

from __future__ import annotations

import random
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import httpx
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from cohorts.models import Cohort, Profile
from cohorts.services import draw_jobs
from huidu import reasons
from huidu.errors import HuiduError
from rollout import selectors
from rollout.models import Arm, Decision, Exposure, Rollout, Stage
from rollout.services import simulation, visits
from rollout.services.sim_client import Installation

WORKER_PINGS: Final = 10
WORKER_PING_SECONDS: Final = 3.0
STEP_SECONDS: Final = 1.5
WITHOUT_DECISION_SECONDS: Final = 60.0
"""A draw over many users takes the worker a while; on a busy machine a good while."""
DRAW_NEWS_SECONDS: Final = 10.0
FOLLOW_SECONDS: Final = 1.0
"""Every node answers by the newest publication within so long."""
ASKED_AGAIN: Final = 25
UNLIKE_TOLD: Final = 10
DAYS_AT_MOST: Final = 105
LOOKS_OVERDUE: Final = 3
"""So many looks past the planned time: nothing more comes. A stage being left has one or two."""

END: Final = (Rollout.Status.COMPLETED, Rollout.Status.ROLLED_BACK)


class Command(BaseCommand):
    help = "Play a rollout against the running installation, healthy or harmful."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("flag", help="key of the flag, such as weilidai")
        kind = parser.add_mutually_exclusive_group()
        kind.add_argument("--healthy", action="store_true", help="both arms alike (default)")
        kind.add_argument("--harmful", action="store_true", help="treated users fail more")
        parser.add_argument("--seconds-per-day", type=float, default=4.0)
        parser.add_argument("--users", type=int, default=100_000, help="at most so many users")
        parser.add_argument("--per-step", type=int, default=2_500, help="users met in one step")
        parser.add_argument("--checks-per-step", type=int, default=40, help="asked over HTTP")
        parser.add_argument("--seed", type=int, default=1)
        parser.add_argument(
            "--timeout", type=float, help=f"seconds at most; {DAYS_AT_MOST} of its days if left out"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if not 0.1 <= options["seconds_per_day"] <= 3_600:
            raise CommandError("--seconds-per-day: expected 0.1 to 3,600")
        if options["users"] < 1 or options["per_step"] < 1 or options["checks_per_step"] < 0:
            raise CommandError("--users, --per-step: expected 1 or more")
        try:
            journey = Journey(self, options)
            journey.play()
        except HuiduError as error:
            raise CommandError(str(error)) from error
        except httpx.HTTPError as error:
            raise CommandError(f"the installation stopped answering: {error!r}") from error


class Journey:
    """One run, from the fresh rollout to its end."""

    def __init__(self, command: Command, options: dict[str, Any]) -> None:
        self.command = command
        self.options = options
        self.harmful = bool(options["harmful"])
        self.scale = 86_400 / options["seconds_per_day"]
        self.installation = Installation(Path(_home()))
        flag = selectors.flag_of(settings.HUIDU_ENVIRONMENT, options["flag"])
        if flag is None:
            raise CommandError(f"expected the key of a flag, got {options['flag'][:64]!r}")
        self.flag = flag
        self.fates = simulation.Fates(options["seed"], harmful=self.harmful)
        self.last_decision = 0
        self.sent = 0
        self.asked = 0
        self.unlike: list[str] = []
        self.shown: list[str] = []
        self.all_met = False
        self.told_of_draw = float("-inf")
        self.overdue = 0
        told = options["timeout"]
        self.timeout = DAYS_AT_MOST * options["seconds_per_day"] if told is None else told

    def say(self, text: str) -> None:
        self.command.stdout.write(text)
        self.command.stdout.flush()

    def play(self) -> None:
        if not _worker_answers():
            raise CommandError(
                "no worker answers, so nobody would review the stages: start Huidu with bin/up"
            )
        staff = Cohort.objects.filter(key="staff").exists()
        self.began = time.monotonic()
        self.rollout = simulation.fresh_rollout(
            self.flag, time_scale=self.scale, staff_cohort="staff" if staff else None
        )
        kind = "harmful: treated users outside the company fail more" if self.harmful else "healthy"
        self.say(
            f"{self.flag.key}: rollout #{self.rollout.slot}, {kind}; "
            f"a day takes {self.options['seconds_per_day']:g} seconds"
        )
        self.say(f"watch it: {self.installation.url}/admin/")
        stage: Stage | None = None
        users: Iterator[str] = iter(())
        self.last_news = time.monotonic()
        while self.rollout.status not in END:
            if time.monotonic() - self.began > self.timeout:
                raise CommandError(f"not decided after {self.timeout:g} seconds")
            if self.rollout.current is None:
                self.wait_for_draw()
                continue
            if self.rollout.current != stage:
                stage = self.rollout.current
                assert stage is not None
                users = iter(self.users_of(stage))
                self.overdue = 0
                self.announce(stage)
            assert stage is not None
            began = time.monotonic()
            self.live(stage, users)
            time.sleep(max(0.0, STEP_SECONDS - (time.monotonic() - began)))
            self.watch()
            self.look_again()
        self.watch()
        self.conclude()

    def look_again(self) -> None:
        self.rollout = Rollout.objects.select_related("current", "flag").get(pk=self.rollout.pk)

    def wait_for_draw(self) -> None:
        """From many users the worker draws before the first stage is entered."""
        if not self.is_drawing():
            self.look_again()
            if self.rollout.current is None:
                raise CommandError("the first stage was not entered: see its draw in the admin")
            return
        time.sleep(STEP_SECONDS)
        self.look_again()

    def is_drawing(self) -> bool:
        """Whether the worker draws for the rollout; says how far it is every ten seconds."""
        job = draw_jobs.active(self.rollout.slot)
        if job is None:
            return False
        if time.monotonic() - self.told_of_draw > DRAW_NEWS_SECONDS:
            self.told_of_draw = time.monotonic()
            self.say(
                f"stage {job.stage_key} is being drawn: "
                f"{job.judged:,} of about {job.users:,} users judged"
            )
        return True

    def users_of(self, stage: Stage) -> list[str]:
        """Whom the stage meets, in a seeded order; staff first get to know it alone."""
        rows = Profile.objects.order_by("user_id")
        if stage.audience is not None and stage.audience.key == "staff":
            rows = rows.filter(staff=True)
        names = list(rows.values_list("user_id", flat=True)[: self.options["users"]])
        order = random.Random(f"{self.options['seed']}/{stage.order}")  # noqa: S311
        order.shuffle(names)
        return names

    def announce(self, stage: Stage) -> None:
        label = stage.label_en or stage.key
        drawn = "" if stage.drawn is None else f", {stage.drawn:,} of {stage.population:,} drawn"
        share = stage.share_ppm / 10_000
        self.say(f"\n== stage {stage.key} ({label}): {share:g} % of its audience{drawn}")

    def live(self, stage: Stage, users: Iterator[str]) -> None:
        """A part of the users meets the flag, and what happens to them is reported."""
        part = [each for _, each in zip(range(self.options["per_step"]), users, strict=False)]
        self.all_met = len(part) < self.options["per_step"]
        moment = timezone.now()
        if part:
            visits.visit(self.flag, part, now=moment)  # their checks, before the exposures
            self.installation.send([_exposure(stage, each, moment.isoformat()) for each in part])
            self.sent += len(part)
        # The worker may have moved on meanwhile: each user lives in the stage that enrolled him.
        rows = Exposure.objects.filter(
            rollout=self.rollout, user_id__in=part, first_at=moment
        ).select_related("stage")
        enrolled = [(row.user_id, row.arm) for row in rows]
        events: list[dict[str, Any]] = []
        for row in rows:
            treated = row.arm == Arm.TREATED
            events += self.fates.of(row.user_id, row.stage, treated, row.stratum, moment)
        events += [
            {
                "event_id": f"sim-{stage.pk}-{metric}-{moment.timestamp()}",
                "type": "complete",
                "metric": metric,
                "at": moment.isoformat(),
            }
            for metric in simulation.NEEDED
        ]
        self.installation.send(events)
        self.check(enrolled)

    def check(self, enrolled: list[tuple[str, str]]) -> None:
        """Ask about some of them over HTTP, by both ways there are."""
        # Half of them treated, so that somebody who was shown it can be asked again.
        few = self.options["checks_per_step"] // 2
        asked = [each for each in enrolled if each[1] == Arm.TREATED][:few]
        asked += [each for each in enrolled if each[1] == Arm.CONTROL][:few]
        unlike = self.unlike_among(asked)
        if unlike and self.stays():
            time.sleep(FOLLOW_SECONDS)  # the answer was of the stage before
            unlike = self.unlike_among([(user, arm) for user, arm, _ in unlike])
        if self.stays():
            # While the worker moves on, an answer may rightly be another one than a moment ago.
            self.asked += len(asked)
            self.unlike += [f"{user} ({arm}): {told}" for user, arm, told in unlike]

    def unlike_among(self, asked: list[tuple[str, str]]) -> list[tuple[str, str, str]]:
        """Those who are answered otherwise than their arm says, and what they are told."""
        unlike = []
        for i, (user, arm) in enumerate(asked):
            if i % 2:
                answer = self.installation.visible(self.flag.key, user)
                visible, why = answer["visible"], answer["why"]
            else:
                answer = self.installation.evaluate(self.flag.key, user)
                visible, why = answer["value"] is True, answer["metadata"]["why"]
            if visible != (arm == Arm.TREATED):
                unlike.append((user, arm, f"{'shown' if visible else 'hidden'}, {why}"))
            if visible and arm == Arm.TREATED:
                self.shown.append(user)
        return unlike

    def stays(self) -> bool:
        """Whether the worker has not moved on since the rollout was last looked at."""
        now = Rollout.objects.get(pk=self.rollout.pk)
        return (now.status, now.current_id) == (self.rollout.status, self.rollout.current_id)

    def watch(self) -> None:
        """Tell the newest decision, with what the guards read."""
        rows = Decision.objects.filter(stage__rollout=self.rollout).select_related("stage")
        last = rows.order_by("-pk").first()
        if last is not None and last.pk != self.last_decision:
            self.last_decision = last.pk
            self.last_news = time.monotonic()
            self.say(_line(last, time.monotonic() - self.began))
            self.note_overdue(last)
        elif self.is_drawing():
            self.last_news = time.monotonic()
        elif time.monotonic() - self.last_news > WITHOUT_DECISION_SECONDS:
            raise CommandError(
                f"no decision for {WITHOUT_DECISION_SECONDS:g} seconds: is the worker running? "
                "See its log in the installation's logs folder"
            )

    def note_overdue(self, last: Decision) -> None:
        """Give up where only a person can go on; harm may still be proven after that."""
        if self.harmful or last.decision != "hold" or last.stage != self.rollout.current:
            return
        minutes = last.evidence["look"]["t_min"]
        self.overdue += (
            timedelta(minutes=minutes) > last.stage.maximum_stay and not self.is_drawing()
        )
        if self.overdue >= LOOKS_OVERDUE:
            days = self.options["seconds_per_day"]
            reason = (
                "No users are left: give more with --users, or start bin/up on an empty home "
                "with more HUIDU_DEMO_USERS"
                if self.all_met
                else f"Users come too slowly on this machine for days of {days:g} seconds: "
                f"try --seconds-per-day {3 * days:g}"
            )
            raise CommandError(
                f"stage {last.stage.key}: the planned time is over without a proof, with "
                f"{self.sent:,} users met so far. {reason}"
            )

    def conclude(self) -> None:
        """Ask again, say what came out, and fail when it is not what should have."""
        final = (
            Decision.objects.filter(stage__rollout=self.rollout, acted=True).order_by("-pk").first()
        )
        seconds = time.monotonic() - self.began
        ended = self.rollout.status.replace("_", " ")
        self.say(f"\n== {ended} after {seconds:.0f} seconds, {self.sent:,} users met the flag")
        if final is not None:
            self.say(f"why:      {final.code}: {final.text}")
            self.say(f"decision: {self.installation.url}/admin/rollout/decision/{final.pk}/change/")
            self.say(f"replay:   manage.py replay_decision {final.pk}")
        self.say(
            f"checks:   {self.asked:,} asked over HTTP, {len(self.unlike)} unlike the arm recorded"
        )
        for each in self.unlike[:UNLIKE_TOLD]:
            self.say(f"          {each}")
        rolled_back = self.rollout.status == Rollout.Status.ROLLED_BACK
        wrong = self.ask_again(expect_visible=not rolled_back)
        asked = len(set(self.shown[-ASKED_AGAIN:]))
        state = "hidden, stage.rolled_back" if rolled_back else "visible"
        self.say(f"asked {asked} users again who had been shown it: {asked - wrong} {state}")
        if wrong or not asked:
            raise CommandError("the answers do not follow the decision")
        if rolled_back != self.harmful:
            raise CommandError(
                f"a {'harmful' if self.harmful else 'healthy'} journey should not end {ended}; "
                "up to 5 % of healthy journeys may be rolled back by chance"
            )

    def ask_again(self, *, expect_visible: bool) -> int:
        """How many of those who were shown the flag get another answer than they should."""
        wrong = 0
        deadline = time.monotonic() + 5.0
        for user in sorted(set(self.shown[-ASKED_AGAIN:])):
            while True:
                answer = self.installation.visible(self.flag.key, user)
                right = answer["visible"] is expect_visible and (
                    expect_visible or answer["why"] == reasons.STAGE_ROLLED_BACK
                )
                if right or time.monotonic() > deadline:
                    break
                time.sleep(FOLLOW_SECONDS / 10)
            wrong += not right
        return wrong


def _exposure(stage: Stage, user: str, moment: str) -> dict[str, Any]:
    return {
        "event_id": f"sim-{stage.pk}-met-{user}",
        "type": "exposure",
        "flag": stage.rollout.flag.key,
        "user_id": user,
        "at": moment,
    }


def _line(decision: Decision, seconds: float) -> str:
    look = decision.evidence["look"]
    treated = sum(each["t"]["n"] for each in look["cells"])
    control = sum(each["c"]["n"] for each in look["cells"])
    readings = [
        f"{each['metric']} {each['estimate']:.3g} (e {min(each['e_value'], 9e9):.2g})"
        for each in decision.outcome.get("readings", ())
        if each.get("estimate") is not None
    ]
    verdict = {"hold": "hold", "promote": "PROMOTE", "roll_back": "ROLL BACK"}[decision.decision]
    return (
        f"{seconds:5.0f} s  day {look['t_min'] / 1440:5.1f}  {decision.stage.key:<12} "
        f"{treated:>6,} shown {control:>6,} not  {verdict} {decision.code}"
        + (f"  {', '.join(readings)}" if readings else "")
    )


def _home() -> str:
    from config.environment import Environment

    return str(Environment().home)


def _worker_answers() -> bool:
    """Whether a worker is there; one that was started with the platform needs some seconds."""
    from config.celery import app

    return any(app.control.ping(timeout=WORKER_PING_SECONDS) for _ in range(WORKER_PINGS))
