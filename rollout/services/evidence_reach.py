"""How far the raw tables of evidence reach, and what is new in them: asked once for all stages."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from django.db import connection, transaction
from django.db.models import Max

from rollout.models import Exposure, OutcomeEvent
from rollout.services.exposures import EVIDENCE_LOCK

LOCK_WAIT: Final = "2s"


class Reach:
    """How far the raw tables reach: the last ids below which nothing is still to be committed.

    One reach serves all stages of a tick, and remembers how fresh each source was by then.
    """

    def __init__(self, exposures: int, outcomes: int) -> None:
        self.exposures = exposures
        self.outcomes = outcomes
        self._complete: dict[tuple[str, str], datetime | None] = {}
        self._news: dict[tuple[str, int, int], dict[int, set[str]]] = {}

    def complete_up_to(self, environment: str, metrics: Iterable[str]) -> dict[str, datetime]:
        """Up to when sources are complete: what each said, or its latest event; silent ones are
        left out."""
        wanted = [each for each in metrics if (environment, each) not in self._complete]
        if wanted:
            with connection.cursor() as cursor:
                cursor.execute(_COMPLETE, [environment, self.outcomes, environment, wanted])
                for metric, moment in cursor.fetchall():
                    self._complete[environment, metric] = moment
        found = {each: self._complete[environment, each] for each in metrics}
        return {metric: moment for metric, moment in found.items() if moment is not None}

    def news(self, environment: str, exposures: int, outcomes: int) -> dict[int, set[str]]:
        """What is new to which stage after these ids: metrics of which a user that it enrolled has
        an event, and "" for a user who is new to it. It may name more than `roll_up` counts."""
        key = (environment, exposures, outcomes)
        if key not in self._news:
            told: dict[int, set[str]] = defaultdict(set)
            with connection.cursor() as cursor:
                given: list[Any] = [environment, outcomes, self.outcomes, exposures, self.exposures]
                cursor.execute(_NEWS, given)
                for stage, metric in cursor.fetchall():
                    told[stage].add(metric)
            self._news[key] = told
        return self._news[key]


# Only events within the reach vouch for freshness, so it never runs ahead of the counts.
_COMPLETE: Final = """
SELECT metric, greatest(
    (SELECT max(at) FROM rollout_outcomeevent o
     WHERE o.environment = %s AND o.metric = given.metric AND o.id <= %s),
    (SELECT complete_to FROM rollout_feed f WHERE f.environment = %s AND f.metric = given.metric)
) FROM unnest(%s::text[]) AS given(metric)
"""


_NEWS: Final = """
SELECT DISTINCT e.stage_id, touched.metric
FROM (SELECT DISTINCT user_id, metric FROM rollout_outcomeevent
      WHERE environment = %s AND id > %s AND id <= %s) AS touched
JOIN rollout_exposure e ON e.user_id = touched.user_id
UNION
SELECT DISTINCT stage_id, '' FROM rollout_exposure WHERE id > %s AND id <= %s
"""


def reach() -> Reach:
    """Up to where raw rows may be read now; waits for writers in the middle of a transaction.

    Raises:
        OperationalError: a writer takes too long; the next tick will do.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_WAIT}'")
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [EVIDENCE_LOCK])
        return Reach(
            Exposure.objects.aggregate(last=Max("pk"))["last"] or 0,
            OutcomeEvent.objects.aggregate(last=Max("pk"))["last"] or 0,
        )
