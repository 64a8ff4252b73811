"""One explanation in one voice, with all that belongs to it: what would change it, when, and how
old the facts are that it rests on."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from cohorts import selectors as who
from huidu import model
from huidu.engine import Compiled
from huidu.engine.explain import Explanation
from rollout.advice import advice
from rollout.explanations import Wording, tell
from rollout.mappers import iso
from rollout.services import waiting


def voice(
    compiled: Compiled,
    found: Explanation,
    user: model.User,
    *,
    audience: str,
    language: str,
    words: Wording,
    at: datetime,
) -> dict[str, Any]:
    """The explanation as JSON for one audience.

    Args:
        user: the user as judged.
        audience: one of `rollout.explanations.AUDIENCES`.
        language: ``zh`` or ``en``.
        at: the moment that is explained.
    """
    told = tell(
        found, compiled.flags.get(found.flag), audience=audience, language=language, words=words
    )
    told["changes"] = advice(
        compiled, found, user, audience=audience, language=language, words=words
    )
    if audience == "customer":
        return told
    learned = who.learned(user.key, at)
    lost = learned.no_longer_held - user.attributes.keys()
    if audience != "risk":
        lost -= words.secret
    for step in told["steps"]:
        for need in step["needs"]:
            moment = learned.at.get(need["attribute"])
            need["as_of"] = iso(moment) if moment else None
            if need["attribute"] in lost:
                need["no_longer_held"] = True
            if need["crossing"] is not None:
                ago = need["crossing"]["days_ago"]
                day = None if ago is None else who.day_of(at) - timedelta(days=ago)
                need["crossing"]["on"] = None if day is None else day.isoformat()
    if lost:
        told["no_longer_held"] = sorted(lost)
    if entry := waiting.planned_entry(compiled, found, user):
        told["when"] = {**entry, "label": words.stage(entry["stage"], language)}
    if audience == "risk":
        told["calm"] = waiting.calm(compiled, found, user, at)
    return told
