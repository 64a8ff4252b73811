"""The shapes of requests and answers for the OpenAPI description."""

from __future__ import annotations

from typing import Any, Final

from drf_spectacular.utils import OpenApiResponse

from cohorts.services.items import MAX_ITEMS
from huidu.model import MAX_ID_CHARACTERS

_ID: Final[dict[str, Any]] = {"type": "string", "minLength": 1, "maxLength": MAX_ID_CHARACTERS}

PAYMENTS: Final[dict[str, Any]] = {
    "application/json": {
        "type": "object",
        "required": ["payments"],
        "additionalProperties": False,
        "properties": {
            "payments": {
                "type": "array",
                "maxItems": MAX_ITEMS,
                "items": {
                    "type": "object",
                    "required": ["event_id", "user_id", "paid_at"],
                    "additionalProperties": False,
                    "properties": {
                        "event_id": {**_ID, "example": "pay-20260520-000001"},
                        "user_id": {**_ID, "example": "openid-42"},
                        "paid_at": {
                            "type": "string",
                            "format": "date-time",
                            "example": "2026-05-20T10:00:00+08:00",
                        },
                        "amount_cny": {
                            "oneOf": [{"type": "number"}, {"type": "string"}],
                            "nullable": True,
                            "description": "0 or more; rounded to fen.",
                            "example": 12.5,
                        },
                    },
                },
            }
        },
    }
}

PROFILES: Final[dict[str, Any]] = {
    "application/json": {
        "type": "object",
        "required": ["profiles"],
        "additionalProperties": False,
        "properties": {
            "profiles": {
                "type": "array",
                "maxItems": MAX_ITEMS,
                "items": {
                    "type": "object",
                    "required": ["user_id"],
                    "properties": {"user_id": {**_ID, "example": "openid-42"}},
                    "additionalProperties": {"description": "A registered attribute, or null."},
                    "example": {"user_id": "openid-42", "region": "440300", "staff": False},
                },
            }
        },
    }
}

INGEST_RESULT: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["accepted", "duplicates", "rejected"],
    "properties": {
        "accepted": {"type": "integer", "minimum": 0},
        "duplicates": {"type": "integer", "minimum": 0},
        "rejected": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["index", "code", "detail"],
                "properties": {
                    "index": {"type": "integer", "minimum": 0},
                    "code": {"type": "string", "example": "paid_at.future"},
                    "detail": {"type": "string"},
                },
            },
        },
    },
}

PROFILE: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["user_id", "attributes", "as_of"],
    "properties": {
        "user_id": {"type": "string"},
        "attributes": {"type": "object", "additionalProperties": True},
        "as_of": {"type": "string", "format": "date-time"},
        "masked": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Protected attributes that are held and not shown to you.",
        },
        "no_longer_held": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Held at that moment, deleted since at the end of their term.",
        },
    },
}

_ERROR: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "path"],
            "properties": {
                "code": {"type": "string"},
                "message": {"type": "string"},
                "path": {"type": "string", "description": "JSON path of the fault."},
            },
        }
    },
}

ERRORS: Final = {
    400: OpenApiResponse(_ERROR, "The request as a whole is wrong; nothing was applied."),
    401: OpenApiResponse(_ERROR, "No key, or an unknown or revoked one."),
    403: OpenApiResponse(_ERROR, "A key of another kind."),
    413: OpenApiResponse(_ERROR, "More than 5,000 items or 4 MB."),
    415: OpenApiResponse(_ERROR, "Not JSON, or compressed."),
}
