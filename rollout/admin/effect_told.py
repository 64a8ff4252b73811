"""What an edit does to the flags that are live, as the editor tells it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from django.utils.translation import gettext, gettext_lazy, pgettext_lazy

from cohorts.admin.fields import shown_percent
from cohorts.population.effect import Effect, Refused
from cohorts.population.figures import Figure, Scale
from cohorts.population.sql import NotHeld
from cohorts.services.preview import Comparison
from cohorts.wording import label_of
from huidu import reasons
from huidu.errors import HuiduError
from rollout.admin import faults
from rollout.models import Flag, Gate
from rollout.services.effects import Told

STEPS: Final = {
    reasons.KILLED: gettext_lazy("stopped for everybody"),
    reasons.FLAG_DISABLED: gettext_lazy("switched off"),
    reasons.BLOCKED_LIST: gettext_lazy("on a block list"),
    reasons.PREREQUISITE_UNMET: gettext_lazy("another flag is needed first"),
    reasons.PRODUCT_EXCLUDED: gettext_lazy("belongs to another product"),
    reasons.STAGE_NOT_STARTED: gettext_lazy("no stage has begun"),
    reasons.STAGE_ROLLED_BACK: gettext_lazy("rolled back"),
    reasons.STAGE_NOT_DRAWN: pgettext_lazy("of users", "not drawn"),
    reasons.STAGE_HELD_BACK: pgettext_lazy("of users", "held back"),
    reasons.TIER_NOT_IN_STAGE: gettext_lazy("outside the stage's audience"),
    reasons.STAGE_NOT_INTERNAL: gettext_lazy("outside the stage's audience"),
    reasons.IDENTITY_MISSING: gettext_lazy("without a user id"),
    reasons.FUNDING_NOT_RESERVED: gettext_lazy("no place of a funding partner taken yet"),
}


def figure(scale: Scale, counted: int) -> str:
    """A count as people read it: exact, or with the half-width of its 95 % interval."""
    return in_digits(scale.of(counted))


def in_digits(told: Figure, sign: str = "") -> str:
    """``9,588``, or ``≈ 9,590 ± 130``: no digits that the error makes meaningless.

    The error is rounded up to two digits, and the figure to the same place.
    """
    if not told.error:
        return f"{sign}{told.users:,}"
    unit = 10 ** max(len(str(told.error)) - 2, 0)
    error = -(-told.error // unit) * unit
    return f"≈ {sign}{round(told.users / unit) * unit:,} ± {error:,}"


def moved(found: Effect | Comparison, counted: int) -> str:
    """How many gain or lose; nobody, for sure, where nothing changes."""
    return "0" if found.unchanged else figure(found.scale, counted)


def share(scale: Scale, percent: str) -> str:
    """A share among those who were read, as a share of everybody."""
    return percent if scale.exact else f"≈ {percent}"


def tell(counted: Callable[[], list[Told]], environment: str) -> dict[str, list[Any]]:
    """Sentences and bars about each flag; a sentence that says why where nothing can be counted.

    Args:
        counted: counts the effects.
    """
    try:
        effects = counted()
    except HuiduError as fault:
        return {"notes": [faults.in_words(fault)], "groups": []}
    except NotHeld:
        return {
            "notes": [gettext("What this does to users who see a product cannot be counted.")],
            "groups": [],
        }
    flags = {each.key: each for each in Flag.objects.filter(environment=environment)}
    notes: list[str] = []
    groups: list[dict[str, Any]] = []
    for each in effects:
        flag = flags[each.flag]
        notes += _sentences(each, label_of(flag))
        groups += _bars(each.effect, flag)
    estimated = [each.effect.scale for each in effects if not each.effect.scale.exact]
    return {"notes": notes, "groups": groups, "estimated": estimated}


def _sentences(told: Told, name: str) -> list[str]:
    found, scale = told.effect, told.effect.scale
    sentences = []
    if told.drawn is not None and told.eligible is not None:
        sentences.append(
            gettext("Drawn now: %(drawn)s of %(eligible)s eligible users.")
            % {"drawn": _drawn(told), "eligible": figure(scale, told.eligible)}
        )
    sentences.append(
        gettext(
            "%(flag)s, with every gate, list and draw: %(after)s users pass. Against what is live "
            "now, %(gain)s gain it and %(lose)s lose it."
        )
        % {
            "flag": name,
            "after": figure(scale, found.after),
            "gain": moved(found, found.gain),
            "lose": moved(found, found.lose),
        }
    )
    if told.left is not None:
        sentences.append(
            gettext(
                "%(waiting)s of those who pass have no place of a funding partner yet; %(left)s "
                "places can be given today."
            )
            % {"waiting": figure(scale, found.waiting), "left": f"{told.left:,}"}
        )
    return sentences


def _drawn(told: Told) -> str:
    scale, drawn, eligible = told.effect.scale, told.drawn or 0, told.eligible or 0
    if told.share_ppm is None:
        return figure(scale, drawn)
    return in_digits(scale.share_of(eligible, told.share_ppm))


def _bars(found: Effect, flag: Flag) -> list[dict[str, Any]]:
    gates = {each.key: each for each in Gate.objects.filter(flag=flag)}
    named = [(_named(step, gates), step) for step in found.steps]
    first = [
        _line(name, step.first, found.scale)
        for name, step in named
        if step.first or step.kind == "gate"
    ]
    alone = [
        {**_line(name, step.only, found.scale, "+"), "share": ""}
        for name, step in named
        if step.kind == "gate"
    ]
    title = label_of(flag)
    return [
        {"title": gettext("%(flag)s: refused first by") % {"flag": title}, "lines": first},
        {
            "title": gettext("%(flag)s: more users without this gate") % {"flag": title},
            "lines": alone,
        },
    ]


def _line(name: str, counted: int, scale: Scale, sign: str = "") -> dict[str, Any]:
    part = round(1_000 * counted / scale.read) * 1_000 if scale.read else 0
    return {
        "name": name,
        "users": scale.of(counted).users,
        "text": in_digits(scale.of(counted), sign),
        "share": share(scale, shown_percent(part)),
    }


def _named(step: Refused, gates: dict[str, Gate]) -> str:
    if step.kind == "gate":
        return label_of(gates[step.key]) if step.key in gates else step.key
    return code_named(step.why)


def code_named(why: str) -> str:
    """A refusal that is no gate's, as people name it."""
    return str(STEPS.get(why, why))
