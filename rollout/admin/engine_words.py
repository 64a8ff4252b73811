"""Reasons that the platform wrote by itself, told in the reader's language."""

from __future__ import annotations

import re
from collections.abc import Iterable

from rollout.admin import board
from rollout.models import Decision
from rollout.services.wording import outcome_in_words

_BY_DECISION = re.compile(r"\(decision (\d+)\)$")


def reasons_told(reasons: Iterable[str]) -> dict[str, str]:
    """The words of each reason that names the decision it comes from; people's own stay theirs."""
    named = {text: int(found[1]) for text in reasons if (found := _BY_DECISION.search(text or ""))}
    if not named:
        return {}
    rows = Decision.objects.only("outcome").in_bulk(named.values())
    labels = board.metric_labels()
    return {
        text: "; ".join(outcome_in_words(rows[pk].outcome, labels)) or text
        for text, pk in named.items()
        if pk in rows
    }
