"""All that is said about one `why` code: to the customer, by support, and what support does next.

The product ships these texts; `rollout.services.reason_texts` puts approved ones in their place.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from rollout import wording
from rollout.models import ReasonText
from rollout.wording import Text

PARTS: Final = ("customer", "advice", "support", "say", "next_step")
CUSTOMER_PARTS: Final = ("customer", "advice", "say")
"""Parts that reach the customer; refusals that must not be told apart share them."""
LANGUAGES: Final = ("zh", "en")


class Script(NamedTuple):
    """`say` is what support tells the customer, `next_step` what support does then."""

    customer: Text
    advice: Text
    support: Text
    say: Text
    next_step: Text


_ESCALATE: Final = Text(
    "不解释具体条件，不建议用户改变设备或网络来“通过”；用户坚持时提交人工复核。",
    "Do not explain any condition or suggest ways around it; open a review case if the customer "
    "insists.",
)
_LISTEN: Final = Text(
    "说明会定期重新评估；用户有异议时提交人工复核。",
    "Say that it is looked at again regularly; open a review case if the customer disagrees.",
)
_WAIT: Final = Text(
    "告知无需操作；如有计划日期，可告知日期，但不作承诺。",
    "Say that nothing is to be done. Give the planned date if there is one, without a promise.",
)
_INCIDENT: Final = Text(
    "查看公告板上的当前通知，按统一口径回复；不作恢复时间承诺。",
    "Follow the notice on the board, word for word; promise no time of return.",
)
_TECHNICAL: Final = Text(
    "请用户十分钟后再试；仍然如此则把决策编号转给技术支持。",
    "Ask the customer to try again in ten minutes; then pass the decision id to engineering.",
)

NEXT_STEPS: Final[dict[str, Text]] = {
    "shown": Text(
        "请用户更新应用后重新进入入口页；仍看不到则把决策编号转给技术支持。",
        "Ask the customer to update the app and open the page again; if it is still not there, "
        "pass the decision id to engineering.",
    ),
    "allowed.list": Text(
        "同“已开放”：请用户更新应用后重新进入。",
        "As for shown: ask the customer to update the app and open the page again.",
    ),
    "killed": _INCIDENT,
    "stage.rolled_back": _INCIDENT,
    "flag.disabled": _WAIT,
    "flag.unknown": Text(
        "核对功能名称；名称无误则转技术支持。",
        "Check the name of the feature; if it is right, ask engineering.",
    ),
    "identity.missing": Text("引导用户登录后再试。", "Help the customer to sign in and try again."),
    "data.missing": Text(
        "在下方步骤中查看缺少哪项资料，请用户在“个人资料”中补全。",
        "See in the steps which data is missing and ask the customer to complete the profile.",
    ),
    "data.stale": Text(
        "请用户次日再试；超过三天仍如此则转数据团队。",
        "Ask the customer to try tomorrow; after three days tell the data team.",
    ),
    "activity.too_low": _LISTEN,
    "region.closed": Text(
        "核对资料中的地区；有误时引导用户更正，更正后次日重新评估。",
        "Check the region in the profile; if it is wrong, help the customer to correct it.",
    ),
    "region.ceiling": _WAIT,
    "funding.no_capacity": Text(
        "告知名额补充时间（如显示）；不要建议排队或付费。",
        "Tell when places are given again, if it is shown; never suggest a queue or a fee.",
    ),
    "funding.not_reserved": Text(
        "请用户现在打开页面；名额不预留。",
        "Ask the customer to open the page now; places are not kept.",
    ),
    "funding.unavailable": _TECHNICAL,
    "system.error": _TECHNICAL,
    "product.optout": Text(
        "说明路径：设置—隐私—个性化推荐；由用户自行决定是否开启。",
        "Show the way: settings, privacy, personalised offers. The choice is the customer's.",
    ),
    "product.cool_off": _WAIT,
    "stage.not_started": _WAIT,
    "stage.not_internal": _WAIT,
    "stage.not_drawn": _WAIT,
    "stage.held_back": _WAIT,
    "prerequisite.unmet": Text(
        "在下方步骤中查看缺少哪项功能，告知用户先开通它。",
        "See in the steps which feature is missing and tell the customer to open that first.",
    ),
    "compliance.age": Text(
        "核对身份信息；有误时引导更正，无误时不作例外承诺。",
        "Check the identity data; help to correct what is wrong, and promise no exception.",
    ),
    "compliance.consent": Text(
        "说明路径：授权管理；不催促、不代为操作。",
        "Show the way to the consent settings; do not press, and do not act for the customer.",
    ),
}


def shipped(why: str, dimension: str = "") -> Script:
    """The texts for a code as the product ships them; see `rollout.wording.told`."""
    told = wording.told(why, dimension)
    following = NEXT_STEPS.get(why)
    if following is None:
        secret = why.startswith("fraud.") or why == "blocked.list" or dimension == "fraud"
        following = _ESCALATE if secret else _LISTEN
    return Script(
        told.customer, told.advice, told.support, _said(told.customer, told.advice), following
    )


def merged(own: ReasonText | None, base: Script) -> Script:
    """`base` with the texts of an approved version (``customer_zh`` and so on) in their places.

    Support says what the customer hears, unless words of its own were approved.
    """
    if own is None:
        return base
    parts = {
        part: Text(
            *(
                getattr(own, f"{part}_{language}") or getattr(base, part).in_language(language)
                for language in LANGUAGES
            )
        )
        for part in PARTS
    }
    if not own.say_zh:
        parts["say"] = _said(parts["customer"], parts["advice"])
    return Script(**parts)


def _said(customer: Text, advice: Text) -> Text:
    return Text(customer.zh + advice.zh, f"{customer.en} {advice.en}".strip())
