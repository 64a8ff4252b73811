"""Rows to the vocabulary of a snapshot. Reads, never writes."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from cohorts import models
from huidu import model


def attributes() -> list[model.Attribute]:
    """What rules may ask about, by slot: the registry without what was retired."""
    rows = models.Attribute.objects.filter(retired_at=None).order_by("id")
    return [attribute(row) for row in rows]


def open_registry() -> dict[str, model.Attribute]:
    """`attributes` by name."""
    return {each.name: each for each in attributes()}


def registry() -> dict[str, model.Attribute]:
    """The whole registry by name; past answers may rest on what was retired since."""
    return {row.name: attribute(row) for row in models.Attribute.objects.order_by("id")}


def attribute(row: models.Attribute) -> model.Attribute:
    return model.Attribute(
        id=row.id,
        name=row.name,
        type=model.AttributeType(row.type),
        source=model.AttributeSource(row.source),
        minimum=row.minimum,
        maximum=row.maximum,
    )


def cohorts() -> list[model.Cohort]:
    """All named audiences, by key."""
    return [cohort(row) for row in models.Cohort.objects.order_by("key")]


def cohort(row: models.Cohort) -> model.Cohort:
    return model.Cohort(
        key=row.key,
        rule=row.rule,
        include=frozenset(row.include),
        exclude=frozenset(row.exclude),
    )


def exact(value: Any) -> Any:
    """A stored number in the form rules compare: a whole one as an integer."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value
