"""A stage without guards needs a waiver, and a waiver needs a name.

Whoever writes a waiver signs it (`stages.save_stage`). Rows that are older than that rule, or were
written past the services, carry a text and no name: nobody answers for it, so it waives nothing.
"""

from __future__ import annotations

from huidu.errors import StateError
from rollout.models import Guard, Rollout, Stage


def signed(stage: Stage) -> str:
    """The waiver as far as somebody answers for it, else ""."""
    return stage.waiver if stage.waiver_by.strip() else ""


def is_unsigned(stage: Stage) -> bool:
    """Whether the stage relies on a waiver that nobody signed."""
    if not stage.waiver.strip() or stage.waiver_by.strip():
        return False
    return not Guard.objects.filter(stage=stage, role=Guard.Role.MUST_PROVE).exists()


def sentence(stage: Stage) -> str:
    """What is wrong, and what would be right."""
    return (
        f"stage {stage} has no guard that must prove, and nobody signed its waiver: write the "
        "waiver again, under your name, or add a guard"
    )


def require_signed(rollout: Rollout) -> None:
    """Refuse to show the product on a waiver that nobody answers for.

    Raises:
        StateError: names the first stage still to come whose waiver is unsigned.
    """
    for stage in rollout.stages.filter(status=Stage.Status.PENDING).order_by("order"):
        if is_unsigned(stage):
            raise StateError(sentence(stage), code="state.waiver_unsigned", path="waiver")
