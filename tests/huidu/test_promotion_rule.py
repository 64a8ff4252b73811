"""What the rule decides: harm, proof, and every reason to hold."""

from __future__ import annotations

import msgspec
import pytest

from huidu.errors import EvidenceError
from huidu.promotion import (
    CODE_VERSION,
    AsOf,
    Cell,
    Conditions,
    Decision,
    Kind,
    Look,
    Metric,
    Role,
    StageTimes,
    State,
)
from tests.huidu.promotion_stages import (
    AMOUNT,
    COMPLAINTS,
    DAY,
    ERRORS,
    QUEUE,
    SLOWNESS,
    SUCCESS,
    after,
    codes,
    counts,
    look,
    plan,
    steady,
)


def test_a_harmless_stage_is_promoted_at_the_first_planned_look_and_not_before():
    state, early = after(plan(), steady(1), steady(6.9))
    assert early.decision is Decision.HOLD
    assert codes(early) == ["minimum_stay"]
    _, outcome = after(plan(), steady(7), state=state)
    assert outcome.decision is Decision.PROMOTE
    assert outcome.code == "non_inferior"
    assert outcome.code_version == CODE_VERSION
    assert outcome.readings[0].z > outcome.readings[0].bound


def test_proven_harm_rolls_back_at_once_and_names_the_guard():
    _, outcome = after(plan(SUCCESS, COMPLAINTS), _two_guards(1, success=0.5))
    assert (outcome.decision, outcome.metric) == (Decision.ROLL_BACK, "success")
    assert outcome.code == "harm_proven"
    assert "0.5 times control" in outcome.text


def _two_guards(day, *, success=1.0, complaints=1.0):
    n = round(280_000 * day)
    t = n // 20
    return look(
        day,
        counts(
            n,
            {
                "success": (round(t * 0.05 * success), round((n - t) * 0.05)),
                "complaints": (round(t * 0.005 * complaints), round((n - t) * 0.005)),
            },
        ),
    )


def test_more_of_a_bad_event_is_harm_too():
    _, outcome = after(plan(SUCCESS, COMPLAINTS), _two_guards(1, complaints=3.0))
    assert (outcome.decision, outcome.metric) == (Decision.ROLL_BACK, "complaints")


def test_a_difference_that_is_proven_but_trivial_does_not_roll_back():
    million = 1_000_000
    treated = {"n": million, "sum": 96e6, "sumsq": 12e9}
    control = {"n": 19 * million, "sum": 1900e6, "sumsq": 247e9}
    _, outcome = after(plan(AMOUNT), look(5, counts(20 * million, {"amount": (treated, control)})))
    assert outcome.readings[0].e_value > 1_000
    assert outcome.readings[0].estimate == pytest.approx(0.96)  # half of the margin is 0.95
    assert outcome.decision is Decision.HOLD


def test_a_stage_at_its_margin_is_not_promoted_and_says_what_is_missing():
    state, outcome = after(plan(), steady(7, success=0.95, users_per_day=60_000))
    assert outcome.decision is Decision.HOLD
    assert codes(outcome) == ["not_yet_proven"]
    assert "more users" in outcome.missing[0].text
    assert outcome.forecast is not None
    assert outcome.forecast.users > 0
    _, between = after(plan(), steady(7.1, success=0.95, users_per_day=60_000), state=state)
    assert codes(between) == ["not_yet_proven", "next_planned_look"]


def test_after_the_horizon_only_a_person_can_go_on():
    looks = [steady(day, success=0.95, users_per_day=10_000) for day in range(7, 15)]
    state, last = after(plan(), *looks)
    assert codes(last) == ["not_yet_proven"]
    assert len(state.proofs["success"].bounds) == 8
    assert state.proofs["success"].spent[-1] == pytest.approx(0.05)
    _, outcome = after(plan(), steady(14.01, users_per_day=10_000), state=state)
    assert codes(outcome) == ["horizon_over"]


def test_harm_still_rolls_back_after_the_horizon():
    state, _ = after(plan(), steady(14))
    _, outcome = after(plan(), steady(15, success=0.5), state=State())
    assert outcome.decision is Decision.ROLL_BACK
    assert state.decided == "promote"


def test_no_events_at_all_prove_nothing():
    _, outcome = after(plan(), look(7, counts(2_000_000, {"success": (0, 0)})))
    assert codes(outcome) == ["too_little_data"]


@pytest.mark.parametrize(
    ("conditions", "code"),
    [
        (Conditions(approved=False), "approval_missing"),
        (Conditions(compliance_signed=False), "compliance_unsigned"),
        (Conditions(capacity_left=False), "capacity_exhausted"),
        (Conditions(frozen=True), "freeze_window"),
        (Conditions(paused=True), "paused"),
    ],
)
def test_conditions_outside_the_evidence_block_promotion_but_not_rollback(conditions, code):
    state, outcome = after(plan(), steady(7), conditions=conditions)
    assert (outcome.decision, codes(outcome)) == (Decision.HOLD, [code])
    _, harmed = after(plan(), steady(7, success=0.5), conditions=conditions)
    assert harmed.decision is Decision.ROLL_BACK
    # The proof stays good until the next planned look: an hour later all is fine.
    _, later = after(plan(), steady(7.05), state=state)
    assert later.decision is Decision.PROMOTE


def test_a_proof_does_not_outlive_the_next_planned_look():
    waiting = Conditions(approved=False)
    state, outcome = after(plan(), steady(7, users_per_day=60_000), conditions=waiting)
    assert codes(outcome) == ["approval_missing"]
    _, outcome = after(plan(), steady(8, success=0.95, users_per_day=60_000), state=state)
    assert codes(outcome) == ["not_yet_proven"]


def test_minimum_users_are_waited_for():
    _, outcome = after(plan(minimum_users=200_000), steady(7))
    assert codes(outcome) == ["minimum_users"]


def test_after_a_decision_every_look_is_held():
    state, _ = after(plan(), steady(7))
    again, outcome = after(plan(), steady(7.1), state=state)
    assert codes(outcome) == ["already_decided"]
    assert again == state


# Sample ratio


def test_a_broken_sample_ratio_holds_for_good():
    lost = look(1, counts(280_000, {"success": (500, 10_000)}, rho=0.04))
    state, outcome = after(plan(), lost)
    assert outcome.code == "sample_ratio"
    assert outcome.decision is Decision.HOLD
    _, later = after(plan(), steady(7), state=state)
    assert "sample_ratio" in codes(later)
    assert later.decision is Decision.HOLD


def test_with_too_many_treated_users_harm_must_show_against_the_real_share_as_well():
    """8 % treated instead of 5 %, same complaint rate: more complaints, but no harm."""
    n = 280_000
    same_rate = look(1, counts(n, {"complaints": (112, 1_288)}, rho=0.08))
    _, outcome = after(plan(COMPLAINTS), same_rate)
    assert outcome.decision is Decision.HOLD
    worse = look(1, counts(n, {"complaints": (448, 1_288)}, rho=0.08))
    _, harmed = after(plan(COMPLAINTS), worse)
    assert harmed.decision is Decision.ROLL_BACK


def test_a_ratio_that_looks_wrong_at_the_planned_look_waits():
    n = 1_960_000
    t = round(n * 0.05) + 850  # chi-square 7.8, no proof over the whole stage
    cell = counts(n, {"success": (4_943, 93_057)})
    skewed = msgspec.structs.replace(
        cell,
        t=msgspec.structs.replace(cell.t, n=t),
        c=msgspec.structs.replace(cell.c, n=n - t),
    )
    state, outcome = after(plan(), look(7, skewed))
    assert codes(outcome)[0] == "sample_ratio_now"
    assert not state.sample_ratio_broken
    assert state.proofs == {}  # nothing was spent on a look that was not held


# Freshness and silence


def test_a_stalled_arm_does_not_look_like_an_effect():
    """Treated stalls at day 2 while control goes on: by day 6 it would look like x0.33."""
    looks = [steady(2)]
    stalled = looks[0].cells[0].t.m["success"]
    for day in (3, 4, 5, 6):
        now = steady(day)
        cell = now.cells[0]
        arm = msgspec.structs.replace(cell.t, m={"success": stalled})
        looks.append(
            msgspec.structs.replace(
                now,
                cells=(msgspec.structs.replace(cell, t=arm),),
                as_of={"success": AsOf(2 * DAY, day * DAY)},
            )
        )
    _, outcome = after(plan(), *looks)
    assert outcome.decision is Decision.HOLD
    assert "stale_source" in codes(outcome)
    assert outcome.readings[0].as_of == 2 * DAY


def test_a_duplicate_removed_is_no_alarm():
    looks = [steady(1), look(1.1, counts(308_000, {"success": (698, 14_629)}))]
    state, outcome = after(plan(), *looks)
    assert codes(outcome) == ["minimum_stay"]
    assert state.evidence["success"].t["all"] == (698.0,)


def test_a_source_that_lags_alike_in_both_arms_may_be_used_for_an_hour():
    now = steady(7)
    for lag, expected in ((50, Decision.PROMOTE), (70, Decision.HOLD)):
        both = AsOf(7 * DAY - lag, 7 * DAY - lag)
        _, outcome = after(plan(), msgspec.structs.replace(now, as_of={"success": both}))
        assert outcome.decision is expected


def test_a_dead_feed_holds_and_the_planned_look_stays_due():
    dead = look(7, counts(1_960_000, {"success": (None, None)}), as_of={"success": AsOf()})
    state, outcome = after(plan(), steady(6.99), dead)
    assert codes(outcome) == ["no_data"]
    _, back = after(plan(), steady(7.01), state=state)
    assert back.decision is Decision.PROMOTE


def test_a_source_that_does_not_say_how_fresh_it_is_promotes_nobody_but_raises_alarms():
    _, outcome = after(plan(), msgspec.structs.replace(steady(7), as_of={}))
    assert codes(outcome) == ["freshness_unknown"]
    _, harmed = after(plan(), msgspec.structs.replace(steady(1, success=0.5), as_of={}))
    assert harmed.decision is Decision.ROLL_BACK


@pytest.mark.parametrize("silent", [("t",), ("c",), ("t", "c")])
def test_a_feed_that_went_silent_promotes_nobody(silent):
    """Counts stop an hour before the planned look although the source calls itself complete."""
    looks = [steady(7 - hours / 24, users_per_day=28_000) for hours in range(60, 3, -1)]
    state, _ = after(plan(), *looks)
    last, now = looks[-1].cells[0], steady(7, users_per_day=28_000 * 2)
    cell = now.cells[0]
    arms = {
        label: msgspec.structs.replace(getattr(cell, label), m=getattr(last, label).m)
        for label in silent
    }
    frozen = msgspec.structs.replace(now, cells=(msgspec.structs.replace(cell, **arms),))
    _, outcome = after(plan(), frozen, state=state)
    assert outcome.decision is not Decision.PROMOTE
    if outcome.decision is Decision.HOLD:
        assert "silent_feed" in codes(outcome)


def test_a_control_feed_gone_silent_does_not_look_like_harm():
    """Complaints of control stop on day 1; treated ones go on as ever."""
    looks, stopped = [], None
    for hours in range(1, 61):
        n = 28_000 * hours
        t = n // 20
        if hours <= 24:
            stopped = round((n - t) * 0.005)
        looks.append(look(hours / 24, counts(n, {"complaints": (round(t * 0.005), stopped)})))
    _, outcome = after(plan(COMPLAINTS), *looks)
    assert outcome.decision is Decision.HOLD
    assert "silent_feed" in codes(outcome)
    # Unless a person says that control really has no more complaints.
    accepted = Conditions(accepted=("silent_feed",))
    state, _ = after(plan(COMPLAINTS), *looks, conditions=accepted)
    assert state.decided == "roll_back"


def test_treated_users_who_all_stop_succeeding_are_harm_not_silence():
    looks, stopped = [], None
    for hours in range(1, 61):
        n = 28_000 * hours
        t = n // 20
        if hours <= 24:
            stopped = round(t * 0.05)
        looks.append(look(hours / 24, counts(n, {"success": (stopped, round((n - t) * 0.05))})))
    state, _ = after(plan(), *looks)
    assert state.decided == "roll_back"


def test_a_bad_event_that_all_but_vanished_waits_for_a_person():
    vanished = look(7, counts(1_960_000, {"complaints": (60, 9_310)}))
    state, outcome = after(plan(COMPLAINTS), vanished)
    assert codes(outcome) == ["too_good_to_be_true"]
    accepted = Conditions(accepted=("too_good_to_be_true",))
    _, promoted = after(plan(COMPLAINTS), vanished, state=state, conditions=accepted)
    assert promoted.decision is Decision.PROMOTE


def test_a_look_is_not_put_off_until_the_outcomes_look_better():
    """Harm suspected at the planned look: the look is held and spent all the same."""
    suspicious = steady(7, success=0.89, users_per_day=43_000)
    state, outcome = after(plan(SUCCESS, COMPLAINTS), _with_complaints(suspicious))
    assert "harm_suspected" in codes(outcome)
    assert len(state.proofs["success"].bounds) == 1


def _with_complaints(given):
    cell = given.cells[0]
    arms = {
        label: msgspec.structs.replace(arm, m=arm.m | {"complaints": round(arm.n * 0.005)})
        for label, arm in (("t", cell.t), ("c", cell.c))
    }
    as_of = given.as_of | {"complaints": given.as_of["success"]}
    return msgspec.structs.replace(
        given, cells=(msgspec.structs.replace(cell, **arms),), as_of=as_of
    )


def test_a_person_cannot_accept_a_broken_sample_ratio():
    lost = look(7, counts(1_960_000, {"success": (3_920, 94_080)}, rho=0.04))
    _, outcome = after(plan(), lost, conditions=Conditions(accepted=("sample_ratio",)))
    assert outcome.code == "sample_ratio"


# Gauges


def gauge_look(day, reading):
    return msgspec.structs.replace(steady(day), gauges={"queue": reading})


def test_a_gauge_beyond_its_limit_for_three_looks_rolls_back():
    looks = [gauge_look(1 + i / 288, reading) for i, reading in enumerate((0.95, 0.97, 0.5, 0.95))]
    state, outcome = after(plan(SUCCESS, QUEUE), *looks)
    assert "gauge_breached" in codes(outcome)
    more = [gauge_look(1.1 + i / 288, 0.95) for i in range(2)]
    _, outcome = after(plan(SUCCESS, QUEUE), *more, state=state)
    assert (outcome.decision, outcome.metric) == (Decision.ROLL_BACK, "queue")


def test_an_unknown_gauge_clears_no_alarm_and_promotes_nobody():
    looks = [gauge_look(1, 0.95), gauge_look(1.1, None), gauge_look(1.2, 0.95)]
    state, outcome = after(plan(SUCCESS, QUEUE), *looks)
    assert state.streaks == {"queue": 2}
    assert outcome.decision is Decision.HOLD
    _, unknown = after(plan(SUCCESS, QUEUE), steady(7))
    assert codes(unknown) == ["gauge_unknown"]


def test_an_old_gauge_reading_counts_as_unknown():
    old = msgspec.structs.replace(
        gauge_look(7, 0.5),
        as_of={"success": AsOf(7 * DAY, 7 * DAY), "queue": AsOf(7 * DAY - 61, None)},
    )
    _, outcome = after(plan(SUCCESS, QUEUE), old)
    assert codes(outcome) == ["gauge_unknown"]


def test_one_look_told_twice_counts_once():
    twice = [gauge_look(1, 0.95)] * 4
    state, outcome = after(plan(SUCCESS, QUEUE), *twice)
    assert state.streaks == {"queue": 1}
    assert outcome.decision is Decision.HOLD


# A look every minute at first

EARLY = StageTimes(horizon_min=14 * DAY, min_min=7 * DAY, early_min=30.0)


def minutes_of(*minutes: float, failing: float = 1.0) -> list[Look]:
    """Looks at these minutes: users come evenly, and the queue is too long from the first on."""
    looks = []
    for minute in minutes:
        n = 1_000 * round(minute)
        treated, control = round(n * 0.05), n - round(n * 0.05)
        readings = {"complaints": (round(treated * 0.02 * failing), round(control * 0.02))}
        looks.append(look(minute / DAY, counts(n, readings), gauges={"queue": 0.95}))
    return looks


def test_looks_in_between_count_for_harm_alone():
    """Gauges and feeds are judged by looks that are five minutes apart, whoever looks in between;
    a plan from before there were any knows no others."""
    given = plan(COMPLAINTS, QUEUE, stage=EARLY)
    rarely, _ = after(given, *minutes_of(0, 5))
    often, outcome = after(given, *minutes_of(*range(8)))
    assert (outcome.decision, often.streaks) == (Decision.HOLD, rarely.streaks)
    assert often.pulses == rarely.pulses
    assert often.evidence["complaints"].as_of == 7.0
    again, _ = after(given, *minutes_of(10.4), state=often)
    assert again.streaks == {"queue": 3}
    before, outcome = after(plan(COMPLAINTS, QUEUE), *minutes_of(0, 1, 2))
    assert (outcome.decision, before.streaks) == (Decision.ROLL_BACK, {"queue": 3})


def test_grave_harm_ends_a_stage_between_two_looks():
    given = plan(COMPLAINTS, stage=EARLY)
    state, outcome = after(given, *minutes_of(0, 1, failing=10.0))
    assert (outcome.decision, outcome.metric, state.last_t_min) == (
        Decision.ROLL_BACK, "complaints", 1.0
    )  # fmt: skip


# Other kinds of guards


def ratio(n, bad, num, den):
    per_user = num / max(bad, 1)
    return {
        "bad": bad,
        "num": num,
        "den": den,
        "num2": bad * per_user**2 * 1.5,
        "den2": den * den / n * 1.2,
        "numden": num * den / n,
    }


def errors_look(day, *, users=1.0, each=1.0):
    n = round(280_000 * day)
    t, c = n // 20, n - n // 20
    bad_t, bad_c = round(t * 0.02 * users), round(c * 0.02)
    return look(
        day,
        counts(
            n,
            {
                "errors": (
                    ratio(t, bad_t, round(bad_t * 2.5 * each), t * 10),
                    ratio(c, bad_c, round(bad_c * 2.5), c * 10),
                )
            },
        ),
    )


def test_failing_users_are_counted_not_requests():
    _, outcome = after(plan(ERRORS), errors_look(1, users=2.0))
    assert (outcome.decision, outcome.metric) == (Decision.ROLL_BACK, "errors")
    _, fine = after(plan(ERRORS), errors_look(7))
    assert fine.decision is Decision.PROMOTE


def test_as_many_failing_users_each_hit_harder_are_not_promoted():
    _, outcome = after(plan(ERRORS), errors_look(7, each=1.6))
    assert codes(outcome) == ["severity_suspected"]


def slow_look(day, slower):
    """Control latencies fall off as (100/x)^2 beyond 70 ms; treated are `slower` times as long."""
    n = round(28_000 * day)
    t, c = n // 20, n - n // 20
    rows = [
        [round(users * min(1.0, 0.5 * (100.0 * scale / edge) ** 2)) for edge in SLOWNESS.edges_ms]
        for users, scale in ((t, slower), (c, 1.0))
    ]
    return look(day, counts(n, {"slowness": (rows[0], rows[1])}))


def test_a_slower_treated_arm_is_rolled_back_and_the_estimate_is_a_latency_ratio():
    _, outcome = after(plan(SLOWNESS), slow_look(1, 1.3))
    assert outcome.decision is Decision.ROLL_BACK
    assert outcome.readings[0].estimate == pytest.approx(1.3, abs=0.05)


def test_an_equally_fast_arm_is_proven_not_slower_than_the_margin():
    _, outcome = after(plan(SLOWNESS), slow_look(7, 1.0))
    assert outcome.decision is Decision.PROMOTE


def test_slower_by_exactly_the_margin_is_not_proven():
    loose = msgspec.structs.replace(SLOWNESS, role=Role.MUST_PROVE)
    _, outcome = after(plan(loose), slow_look(7, 1.25))
    assert outcome.decision is not Decision.PROMOTE


def amount_look(day, effect):
    """One user in ten pays, amounts with a standard deviation of twice their mean."""
    n = round(120_000 * day)
    t, c = n // 20, n - n // 20

    def sums(users, scale):
        payers = users * 0.1
        total, squares = payers * 50 * scale, payers * 5 * 50**2 * scale**2
        return {
            "n": users,
            "sum": total,
            "sumsq": squares,
            "sum_cap": total * 0.9,
            "sumsq_cap": squares * 0.5,
        }

    return look(day, counts(n, {"amount": (sums(t, effect), sums(c, 1.0))}))


@pytest.mark.parametrize(
    ("day", "effect", "expected"),
    [
        (1, 0.7, Decision.ROLL_BACK),
        (7, 1.0, Decision.PROMOTE),
        (7, 0.96, Decision.HOLD),
        (0.005, 0.1, Decision.HOLD),  # 30 treated users are too few for an approximation
    ],
)
def test_amounts_are_judged_by_their_means(day, effect, expected):
    _, outcome = after(plan(AMOUNT), amount_look(day, effect))
    assert outcome.decision is expected


# Stages without control


LIMIT = Metric(name="failing", kind=Kind.BINARY, limit_abs=0.02)


def staff_look(day, failing, n=400):
    return look(day, counts(n, {"failing": (failing, 0)}, rho=1.0))


def staff_plan(*metrics, **changes):
    cells = (Cell(id="all", rho=1.0),)
    return plan(*(metrics or (LIMIT,)), cells=cells, minimum_users=300, **changes)


@pytest.mark.parametrize(
    ("failing", "decision", "code"),
    [
        pytest.param(0, Decision.PROMOTE, "non_inferior", id="clearly below the limit"),
        pytest.param(5, Decision.HOLD, "limit_not_proven", id="below, but not proven"),
        pytest.param(40, Decision.ROLL_BACK, "limit_broken", id="five times the limit"),
    ],
)
def test_a_staff_stage_is_judged_by_an_absolute_limit(failing, decision, code):
    _, outcome = after(staff_plan(), staff_look(7, failing))
    assert (outcome.decision, outcome.code) == (decision, code)


def test_a_comparison_without_control_can_never_conclude():
    _, outcome = after(staff_plan(SUCCESS), look(7, counts(400, {"success": (20, 0)}, rho=1.0)))
    assert codes(outcome) == ["no_control"]


def test_an_absolute_limit_on_a_mean():
    wait = Metric(name="wait", kind=Kind.MEAN, limit_abs=10.0)

    def waiting(mean):
        arm = {"n": 400, "sum": 400 * mean, "sumsq": 400 * (mean**2 + 4)}
        nobody = {"n": 0, "sum": 0, "sumsq": 0}
        return look(7, counts(400, {"wait": (arm, nobody)}, rho=1.0))

    assert after(staff_plan(wait), waiting(8.0))[1].decision is Decision.PROMOTE
    assert after(staff_plan(wait), waiting(9.95))[1].decision is Decision.HOLD
    assert after(staff_plan(wait), waiting(12.0))[1].code == "limit_broken"


def test_a_stage_may_run_without_guards_only_with_a_waiver():
    with pytest.raises(EvidenceError, match="waiver"):
        after(plan(cells=(Cell(id="all", rho=1.0),), metrics=()), look(7))
    waived = plan(metrics=(), waiver="internal pilot, signed by risk", minimum_users=10)
    assert after(waived, look(7))[1].code == "minimum_users"
    enrolled = look(7, counts(400, {}))
    _, outcome = after(waived, enrolled)
    assert outcome.decision is Decision.PROMOTE
    assert "internal pilot" in outcome.text


# Replay and epochs


def test_a_new_share_opens_a_new_epoch_and_evidence_continues():
    first = plan(cells=(Cell(id="e0", rho=0.01),))
    state, _ = after(first, look(1, counts(280_000, {"success": (140, 13_860)}, id="e0", rho=0.01)))
    both = plan(cells=(Cell(id="e0", rho=0.01), Cell(id="e1", epoch=1, rho=0.05)))
    later = look(
        7,
        counts(280_000, {"success": (140, 13_860)}, id="e0", rho=0.01),
        counts(1_680_000, {"success": (4_200, 79_800)}, id="e1"),
    )
    _, outcome = after(both, later, state=state)
    assert outcome.decision is Decision.PROMOTE


def test_a_metric_whose_kind_changes_in_mid_stage_is_refused():
    state, _ = after(plan(), steady(1))
    changed = plan(msgspec.structs.replace(ERRORS, name="success"))
    with pytest.raises(EvidenceError, match="was binary when the stage started"):
        after(changed, steady(2), state=state)


def test_a_guard_cannot_be_dropped_in_mid_stage():
    state, _ = after(plan(SUCCESS, COMPLAINTS), _two_guards(1))
    with pytest.raises(EvidenceError, match="complaints was there"):
        after(plan(SUCCESS), steady(2), state=state)


def test_an_absolute_limit_needs_no_reading_of_control():
    n = 20_000
    now = look(7, counts(n, {"success": (50, 950), "failing": (2, None)}))
    _, outcome = after(plan(SUCCESS, LIMIT), now)
    assert outcome.readings[1].estimate == pytest.approx(2 / 1_000)
    assert "no_data" not in codes(outcome)


def test_a_watched_metric_neither_stops_nor_blocks():
    watched = msgspec.structs.replace(COMPLAINTS, role=Role.WATCH)
    n = 1_960_000
    now = look(7, counts(n, {"success": (4_900, 93_100), "complaints": (5_000, 9_310)}))
    _, outcome = after(plan(SUCCESS, watched), now)
    assert outcome.decision is Decision.PROMOTE
    dead = look(7, counts(n, {"success": (4_900, 93_100)}))
    assert after(plan(SUCCESS, watched), dead)[1].decision is Decision.PROMOTE


def test_a_guard_that_only_stops_need_not_be_proven():
    stopper = msgspec.structs.replace(COMPLAINTS, role=Role.STOP)
    rare = look(7, counts(1_960_000, {"success": (4_900, 93_100), "complaints": (1, 9)}))
    assert after(plan(SUCCESS, stopper), rare)[1].decision is Decision.PROMOTE
    assert after(plan(SUCCESS, COMPLAINTS), rare)[1].decision is Decision.HOLD


def test_delayed_events_spend_little_before_they_have_arrived():
    overdue = Metric(name="success", kind=Kind.BINARY_DELAYED, margin_rel=0.1, lag_days=30)
    state, _ = after(plan(overdue), steady(7))
    assert state.proofs["success"].spent[0] == pytest.approx(0.05 * 0.3575, abs=0.0002)


def test_a_horizon_between_two_promotion_intervals_has_a_planned_look_of_its_own():
    times = StageTimes(horizon_min=7.5 * DAY, min_min=7 * DAY)
    given = plan(stage=times)
    state, _ = after(given, steady(7, success=0.93, users_per_day=60_000))
    assert state.next_promotion_min == 7.5 * DAY
    state, _ = after(given, steady(7.5, success=0.93, users_per_day=60_000), state=state)
    assert len(state.proofs["success"].bounds) == 2
