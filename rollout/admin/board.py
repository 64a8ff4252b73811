"""What the board and the overview pages show about a flag, read in a fixed number of queries."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Count, Prefetch
from django.utils import timezone
from django.utils.translation import gettext

from cohorts.models import Admission, Draw, Profile
from cohorts.wording import Vocabulary, label_of, rule_in_words
from huidu.model import PPM
from rollout.mappers import rollout_to_tell
from rollout.models import Decision, Flag, Guard, Metric, Rollout, Stage
from rollout.services import wording

HARM_E_VALUE = 20.0
"""1 / alpha of the default error budget: from here on harm counts as proven."""
SUSPECT_E_VALUE = 3.0
DAY = timedelta(days=1)


@dataclass(frozen=True)
class GuardLight:
    """One guard at the last look: ok (proven), unknown, suspect or harm."""

    name: str
    role: str
    light: str
    told: str


@dataclass
class StageView:
    stage: Stage
    name: str
    audience: str
    weights: list[str]
    guards: list[GuardLight] = field(default_factory=list)
    latest: Decision | None = None
    reasons: list[str] = field(default_factory=list)
    now: datetime = field(default_factory=timezone.now)
    scale: float = 1.0

    @property
    def state(self) -> str:
        return str(self.stage.status)

    @property
    def is_running(self) -> bool:
        return bool(self.stage.status == Stage.Status.RUNNING)

    @property
    def time_in_stage(self) -> timedelta | None:
        """In the rollout's own time: a compressed demo clock runs faster."""
        if self.stage.entered_at is None:
            return None
        return ((self.stage.left_at or self.now) - self.stage.entered_at) * self.scale

    @property
    def stay_percent(self) -> int:
        if self.time_in_stage is None or not self.stage.minimum_stay:
            return 0
        return min(100, int(100 * (self.time_in_stage / self.stage.minimum_stay)))

    @property
    def held_back_ppm(self) -> int:
        return PPM - self.stage.full_share_ppm

    @property
    def shares(self) -> list[dict[str, Any]]:
        """The shares of its ramp in order, with what each waits for; empty without a ramp."""
        return shares_of(self.stage)

    @property
    def chances(self) -> list[dict[str, Any]]:
        """Users by weight at the draw, whichever of the two shapes the receipt has."""
        strata = self.stage.strata
        return (
            [each for each in strata if isinstance(each, dict)] if isinstance(strata, list) else []
        )


@dataclass
class FlagView:
    flag: Flag
    name: str
    rollout: Rollout | None
    stages: list[StageView]
    state: str
    kind: str
    shown_to: int | None
    reached: str

    @property
    def current(self) -> StageView | None:
        return next((each for each in self.stages if each.is_running), None)

    @property
    def decides_only(self) -> bool:
        """Whether decisions of the running stage are recorded and not carried out."""
        return self.current is not None and bool(self.current.stage.decides_only)

    @property
    def time_scale(self) -> float:
        return time_scale_of(self.rollout) if self.rollout else 1.0


def time_scale_of(rollout: Rollout) -> float:
    """How much faster than real time the rollout's clock runs; 1 in production."""
    return float(getattr(rollout, "time_scale", 1) or 1)


def flag_views(
    *, environment: str | None = None, pks: Iterable[int] | None = None
) -> list[FlagView]:
    """The flags with all that is told about them."""
    flags = Flag.objects.filter(archived_at__isnull=True)
    if environment is not None:
        flags = flags.filter(environment=environment)
    if pks is not None:
        flags = flags.filter(pk__in=list(pks))
    stages = Stage.objects.select_related("audience").prefetch_related(
        Prefetch("guards", Guard.objects.select_related("metric"))
    )
    rows = list(
        flags.prefetch_related(
            Prefetch(
                "rollouts",
                Rollout.objects.select_related("current").prefetch_related(
                    Prefetch("stages", stages.order_by("order"))
                ),
            )
        ).order_by("key")
    )
    told = {row.pk: rollout_to_tell(row.rollouts.all()) for row in rows}
    return sorted(_views(rows, told), key=_busiest_first)


def _busiest_first(view: FlagView) -> tuple[int, str]:
    """What users see now comes first, then what is planned."""
    status = view.rollout.status if view.rollout else ""
    rank = 0 if status in Rollout.IN_EFFECT else 1 if status else 2
    return rank, view.flag.key


def rollout_view(rollout: Rollout) -> FlagView:
    """One rollout, also one that is over."""
    return _views([rollout.flag], {rollout.flag_id: rollout})[0]


def _views(rows: list[Flag], told: dict[int, Rollout | None]) -> list[FlagView]:
    words = Vocabulary.load()
    labels = metric_labels()
    journeys = [each for each in told.values() if each is not None]
    admitted = dict(
        Admission.objects.filter(slot__in=[each.slot for each in journeys], admitted=True)
        .values_list("slot")
        .annotate(users=Count("user_id"))
    )
    latest = latest_decisions([stage.pk for each in journeys for stage in each.stages.all()])
    population = Profile.objects.count() if journeys else 0
    views = []
    for row in rows:
        journey = told[row.pk]
        stages = (
            []
            if journey is None
            else [
                stage_view(each, words, labels, latest.get(each.pk), time_scale_of(journey))
                for each in sorted(journey.stages.all(), key=lambda each: each.order)
            ]
        )
        state, kind = state_of(row, journey)
        shown, reached = _reached(row, journey, admitted, population)
        views.append(FlagView(row, label_of(row), journey, stages, state, kind, shown, reached))
    return views


def stage_view(
    stage: Stage,
    words: Vocabulary,
    labels: dict[str, str],
    latest: Decision | None,
    scale: float = 1.0,
) -> StageView:
    return StageView(
        stage=stage,
        name=label_of(stage),
        audience=label_of(stage.audience) if stage.audience else gettext("everybody eligible"),
        weights=weights_in_words(stage.weights, words),
        guards=lights(stage, latest, labels),
        latest=latest,
        reasons=[] if latest is None else wording.outcome_in_words(latest.outcome, labels),
        scale=scale,
    )


def shares_of(stage: Stage) -> list[dict[str, Any]]:
    """Each share of a ramp: whether it is past, now or to come, and what must hold before it."""
    if not stage.ramp:
        return []
    steps = [{"share_ppm": first_share(stage), "after_minutes": 0, "users": 0}, *stage.ramp]
    pending = stage.status == Stage.Status.PENDING
    return [
        {
            "share_ppm": each["share_ppm"],
            "state": "pending"
            if pending or each["share_ppm"] > stage.share_ppm
            else "running"
            if each["share_ppm"] == stage.share_ppm
            else "done",
            "after": timedelta(minutes=each["after_minutes"]),
            "users": each.get("users", 0),
        }
        for each in steps
    ]


def first_share(stage: Stage) -> int:
    """The share a ramp began with: the stage's own until it starts, then its first draw's."""
    if stage.status == Stage.Status.PENDING:
        return int(stage.share_ppm)
    drawn = Draw.objects.filter(slot=stage.rollout.slot, stage_key=stage.key).order_by("pk")
    first = drawn.values_list("share_ppm", flat=True).first()
    return int(stage.share_ppm if first is None else first)


def weights_in_words(weights: Any, words: Vocabulary) -> list[str]:
    """``weekly payments > 20: 3 times as likely``, one line each."""
    return [
        gettext("%(rule)s: %(weight)s times as likely to be drawn")
        % {"rule": rule_in_words(each.get("rule", {}), words), "weight": each.get("weight")}
        for each in weights or []
        if isinstance(each, dict)
    ]


def state_of(flag: Flag, rollout: Rollout | None) -> tuple[str, str]:
    """The flag's state in one sentence, and its colour."""
    if flag.killed:
        return gettext("Stopped: hidden from everybody"), "bad"
    if not flag.enabled:
        return gettext("Switched off: hidden from everybody"), "warn"
    if rollout is None:
        return gettext("No rollout yet: hidden from everybody"), "plain"
    stage = label_of(rollout.current) if rollout.current else ""
    match rollout.status:
        case Rollout.Status.RUNNING:
            return gettext("Running, in the stage “%(stage)s”") % {"stage": stage}, "good"
        case Rollout.Status.PAUSED:
            return gettext("Paused in the stage “%(stage)s”; nobody loses it") % {
                "stage": stage
            }, "warn"
        case Rollout.Status.COMPLETED:
            return gettext("Completed: open as far as the last stage reaches"), "good"
        case Rollout.Status.ROLLED_BACK:
            return gettext("Rolled back: hidden from everybody"), "bad"
        case Rollout.Status.KILLED:
            return gettext("Stopped: hidden from everybody"), "bad"
        case Rollout.Status.AWAITING_APPROVAL:
            return gettext("Waits for a second person"), "info"
    return gettext("Draft: hidden from everybody"), "plain"


def _reached(
    flag: Flag, rollout: Rollout | None, admitted: dict[int, int], population: int
) -> tuple[int | None, str]:
    """How many users the flag reaches now, as a number and a sentence."""
    if rollout is None or rollout.status not in Rollout.IN_EFFECT:
        return 0, gettext("nobody")
    if flag.killed or not flag.enabled or rollout.status == Rollout.Status.KILLED:
        return 0, gettext("nobody")
    known = admitted.get(rollout.slot, 0)
    current = rollout.current
    if current is not None and current.share_ppm == PPM:
        if current.audience_id is None:
            return population, gettext("up to %(users)s known users, as far as the gates allow") % {
                "users": f"{population:,}"
            }
        return None, gettext("everybody in “%(cohort)s” whom the gates let pass") % {
            "cohort": label_of(current.audience)
        }
    return known, gettext("up to %(users)s users drawn, as far as the gates allow") % {
        "users": f"{known:,}"
    }


def lights(stage: Stage, latest: Decision | None, labels: dict[str, str]) -> list[GuardLight]:
    """How each guard stands, by the last look."""
    outcome = latest.outcome if latest else {}
    readings = {each.get("metric"): each for each in outcome.get("readings") or []}
    blamed = outcome.get("metric") if outcome.get("decision") == "roll_back" else None
    problems = {
        each.get("metric"): each for each in outcome.get("missing") or [] if each.get("metric")
    }
    return [
        _light(
            guard, readings.get(guard.metric.key), problems.get(guard.metric.key), blamed, labels
        )
        for guard in stage.guards.all()
    ]


def _light(
    guard: Guard,
    reading: dict[str, Any] | None,
    problem: dict[str, Any] | None,
    blamed: str | None,
    labels: dict[str, str],
) -> GuardLight:
    key = guard.metric.key
    name, role = labels.get(key, key), guard.get_role_display()
    if blamed == key:
        return GuardLight(name, role, "harm", gettext("harm proven"))
    if reading is None or reading.get("estimate") is None:
        return GuardLight(name, role, "unknown", gettext("not measured yet"))
    if (reading.get("e_value") or 0) >= HARM_E_VALUE:
        return GuardLight(name, role, "harm", gettext("harm likely"))
    if problem and problem.get("code") == "gauge_breached":
        return GuardLight(name, role, "suspect", gettext("beyond its limit"))
    if (reading.get("e_value") or 0) >= SUSPECT_E_VALUE:
        return GuardLight(name, role, "suspect", gettext("harm suspected"))
    z, bound = reading.get("z"), reading.get("bound")
    if z is not None and bound is not None and z >= bound:
        return GuardLight(name, role, "ok", gettext("proven harmless"))
    if guard.role != Guard.Role.MUST_PROVE and reading.get("estimate") is not None:
        return GuardLight(name, role, "ok", gettext("no sign of harm"))
    return GuardLight(name, role, "unknown", gettext("no sign of harm, not proven yet"))


def metric_labels() -> dict[str, str]:
    """What metrics are called in the active language, by key."""
    return {row.key: label_of(row) for row in Metric.objects.all()}


def latest_decisions(stages: list[int]) -> dict[int, Decision]:
    """The last decision of each stage, without the bulky inputs."""
    rows = (
        Decision.objects.filter(stage_id__in=stages)
        .defer("plan", "state", "state_after", "evidence")
        .order_by("stage_id", "-look")
        .distinct("stage_id")
    )
    return {row.stage_id: row for row in rows}


def environment() -> str:
    """The environment this process answers checks for."""
    return str(settings.HUIDU_ENVIRONMENT)
