"""A stage whose horizon is over without a proof is told of once, with its evidence."""

from __future__ import annotations

from rollout.models import Decision, Outbox
from rollout.services import messages, webhooks
from rollout.services.audit import ENGINE
from rollout.services.review import roll_up_and_review
from tests.rollout.evidence.conftest import PLACE, World, at, live


def test_an_overdue_stage_is_told_of_once(world: World):
    webhooks.create(PLACE, {"name": "ops", "url": "https://example.com/"}, by=ENGINE)
    world.guard("failed", margin_rel=0.05)
    for day in (1, 9.5, 10.5, 11, 12):
        users = range(int(day * 100), int(day * 100) + 40)
        live(world, users, at(day), seed=1, rates={"failed": (0.2, 0.2)})
        roll_up_and_review(world.stage.pk, now=at(day, minutes=5))
    row = Outbox.objects.get(kind=Outbox.Kind.WEBHOOK)
    body = row.payload["body"]
    assert row.cause == body["type"] == messages.OVERDUE
    told = Decision.objects.get(pk=body["data"]["evidence"]["decision"])
    assert told.at == at(10.5, minutes=5)
    assert "horizon_over" in {each["code"] for each in told.reasons}
    assert body["data"]["link"].endswith(f"/admin/rollout/decision/{told.pk}/change/")
