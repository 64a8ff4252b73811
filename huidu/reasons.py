"""The codes an answer may carry: OpenFeature reasons, and our own `why`.

Codes are English and stable: applications, dashboards and receipts rely on them. Sentences for
people are made elsewhere, in the language they read.
"""

from __future__ import annotations

from typing import Final

# OpenFeature reasons (specification section 1.7, "resolution reasons").
DISABLED: Final = "DISABLED"
TARGETING_MATCH: Final = "TARGETING_MATCH"
SPLIT: Final = "SPLIT"
DEFAULT: Final = "DEFAULT"
STALE: Final = "STALE"
ERROR: Final = "ERROR"

# OpenFeature error codes, as OFREP carries them.
FLAG_NOT_FOUND: Final = "FLAG_NOT_FOUND"
PARSE_ERROR: Final = "PARSE_ERROR"
TARGETING_KEY_MISSING: Final = "TARGETING_KEY_MISSING"
INVALID_CONTEXT: Final = "INVALID_CONTEXT"
TYPE_MISMATCH: Final = "TYPE_MISMATCH"
PROVIDER_NOT_READY: Final = "PROVIDER_NOT_READY"
GENERAL: Final = "GENERAL"

# `why` codes that the engine itself gives; gates and stages bring their own (`region.closed`).
SHOWN: Final = "shown"
KILLED: Final = "killed"
FLAG_DISABLED: Final = "flag.disabled"
FLAG_UNKNOWN: Final = "flag.unknown"
IDENTITY_MISSING: Final = "identity.missing"
BLOCKED_LIST: Final = "blocked.list"
ALLOWED_LIST: Final = "allowed.list"
DATA_MISSING: Final = "data.missing"
DATA_STALE: Final = "data.stale"
PREREQUISITE_UNMET: Final = "prerequisite.unmet"
PRODUCT_EXCLUDED: Final = "product.excluded"
REGION_CLOSED: Final = "region.closed"
REGION_CEILING: Final = "region.ceiling"
FUNDING_NO_CAPACITY: Final = "funding.no_capacity"
FUNDING_NOT_RESERVED: Final = "funding.not_reserved"  # passes all else; a place must be taken
FUNDING_UNAVAILABLE: Final = "funding.unavailable"  # nobody can say now whether there is a place
STAGE_NOT_STARTED: Final = "stage.not_started"
STAGE_NOT_INTERNAL: Final = "stage.not_internal"
STAGE_NOT_DRAWN: Final = "stage.not_drawn"
STAGE_HELD_BACK: Final = "stage.held_back"  # not drawn by a release that keeps a holdback
STAGE_ROLLED_BACK: Final = "stage.rolled_back"
TIER_NOT_IN_STAGE: Final = "tier.not_in_stage"
SYSTEM_ERROR: Final = "system.error"
SYSTEM_NOT_READY: Final = "system.not_ready"  # a client without a snapshot

CONTROL: Final = frozenset({STAGE_NOT_DRAWN, STAGE_HELD_BACK})
"""Passed everything and was not drawn: these users are whom the shown ones are compared with."""
