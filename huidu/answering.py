"""What a check without a readable profile may say: the same when it is replayed."""

from __future__ import annotations

from typing import Final

import msgspec

from huidu import reasons
from huidu.model import Answer, Flag

_REMEMBERED: Final = {
    # Refusals that rest on what only the profile remembers: the weight and the admission.
    reasons.STAGE_NOT_DRAWN,
    reasons.STAGE_HELD_BACK,
    reasons.STAGE_NOT_INTERNAL,
    reasons.REGION_CEILING,
    reasons.TIER_NOT_IN_STAGE,
}
_PLACES: Final = {reasons.FUNDING_NOT_RESERVED, reasons.FUNDING_NO_CAPACITY}
"""Refusals of users without a place; whether they have one only the profile remembers."""

_CERTAIN: Final = {reasons.KILLED, reasons.FLAG_DISABLED, reasons.BLOCKED_LIST}


def degraded(answer: Answer, flag: Flag) -> Answer:
    """What may be said when the profile could not be read and the caller's context had to do.

    A visible answer stands: every gate was definitely passed on the caller's word. Unless a big
    block list could hold the user, which nobody can look up now. A hidden one carries reason
    ERROR, so that nobody takes a missing profile for a refusal; only what needs no profile is left
    as it is.
    """
    if answer.visible and not flag.block_lists:
        return answer
    if answer.why in _CERTAIN:
        return answer
    why = answer.why
    if why in _PLACES:
        why = reasons.FUNDING_UNAVAILABLE
    if answer.visible or why in _REMEMBERED:
        why = reasons.SYSTEM_ERROR
    return msgspec.structs.replace(
        answer,
        visible=False,
        value=flag.off_value,
        variant=flag.off_variant,
        reason=reasons.ERROR,
        why=why,
        payload={},
    )
