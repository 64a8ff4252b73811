"""Stage + evidence + clock -> promote, hold or roll back: a pure state machine.

    state, outcome = review(plan, state, look, conditions)

See docs/statistics.md for the tests behind it; `python -m huidu.promotion` speaks it as JSON lines.
"""

from huidu.promotion.contract import (
    CODE_VERSION,
    DESIGN,
    Alpha,
    Arm,
    AsOf,
    Cell,
    CellCounts,
    Conditions,
    Decision,
    Forecast,
    Harm,
    Kind,
    Look,
    Metric,
    Missing,
    Outcome,
    Plan,
    Reading,
    Role,
    StageTimes,
    State,
)
from huidu.promotion.plan import check_plan
from huidu.promotion.rule import review

__all__ = [
    "CODE_VERSION",
    "DESIGN",
    "Alpha",
    "Arm",
    "AsOf",
    "Cell",
    "CellCounts",
    "Conditions",
    "Decision",
    "Forecast",
    "Harm",
    "Kind",
    "Look",
    "Metric",
    "Missing",
    "Outcome",
    "Plan",
    "Reading",
    "Role",
    "StageTimes",
    "State",
    "check_plan",
    "review",
]
