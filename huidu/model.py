"""What a snapshot says: the vocabulary shared by engine, edge, SDK and the Django apps.

A `Snapshot` is everything a check needs besides the user's own attributes. It is immutable: the
publisher makes it from the database, the wire format carries it, `huidu.engine` compiles it.
All types are frozen `msgspec.Struct`s, so decoding validates and names the path of a fault.
What came from JSON holds no cycles, so the garbage collector need not walk it (`gc=False`): with a
thousand flags that held a process for a tenth of a second.

Shares are whole parts per million (``*_ppm``, 0..1_000_000). A user's *bucket* in a rollout is a
64-bit integer ``u`` (see `huidu.engine.bucketing`); a stage's `threshold` is an integer ``c`` in
0..2**64 and admits a user of weight ``w`` exactly when ``u < c * w``.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

import msgspec

type_of_json = str | int | float | bool | None | list[Any] | dict[str, Any]
"""Any JSON value; what variants and payloads hold."""

Rule = dict[str, Any]
"""A typed JsonLogic subset; `huidu.engine.rules` names the operators. ``{}`` is always true."""

PPM = 1_000_000
FULL_THRESHOLD = 1 << 64

MAX_ID_CHARACTERS = 128
"""Longest user id, wherever one is taken in; openids and UUIDs are far shorter."""


class AttributeType(enum.StrEnum):
    """The types a registered attribute may have."""

    INTEGER = "integer"
    NUMBER = "number"
    STRING = "string"
    BOOLEAN = "boolean"
    DATE = "date"  # ISO text, compared as a date
    REGION = "region"  # GB/T 2260 code of six digits; rules may name a parent (province)
    SEM_VER = "sem_ver"
    STRINGS = "strings"  # a list of strings


class AttributeSource(enum.StrEnum):
    """Who may say the attribute's value."""

    HELD = "held"  # only the platform; a value in the caller's context is ignored
    CALLER = "caller"  # only the caller's context
    EITHER = "either"  # the caller's context with a server key, else what the platform holds


class Attribute(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One entry of the typed registry. `id` is its stable slot number in packed profiles."""

    id: int
    name: str
    type: AttributeType
    source: AttributeSource = AttributeSource.HELD
    minimum: float | None = None
    maximum: float | None = None


class Cohort(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A named audience: the rule or `include`, never `exclude` (small lists of user ids)."""

    key: str
    rule: Rule = msgspec.field(default_factory=dict)
    include: frozenset[str] = frozenset()
    exclude: frozenset[str] = frozenset()


class RegionClass(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one class of regions allows. `ceiling_ppm` caps the share of users by rank; 0 closes."""

    key: str  # "open", "restricted", "closed"
    ceiling_ppm: int = PPM
    payload: dict[str, Any] = msgspec.field(default_factory=dict)


class RegionPolicy(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Class per region code: city, else province (``440300`` -> ``440000``), else default."""

    classes: list[RegionClass]
    regions: dict[str, str]
    default: str


class Partner(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A funding partner that gives places. `regions` are codes, a province covers its cities."""

    number: int  # 1..32767
    key: str
    everywhere: bool = False
    regions: frozenset[str] = frozenset()
    is_open: bool = True  # False: gives no new places; those given stay


class Capacity(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Who may give a place, in the order they are tried. How many are left is not told here."""

    partners: list[Partner]


class Gate(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One refusal a user must get past. Exactly one of `rule`, `region` and `capacity` is set.

    A rule gate lets pass when the rule is *definitely true*: a missing attribute refuses with
    `unknown_why`. `absolute` gates refuse allow-listed users too. Gates with `keeps_shown` never
    take the product from somebody who was already admitted (see `Admission`). A capacity gate is
    asked last, whatever its order, so that only users who pass everything else take a place.
    """

    key: str
    dimension: str  # activity region funding fraud product compliance value staged
    why: str
    rule: Rule | None = None
    region: RegionPolicy | None = None
    capacity: Capacity | None = None
    unknown_why: str = "data.missing"
    absolute: bool = True
    keeps_shown: bool = False
    version: int = 1


class Tier(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The first tier whose rule is true adds its payload to a visible answer."""

    key: str
    rule: Rule
    payload: dict[str, Any] = msgspec.field(default_factory=dict)


class Weight(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Users whom `rule` matches are drawn `weight` times as likely. First match wins, else 1."""

    rule: Rule
    weight: int


class Stage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One step of a rollout: whom it addresses, and how far its draw reaches.

    `threshold` is decided once, when the stage is drawn, and never falls within a rollout.
    `weights` are read live unless the rollout is `sticky`, where the weight frozen at the draw
    (in the user's `Admission`) counts and users without one weigh 1.
    """

    key: str
    audience: Rule = msgspec.field(default_factory=dict)
    audience_why: str = "tier.not_in_stage"
    share_ppm: int = PPM
    threshold: int = FULL_THRESHOLD
    weights: list[Weight] = msgspec.field(default_factory=list)
    payload: dict[str, Any] = msgspec.field(default_factory=dict)
    starts_at: str | None = None  # planned, ISO time; only told, never acted on
    not_drawn_why: str = "stage.not_drawn"  # ``stage.held_back`` where a release keeps a holdback


class RolloutStatus(enum.StrEnum):
    DRAFT = "draft"
    AWAITING_APPROVAL = "awaiting_approval"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    ROLLED_BACK = "rolled_back"
    KILLED = "killed"


class Rollout(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One journey of a flag. `stages[: current + 1]` are open: widening never drops a user.

    `slot` is the small number under which a user's `Admission` to this rollout is packed.
    """

    slot: int
    salt: str
    status: RolloutStatus
    stages: list[Stage]
    current: int = -1  # index of the running stage; -1 before the first
    sticky: bool = True


class Variant(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One value an admitted user may get; the `share_ppm` of a flag's variants sum to PPM."""

    key: str
    value: Any
    share_ppm: int = PPM
    payload: dict[str, Any] = msgspec.field(default_factory=dict)


class Prerequisite(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Needs `flag` to be visible for the same user, in one of `variants` if any are named."""

    flag: str
    variants: list[str] = msgspec.field(default_factory=list)
    why: str = "prerequisite.unmet"


class Exclusion(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The flag's slice [from_ppm, to_ppm) of a group whose flags never share a user."""

    group: str
    salt: str
    from_ppm: int
    to_ppm: int
    why: str = "product.excluded"


class ValueType(enum.StrEnum):
    BOOLEAN = "boolean"
    STRING = "string"
    INTEGER = "integer"
    FLOAT = "float"
    OBJECT = "object"


class Flag(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one flag key answers. `variants` are dealt among admitted users; the rest get `off`."""

    key: str
    version: int
    type: ValueType = ValueType.BOOLEAN
    variants: list[Variant] = msgspec.field(default_factory=lambda: [Variant(key="on", value=True)])
    off_variant: str = "off"
    off_value: Any = False
    enabled: bool = True  # False: switched off in peace, reason DISABLED, why flag.disabled
    killed: bool = False  # beats everything, allow lists too
    client_visible: bool = True  # client keys may ask for it
    record_on_check: bool = False
    receipts_ppm: int = 0  # the share of checks whose receipt is kept
    salt: str = ""  # deals variants; the rollout has its own
    block_list: frozenset[str] = frozenset()
    allow_list: frozenset[str] = frozenset()
    block_lists: list[int] = msgspec.field(default_factory=list)  # numbers of big UserLists
    allow_lists: list[int] = msgspec.field(default_factory=list)
    prerequisites: list[Prerequisite] = msgspec.field(default_factory=list)
    exclusion: Exclusion | None = None
    gates: list[Gate] = msgspec.field(default_factory=list)
    tiers: list[Tier] = msgspec.field(default_factory=list)
    rollout: Rollout | None = None
    payload: dict[str, Any] = msgspec.field(default_factory=dict)


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """One immutable publication for one environment. `sequence` grows by one each time."""

    environment: str
    sequence: int
    published_at: str  # ISO time, UTC
    attributes: list[Attribute]
    cohorts: list[Cohort]
    flags: list[Flag]


class Admission(msgspec.Struct, frozen=True):
    """What the platform remembers about one user in one rollout.

    `weight` was frozen at the draw (>= 1); `admitted` says that the user was drawn or shown, and so
    keeps the product whatever later happens to audience rules, weights and counts.
    """

    weight: int = 1
    admitted: bool = False


PLACES = 1 << 15
"""Beyond the slots of rollouts; see `place_slot`."""


def place_slot(slot: int) -> int:
    """Where a user's place in the rollout with this slot is remembered: as an `Admission`.

    Its weight is the number of the funding partner plus one; 1 is a place no partner was charged
    for, of a user who was shown the product before places were needed.
    """
    return PLACES + slot


def place_of(partner: int) -> Admission:
    """A place that this partner gave; 0: nobody was charged for it."""
    return Admission(partner + 1, True)


class User(msgspec.Struct, frozen=True):
    """Everything known about the asked user at the moment of a check.

    Args:
        key: the targeting key, never empty.
        attributes: registered attributes by name; a missing one is unknown, not false.
        admissions: by rollout slot.
        lists: numbers of the big `UserList`s that hold the user.
    """

    key: str
    attributes: Mapping[str, Any]
    admissions: Mapping[int, Admission] = msgspec.field(default_factory=dict)
    lists: frozenset[int] = frozenset()


class Answer(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a check says. The user is not in it, so equal answers are one shared object.

    Treat `value` and `payload` as read-only.
    """

    flag: str
    visible: bool
    value: Any
    variant: str | None
    reason: str  # OpenFeature: see huidu.reasons
    why: str  # our code: see huidu.reasons
    stage: str | None
    payload: dict[str, Any]
    flag_version: int
