"""The answers one flag can give, each made once and shared."""

from __future__ import annotations

from typing import Any, Final

from huidu import reasons
from huidu.model import Answer, Flag, RolloutStatus, Stage

_OPEN: Final = (RolloutStatus.RUNNING, RolloutStatus.PAUSED, RolloutStatus.COMPLETED)


def is_killed(flag: Flag) -> bool:
    """Whether the flag, or its rollout, was killed."""
    return flag.killed or (flag.rollout is not None and flag.rollout.status is RolloutStatus.KILLED)


def open_stages(flag: Flag) -> list[Stage]:
    """The stages users may be admitted by, the current one last; empty unless a stage runs."""
    rollout = flag.rollout
    if rollout is None or rollout.status not in _OPEN:
        return []
    return rollout.stages[: rollout.current + 1]


class Answers:
    """Makes a flag's answers. A hidden answer names the current stage, if one is open."""

    __slots__ = ("_flag", "_hidden", "_nothing", "_stage")

    def __init__(self, flag: Flag) -> None:
        self._flag = flag
        stages = open_stages(flag)
        self._stage = stages[-1].key if stages else None
        self._hidden: dict[tuple[str, str], Answer] = {}
        self._nothing: dict[str, Any] = {}

    def hidden(self, why: str, reason: str) -> Answer:
        """The answer that shows nothing, and why."""
        if (why, reason) not in self._hidden:
            self._hidden[why, reason] = Answer(
                flag=self._flag.key,
                visible=False,
                value=self._flag.off_value,
                variant=self._flag.off_variant,
                reason=reason,
                why=why,
                stage=self._stage,
                payload=self._nothing,
                flag_version=self._flag.version,
            )
        return self._hidden[why, reason]

    def shown(
        self,
        stage: Stage,
        variant: int,
        payloads: list[dict[str, Any]],
        *,
        why: str = reasons.SHOWN,
        reason: str,
    ) -> Answer:
        """The answer that shows the product.

        Args:
            stage: the stage that admitted the user.
            variant: index of the variant dealt to the user.
            payloads: of the user's tier (or none) and region classes, in this order.
        """
        dealt = self._flag.variants[variant]
        tier, *regions = payloads
        # Later wins. A region's caps come last: neither tier nor variant may lift them.
        merged = self._flag.payload | stage.payload | tier | dealt.payload
        for region in regions:
            merged |= region
        return Answer(
            flag=self._flag.key,
            visible=True,
            value=dealt.value,
            variant=dealt.key,
            reason=reason,
            why=why,
            stage=stage.key,
            payload=merged,
            flag_version=self._flag.version,
        )


def unknown_flag(key: str) -> Answer:
    """The answer about a flag the snapshot does not have."""
    return _error(key, reasons.FLAG_UNKNOWN)


def failed(key: str, flag: Flag | None) -> Answer:
    """The answer when a check itself broke: hidden, in the flag's own off value."""
    if flag is None:
        return _error(key, reasons.SYSTEM_ERROR)
    return Answers(flag).hidden(reasons.SYSTEM_ERROR, reasons.ERROR)


def _error(key: str, why: str) -> Answer:
    return Answer(
        flag=key,
        visible=False,
        value=None,
        variant=None,
        reason=reasons.ERROR,
        why=why,
        stage=None,
        payload={},
        flag_version=0,
    )
