"""How many users see a flag now."""

from __future__ import annotations

from datetime import datetime

import msgspec
from django.utils import timezone

from cohorts import mappers as who_mappers
from cohorts import selectors as who
from cohorts.population import waterfall
from cohorts.population.figures import Figure
from cohorts.population.people import People, is_few, refuse_too_many
from cohorts.population.sql import NotHeld
from huidu import history
from rollout.models import Flag
from rollout.services import population
from rollout.services.answering import compiled_snapshot, snapshot_in_force
from rollout.services.effects import refuse_if_drawn_since


class Reach(msgspec.Struct, frozen=True):
    """So many users were shown a flag by the facts of a moment, and what is published now."""

    users: Figure
    as_of: datetime


def users_shown(flag: Flag) -> Reach:
    """Users to whom the published snapshot shows the flag, by what the platform holds of them.

    Few users are judged as they are at this moment, many by the population file.

    Raises:
        StateError: there are too many users to count in one go, and no file that could answer.
    """
    row = snapshot_in_force(flag.environment)
    if row is None:
        return Reach(Figure(0), timezone.now())
    compiled, _ = compiled_snapshot(flag.environment, row)
    held = compiled.flags.get(flag.key)
    if held is None:
        return Reach(Figure(0), row.published_at)

    def question(people: People) -> Reach:
        if held.rollout is not None:
            refuse_if_drawn_since(people, [held.rollout.slot])
        shown = waterfall.shown(people, compiled, flag.key)
        return Reach(people.scale().of(shown), people.about.as_of)

    if not is_few():
        try:
            return population.asked(question)
        except NotHeld:
            pass  # the check itself can tell
    refuse_too_many()
    now = timezone.now()
    by_day = history.NAME in compiled.reads([flag.key])
    users = who.every_user(who.day_of(now), who_mappers.registry(), by_day=by_day)
    return Reach(Figure(sum(compiled.check(flag.key, user).visible for user in users)), now)
