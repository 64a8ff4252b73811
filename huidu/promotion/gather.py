"""Moving the evidence on: what of this look can be used, and what about it cannot be trusted."""

from __future__ import annotations

import math
from typing import NamedTuple

import msgspec

from huidu.errors import EvidenceError
from huidu.promotion import evidence as ev
from huidu.promotion import texts
from huidu.promotion.contract import Evidence, Look, Metric, Missing, Pulse, Role, State
from huidu.promotion.finding import Finding
from huidu.promotion.plan import CompiledPlan, Guard

SUSPICIOUS = math.log(10.0)
"""Log e-value of one guard from which harm is suspected, and nobody is promoted meanwhile."""


SEEN_IN_OUTCOMES = frozenset({"harm_suspected", "too_good_to_be_true"})
"""Reasons that follow from the outcomes themselves. A planned look is held and spent in spite of
them: one put off until the outcomes look better would pass too often."""


class Gathered(NamedTuple):
    """What the evidence is after this look, and what is wrong with it."""

    users: dict[str, tuple[float, float]]
    evidence: dict[str, Evidence]
    pulses: dict[str, tuple[Pulse, Pulse]]
    problems: list[Missing]


def gather(
    plan: CompiledPlan, state: State, look: Look, *, accepted: frozenset[str] = frozenset()
) -> Gathered:
    """Take over every metric that is complete alike in both arms; name each that is not.

    With `silent_feed` accepted, a person has said that control really has no more events.
    """
    problems: list[Missing] = []
    try:
        users, places = ev.users_of(plan, look, state)
    except EvidenceError as error:
        users = {name: state.users.get(name, (0.0, 0.0)) for name in plan.ids}
        problems.append(texts.bad_evidence(error, None))
        return Gathered(users, state.evidence, state.pulses, problems)
    enrolled = plan.enrolled(users)
    evidence = dict(state.evidence)
    pulses = dict(state.pulses)
    for guard in plan.guards:
        latest, arms, problem = _take_over(
            plan, guard, state, look, (users, places, enrolled), accepted
        )
        if latest is not None:
            evidence[guard.name] = latest
        if arms is not None:
            pulses[guard.name] = arms
        # A metric that is only watched blocks nothing.
        if problem is not None and guard.metric.role is not Role.WATCH:
            problems.append(problem)
    return Gathered(users, evidence, pulses, problems)


def _take_over(
    plan: CompiledPlan,
    guard: Guard,
    state: State,
    look: Look,
    found: tuple[ev.type_of_users, dict[str, int], tuple[float, float]],
    accepted: frozenset[str],
) -> tuple[Evidence | None, tuple[Pulse, Pulse] | None, Missing | None]:
    """One metric's new evidence and pulses, if the look brings any, and what is wrong with it."""
    users, places, enrolled = found
    has_control = plan.has_control and not guard.absolute
    before = state.evidence.get(guard.name)
    path = f"as_of.{guard.name}"
    try:
        now = ev.read_metric(plan, guard, look, users, places)
        complete = ev.complete_up_to(
            look.as_of.get(guard.name), look.t_min, has_control=has_control, path=path
        )
    except EvidenceError as error:
        return None, None, texts.bad_evidence(error, guard.name)
    if now is None:
        return None, None, texts.no_data(guard.name)
    if complete is None:
        return None, None, _too_old(guard, before, look.t_min)
    fallen = None if before is None else ev.fell(before, now)
    if fallen is not None:
        return None, None, texts.fell(guard.name, fallen)
    if guard.metric.fresh_min is not None and before is not None and complete <= before.as_of:
        # Nothing was loaded since: users enrolled meanwhile are not told of yet, which is no
        # silence. (Without a limit of its own a metric is judged as it always was.)
        now = msgspec.structs.replace(now, users=before.users)
        enrolled = plan.enrolled(before.users)
    treated_users, control_users = enrolled
    arms = _beats(guard, state.pulses.get(guard.name), now, enrolled)
    # Control gone silent while treated goes on is a broken feed, and would look like harm.
    # Treated gone silent may be the harm itself (nobody succeeds any more): that is judged.
    one_sided = ev.is_silent(arms[1], control_users) and not ev.is_silent(arms[0], treated_users)
    if has_control and one_sided and "silent_feed" not in accepted:
        return None, arms, texts.silent(guard.name, "control", control_users - arms[1].users)
    latest = msgspec.structs.replace(now, as_of=complete)
    return latest, arms, _too_old(guard, latest, look.t_min)


def _too_old(guard: Guard, latest: Evidence | None, t_min: float) -> Missing | None:
    if latest is None:
        return texts.no_data(guard.name)
    if latest.as_of == ev.UNKNOWN_AS_OF:
        return texts.freshness_unknown(guard.name)
    most = ev.fresh_min(guard.metric)
    if t_min - latest.as_of > most:
        return texts.stale(guard.name, t_min - latest.as_of, most)
    return None


def _beats(
    guard: Guard, before: tuple[Pulse, Pulse] | None, now: Evidence, users: tuple[float, float]
) -> tuple[Pulse, Pulse]:
    # Column 0 is the count of events (beyond the lowest edge for latencies); of means, 1 the sum.
    column = 0 if guard.counts_users else 1
    old = before or (Pulse(), Pulse())
    treated, control = (
        ev.beat(
            old[i],
            sum(row[column] for row in rows.values()),
            users[i],
            counts_events=guard.counts_users,
        )
        for i, rows in enumerate((now.t, now.c))
    )
    return treated, control


def streaks(plan: CompiledPlan, state: State, look: Look, *, count: bool) -> dict[str, int]:
    """For how many looks in a row each gauge has been beyond its limit.

    An unknown reading neither ends a streak nor lengthens it: silence clears no alarm.
    """
    lengths: dict[str, int] = {}
    for gauge in plan.gauges:
        before = state.streaks.get(gauge.name, 0)
        beyond = is_breached(gauge, reading_of(gauge, look))
        if beyond is None or not count:
            lengths[gauge.name] = before
        else:
            lengths[gauge.name] = before + 1 if beyond else 0
    return lengths


def reading_of(gauge: Metric, look: Look) -> float | None:
    """The gauge's reading, or None if there is none or its source says that it is old."""
    as_of = look.as_of.get(gauge.name)
    known = [m for m in (as_of.t, as_of.c) if m is not None] if as_of is not None else []
    if known and look.t_min - max(known) > ev.fresh_min(gauge):
        return None
    return look.gauges.get(gauge.name)


def is_breached(gauge: Metric, reading: float | None) -> bool | None:
    """Whether a gauge is beyond its limits; None if there is no reading."""
    if reading is None or not math.isfinite(reading):
        return None
    return (gauge.max is not None and reading > gauge.max) or (
        gauge.min is not None and reading < gauge.min
    )


def unsure(
    plan: CompiledPlan,
    look: Look,
    gathered: Gathered,
    findings: dict[str, Finding],
    accepted: frozenset[str],
) -> list[Missing]:
    """Readings that do not roll back but that nobody should be promoted on."""
    missing: list[Missing] = []
    for gauge in plan.gauges:
        if gauge.role is Role.WATCH:
            continue
        beyond = is_breached(gauge, reading_of(gauge, look))
        if beyond is None:
            missing.append(texts.gauge_unknown(gauge.name))
        elif beyond:
            missing.append(texts.gauge_breached(gauge, look.gauges[gauge.name]))
    too_good = -math.log(plan.plan.alpha.promote)
    for guard in plan.stoppers:
        finding = findings[guard.name]
        if finding.log_too_good >= too_good and "too_good_to_be_true" not in accepted:
            missing.append(texts.too_good(guard.name, finding))
        if finding.log_e >= SUSPICIOUS and finding.material:
            missing.append(texts.harm_suspected(guard.name, finding))
        arms = gathered.pulses.get(guard.name)
        latest = gathered.evidence.get(guard.name)
        if arms is None or latest is None or "silent_feed" in accepted:
            continue
        users = plan.enrolled(latest.users)
        for label, pulse, i in (("treated", arms[0], 0), ("control", arms[1], 1)):
            enrolled = users[i]
            told = any(p.code == "silent_feed" and p.metric == guard.name for p in missing)
            if not told and (i == 0 or not guard.absolute) and ev.is_silent(pulse, enrolled):
                missing.append(texts.silent(guard.name, label, enrolled - pulse.users))
    return missing
