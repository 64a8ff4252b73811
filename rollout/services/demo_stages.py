"""The stages of the sample rollouts, and what guards them. Sample data, as `demo_catalog` says."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from rollout.services.guard_templates import TEMPLATES

HEAVY_WEIGH_THREE: Final = [{"rule": {"cohort": "heavy_payers"}, "weight": 3}]

STAGES: Final[list[dict[str, Any]]] = [
    {
        "key": "internal",
        "label_zh": "内部员工",
        "label_en": "Internal",
        "audience": "staff",
        "audience_why": "stage.not_internal",
        "share_ppm": 1_000_000,
        "minimum_stay": timedelta(days=7),
        "maximum_stay": timedelta(days=14),
        "waiver": "员工阶段没有对照组，以绝对上限和值守为准 / staff have no control group",
    },
    {
        "key": "five-percent",
        "label_zh": "5% 用户",
        "label_en": "5 % of users",
        "share_ppm": 50_000,
        "weights": HEAVY_WEIGH_THREE,
        "minimum_stay": timedelta(days=14),
        "maximum_stay": timedelta(days=28),
        "minimum_users": 2_000,
        "needs_approval": True,
    },
    {
        "key": "full",
        "label_zh": "全量",
        "label_en": "Everybody",
        "share_ppm": 950_000,
        "holdback": True,
        "minimum_stay": timedelta(days=14),
        "maximum_stay": timedelta(days=28),
    },
]

RAMPED: Final = "five-percent"
"""The stage that the plan of 分付 begins with a small share."""

RAMP: Final[dict[str, Any]] = {
    "share_ppm": 2_500,
    "ramp": [
        {"share_ppm": 10_000, "after_minutes": 1_440, "users": 50},
        {"share_ppm": 50_000, "after_minutes": 2_880, "users": 200},
    ],
}

METRICS: Final[list[dict[str, Any]]] = [
    {"key": each.key, **each.metric} for each in TEMPLATES if each.metric["kind"] != "gauge"
]

GUARDS: Final[list[tuple[str, dict[str, Any]]]] = [
    ("application_success", {"role": "must_prove", "margin_rel": 0.15}),
    ("complaint", {"role": "must_prove", "margin_rel": 0.5}),
    ("api_error", {"role": "must_prove", "margin_rel": 0.5}),
    ("page_latency", {"role": "must_prove", "margin_rel": 0.25}),
    ("drawn_amount", {"role": "stop", "margin_rel": 0.2}),
    ("overdue", {"role": "stop", "margin_rel": 0.5}),
]
