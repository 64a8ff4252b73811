"""Whom a rule or a stage reaches, as the editor tells it: how many, who, and ten to look at."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlencode

from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import get_language, gettext

from cohorts import models
from cohorts.admin.fields import shown_percent
from cohorts.population.figures import Scale
from cohorts.regions import name_of
from cohorts.services import preview
from cohorts.services.audience import Rungs
from cohorts.wording import label_of
from huidu.model import PPM, User
from rollout.admin import board, effect_told
from rollout.admin.effect_told import figure, in_digits, moved
from rollout.models import Flag, Gate, Rollout, Stage
from rollout.services import effects, eligibility

MOST_REGIONS: Final = 8
MOST_FLAGS: Final = 3
"""Flags by whose tiers the users of a cohort are counted, where it is not edited for one flag."""


def reach(asked: Mapping[str, Any], *, sample: bool) -> dict[str, Any]:
    """Count what the editor asked for.

    Args:
        asked: ``rule``, and optionally ``cohort``, ``gate`` (its number), ``flag`` or ``stage``;
            ``everybody``: count all users where a sample would be counted.
        sample: whether ten of the users are named.
    Raises:
        RuleError, StateError: as `cohorts.services.preview`.
    """
    if isinstance(asked.get("stage"), dict):
        return of_stage(asked["stage"], sample=sample)
    rule, cohort, key = asked["rule"], asked.get("cohort"), asked.get("flag")
    known = isinstance(cohort, str) and models.Cohort.objects.filter(key=cohort).exists()
    flags = _flags(key if isinstance(key, str) else None)
    found = preview.compare(
        {"cohort": cohort} if known else rule, rule, _ladders(flags), everybody=_everybody(asked)
    )
    notes = [gettext("No conditions: everybody.")] if rule == {} else []
    if known:
        notes.append(_against_now(found))
    effect = _effect(asked, rule, cohort if known else None)
    text = gettext("%(matched)s of %(population)s known users match")
    return _told(found, text, notes, flags, effect, sample=sample)


def of_stage(asked: Mapping[str, Any], *, sample: bool) -> dict[str, Any]:
    """Who is eligible in a stage as it stands in the form: audience and gates, before the draw.

    Args:
        asked: as typed: ``rollout``, ``audience`` and ``stage`` are numbers, ``share`` percent,
            ``weights`` a list of rules with weights.
    """
    saved = _row(Stage.objects.select_related("rollout__flag", "audience"), asked.get("stage"))
    rollout = (
        saved.rollout
        if saved
        else _row(Rollout.objects.select_related("flag"), asked.get("rollout"))
    )
    audience = _row(models.Cohort.objects, asked.get("audience"))
    if rollout is None:
        return {
            "text": gettext("Choose the rollout first."),
            "notes": [],
            "groups": [],
            "sample": [],
        }
    after = eligibility.eligible_of(rollout.flag, audience)
    before = eligibility.eligible(saved) if saved else after
    found = preview.compare(before, after, _ladders([rollout.flag]), everybody=_everybody(asked))
    notes = []
    if (share := _share(asked.get("share"))) is not None:
        notes.append(
            gettext("A share of %(share)s draws %(users)s of them.")
            % {
                "share": shown_percent(share),
                "users": in_digits(found.scale.share_of(found.after.matched, share)),
            }
        )
    if saved:
        notes.append(_against_now(found))
    effect: dict[str, list[Any]] = {}
    if share is not None:
        weights = asked.get("weights")
        plan = effects.Planned(
            rollout, saved, audience, share, weights if isinstance(weights, list) else []
        )
        effect = effect_told.tell(lambda: _listed(effects.of_stage(plan)), rollout.flag.environment)
    text = gettext("%(matched)s of %(population)s known users are eligible, gates included")
    return _told(found, text, notes, [rollout.flag], effect, sample=sample)


def _effect(asked: Mapping[str, Any], rule: Any, cohort: str | None) -> dict[str, list[Any]]:
    """What the edited gate or cohort does to the flags that are live."""
    environment = board.environment()
    if cohort is not None:
        return effect_told.tell(lambda: effects.of_cohort(environment, cohort, rule), environment)
    gate = _row(Gate.objects.select_related("flag"), asked.get("gate"))
    if gate is None or gate.flag.environment != environment:
        return {}
    return effect_told.tell(lambda: _listed(effects.of_gate(gate, rule)), environment)


def _listed(told: effects.Told | None) -> list[effects.Told]:
    return [] if told is None else [told]


def _told(
    found: preview.Comparison,
    text: str,
    notes: list[str],
    flags: list[Flag],
    effect: Mapping[str, list[Any]],
    *,
    sample: bool,
) -> dict[str, Any]:
    after, portrait = found.after, found.portrait
    if after.unknown:
        notes.append(
            gettext("%(unknown)s cannot be judged: data is missing")
            % {"unknown": figure(found.scale, after.unknown)}
        )
    notes += effect.get("notes", [])
    groups = [_group(gettext("By region"), _regions(portrait), found)]
    if (others := len(portrait.regions) - MOST_REGIONS) > 0:
        rest = after.matched - sum(users for _, users in _regions(portrait))
        name = gettext("%(count)s other regions") % {"count": others}
        groups[0]["lines"].append({**_line(name, rest, found), "rest": True})
    for flag in flags:
        if not flag.tiers.all():
            continue
        title = gettext("By tier of %(flag)s") % {"flag": label_of(flag)}
        groups.append(_group(title, _tiers(flag, portrait), found))
    groups.append(_group(gettext("By payments in 7 days"), _weekly(portrait), found))
    return {
        "matched": found.scale.of(after.matched).users,
        "unknown": found.scale.of(after.unknown).users,
        "population": found.scale.users,
        "exact": found.scale.exact,
        "text": text
        % {
            "matched": figure(found.scale, after.matched),
            "population": f"{found.scale.users:,}",
        },
        "as_of": worth(found.scale, found.as_of, effect.get("estimated", [])),
        "notes": notes,
        "groups": (groups if after.matched else []) + effect.get("groups", []),
        "sample_title": gettext("%(count)s of them to look at") % {"count": len(portrait.sample)},
        "sample": [_one(user, flags) for user in _still_known(portrait.sample)] if sample else [],
    }


def worth(scale: Scale, as_of: datetime, effects: list[Scale]) -> str:
    """What the figures are worth, and of when they are.

    Args:
        effects: of estimates that are told beside them.
    """
    at = date_format(timezone.localtime(as_of), "Y-m-d H:i:s")
    if scale.exact and effects:
        return gettext(
            "Who matches is exact: every known user was judged, as of %(at)s. Figures with ≈ are "
            "estimated from %(read)s users, picked evenly: in 95 of 100 cases the true figure lies "
            "within ±."
        ) % {"at": at, "read": f"{effects[0].read:,}"}
    if scale.exact:
        return gettext("Exact: every known user was judged, as of %(at)s.") % {"at": at}
    return gettext(
        "Estimated from %(read)s users, picked evenly, as of %(at)s. In 95 of 100 cases the true "
        "figure lies within ±."
    ) % {"read": f"{scale.read:,}", "at": at}


def _against_now(found: preview.Comparison) -> str:
    return gettext("Against now: %(gain)s users gain, %(lose)s users lose") % {
        "gain": moved(found, found.gain),
        "lose": moved(found, found.lose),
    }


def _still_known(users: list[User]) -> list[User]:
    """Without those who were forgotten after the population file was made."""
    asked = [user.key for user in users]
    known = set(models.Profile.objects.filter(pk__in=asked).values_list("pk", flat=True))
    return [user for user in users if user.key in known]


def _group(title: str, lines: list[tuple[str, int]], found: preview.Comparison) -> dict[str, Any]:
    return {"title": title, "lines": [_line(name, users, found) for name, users in lines]}


def _line(name: str, counted: int, found: preview.Comparison) -> dict[str, Any]:
    total, users = found.after.matched, found.scale.of(counted).users
    share = shown_percent(round(counted * 1_000 / total) * 1_000) if total else ""
    return {
        "name": name,
        "users": users,
        "text": figure(found.scale, counted),
        "share": effect_told.share(found.scale, share) if share else "",
    }


def _regions(portrait: preview.Portrait) -> list[tuple[str, int]]:
    top = portrait.regions.most_common(MOST_REGIONS)
    return [(region_name(code), users) for code, users in top]


def _tiers(flag: Flag, portrait: preview.Portrait) -> list[tuple[str, int]]:
    counted = portrait.tiers[flag.key]
    lines = [(label_of(tier), counted[tier.key]) for tier in flag.tiers.all()]
    return [*lines, (gettext("no tier"), counted[""])]


def _weekly(portrait: preview.Portrait) -> list[tuple[str, int]]:
    lines = []
    for index, (low, following) in enumerate(
        zip(preview.BANDS, (*preview.BANDS[1:], None), strict=True)
    ):
        if following is None:
            name = f"≥ {low}"
        else:
            name = str(low) if following == low + 1 else f"{low}–{following - 1}"
        lines.append((name, portrait.weekly[index]))
    return lines


def _one(user: Any, flags: list[Flag]) -> dict[str, str]:
    asked = {"user": user.key} | ({"flag": flags[0].key} if flags else {})
    return {
        "user": user.key,
        "region": region_name(user.attributes.get("region")),
        "weekly": f"{user.attributes['weekly_payments']:,}",
        "url": f"{reverse('admin:diagnose')}?{urlencode(asked)}",
    }


def region_name(code: str | None) -> str:
    return name_of(code, get_language() or "en") if code else gettext("region unknown")


def _flags(key: str | None) -> list[Flag]:
    """The flag that is edited, or else the first ones that have tiers."""
    flags = Flag.objects.filter(environment=board.environment(), archived_at=None)
    flags = flags.filter(tiers__isnull=False).distinct().prefetch_related("tiers").order_by("key")
    chosen = list(flags.filter(key=key)) if key else []
    return chosen or list(flags[:MOST_FLAGS])


def _ladders(flags: list[Flag]) -> dict[str, Rungs]:
    return {flag.key: [(tier.key, tier.rule) for tier in flag.tiers.all()] for flag in flags}


def _everybody(asked: Mapping[str, Any]) -> bool:
    """Whether all users of a large population file are to be read, not only its sample."""
    return asked.get("everybody") is True


def _row(rows: Any, typed: Any) -> Any:
    """The row with the number that was typed; None where there is none."""
    number = str(typed or "")
    return rows.filter(pk=int(number)).first() if number.isdecimal() and len(number) < 10 else None


def _share(typed: Any) -> int | None:
    """Parts per million of a typed percentage; None where the form will refuse it."""
    try:
        share = round(float(str(typed)) * 10_000)
    except (ValueError, OverflowError):
        return None
    return share if 0 <= share <= PPM else None
