"""What a table of users holds of each, by the registry of attributes.

Values have the form rules compare (`huidu.engine.values`), so unknown, mistyped and out of range
are all NULL. Versions are texts that sort as versions do, days are ordinals, and regions are
numbers of `Kept.codes`: what a rule says of each of some hundred codes is known before any user is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
from xxhash import xxh3_64_intdigest

from huidu.engine.bucketing import seeded_bucket
from huidu.engine.values import UNKNOWN, known_value
from huidu.model import Attribute, AttributeType, User, place_slot

if TYPE_CHECKING:
    import pyarrow  # type: ignore[import-untyped]

USER: Final = "user_id"
ORDER: Final = "h"
"""A hash of the user id; the smallest ones are a sample that has nothing to do with the facts."""
LISTS: Final = "lists"

TYPES: Final[dict[AttributeType, str]] = {
    AttributeType.INTEGER: "BIGINT",
    AttributeType.NUMBER: "DOUBLE",
    AttributeType.STRING: "VARCHAR",
    AttributeType.BOOLEAN: "BOOLEAN",
    AttributeType.DATE: "INTEGER",
    AttributeType.REGION: "INTEGER",
    AttributeType.SEM_VER: "VARCHAR",
    AttributeType.STRINGS: "VARCHAR[]",
}

EXACT_FLOATS: Final = 1 << 53
"""Up to here every whole number is a float of its own."""

_DIGITS: Final = 19
"""A part of a version has at most 18; one more is the part after the greatest."""


class Kept(msgspec.Struct, frozen=True):
    """What a table holds besides lists of users.

    Args:
        attributes: as they were registered when the table was made.
        seeds: of the lines on which every user has his place (`huidu.engine.bucketing`).
        slots: of the rollouts whose admissions and places are held.
        codes: by name of an attribute, the region codes its numbers stand for.
    """

    attributes: list[Attribute] = []
    seeds: list[int] = []
    slots: list[int] = []
    codes: dict[str, list[str]] = {}

    def types(self) -> dict[str, str]:
        """Type by column, in the table's order."""
        types = {USER: "VARCHAR", ORDER: "UBIGINT", LISTS: "INTEGER[]"}
        types |= {fact(each.name): TYPES[each.type] for each in self.attributes}
        types |= {bucket(seed): "UBIGINT" for seed in self.seeds}
        for slot in self.slots:
            types |= {weight(slot): "INTEGER", admitted(slot): "BOOLEAN", place(slot): "INTEGER"}
        return types


def fact(name: str) -> str:
    """The column of an attribute."""
    return f"f_{name}"


def bucket(seed: int) -> str:
    """The column of the users' places on one line."""
    return f"u_{seed:016x}"


def weight(slot: int) -> str:
    """The column of the weight frozen at a rollout's draw; NULL where nothing is remembered."""
    return f"w_{slot}"


def admitted(slot: int) -> str:
    """The column that says who keeps a rollout's product; NULL where nothing is remembered."""
    return f"a_{slot}"


def place(slot: int) -> str:
    """The column of the partner that gave the user a place, 0 for none that was charged."""
    return f"p_{slot}"


def batch(users: Sequence[User], kept: Kept, unfit: set[str] | None = None) -> pyarrow.Table:
    """Some users as columns; region codes that are new get the next numbers of `kept.codes`.

    Args:
        unfit: takes the names of attributes of which a fact has no exact form here; their columns
            are good for nothing. None: raise.
    Raises:
        OverflowError: such a fact; the message names it.
    """
    import pyarrow

    keys = [each.key for each in users]
    columns: dict[str, Any] = {
        USER: keys,
        ORDER: [xxh3_64_intdigest(key.encode()) for key in keys],
        LISTS: [sorted(each.lists) for each in users],
    }
    for attribute in kept.attributes:
        name = attribute.name
        try:
            columns[fact(name)] = [form(attribute, each.attributes.get(name)) for each in users]
        except OverflowError:
            if unfit is None:
                raise
            unfit.add(name)
            columns[fact(name)] = [None] * len(keys)
        if attribute.type is AttributeType.REGION:
            columns[fact(name)] = _numbered(columns[fact(name)], kept.codes.setdefault(name, []))
    for seed in kept.seeds:
        columns[bucket(seed)] = [seeded_bucket(seed, key) for key in keys]
    for slot in kept.slots:
        held = [each.admissions.get(slot) for each in users]
        columns[weight(slot)] = [None if each is None else each.weight for each in held]
        columns[admitted(slot)] = [None if each is None else each.admitted for each in held]
        places = [each.admissions.get(place_slot(slot)) for each in users]
        columns[place(slot)] = [None if each is None else each.weight - 1 for each in places]
    arrays = {
        name: pyarrow.array(columns[name], _arrow(kind)) for name, kind in kept.types().items()
    }
    return pyarrow.table(arrays)


def _numbered(codes: Sequence[str | None], known: list[str]) -> list[int | None]:
    numbers = {code: number for number, code in enumerate(known)}
    found: list[int | None] = []
    for code in codes:
        if code is not None and code not in numbers:
            numbers[code] = len(known)
            known.append(code)
        found.append(None if code is None else numbers[code])
    return found


def _arrow(kind: str) -> Any:
    import pyarrow

    if kind.endswith("[]"):
        return pyarrow.list_(_arrow(kind[:-2]))
    return {
        "BIGINT": pyarrow.int64(),
        "DOUBLE": pyarrow.float64(),
        "VARCHAR": pyarrow.string(),
        "BOOLEAN": pyarrow.bool_(),
        "INTEGER": pyarrow.int32(),
        "UBIGINT": pyarrow.uint64(),
    }[kind]


def form(attribute: Attribute, value: Any) -> Any:
    """A fact as the table holds it; None for unknown."""
    if value is None:
        return None
    known = known_value(attribute, value)
    if known is UNKNOWN:
        return None
    match attribute.type:
        case AttributeType.INTEGER if not -(1 << 63) <= known < 1 << 63:
            raise OverflowError(f"{attribute.name}: {known} is beyond 64 bits")
        case AttributeType.NUMBER if type(known) is int and abs(known) > EXACT_FLOATS:
            raise OverflowError(f"{attribute.name}: {known} is no exact float")
        case AttributeType.SEM_VER:
            return version_key(known)
        case AttributeType.STRINGS:
            return sorted(known)
    return known


def version_key(version: tuple[Any, ...]) -> str:
    """A version, or its first parts, as a text that sorts as the tuples do.

    A text that others begin with comes before them, as a shorter tuple does.
    """
    text = "".join(f"{part:0{_DIGITS}d}" for part in version[:3])
    if len(version) < 4:
        return text
    for kind, *identifier in version[3]:
        if kind == 2:
            text += "2"  # a release, after all its pre-releases
        elif kind == 0:
            number = str(identifier[0])
            text += f"0{len(number):03d}{number}"
        else:
            text += f"1{identifier[0]} "  # the blank sorts before all that identifiers hold
    return text
