"""What the sample deployment is made of. Sample data: thresholds, shares and caps are made up.

Region classes, bands and caps follow the shape of public descriptions; where a regulation is named,
its value and validity differ by year, and a lawyer has to confirm it before it is used.
"""

from __future__ import annotations

from typing import Any, Final

SAMPLE: Final = "示例数据 / sample data"


def var(name: str) -> dict[str, str]:
    return {"var": name}


COHORTS: Final[list[dict[str, Any]]] = [
    {
        "key": "staff",
        "label_zh": "内部员工",
        "label_en": "Staff",
        "rule": {"==": [var("staff"), True]},
    },
    {
        "key": "heavy_payers",
        "label_zh": "高频支付用户",
        "label_en": "Heavy payers",
        "description": f"每周支付超过 20 笔 / more than 20 payments a week ({SAMPLE})",
        "rule": {">": [var("weekly_payments"), 20]},
    },
    {
        "key": "active_payers",
        "label_zh": "活跃支付用户",
        "label_en": "Active payers",
        "description": f"近 30 天支付超过 10 笔 / more than 10 payments in 30 days ({SAMPLE})",
        "rule": {">": [var("monthly_payments"), 10]},
    },
]

TIERS: Final[list[dict[str, Any]]] = [
    {
        "key": "high",
        "label_zh": "高价值",
        "label_en": "High value",
        "rule": {">": [var("yearly_spend_cny"), 80_000]},
        "payload": {"indicative_limit_cny": 15_600, "service": "dedicated_manager"},
    },
    {
        "key": "potential",
        "label_zh": "潜力",
        "label_en": "Potential",
        "rule": {">=": [var("yearly_spend_cny"), 20_000]},
        "payload": {"indicative_limit_cny": 7_800, "service": "growth_tasks"},
    },
    {
        "key": "base",
        "label_zh": "基础",
        "label_en": "Base",
        "rule": {},
        "payload": {"indicative_limit_cny": 3_200, "service": "basic"},
    },
]

COMPLIANCE: Final[list[dict[str, Any]]] = [
    {
        "key": "partner-share",
        "text_zh": "合作方出资比例不低于 30%",
        "text_en": "The partner lends at least 30 % of each loan",
        "source": "银保监办发〔2021〕24号",
    },
    {
        "key": "cost-disclosure",
        "text_zh": "综合融资成本明示页面已上线",
        "text_en": "The page with the all-in cost is live",
        "source": "个人贷款业务明示综合融资成本规定",
    },
    {
        "key": "review-channel",
        "text_zh": "人工复核渠道可用",
        "text_en": "The channel for review by a person works",
        "source": "个人信息保护法 (PIPL), art. 24",
    },
]
