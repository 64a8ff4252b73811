"""Which facts count, for which key."""

from __future__ import annotations

from typing import Any

import pytest

from edge.context import said, sayable
from huidu.errors import InputError
from huidu.model import Attribute, AttributeSource, AttributeType
from huidu.wire.access import KeyKind

REGISTRY = [
    Attribute(id=1, name="held", type=AttributeType.STRING, source=AttributeSource.HELD),
    Attribute(id=2, name="caller", type=AttributeType.STRING, source=AttributeSource.CALLER),
    Attribute(id=3, name="either", type=AttributeType.STRING, source=AttributeSource.EITHER),
]


def facts(kind: KeyKind, held: dict[str, Any], context: dict[str, Any]) -> dict[str, Any]:
    return held | said(context, sayable(REGISTRY, kind))


@pytest.mark.parametrize("kind", [KeyKind.SERVER, KeyKind.ADMIN])
def test_a_server_says_what_is_its_own_or_either_sides(kind: KeyKind) -> None:
    context = {"held": "c", "caller": "c", "either": "c"}
    assert facts(kind, {"held": "h", "either": "h"}, context) == {
        "held": "h",
        "caller": "c",
        "either": "c",
    }


def test_a_client_says_only_what_is_the_callers_own() -> None:
    context = {"held": "c", "caller": "c", "either": "c"}
    assert facts(KeyKind.CLIENT, {"held": "h", "either": "h"}, context) == {
        "held": "h",
        "caller": "c",
        "either": "h",
    }
    assert facts(KeyKind.CLIENT, {}, context) == {"caller": "c"}


def test_what_the_server_leaves_out_is_completed_from_what_is_held() -> None:
    assert facts(KeyKind.SERVER, {"either": "h"}, {}) == {"either": "h"}
    assert facts(KeyKind.SERVER, {"either": "h"}, {"either": None}) == {"either": "h"}


@pytest.mark.parametrize(
    ("kind", "good", "bad", "words"),
    [
        ("integer", [0, -3, 4.0], ["4", 4.5, True, [], {}], "a whole number"),
        ("number", [0, 1.5], ["1", True], "a number"),
        ("string", ["", "x"], [1, True, ["x"]], "a string"),
        ("boolean", [True, False], [1, "true"], "true or false"),
        ("date", ["2026-02-28"], ["2026-02-30", "26-1-1", 20260101], "a date such as 2026-01-31"),
        ("region", ["440300"], ["4403", 440300, "shenzhen"], "a region code of six digits"),
        ("sem_ver", ["8.0.41", "8"], ["eight", 8], "a version such as 8.0.41"),
        ("strings", [[], ["a"]], ["a", [1], {}], "a list of strings"),
    ],
)
def test_a_wrong_type_is_refused_with_the_right_one(
    kind: str, good: list[Any], bad: list[Any], words: str
) -> None:
    attribute = Attribute(id=1, name="it", type=AttributeType(kind), source=AttributeSource.CALLER)
    allowed = {"it": attribute}
    for value in good:
        assert said({"it": value}, allowed) == {"it": value}
    for value in bad:
        with pytest.raises(InputError, match=f"context.it: expected {words}"):
            said({"it": value}, allowed)


def test_a_value_out_of_range_is_refused_with_the_range() -> None:
    attribute = Attribute(
        id=1,
        name="age",
        type=AttributeType.INTEGER,
        source=AttributeSource.CALLER,
        minimum=0,
        maximum=150,
    )
    with pytest.raises(InputError, match="a whole number from 0 to 150, got 151"):
        said({"age": 151}, {"age": attribute})
