"""Health and figures. Each look has a short deadline: a probe never waits for a sick neighbour."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Count
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from rollout.models import Flag, Outbox, Rollout
from rollout.services import publishing, store


@require_safe
def live(request: HttpRequest) -> JsonResponse:
    """The process answers."""
    return JsonResponse({"status": "ok"})


@require_safe
def ready(request: HttpRequest) -> JsonResponse:
    """Database, store and snapshot are there; 503 names what is not."""
    looks: dict[str, Callable[[], object]] = {
        "database": _database,
        "redis": lambda: store.client().ping(),
        "snapshot": _snapshot,
    }
    found = {}
    for name, look in looks.items():
        try:
            look()
            found[name] = "ok"
        except Exception as error:  # whatever is sick is what we are asked for
            found[name] = type(error).__name__
    fine = all(each == "ok" for each in found.values())
    body = {"status": "ok" if fine else "unavailable", "checks": found}
    return JsonResponse(body, status=200 if fine else 503)


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Figures for Prometheus."""
    return HttpResponse(generate_latest(REGISTRY), content_type=CONTENT_TYPE_LATEST)


def _database() -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = '1s'")
        cursor.execute("SELECT 1")


def _snapshot() -> None:
    environment = settings.HUIDU_ENVIRONMENT
    sequence, blob = store.held_snapshot(environment)
    if not sequence or blob is None:
        raise LookupError("no snapshot in the store")


class ReleaseCollector(Collector):
    """What only the database knows: read when Prometheus asks, with a deadline."""

    def collect(self) -> Iterable[Metric]:
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute("SET LOCAL statement_timeout = '2s'")
                yield from self._families()
        except Exception:  # figures must not take the page down; `up` says what is wrong
            yield GaugeMetricFamily("huidu_database_up", "Whether the database answered.", value=0)

    def describe(self) -> Iterable[Metric]:
        return []

    def _families(self) -> list[Metric]:
        waiting = GaugeMetricFamily(
            "huidu_outbox_waiting", "Outbox rows not done yet.", labels=["kind"]
        )
        rows: Any = Outbox.objects.filter(done_at=None).values("kind").annotate(n=Count("pk"))
        for row in rows.order_by("kind"):
            waiting.add_metric([row["kind"]], row["n"])
        rollouts = GaugeMetricFamily("huidu_rollouts", "Rollouts by status.", labels=["status"])
        rows = Rollout.objects.values("status").annotate(n=Count("pk")).order_by("status")
        for row in rows:
            rollouts.add_metric([row["status"]], row["n"])
        killed = GaugeMetricFamily(
            "huidu_flags_killed",
            "Flags killed now.",
            value=Flag.objects.filter(killed=True).count(),
        )
        last = publishing.last_snapshot(settings.HUIDU_ENVIRONMENT)
        sequence = GaugeMetricFamily(
            "huidu_published_sequence",
            "Sequence of the last published snapshot.",
            value=last.sequence if last else 0,
        )
        up = GaugeMetricFamily("huidu_database_up", "Whether the database answered.", value=1)
        return [waiting, rollouts, killed, sequence, up]


REGISTRY.register(ReleaseCollector())
