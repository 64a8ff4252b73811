"""What people are told about each `why` code, in two languages and three voices.

Customers hear what happened and what they can do, never a score, a rule's limit on fraud, or a
promise. Support hears which step decided. A gate's own texts, where written, come first.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Text(NamedTuple):
    zh: str
    en: str

    def in_language(self, language: str) -> str:
        return self.zh if language == "zh" else self.en


class Told(NamedTuple):
    """One code: the customer's sentence, what the customer can do, and support's sentence."""

    customer: Text
    advice: Text
    support: Text


NEUTRAL_WHY: Final = "product.not_invited"
"""What customers are told instead of codes that must not be told apart."""

REVIEW: Final = Text("如有疑问，可申请人工复核。", "You may ask for a review by a person.")

_NOTHING = Text("无需操作，我们会定期重新评估。", "Nothing to do; we look again regularly.")
_WAIT = Text("请等待后续开放，开放后可直接使用。", "Please wait; it will simply appear.")
_NEUTRAL = Told(
    Text("暂未获得邀请。", "You have not been invited yet."),
    Text(
        "该服务按邀请逐步开放，没有付费或人工开通渠道，请注意防范诈骗。",
        "It opens by invitation only. Nobody can open it for a fee; beware of scams.",
    ),
    Text("邀请条件未满足。", "The conditions of the invitation are not met."),
)

TOLD: Final[dict[str, Told]] = {
    "shown": Told(
        Text("已开放，可以使用。", "It is open to you."),
        Text("", ""),
        Text("全部条件满足。", "Every condition is met."),
    ),
    "allowed.list": Told(
        Text("已开放，可以使用。", "It is open to you."),
        Text("", ""),
        Text("在允许名单中，跳过抽样。", "On the allow list: the draw was skipped."),
    ),
    "killed": Told(
        Text("该功能暂时下线维护。", "It is withdrawn for maintenance."),
        Text("已有合同与服务不受影响。", "Existing contracts are not affected."),
        Text("已紧急停止。", "The flag was killed."),
    ),
    "flag.disabled": Told(
        Text("该功能暂未开放。", "It is not open."),
        _WAIT,
        Text("开关已关闭。", "The flag is switched off."),
    ),
    "flag.unknown": Told(
        Text("该功能不存在。", "There is no such feature."),
        Text("", ""),
        Text("没有这个开关。", "There is no such flag."),
    ),
    "identity.missing": Told(
        Text("请先登录。", "Please sign in first."),
        Text("登录后再试。", "Sign in and try again."),
        Text("请求没有用户标识。", "The request named no user."),
    ),
    "data.missing": Told(
        Text("资料不完整，暂时无法判断。", "Some of your data is missing."),
        Text("请完善资料后再试。", "Please complete your profile."),
        Text("缺少判断所需的数据。", "Data the decision needs is missing."),
    ),
    "data.stale": Told(
        Text("资料更新中，请稍后再试。", "Your data is being updated; try again later."),
        _NOTHING,
        Text("数据过期。", "The data is out of date."),
    ),
    "activity.too_low": Told(
        Text("近期使用较少，暂未获得邀请。", "You have used the app little of late."),
        _NOTHING,
        Text("活跃度低于门槛。", "Activity is below the limit."),
    ),
    "region.closed": Told(
        Text("您所在地区暂未开放。", "It is not open in your region yet."),
        Text("如资料中的地区有误，请更正。", "If your region is wrong, please correct it."),
        Text("地区分类为未开放。", "The region's class is closed."),
    ),
    "region.ceiling": Told(
        Text("您所在地区名额已满。", "The places in your region are taken."),
        _WAIT,
        Text("超出该地区的比例上限。", "Beyond the region's ceiling."),
    ),
    "funding.no_capacity": Told(
        Text("名额已满，请稍后再来。", "All places are taken; please come back later."),
        Text("无需排队或付费。", "There is no queue and no fee."),
        Text("没有可用的资金方额度。", "No funding partner has room."),
    ),
    "funding.not_reserved": Told(
        Text("现有名额，进入页面即可使用。", "There is a place: open the page to take it."),
        Text("", ""),
        Text("其他条件全部满足，尚未占用资金方名额。", "All else is met; no place was taken yet."),
    ),
    "funding.unavailable": Told(
        Text("暂时无法判断，请稍后再试。", "We cannot tell right now; please try again."),
        Text("", ""),
        Text(
            "名额服务未及时答复，按隐藏处理。",
            "The desk that gives places did not answer in time, and so hides.",
        ),
    ),
    "product.optout": Told(
        Text("您已关闭个性化推荐。", "You turned personalised offers off."),
        Text("可在设置中重新开启。", "You can turn them on in the settings."),
        Text("用户选择退出自动化推荐。", "The user opted out of automated offers."),
    ),
    "product.cool_off": Told(
        Text("近期已申请过同类服务，请稍后再试。", "You applied for a similar service recently."),
        _WAIT,
        Text("在冷静期内。", "Within the cool-off time."),
    ),
    "stage.not_started": Told(
        Text("产品正在逐步开放中。", "It is being opened step by step."),
        _WAIT,
        Text("尚无阶段在运行。", "No stage has started."),
    ),
    "stage.not_internal": Told(
        Text("该功能正在内部测试。", "It is in internal testing."),
        _WAIT,
        Text("当前阶段只面向员工。", "The current stage is for staff."),
    ),
    "stage.not_drawn": Told(
        Text("正在分批开放，本批次未包含您。", "It opens in batches; you are not in this one."),
        Text("后续批次只会增加用户。", "Later batches only add users."),
        Text("本阶段未抽中。", "Not drawn in this stage."),
    ),
    "stage.held_back": Told(
        Text(
            "正在分批开放，本批次未包含您。",
            "It opens in batches; you are not in this one.",
        ),
        Text(
            "少数用户会晚一些开放，是随机抽取的，与个人资料无关。",
            "A few users get it later. They are picked at random, whoever they are.",
        ),
        Text(
            "全量开放后随机保留的对照用户；解除保留后即可使用。",
            "Held back at random after the full release, as the group to compare with; shown once "
            "the holdback is released.",
        ),
    ),
    "stage.rolled_back": Told(
        Text("该功能暂时下线维护。", "It is withdrawn for maintenance."),
        Text("已有合同与服务不受影响。", "Existing contracts are not affected."),
        Text("发布已回滚。", "The rollout was rolled back."),
    ),
    "prerequisite.unmet": Told(
        Text("需先开通相关功能。", "It needs another feature first."),
        _WAIT,
        Text("前置开关未满足。", "A prerequisite flag is not shown."),
    ),
    "compliance.age": Told(
        Text("暂不符合服务对象要求。", "You are outside the group this service is for."),
        Text("如身份信息有误，请更正。", "If your identity data is wrong, please correct it."),
        Text("年龄或学生身份不符合要求。", "Age or student status."),
    ),
    "compliance.consent": Told(
        Text("需要您的授权。", "It needs your consent."),
        Text("可在授权管理中确认。", "You can give it in the consent settings."),
        Text("未取得授权。", "No consent on record."),
    ),
    "system.error": Told(
        Text("暂时无法判断，请稍后再试。", "We cannot tell right now; please try again."),
        Text("", ""),
        Text("检查时出错，按隐藏处理。", "The check failed, and so hides."),
    ),
}

STEPS: Final[dict[str, Text]] = {
    "kill": Text("紧急停止", "Kill switch"),
    "identity": Text("用户标识", "Identity"),
    "block_list": Text("阻止名单", "Block list"),
    "enabled": Text("开关", "Enabled"),
    "allow_list": Text("允许名单", "Allow list"),
    "prerequisite": Text("前置开关", "Prerequisite"),
    "exclusion": Text("互斥组", "Exclusion group"),
    "gate": Text("准入条件", "Gate"),
    "rollout": Text("发布", "Rollout"),
    "stage": Text("阶段", "Stage"),
    "tier": Text("分层", "Tier"),
    "variant": Text("版本", "Variant"),
}
"""What the steps of a check are called."""

_COMPLIANCE = Told(
    Text("根据监管要求暂不能为您开通。", "Regulations do not allow it for you now."),
    _NOTHING,
    Text("合规条件未满足。", "A compliance condition is not met."),
)

SECRET_DIMENSIONS: Final = frozenset({"fraud", "product"})
"""Refusals that customers hear as one neutral sentence, word for word the same."""

_OPEN_PRODUCT_CODES: Final = frozenset({"product.optout", "product.cool_off"})


def is_neutral(why: str, dimension: str) -> bool:
    """Whether customers must not be able to tell this refusal from others."""
    if why in _OPEN_PRODUCT_CODES:
        return False
    return (
        dimension in SECRET_DIMENSIONS
        or why.startswith(("fraud.", "product.", "tier."))
        or why == "blocked.list"
    )


def is_known(why: str, dimension: str = "") -> bool:
    """Whether a code has sentences of its own or of its family."""
    return why in TOLD or why.startswith("compliance.") or dimension == "compliance"


def told(why: str, dimension: str = "") -> Told:
    """The sentences for a code; a code without its own gets those of its family."""
    if why in TOLD:
        return TOLD[why]
    if why.startswith("compliance.") or dimension == "compliance":
        return _COMPLIANCE
    return _NEUTRAL
