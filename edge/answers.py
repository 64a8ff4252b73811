"""An answer as bytes, made once for everybody who gets it."""

from __future__ import annotations

from functools import cached_property
from typing import Final

import msgspec

from huidu import reasons
from huidu.model import Answer, Flag
from huidu.wire import ofrep, visibility

_REMEMBERED: Final = {
    # Refusals that rest on what only the profile remembers: the weight and the admission.
    reasons.STAGE_NOT_DRAWN,
    reasons.STAGE_NOT_INTERNAL,
    reasons.REGION_CEILING,
    reasons.TIER_NOT_IN_STAGE,
}
_CERTAIN: Final = {reasons.KILLED, reasons.FLAG_DISABLED, reasons.BLOCKED_LIST}


class Rendered:
    """One answer's texts, and how often it was given."""

    def __init__(self, answer: Answer, flag: Flag, snapshot: str, given: list[int]) -> None:
        self.answer = answer
        self.flag = flag
        self.snapshot = snapshot
        self.given = given
        """The one count that all answers with this flag and result share."""
        self.records = flag.record_on_check and (
            answer.visible or answer.why == reasons.STAGE_NOT_DRAWN
        )
        """Whether giving this answer is an exposure."""

    @cached_property
    def single(self) -> tuple[bytes, bytes]:
        """The OFREP object, to be split around the decision id."""
        return ofrep.success(self.answer, self.flag.type, snapshot=self.snapshot, decision=True)

    @cached_property
    def item(self) -> bytes:
        """The OFREP object inside a bulk answer."""
        return ofrep.success(self.answer, self.flag.type, snapshot=None, decision=False)[0]

    @cached_property
    def visibility(self) -> tuple[bytes, bytes, bytes]:
        return visibility.parts(self.answer, self.snapshot)


def result_of(answer: Answer) -> str:
    """What an answer counts as: ``shown``, ``hidden`` or ``error``."""
    if answer.reason == reasons.ERROR:
        return "error"
    return "shown" if answer.visible else "hidden"


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
