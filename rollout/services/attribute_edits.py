"""The attribute registry, changed: one way in, checked against all that uses an attribute.

Past answers are replayed with an attribute's name, type and values. So once a value was held, name
and type never change: such an attribute is retired, and a new one takes its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import isfinite
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Field
from django.utils import timezone

from cohorts.models import Attribute
from cohorts.models.attributes import MOST_RETENTION_DAYS
from cohorts.services import registry
from cohorts.services.facts import COMPUTED
from huidu.errors import InputError, StateError
from huidu.wire.record import Profile
from rollout.services import attribute_uses, audit, everywhere
from rollout.services.attribute_uses import Use
from rollout.services.audit import Actor
from rollout.services.changing import (
    ApprovalNeededError,
    needs_second_person,
    only,
    require_second_person,
    save,
)

DESCRIBING: Final = frozenset({"label_zh", "label_en", "sensitivity", "retention_days"})
"""What may change of every attribute, those that are built in included."""

MEANING: Final = frozenset({"type", "source", "minimum", "maximum"})
"""What decides whether a value is known, and so who is let in."""

EDITABLE: Final = DESCRIBING | MEANING | {"name", "unit"}
MOST_NAMED: Final = 20
RESERVED: Final = frozenset({"user_id", *Profile.__struct_fields__})
"""Names that mean something else beside facts: in items that are sent, and in packed records."""


def save_attribute(
    values: Mapping[str, Any],
    *,
    by: Actor,
    attribute: Attribute | None = None,
    reason: str = "",
    approved_by: Actor | None = None,
) -> Attribute:
    """Register an attribute, or change one; every environment is checked and published anew.

    Raises:
        ApprovalNeededError: a second person must agree: the meaning of an attribute that a live
            flag with four eyes uses, protection that is lowered, or values that will be deleted.
        StateError: values are held or rules use it, and the change would alter what they mean.
        InputError, RuleError, SnapshotError: a value is wrong; `path` says which.
    """
    only(values, EDITABLE)
    values = {name: _read(name, value) for name, value in values.items()}
    if attribute is None:
        with _changed(Attribute(), "attribute.created", by, reason) as row:
            _set(row, values)
        return row
    changed = {name for name, value in values.items() if getattr(attribute, name) != value}
    if "name" in changed:
        raise InputError(
            f"expected {attribute.name}: renaming is a step of its own, refused while rules use "
            "the attribute or values were held",
            path="name",
        )
    with _changed(attribute, "attribute.updated", by, reason, alone=bool(changed & MEANING)) as row:
        changed = {name for name, value in values.items() if getattr(row, name) != value}
        if row.built_in and (fixed := sorted(changed - DESCRIBING)):
            raise InputError(
                f"{row.name} is built in: expected one of {', '.join(sorted(DESCRIBING))}, "
                f"got {fixed[0]}",
                path=fixed[0],
            )
        _refuse_retype(row, values, changed)
        _ask_second_person(row, values, changed, by, approved_by)
        _set(row, {name: values[name] for name in changed})
    return row


def rename(attribute: Attribute, name: str, *, by: Actor, reason: str) -> Attribute:
    """Give another name to an attribute that nothing rests on yet.

    Raises:
        StateError: built in, used, or held; tells where it is used, and that a label may change.
        InputError: the name is taken or no name, or no reason is given.
    """
    reason = audit.clean_reason(reason)
    with _changed(attribute, "attribute.renamed", by, reason, alone=True) as row:
        _refuse_if_fixed(row, "name")
        row.name = name
    return row


def retire(attribute: Attribute, *, by: Actor, reason: str) -> Attribute:
    """Take an attribute out of use: no rule may name it and no value is taken any longer.

    What was held stays for its term, and past answers are replayed as before.

    Raises:
        StateError: built in, retired already, or used; tells where.
    """
    reason = audit.clean_reason(reason)
    with _changed(attribute, "attribute.retired", by, reason, alone=True) as row:
        if row.built_in:
            raise StateError(f"{row.name} is built in: it cannot be retired", code="state.built_in")
        if row.retired_at is not None:
            raise StateError(f"{row.name} is retired already")
        _refuse_used(row, [use for use in attribute_uses.uses_of(row.name) if use.live])
        row.retired_at = timezone.now()
    return row


def restore(attribute: Attribute, *, by: Actor, reason: str) -> Attribute:
    """Take a retired attribute into use again.

    Raises:
        StateError: it is not retired.
    """
    reason = audit.clean_reason(reason)
    with _changed(attribute, "attribute.restored", by, reason) as row:
        if row.retired_at is None:
            raise StateError(f"{row.name} is not retired")
        row.retired_at = None
    return row


def remove(attribute: Attribute, *, by: Actor, reason: str) -> None:
    """Delete an attribute that nothing rests on; its slot is never dealt again.

    Raises:
        StateError: built in, used, or held; tells where it is used.
    """
    reason = audit.clean_reason(reason)
    with registry.alone():
        row = _locked(attribute)
        _refuse_if_fixed(row, "")
        before = audit.state_of(row)
        row.delete()
        target = f"attribute:{row.name}"
        everywhere.record_and_publish(by, "attribute.removed", target, before, None, reason)


@contextmanager
def _changed(
    attribute: Attribute, action: str, by: Actor, reason: str, *, alone: bool = False
) -> Iterator[Attribute]:
    """The row locked and fresh; afterwards validated, written, logged and published.

    Args:
        alone: nobody may read the registry meanwhile; needed where what others checked changes.
    """
    with registry.alone() if alone else transaction.atomic():
        row = _locked(attribute) if attribute.pk else attribute
        before = audit.state_of(row) if attribute.pk else {}
        yield row
        _check_sense(row)
        save(row)
        was, now = audit.difference(before, audit.state_of(row))
        everywhere.record_and_publish(
            by, action, f"attribute:{row.name}", was if before else None, now, reason
        )


def _locked(attribute: Attribute) -> Attribute:
    row = Attribute.objects.select_for_update().filter(pk=attribute.pk).first()
    if row is None:
        raise InputError("expected an existing attribute, got none", code="not_found")
    return row


def _read(name: str, value: Any) -> Any:
    """The value as its column holds it, so that 30 and "30" are one term.

    Raises:
        InputError: the column cannot hold it.
    """
    try:
        column = Attribute._meta.get_field(name)
        assert isinstance(column, Field)
        known = column.to_python(value)
    except ValidationError as error:
        raise InputError(error.messages[0], path=name) from error
    if isinstance(known, float) and not isfinite(known):
        raise InputError(f"expected a finite number, got {value}", path=name)
    return known


def _set(row: Attribute, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        setattr(row, name, value)


def _check_sense(row: Attribute) -> None:
    """Raises `InputError` for a name of the platform's own, a range that holds nothing, or a term
    for what is never held."""
    if row.name in RESERVED and not row.built_in and not Attribute.objects.filter(name=row.name):
        raise InputError(
            f"expected another name: {row.name} is a word of the platform's own", path="name"
        )
    if row.type not in (Attribute.Type.INTEGER, Attribute.Type.NUMBER):
        for name in ("minimum", "maximum"):
            if getattr(row, name) is not None:
                raise InputError(f"expected none: {row.type} has no range", path=name)
    if row.minimum is not None and row.maximum is not None and row.minimum > row.maximum:
        raise InputError(
            f"expected at most {row.maximum:g}, got {row.minimum:g}: the lower end comes first",
            path="minimum",
        )
    term = row.retention_days
    if term is None:
        return
    if row.source == Attribute.Source.CALLER or row.name in COMPUTED:
        raise InputError("expected none: no value of it is held", path="retention_days")
    if not 1 <= term <= MOST_RETENTION_DAYS:
        raise InputError(
            f"expected a whole number from 1 to {MOST_RETENTION_DAYS}, got {term}",
            path="retention_days",
        )


def _refuse_if_fixed(row: Attribute, path: str) -> None:
    """Raises `StateError` where name and type belong to past answers or to rules."""
    if row.built_in:
        raise StateError(f"{row.name} is built in: name and type are fixed", code="state.built_in")
    _refuse_used(row, attribute_uses.uses_of(row.name), path)
    if row.held_since is not None:
        raise StateError(
            f"values of {row.name} have been held since {row.held_since:%Y-%m-%d}: past answers "
            "are replayed with its name and type; retire it and register a new one, or change its "
            "label",
            path=path,
            code="attribute.held",
        )


def _refuse_used(row: Attribute, uses: list[Use], path: str = "") -> None:
    if uses:
        more = f" and {len(uses) - MOST_NAMED} more" if len(uses) > MOST_NAMED else ""
        told = ", ".join(str(use) for use in uses[:MOST_NAMED])
        raise StateError(
            f"attribute {row.name} is used by {told}{more}: change these first",
            path=path,
            code="attribute.in_use",
        )


def _refuse_retype(row: Attribute, values: Mapping[str, Any], changed: set[str]) -> None:
    if "type" in changed:
        _refuse_if_fixed(row, "type")
    if "source" in changed and values["source"] == Attribute.Source.CALLER and row.held_since:
        raise StateError(
            f"values of {row.name} are held: it cannot become the caller's alone",
            path="source",
            code="attribute.held",
        )


def _ask_second_person(
    row: Attribute,
    values: Mapping[str, Any],
    changed: set[str],
    by: Actor,
    approved_by: Actor | None,
) -> None:
    """Raises `ApprovalNeededError` where the change needs a second person and has none."""
    if changed & MEANING:
        for flag in attribute_uses.flags_using(row.name):
            if needs_second_person(flag):
                step = f"changing attribute {row.name}"
                require_second_person(flag, by, approved_by, step)
    step = ""
    if "sensitivity" in changed and row.sensitivity != Attribute.Sensitivity.ORDINARY:
        step = "lowering the protection"
    term = values.get("retention_days") if "retention_days" in changed else None
    held = row.built_in or row.held_since is not None
    if term is not None and held and (row.retention_days is None or term < row.retention_days):
        step = "deleting held values"
    if step and (approved_by is None or approved_by.person == by.person):
        raise ApprovalNeededError(
            f"{step} of {row.name} needs a second person: file a change request and let somebody "
            f"other than {by.person} approve it"
        )
