"""What operators and risk officers see. Pages translate; services write."""

from rollout.admin import (
    access,
    changes,
    cohorts,
    decisions,
    flags,
    forget,
    gates,
    guards,
    metrics,
    people,
    policies,
    publication,
    rollouts,
    stages,
    user_lists,
    webhooks,
)

__all__ = [
    "access",
    "changes",
    "cohorts",
    "decisions",
    "flags",
    "forget",
    "gates",
    "guards",
    "metrics",
    "people",
    "policies",
    "publication",
    "rollouts",
    "stages",
    "user_lists",
    "webhooks",
]
