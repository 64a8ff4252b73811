"""Texts of `why` codes: written by one person, approved by another, in force from then on.

A draft is a change request that waits; approving it writes the next version. Versions are never
changed, so what was told at any moment can be read again.
"""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone

from huidu.errors import InputError, StateError
from rollout import script, wording
from rollout.models import Gate, ReasonText, fields
from rollout.script import CUSTOMER_PARTS, LANGUAGES, PARTS
from rollout.services import audit
from rollout.services.audit import Actor
from rollout.services.changing import ApprovalNeededError, only, save

EDITABLE: Final = frozenset(f"{part}_{language}" for part in PARTS for language in LANGUAGES)
MAX_TEXT: Final = 500
PLACEHOLDERS: Final = {
    **dict.fromkeys(CUSTOMER_PARTS, frozenset({"product"})),
    **dict.fromkeys(("support", "next_step"), frozenset({"product", "code", "stage"})),
}
"""What a text may name in braces, by part: the flag's name, the code, the current stage's key."""


def in_force(environment: str, at: datetime | None = None) -> dict[str, ReasonText]:
    """The version of each code that was in force at a moment (now by default); by code."""
    rows = ReasonText.objects.filter(environment=environment)
    if at is not None:
        rows = rows.filter(live_from__lte=at)
    return {each.code: each for each in rows.order_by("code", "-version").distinct("code")}


def filled(environment: str, code: str, at: datetime | None = None) -> ReasonText:
    """The texts of a code as they were told at a moment (now by default), those the product ships
    among them; not saved."""
    rows = ReasonText.objects.filter(environment=environment, code=code)
    own = (rows if at is None else rows.filter(live_from__lte=at)).first()
    return _filled(environment, code, own)


def _filled(environment: str, code: str, own: ReasonText | None) -> ReasonText:
    told = script.merged(own, script.shipped(code))
    row = ReasonText(environment=environment, code=code, version=own.version if own else 0)
    for part in PARTS:
        for language in LANGUAGES:
            setattr(row, f"{part}_{language}", getattr(told, part).in_language(language))
    return row


def overview(environment: str) -> list[tuple[ReasonText, bool]]:
    """Every code that has texts or is given by a gate: its `filled` texts, and whether it
    `must_stay_neutral`."""
    own = in_force(environment)
    given: dict[str, set[str]] = {}
    gates = Gate.objects.filter(flag__environment=environment)
    for why, unknown_why, dimension in gates.values_list("why", "unknown_why", "dimension"):
        given.setdefault(why, set()).add(dimension)
        given.setdefault(unknown_why, set())
    codes = sorted({*wording.TOLD, wording.NEUTRAL_WHY, *given, *own})
    return [
        (_filled(environment, code, own.get(code)), _is_neutral(code, given.get(code, ())))
        for code in codes
    ]


def must_stay_neutral(environment: str, code: str) -> bool:
    """Whether customers must hear the neutral text for this code, and nothing of its own."""
    gates = Gate.objects.filter(flag__environment=environment, why=code)
    return _is_neutral(code, gates.values_list("dimension", flat=True))


def _is_neutral(code: str, dimensions: Iterable[str]) -> bool:
    if code == wording.NEUTRAL_WHY:
        return False
    return any(wording.is_neutral(code, each) for each in {"", *dimensions})


def save_text(
    environment: str,
    code: str,
    values: Mapping[str, Any],
    *,
    by: Actor,
    reason: str,
    approved_by: Actor | None = None,
) -> ReasonText:
    """Put a new version of a code's texts in force; what `values` leaves out stays.

    Raises:
        ApprovalNeededError: no second person approved it yet; every text needs one.
        InputError: a text is too long, names an unknown placeholder, lacks its other language, or
            would tell a fraud refusal from a neutral one; `path` names it.
    """
    # 1. Whole and allowed, before anybody is asked to approve it.
    code = _clean_code(code)
    only(values, EDITABLE)
    now = ReasonText.objects.filter(environment=environment, code=code).first()
    texts = {name: getattr(now, name) if now else "" for name in EDITABLE}
    texts |= {name: _clean(name, value) for name, value in values.items()}
    _check_languages(texts)
    if must_stay_neutral(environment, code):
        _refuse_own_words(code, texts)
    if texts == {name: getattr(now, name) if now else "" for name in EDITABLE}:
        raise InputError("expected a text that differs from the one in force", path="code")
    # 2. Never without a second person.
    if approved_by is None or approved_by.person == by.person:
        raise ApprovalNeededError(
            f"texts of {code} need a second person: file a change request and let somebody other "
            f"than {by.person} approve it"
        )
    # 3. The next version, and its audit entry.
    row = ReasonText(
        environment=environment,
        code=code,
        version=now.version + 1 if now else 1,
        reason=audit.clean_reason(reason),
        written_by=by.person,
        approved_by=approved_by.person,
        live_from=timezone.now(),
        **texts,
    )
    try:
        with transaction.atomic():
            save(row)
            audit.record(
                by,
                "text.approved",
                f"text:{code}",
                environment=environment,
                before={name: getattr(now, name) for name in sorted(EDITABLE)} if now else None,
                after={"version": row.version, **texts},
                reason=reason,
            )
    except IntegrityError as error:
        raise StateError(f"another version of {code} came into force at this moment") from error
    return row


def _clean_code(code: Any) -> str:
    try:
        fields.valid_code(code)
    except (ValidationError, TypeError) as error:
        raise InputError(
            "expected a dotted code of at most 63 characters, such as region.closed", path="code"
        ) from error
    if len(code) > 63:
        raise InputError("expected a code of at most 63 characters", path="code")
    return str(code)


def _clean(name: str, value: Any) -> str:
    """One text without blanks at its ends, with known placeholders only."""
    if not isinstance(value, str) or "\0" in value:
        raise InputError("expected a text", path=name)
    value = value.strip()
    if len(value) > MAX_TEXT:
        raise InputError(f"expected at most {MAX_TEXT} characters, got {len(value)}", path=name)
    allowed = PLACEHOLDERS[name.rpartition("_")[0]]
    known = ", ".join(f"{{{each}}}" for each in sorted(allowed))
    try:
        parts = list(string.Formatter().parse(value))
    except ValueError as error:
        raise InputError(f"expected braces only around {known}: {error}", path=name) from error
    for _text, field, spec, conversion in parts:
        if field is not None and (field not in allowed or spec or conversion):
            raise InputError(f"expected one of {known}, got {{{field[:40]}}}", path=name)
    if "{{" in value or "}}" in value:
        raise InputError(f"expected braces only around {known}, got two in a row", path=name)
    return str(value)


def _check_languages(texts: Mapping[str, str]) -> None:
    for part in PARTS:
        for language, other in (LANGUAGES, LANGUAGES[::-1]):
            if texts[f"{part}_{language}"] and not texts[f"{part}_{other}"]:
                raise InputError(
                    "expected the text in both languages, or in neither", path=f"{part}_{other}"
                )


def _refuse_own_words(code: str, texts: Mapping[str, str]) -> None:
    for part in CUSTOMER_PARTS:
        for language in LANGUAGES:
            if texts[f"{part}_{language}"]:
                raise InputError(
                    f"expected nothing: customers must not tell {code} from other refusals, so it "
                    f"reads as {wording.NEUTRAL_WHY}; change the text of that code for all of them",
                    path=f"{part}_{language}",
                )
