"""What a change request is about: its row by name, and what would change."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from django.db.models import Model
from django.utils.dateparse import parse_duration
from django.utils.translation import gettext

from cohorts.admin.fields import shown_percent
from cohorts.models import Attribute, Cohort, ListVersion
from cohorts.wording import Vocabulary, label_of, rule_in_words
from config.templatetags.huidu import span
from rollout.models import (
    Case,
    ChangeRequest,
    Flag,
    FundingPartner,
    Gate,
    Guard,
    ReasonText,
    Rollout,
    Stage,
    Tier,
)
from rollout.services import changes, reason_texts

MODELS: dict[str, type[Model]] = {
    "case": Case,
    "flag": Flag,
    "rollout": Rollout,
    "stage": Stage,
    "gate": Gate,
    "tier": Tier,
    "guard": Guard,
    "cohort": Cohort,
    "attribute": Attribute,
    "list": ListVersion,
    "partner": FundingPartner,
    "text": ReasonText,
}


def row_of(change: ChangeRequest) -> Any:
    """The row the request names, or None for a new or vanished one."""
    if change.kind == "text.save":  # told by its code; what is in force now stands beside it
        applied = change.status == ChangeRequest.Status.APPLIED
        return reason_texts.filled(
            change.environment,
            change.payload.get("code", ""),
            at=change.decided_at if applied else None,  # the new version came just after
        )
    model = MODELS.get(change.kind.partition(".")[0])
    if model is None or not change.target.isdigit():
        return None
    return model._default_manager.filter(pk=int(change.target)).first()


def name_of(change: ChangeRequest) -> str:
    row = row_of(change)
    return change.target if row is None else name_of_row(row)


def name_of_row(row: Any) -> str:
    """What people call a row: its label, with its flag's where it belongs to one."""
    if isinstance(row, Rollout):
        return f"{label_of(row.flag)} #{row.slot}"
    if isinstance(row, ChangeRequest):
        return f"{name_of(row)} #{row.pk}"
    if isinstance(row, ReasonText):
        return row.code
    if isinstance(row, Case):
        return gettext("Review case #%(number)s") % {"number": row.pk}
    if isinstance(row, Guard):
        return f"{label_of(row.stage)} · {label_of(row.metric)}"
    if isinstance(row, (FundingPartner, Gate, Tier)):
        return f"{label_of(row.flag)} · {label_of(row)}"
    if isinstance(row, Stage):
        return f"{label_of(row.rollout.flag)} · {label_of(row)}"
    return label_of(row, str(row))


def touched(change: ChangeRequest) -> str:
    """How many users see the flag now that the change is about, in words."""
    from rollout.admin import flags, rollout_acts

    row = row_of(change)
    if change.kind == "rollout.promote" and isinstance(row, Rollout):
        return rollout_acts.touched_by_promotion(row)
    flag = flag_of(row)
    return flags.touched(flag) if flag is not None else ""


def flag_of(row: Any) -> Flag | None:
    """The flag a row belongs to, if it belongs to one."""
    if isinstance(row, Flag):
        return row
    for name in ("flag", "rollout", "stage"):
        if (inner := getattr(row, name, None)) is not None:
            return flag_of(inner)
    return None


def differences(change: ChangeRequest) -> list[dict[str, str]]:
    """Field by field, what is now and what is asked for, as people read it.

    Of an applied change: what it found and what it made.
    """
    row, words = row_of(change), Vocabulary.load()
    applied = change.status == ChangeRequest.Status.APPLIED
    found = changes.values_before(change) if applied else {}
    lines = []
    for name, wanted in change.payload.items():
        if name in ("flag", "rollout", "stage") and row is None:
            continue
        if name in ("environment", "code") and change.kind == "text.save":
            continue
        if applied and change.kind != "text.save":
            now = found.get(name)
        else:
            now = getattr(row, name, None)
        lines.append(
            {
                "name": field_name(change, name),
                "now": "—" if row is None else told(name, now, words),
                "then": told(name, wanted, words),
            }
        )
    return lines


def field_name(change: ChangeRequest, name: str) -> str:
    model = MODELS.get(change.kind.partition(".")[0])
    try:
        return str(model._meta.get_field(name).verbose_name) if model else name  # type: ignore[union-attr]
    except Exception:  # not a column: a payload may name other things
        return name


def told(name: str, value: Any, words: Vocabulary) -> str:
    """A value as people read it, by the name of its field."""
    if value is None:
        return "—"
    if name == "guards" and isinstance(value, list):
        return "; ".join(_guard_asked(each) for each in value)
    if name == "stage" and isinstance(value, int):
        stage = Stage.objects.filter(pk=value).first()
        return label_of(stage) if stage is not None else str(value)
    if name == "rule":
        return rule_in_words(value, words)
    if name.endswith("_ppm") and isinstance(value, int):
        return str(shown_percent(value))
    if name in ("minimum_stay", "maximum_stay"):
        return span(_as_span(value))
    if isinstance(value, bool):
        return gettext("yes") if value else gettext("no")
    if isinstance(value, Model):
        return label_of(value, str(value))
    if hasattr(value, "all"):
        return ", ".join(label_of(each, str(each)) for each in value.all())
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def _as_span(value: Any) -> timedelta | None:
    """A stretch of time as rows hold it, requests carry it (seconds), or the audit log tells it."""
    if isinstance(value, str):
        return parse_duration(value)
    return value if isinstance(value, timedelta) else timedelta(seconds=float(value))


def _guard_asked(entry: Any) -> str:
    """A guard asked for from a template: ``complaint: margin_rel 0.5, role must_prove``."""
    if not isinstance(entry, dict):
        return str(entry)
    values = ", ".join(f"{name} {value}" for name, value in entry.items() if name != "template")
    return f"{entry.get('template')}: {values}"
