"""Guards a consumer loan usually needs, offered while a stage is drafted.

A template is a proposal: a metric, a role and a limit, each editable before and after it is added.
Adding is the same service call as typing the guard in, so it is checked, logged, and waits for a
second person where the flag asks for one. A metric that is there already is used as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final, NamedTuple

from django.db import transaction
from django.utils import translation
from django.utils.translation import gettext_lazy as _

from huidu.errors import InputError
from rollout.models import Guard, Metric, Stage
from rollout.services import metrics, readings, stages
from rollout.services.audit import Actor


class Template(NamedTuple):
    """One proposal. `why` says what the guard is for; `metric` is made where it does not exist."""

    key: str
    why: Any
    metric: Mapping[str, Any]
    guard: Mapping[str, Any]


TEMPLATES: Final[tuple[Template, ...]] = (
    Template(
        "application_success",
        _("Whether people get through the application as often as without the change."),
        {
            "label_zh": "申请成功用户",
            "label_en": "Users with a successful application",
            "kind": "binary",
            "harm": "decrease",
            "unit": "users",
            "owner": "product",
        },
        {"role": "must_prove", "margin_rel": 0.05},
    ),
    Template(
        "complaint",
        _("Whether more people complain. Complaints are rare, so the margin is wide."),
        {
            "label_zh": "投诉用户",
            "label_en": "Users who complained",
            "kind": "binary",
            "harm": "increase",
            "unit": "users",
            "owner": "service",
        },
        {"role": "must_prove", "margin_rel": 0.5},
    ),
    Template(
        "overdue",
        _(
            "Whether more loans become overdue. It shows late: it stops a stage whenever harm is "
            "proven, and widening does not wait for it."
        ),
        {
            "label_zh": "逾期用户",
            "label_en": "Overdue users",
            "kind": "binary_delayed",
            "harm": "increase",
            "unit": "users",
            "owner": "risk",
            "lag": timedelta(days=30),
        },
        {"role": "stop", "margin_rel": 0.5},
    ),
    Template(
        "api_error",
        _("Whether more users meet a failed request: users count, because errors cluster."),
        {
            "label_zh": "接口错误用户",
            "label_en": "Users with a failed request",
            "kind": "users_ratio",
            "harm": "increase",
            "unit": "users",
            "owner": "engineering",
        },
        {"role": "must_prove", "margin_rel": 0.5},
    ),
    Template(
        "page_latency",
        _("Whether pages are slower for the slowest 1 % (p99). Take the edges from your baseline."),
        {
            "label_zh": "页面延迟",
            "label_en": "Page latency",
            "kind": "latency",
            "harm": "increase",
            "unit": "ms",
            "owner": "engineering",
            "edges": [120, 300, 800, 1_000],
            "baseline_index": 2,
            "margin_index": 3,
        },
        {"role": "must_prove", "margin_rel": 0.25},
    ),
    Template(
        "drawn_amount",
        _("Whether people draw less money. Amounts scatter widely, so it only stops."),
        {
            "label_zh": "借款金额",
            "label_en": "Drawn amount",
            "kind": "mean",
            "harm": "decrease",
            "unit": "CNY",
            "owner": "product",
            "cap": 50_000,
        },
        {"role": "stop", "margin_rel": 0.2},
    ),
    Template(
        "funding_in_use",
        _(
            "Whether more is lent than the funding partners gave, as a share of it: 1 is all of "
            "it. A full pool alone takes the product from nobody; it only holds the widening."
        ),
        {
            "label_zh": "资金额度使用率",
            "label_en": "Funding in use",
            "kind": "gauge",
            "harm": "increase",
            "unit": "",
            "owner": "treasury",
        },
        {"role": "stop", "maximum": 1.0, "for_looks": 3},
    ),
)

BY_KEY: Final = {each.key: each for each in TEMPLATES}


class Offer(NamedTuple):
    """A template as it stands to one stage; `guard` is the row once it is there, else unsaved."""

    template: Template
    guard: Guard
    is_there: bool
    metric_is_new: bool


def offered(stage: Stage) -> list[Offer]:
    """Every template, with the guard it would add or has added."""
    environment = stage.rollout.flag.environment
    known = {
        each.key: each for each in Metric.objects.filter(environment=environment, key__in=BY_KEY)
    }
    there = {
        each.metric.key: each
        for each in stage.guards.select_related("metric")
        if each.metric.key in BY_KEY
    }
    return [_offer(stage, each, known.get(each.key), there.get(each.key)) for each in TEMPLATES]


def _offer(stage: Stage, template: Template, metric: Metric | None, guard: Guard | None) -> Offer:
    if guard is not None:
        return Offer(template, guard, is_there=True, metric_is_new=False)
    row = metric or Metric(
        environment=stage.rollout.flag.environment, key=template.key, **template.metric
    )
    made = Guard(stage=stage, metric=row, **template.guard)
    return Offer(template, made, is_there=False, metric_is_new=metric is None)


def add(
    stage: Stage,
    chosen: Any,
    *,
    by: Actor,
    reason: str = "",
    approved_by: Actor | None = None,
) -> list[Guard]:
    """Add guards from templates, all or none.

    Args:
        chosen: ``[{"template": "complaint", "margin_rel": 0.3}]``; what is named beside the
            template replaces its own value.
    Raises:
        StateError: the stage has started.
        ApprovalNeededError: the flag is live and asks for two people.
        InputError: no such template, chosen twice or there already, or a value is wrong.
    """
    picked = _picked(chosen)
    with transaction.atomic():
        return [
            _add_one(stage, template, values, f"guards[{index}]", by, reason, approved_by)
            for index, (template, values) in enumerate(picked)
        ]


def _picked(chosen: Any) -> list[tuple[Template, dict[str, Any]]]:
    if not isinstance(chosen, list | tuple) or not chosen:
        raise InputError('expected a list such as [{"template": "complaint"}]', path="guards")
    picked: list[tuple[Template, dict[str, Any]]] = []
    for index, entry in enumerate(chosen):
        key = entry.get("template") if isinstance(entry, Mapping) else None
        template = BY_KEY.get(key) if isinstance(key, str) else None
        if template is None:
            raise InputError(
                f"expected one of {', '.join(BY_KEY)}, got {str(key)[:60]!r}",
                path=f"guards[{index}].template",
            )
        if any(template is other for other, _ in picked):
            raise InputError(
                f"expected each template once, got {key} twice", path=f"guards[{index}].template"
            )
        values = {name: value for name, value in entry.items() if name != "template"}
        picked.append((template, values))
    return picked


def _add_one(
    stage: Stage,
    template: Template,
    values: dict[str, Any],
    path: str,
    by: Actor,
    reason: str,
    approved_by: Actor | None,
) -> Guard:
    environment = stage.rollout.flag.environment
    metric = Metric.objects.filter(environment=environment, key=template.key).first()
    if metric is None:
        metric = metrics.save_metric(
            environment, {"key": template.key, **template.metric}, by=by, reason=reason
        )
    for name in ("kind", "harm"):
        found = getattr(metric, name)
        if found != template.metric[name]:
            raise InputError(
                f"expected metric {template.key} to be of {name} {template.metric[name]}, got "
                f"{found}: add the guard by hand",
                path=f"{path}.template",
            )
    if Guard.objects.filter(stage=stage, metric=metric).exists():
        raise InputError(
            f"expected a metric that does not guard the stage yet, got {template.key}",
            path=f"{path}.template",
        )
    try:
        return stages.save_guard(
            stage,
            metric,
            {**template.guard, **values},
            by=by,
            reason=reason,
            approved_by=approved_by,
        )
    except InputError as error:
        inner = f".{error.path}" if error.path else ""
        raise InputError(error.message, path=f"{path}{inner}", code=error.code) from error


def in_both_languages(guard: Guard) -> dict[str, list[str]]:
    """What a guard means, as sentences, in Chinese and in English."""
    told = {}
    for name, code in (("zh", "zh-hans"), ("en", "en")):
        with translation.override(code):
            told[name] = [each for each in readings.words(guard) if each]
    return told
