"""What an edit does to the flags that are live, before it is saved: everything combined.

Each edit becomes a snapshot that was never published; the population is counted by it and by the
live one. A stage that has not begun is drawn as its entry would draw it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from django.utils import timezone

from cohorts.models import Cohort, Draw
from cohorts.population import columns, effect
from cohorts.population.effect import Effect
from cohorts.population.flags import remembered_weight
from cohorts.population.people import People
from cohorts.population.sql import NotHeld, Terms
from cohorts.selectors import day_of
from huidu import model, sampling
from huidu.engine import Compiled, compile_snapshot
from huidu.engine.bucketing import seed_of
from huidu.engine.plan import Opening
from huidu.engine.rules import Reader
from huidu.model import FULL_THRESHOLD, PPM
from rollout import mappers, selectors_funding
from rollout.models import Flag, Gate, Rollout, Stage
from rollout.services import population
from rollout.services.answering import compiled_snapshot, snapshot_in_force
from rollout.services.eligibility import eligible_of
from rollout.services.stage_draws import previous_threshold

MOST_FLAGS: Final = 3
"""Flags for which the effect of a cohort is told."""


class Told(msgspec.Struct, frozen=True):
    """An effect on one flag. `left`: places funding partners can give today; None: no gate asks.

    `drawn` and `eligible` are the draw of a stage that has not begun, among the users read.
    `share_ppm`: the share that alone says how many are drawn; None where earlier draws do.
    """

    flag: str
    effect: Effect
    left: int | None = None
    drawn: int | None = None
    eligible: int | None = None
    share_ppm: int | None = None


def of_cohort(environment: str, key: str, rule: model.Rule) -> list[Told]:
    """What another rule of a cohort does to the flags that use it and are open to somebody.

    Raises:
        RuleError: the rule is wrong.
        NotHeld, StateError: it cannot be counted.
    """
    live = _live(environment)
    if live is None:
        return []
    snapshot = live.snapshot
    cohorts = [
        msgspec.structs.replace(each, rule=rule) if each.key == key else each
        for each in snapshot.cohorts
    ]
    draft = compile_snapshot(msgspec.structs.replace(snapshot, cohorts=cohorts))
    using = _using(snapshot, key)
    flags = [each for each in using if live.plan(each).opening is Opening.OPEN][:MOST_FLAGS]
    return [_told(environment, live, draft, each) for each in flags]


def of_gate(gate: Gate, rule: model.Rule) -> Told | None:
    """What another rule of a gate does; None where nothing is live, or no rule decides.

    Raises:
        as `of_cohort`.
    """
    flag = gate.flag
    live = _live(flag.environment)
    if live is None or flag.key not in live.flags or gate.region_policy_id or gate.capacity:
        return None
    held = live.flags[flag.key]
    edited = msgspec.structs.replace(mappers.gate(gate), rule=rule)
    gates = [edited if each.key == gate.key else each for each in held.gates]
    if edited not in gates:
        gates.append(edited)
    draft = with_flag(live, msgspec.structs.replace(held, gates=gates))
    return _told(flag.environment, live, draft, flag.key)


class Planned(msgspec.Struct, frozen=True):
    """A stage as it stands in the form.

    Args:
        saved: its row, if it has one.
        weights: ``[{"rule": {...}, "weight": 3}]``.
    """

    rollout: Rollout
    saved: Stage | None
    audience: Cohort | None
    share_ppm: int
    weights: list[dict[str, Any]]


def of_stage(plan: Planned) -> Told | None:
    """What entering a stage now would do; of an entered one, what is live. None: nothing is.

    Raises:
        as `of_cohort`.
    """
    flag = plan.rollout.flag
    live = _live(flag.environment)
    if live is None:
        return None
    if plan.saved is not None and plan.saved.status != Stage.Status.PENDING:
        if flag.key not in live.flags:
            return None
        return _told(flag.environment, live, live, flag.key)
    return population.asked(lambda people: _entered(people, live, plan))


def _entered(people: People, live: Compiled, plan: Planned) -> Told:
    flag, slot = plan.rollout.flag, plan.rollout.slot
    refuse_if_drawn_since(people, [slot])
    rollout = mappers.rollout(plan.rollout)
    rows = list(plan.rollout.stages.order_by("order"))
    place = next(
        (at for at, row in enumerate(rows) if plan.saved and row.pk == plan.saved.pk), len(rows)
    )
    weights = [model.Weight(rule=each["rule"], weight=each["weight"]) for each in plan.weights]
    stage = model.Stage(
        key="planned" if plan.saved is None else plan.saved.key,
        audience={} if plan.audience is None else {"cohort": plan.audience.key},
        share_ppm=plan.share_ppm,
        weights=weights,
    )
    terms = Terms(people.table)
    reader = reader_of(live)
    weight = _weight_at_draw(people, terms, reader, slot, weights)
    drawn = eligible = by_share = None
    if plan.share_ppm < PPM:
        at_least = 0 if plan.saved is None else previous_threshold(plan.rollout, plan.saved)
        rule = reader.read(eligible_of(flag, plan.audience), "audience")
        result = _draw(people, terms, terms.rule(rule), rollout, weight, plan.share_ppm, at_least)
        drawn, eligible = result.admitted, result.population
        if drawn == sampling.size_of_draw(plan.share_ppm, eligible):
            by_share = plan.share_ppm
        threshold = min(result.threshold, FULL_THRESHOLD - 1)
        stage = msgspec.structs.replace(stage, threshold=threshold)
    rollout = msgspec.structs.replace(
        rollout,
        status=model.RolloutStatus.RUNNING,
        current=place,
        stages=[*rollout.stages[:place], stage],
    )
    held = live.flags.get(flag.key)
    if held is None:
        held = mappers.flag(mappers.flags_with_parts(flag.environment).get(pk=flag.pk))
    draft = with_flag(live, msgspec.structs.replace(held, rollout=rollout))
    found = effect.count(
        people,
        live,
        draft,
        flag.key,
        weights={slot: weight} if rollout.sticky else None,
        terms=terms,
    )
    return Told(flag.key, found, _left(flag), drawn, eligible, by_share)


def _draw(
    people: People,
    terms: Terms,
    eligible: str,
    rollout: model.Rollout,
    weight: str,
    share_ppm: int,
    at_least: int,
) -> sampling.DrawResult:
    """The draw that entering the stage would make, among the users who are read."""
    table = people.table
    place = table.own(columns.bucket(seed_of(rollout.salt)))
    member = "FALSE"
    if table.remembers(rollout.slot):
        member = f"({table.own(columns.admitted(rollout.slot))} IS TRUE)"
    found = people.arrays(
        f"SELECT {place} AS place, ({weight})::UBIGINT AS weight, {member} AS member"  # noqa: S608
        f" FROM {{users}} WHERE {eligible}",
        terms,
    )
    return sampling.draw_share(
        found["place"], found["weight"], share_ppm, at_least=at_least, members=found["member"]
    )


def _weight_at_draw(
    people: People, terms: Terms, reader: Reader, slot: int, weights: Sequence[model.Weight]
) -> str:
    """The weight that the draw would freeze: as the rules say, and never less than remembered."""
    remembered = remembered_weight(people.table, slot)
    ways = [
        f"WHEN {terms.rule(reader.read(each.rule, 'weights'))} THEN {int(each.weight)}"
        for each in weights
    ]
    if not ways:
        return remembered
    told = f"CASE {' '.join(ways)} ELSE 1 END"
    return told if remembered == "1" else f"greatest({remembered}, {told})"


def _told(environment: str, live: Compiled, draft: Compiled, flag_key: str) -> Told:
    rollout = live.flags[flag_key].rollout

    def question(people: People) -> Effect:
        if rollout is not None:
            refuse_if_drawn_since(people, [rollout.slot])
        return effect.count(people, live, draft, flag_key)

    row = Flag.objects.filter(environment=environment, key=flag_key).first()
    return Told(flag_key, population.asked(question), None if row is None else _left(row))


def refuse_if_drawn_since(people: People, slots: Sequence[int]) -> None:
    """Weights and members of a later draw are not in the file, so it would count them wrongly."""
    if Draw.objects.filter(slot__in=slots, as_of__gt=people.about.as_of).exists():
        raise NotHeld("a draw that was made since")


def _live(environment: str) -> Compiled | None:
    row = snapshot_in_force(environment)
    return None if row is None else compiled_snapshot(environment, row)[0]


def with_flag(live: Compiled, flag: model.Flag) -> Compiled:
    """The snapshot with this flag in the place of the one with its key, or beside the others."""
    flags = [flag if each.key == flag.key else each for each in live.snapshot.flags]
    if flag.key not in live.flags:
        flags.append(flag)
    return compile_snapshot(msgspec.structs.replace(live.snapshot, flags=flags))


def reader_of(live: Compiled) -> Reader:
    """Reads rules by a snapshot's attributes and cohorts."""
    return Reader(
        {each.name: each for each in live.snapshot.attributes},
        {each.key: each for each in live.snapshot.cohorts},
    )


def _left(flag: Flag) -> int | None:
    if not selectors_funding.has_capacity_gate(flag):
        return None
    rooms = selectors_funding.rooms(flag.partners.all(), day_of(timezone.now()))
    return sum(each.left for each in rooms)


def _using(snapshot: model.Snapshot, key: str) -> list[str]:
    """Flags with a rule that asks for the cohort, also by way of another cohort."""
    asking = {key}
    rules: Mapping[str, set[str]] = {each.key: _cohorts_in(each.rule) for each in snapshot.cohorts}
    while more := {each for each, named in rules.items() if named & asking} - asking:
        asking |= more
    return [each.key for each in snapshot.flags if _cohorts_in(msgspec.to_builtins(each)) & asking]


def _cohorts_in(value: Any) -> set[str]:
    if isinstance(value, list):
        return set().union(*map(_cohorts_in, value))
    if not isinstance(value, dict):
        return set()
    found = set().union(*map(_cohorts_in, value.values()))
    named = value.get("cohort")
    if isinstance(named, list) and named:
        named = named[0]
    if isinstance(named, str):
        found.add(named)
    return found
