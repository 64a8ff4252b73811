"""The steps of an explanation as pages show them: what was needed, what was found, and a link."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.urls import reverse
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext, pgettext
from django.utils.translation import gettext_lazy as _

from cohorts.admin.base import badge
from cohorts.admin.fields import shown_percent
from cohorts.wording import SIGNS, Vocabulary, label_of, with_unit
from config.templatetags.huidu import ago
from huidu import history
from rollout.admin.diagnose_places import partner_lines
from rollout.models import Flag

OUTCOME_KIND = {"pass": "good", "fail": "bad", "unknown": "warn", "skipped": "plain"}
OUTCOMES = {
    "pass": _("passes"),
    "fail": _("refuses"),
    "unknown": _("cannot be judged"),
    "skipped": _("not asked"),
}
STEPS = {
    "kill": _("Emergency stop"),
    "identity": _("Identity"),
    "block_list": _("Block list"),
    "enabled": _("Switched on"),
    "allow_list": _("Allow list"),
    "prerequisite": _("Needed product"),
    "exclusion": _("Exclusion group"),
    "gate": _("Gate"),
    "rollout": _("Rollout"),
    "stage": _("Stage"),
    "tier": _("Tier"),
    "variant": _("Variant"),
}


@dataclass(frozen=True)
class StepLine:
    """One step as the page shows it."""

    title: str
    kind: str
    outcome: Any
    state: str
    needs: list[dict[str, str]]
    text: str
    why: str
    link: str
    decides: bool
    version: int | None


def lines(told: Mapping[str, Any], flag: Flag, gates: Mapping[str, Any]) -> list[StepLine]:
    """Every step of an explanation in support's or the risk officer's voice.

    Args:
        gates: rows of the flag's gates by key, with what they said at the moment that is told.
    """
    words = Vocabulary.load()
    stages = {
        stage.key: stage
        for rollout in flag.rollouts.prefetch_related("stages")
        for stage in rollout.stages.all()
    }
    # Words may be those of the past, whose rows are nowhere stored: links and classes are today's.
    stored = {gate.key: gate for gate in flag.gates.select_related("region_policy")}
    tiers = {tier.key: tier for tier in flag.tiers.all()}
    made: list[StepLine] = []
    for step in told["steps"]:
        kind, outcome = str(step["kind"]), str(step["outcome"])
        if kind == "variant":
            continue
        row = (stored if kind == "gate" else stages).get(step["key"])
        named = {"gate": gates, "tier": tiers}.get(kind, stages).get(step["key"])
        made.append(
            StepLine(
                title=_title(kind, step, named),
                kind=str(STEPS.get(kind, kind)),
                outcome=badge(OUTCOMES.get(outcome, outcome), OUTCOME_KIND.get(outcome, "")),
                state=outcome,
                needs=[_need(each, words) for each in step["needs"]] + _details(kind, step, row),
                text=step["text"],
                why=step["why"] or "",
                link=_link(kind, row, flag),
                decides=step["why"] == told["why"]
                and not told["visible"]
                and not any(line.decides for line in made),
                version=step.get("version"),
            )
        )
    return made


def _title(kind: str, step: dict[str, Any], row: Any) -> str:
    if row is not None and hasattr(row, "label_zh"):
        return label_of(row)
    return str(step["key"] or STEPS.get(kind, kind))


def _link(kind: str, row: Any, flag: Flag) -> str:
    if row is None:
        return reverse("admin:rollout_flag_change", args=(flag.pk,)) if kind == "kill" else ""
    name = "gate" if kind == "gate" else "stage"
    return reverse(f"admin:rollout_{name}_change", args=(row.pk,))


def _need(need: dict[str, Any], words: Vocabulary) -> dict[str, str]:
    word = words.attributes.get(need["attribute"])
    unit = word.unit if word else ""
    value = need["value"]
    if need["operator"] == "region policy":
        needed = gettext("a region that is open")
    elif need["operator"] == "funding partner":
        needed = gettext("a partner that serves the region and has room")
    elif need["operator"] == "hysteresis":
        negation = gettext("not") + " " if need["negated"] else ""
        enter, leave = need["wanted"]
        lines = {"enter": _said(enter, word, words, ""), "leave": _said(leave, word, words, unit)}
        needed = negation + gettext("enters above %(enter)s, leaves below %(leave)s") % lines
        if crossing := need.get("crossing"):
            needed += pgettext("between claims", "; ") + _crossing(crossing)
    else:
        negation = gettext("not") + " " if need["negated"] else ""
        wanted = _said(need["wanted"], word, words, unit)
        needed = f"{negation}{_operator(need['operator'])} {wanted}"
    return {
        "label": word.label if word else need["attribute"],
        "value": _unknown(need) if value is None else _said(value, word, words, unit),
        "needed": needed,
        "state": str(need["outcome"]),
        "age": _age(need.get("as_of")),
    }


def _crossing(crossing: dict[str, Any]) -> str:
    """On which day the user came in or fell out."""
    told = {"day": crossing.get("on") or "", "weekly": f"{crossing['weekly'] or 0:,}"}
    if crossing["days_ago"] is None:
        return gettext("has not entered in the last %(days)s days") % {"days": history.WEEKS}
    if crossing["or_longer"]:
        return gettext("inside since %(day)s or longer (%(weekly)s a week then)") % told
    if crossing["inside"]:
        return gettext("entered on %(day)s (%(weekly)s a week then)") % told
    return gettext("left on %(day)s (%(weekly)s a week then)") % told


def _unknown(need: Mapping[str, Any]) -> str:
    """A value that was held then, and deleted at the end of its term, is no mere unknown."""
    return gettext("no longer held") if need.get("no_longer_held") else gettext("unknown")


def _age(as_of: str | None) -> str:
    """How long ago the platform learned the value, in words."""
    moment = parse_datetime(as_of) if as_of else None
    return str(ago(moment)) if moment is not None else ""


def _operator(operator: str) -> str:
    names = {
        "in": gettext("one of"),
        "within": gettext("in"),
        "between": gettext("between"),
        "contains": gettext("contains"),
        "starts_with": gettext("starts with"),
    }
    return names.get(operator) or SIGNS.get(operator, operator)


def _said(value: Any, word: Any, words: Vocabulary, unit: str) -> str:
    from cohorts.regions import name_of

    if isinstance(value, bool):
        return gettext("yes") if value else gettext("no")
    if isinstance(value, (list, tuple)):
        told = [_said(each, word, words, "") for each in value[:6]]
        return ", ".join(told) + (" …" if len(value) > 6 else "")
    if word is not None and word.type == "region" and isinstance(value, str):
        return f"{name_of(value, words.language)} {value}"
    return with_unit(value, unit) if isinstance(value, (int, float)) else str(value)


def _class_name(gate: Any, key: str) -> str:
    """What people call a class of regions; its key where the policy has it no more."""
    policy = getattr(gate, "region_policy", None)
    found = policy.classes.filter(key=key).first() if policy is not None else None
    return label_of(found, key) if found is not None else key


def _details(kind: str, step: dict[str, Any], row: Any) -> list[dict[str, str]]:
    details = step["details"]
    lines = []
    if kind == "gate" and details.get("region_class"):
        lines.append(
            {
                "label": gettext("class of the region"),
                "value": _class_name(row, str(details["region_class"])),
                "needed": gettext("ceiling %(share)s")
                % {"share": shown_percent(details.get("ceiling_ppm"))},
                "state": str(step["outcome"]),
            }
        )
    if kind == "stage":
        drawn = bool(details.get("drawn"))
        lines.append(
            {
                "label": gettext("drawn"),
                "value": gettext("yes") if drawn else gettext("no"),
                "needed": gettext("share %(share)s")
                % {"share": shown_percent(details.get("share_ppm"))},
                "state": "pass" if drawn else "fail",
            }
        )
    return lines + partner_lines(details)
