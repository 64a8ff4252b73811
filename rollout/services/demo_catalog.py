"""What the sample deployment is made of. Sample data: thresholds, shares and caps are made up.

Region classes, bands and caps follow the shape of public descriptions; where a regulation is named,
its value and validity differ by year, and a lawyer has to confirm it before it is used.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from rollout.services.guard_templates import TEMPLATES

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

REGION_POLICY: Final[dict[str, Any]] = {
    "key": "loan-regions",
    "labels": {"label_zh": "消费贷地区政策", "label_en": "Loan regions"},
    "classes": {
        "open": {"ceiling_ppm": 1_000_000, "label_zh": "开放", "label_en": "Open"},
        "open_capped": {
            "ceiling_ppm": 820_000,
            "label_zh": "开放（上限 82%）",
            "label_en": "Open, ceiling 82 %",
        },
        "restricted": {
            "ceiling_ppm": 430_000,
            "payload": {"single_loan_cap_cny": 5_000},
            "label_zh": "受限（上限 43%）",
            "label_en": "Restricted, ceiling 43 %",
        },
        "closed": {"ceiling_ppm": 0, "label_zh": "未开放", "label_en": "Closed"},
    },
    "regions": {
        "440300": "open_capped",
        "310000": "open_capped",
        "410100": "restricted",
        "130100": "restricted",
        "540100": "closed",
        "630100": "closed",
    },
    "default": "open",
    "source": SAMPLE,
}

_NEUTRAL: Final = {
    "customer_zh": "暂未获得邀请。",
    "customer_en": "You have not been invited yet.",
}
_ELIGIBLE: Final = {
    "customer_zh": "暂不符合服务对象要求。",
    "customer_en": "You are outside the group this service is for.",
}

GATES: Final[list[dict[str, Any]]] = [
    {
        "key": "adult",
        "dimension": "compliance",
        "why": "compliance.age",
        "label_zh": "成年且非学生",
        "label_en": "Adult, not a student",
        "rule": {"and": [{">=": [var("age"), 18]}, {"==": [var("student"), False]}]},
        "support_zh": "年龄不足 18 岁，或为学生。",
        "support_en": "Under 18, or a student.",
        "source": "大学生互联网消费贷款监督管理通知, 2021-03",
        **_ELIGIBLE,
    },
    {
        "key": "consent",
        "dimension": "compliance",
        "why": "compliance.consent",
        "label_zh": "已授权",
        "label_en": "Consent given",
        "rule": {"==": [var("consent"), True]},
        "support_zh": "没有有效授权记录。",
        "support_en": "No valid consent on record.",
        "source": "个人信息保护法 (PIPL), art. 13, 28",
    },
    {
        "key": "balance-cap",
        "dimension": "compliance",
        "why": "compliance.balance_cap",
        "label_zh": "个人余额上限",
        "label_en": "Balance cap per person",
        "rule": {"<": [var("outstanding_balance_cny"), 200_000]},
        "keeps_shown": True,
        "support_zh": "在贷余额达到单户上限。",
        "support_en": "The outstanding balance has reached the cap per person.",
        "source": f"金规〔2024〕26号, 2025-01-17 (200,000 CNY); {SAMPLE}",
    },
    {
        "key": "device",
        "dimension": "fraud",
        "why": "fraud.device",
        "label_zh": "设备环境",
        "label_en": "Device",
        "rule": {"==": [var("emulator"), False]},
        "support_zh": "安全策略未通过，详情仅风控可见。",
        "support_en": "A security policy refused; only the risk team sees more.",
        "risk_zh": "模拟器或多开环境。",
        "risk_en": "Emulator or cloned app.",
        **_NEUTRAL,
    },
    {
        "key": "network",
        "dimension": "fraud",
        "why": "fraud.network",
        "label_zh": "网络环境",
        "label_en": "Network",
        "rule": {"<": [var("wifi_risk"), 60]},
        "support_zh": "安全策略未通过，详情仅风控可见。",
        "support_en": "A security policy refused; only the risk team sees more.",
        "risk_zh": "网络环境风险分达到 60。",
        "risk_en": "Network risk of 60 or more.",
        **_NEUTRAL,
    },
    {
        "key": "behaviour",
        "dimension": "fraud",
        "why": "fraud.behaviour",
        "label_zh": "行为特征",
        "label_en": "Behaviour",
        "rule": {"==": [var("scripted"), False]},
        "support_zh": "安全策略未通过，详情仅风控可见。",
        "support_en": "A security policy refused; only the risk team sees more.",
        "risk_zh": "脚本化操作特征。",
        "risk_en": "Scripted behaviour.",
        **_NEUTRAL,
    },
    {
        "key": "risk-score",
        "dimension": "fraud",
        "why": "fraud.score",
        "label_zh": "风险分",
        "label_en": "Risk score",
        "rule": {"<": [var("risk_score"), 50]},
        "support_zh": "安全策略未通过，详情仅风控可见。",
        "support_en": "A security policy refused; only the risk team sees more.",
        "risk_zh": "风险分（每 15 个平静日乘 0.6）达到 50。",
        "risk_en": "Risk score of 50 or more; it falls to 0.6 of itself in 15 calm days.",
        **_NEUTRAL,
    },
    {
        "key": "region",
        "dimension": "region",
        "why": "region.closed",
        "label_zh": "地区政策",
        "label_en": "Region policy",
        "region_policy": "loan-regions",
        "support_zh": "该地区分类为未开放。",
        "support_en": "The region's class is closed.",
        "source": SAMPLE,
    },
    {
        "key": "optout",
        "dimension": "product",
        "why": "product.optout",
        "label_zh": "未拒绝自动化决策",
        "label_en": "Not opted out",
        "rule": {"==": [var("optout"), False]},
        "support_zh": "用户已关闭自动化推荐。",
        "support_en": "The user opted out of automated decisions.",
        "source": "个人信息保护法 (PIPL), art. 24",
    },
    {
        "key": "activity",
        "dimension": "activity",
        "why": "activity.too_low",
        "label_zh": "账户活跃",
        "label_en": "Account activity",
        "rule": {">": [var("monthly_payments"), 10]},
        "absolute": False,
        "keeps_shown": True,
        "customer_zh": "近期使用较少，暂未获得邀请。",
        "customer_en": "You have used the app little of late.",
        "support_zh": "近 30 天支付不超过 10 笔。",
        "support_en": "At most 10 payments in 30 days.",
        "source": SAMPLE,
    },
]

PLACES: Final[dict[str, Any]] = {
    "key": "funding",
    "dimension": "funding",
    "why": "funding.no_capacity",
    "label_zh": "资金方名额",
    "label_en": "Funding partner's place",
    "capacity": True,
    "customer_zh": "名额已满，请稍后再来。",
    "customer_en": "All places are taken; please come back later.",
    "support_zh": "服务该地区的资金方没有剩余名额。",
    "support_en": "No funding partner that serves the region has a place left.",
    "source": SAMPLE,
}

_SHARE_RULE: Final = f"银保监办发〔2021〕24号, 2022-01-01 (30 %); {SAMPLE}"

PARTNERS: Final[list[dict[str, Any]]] = [
    {
        "key": "state-a",
        "label_zh": "国有大行甲",
        "label_en": "State bank A",
        "kind": "state",
        "is_open": True,
        "regions": ["110000", "310000", "320000", "330000", "440000", "500000", "510000"],
        "share_ppm": 350_000,
        "daily_cap": 50_000,
        "total_cap": 500_000,
        "source": _SHARE_RULE,
    },
    {
        "key": "state-b",
        "label_zh": "国有大行乙",
        "label_en": "State bank B",
        "kind": "state",
        "is_open": True,
        "regions": [
            "120000", "130000", "340000", "350000", "370000",
            "410000", "420000", "430000", "610000",
        ],
        "share_ppm": 300_000,
        "daily_cap": 50_000,
        "total_cap": 400_000,
        "source": _SHARE_RULE,
    },
    {
        "key": "joint-a",
        "label_zh": "股份制银行甲",
        "label_en": "Joint-stock bank A",
        "kind": "joint_stock",
        "is_open": True,
        "regions": ["210000", "310000", "440000", "520000", "530000", "650000"],
        "share_ppm": 400_000,
        "daily_cap": 10_000,
        "total_cap": 100_000,
        "source": _SHARE_RULE,
    },
    {
        "key": "city-north",
        "label_zh": "北方城商行",
        "label_en": "Northern city bank",
        "kind": "city",
        "is_open": True,
        "regions": ["230000"],
        "share_ppm": 300_000,
        "daily_cap": 5,
        "total_cap": 500,
        "source": _SHARE_RULE,
    },
    {
        "key": "city-west",
        "label_zh": "西部城商行",
        "label_en": "Western city bank",
        "kind": "city",
        "is_open": False,
        "regions": ["450000", "540000", "630000"],
        "share_ppm": 300_000,
        "daily_cap": 200,
        "total_cap": 20_000,
        "source": _SHARE_RULE,
    },
]  # fmt: skip
"""One is full soon and one is suspended, so that the sample shows both."""

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
        "share_ppm": 1_000_000,
        "minimum_stay": timedelta(days=14),
        "maximum_stay": timedelta(days=28),
        "waiver": "如需保留对照，请改为 95% / set 95 % instead to keep a holdback",
    },
]

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

FENFU_GATES: Final[list[dict[str, Any]]] = [
    GATES[0],
    GATES[1],
    GATES[6],
    {
        "key": "applied",
        "dimension": "product",
        "why": "product.not_applied",
        "label_zh": "已申请",
        "label_en": "Has applied",
        "rule": {">": [var("applied_fenfu_at"), "2000-01-01"]},
        "unknown_why": "product.not_applied",
        "support_zh": "用户尚未申请。",
        "support_en": "The user has not applied.",
        "customer_zh": "您可以查看并申请。",
        "customer_en": "You can view it and apply.",
    },
]
