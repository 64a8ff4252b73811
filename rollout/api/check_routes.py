"""The OpenAPI description of what the check server answers in front of Django.

`edge` knows nothing of Django, so the generator cannot find these routes; what they promise is
written down here and held against a running check server by `tests/contract/test_schema.py`.

Source:
    Shapes and error codes: OpenFeature Remote Evaluation Protocol 0.3.0.
"""

from __future__ import annotations

from typing import Any, Final

from huidu import reasons
from huidu.model import MAX_ID_CHARACTERS

TAG: Final = "checks"

_TEXT: Final = {"type": "string"}
_KEY: Final = {
    "name": "key",
    "in": "path",
    "required": True,
    "description": "The flag's key, such as weilidai.",
    "schema": {**_TEXT, "minLength": 1},
}
_USER: Final = {
    "name": "user",
    "in": "path",
    "required": True,
    "description": "The user's id, percent-encoded UTF-8.",
    "schema": {**_TEXT, "minLength": 1, "maxLength": MAX_ID_CHARACTERS},
}
_IF_NONE_MATCH: Final = {
    "name": "If-None-Match",
    "in": "header",
    "description": "The ETag of an answer already held.",
    "schema": _TEXT,
}
_ETAG: Final = {"ETag": {"description": "A strong validator.", "schema": _TEXT}}


def _object(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required, "properties": properties}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _answer(description: str, schema: dict[str, Any], **headers: Any) -> dict[str, Any]:
    made = {"description": description, "content": {"application/json": {"schema": schema}}}
    return {**made, "headers": headers} if headers else made


_EVALUATED: Final = {
    "key": _TEXT,
    "reason": {**_TEXT, "description": "OpenFeature's reason, such as SPLIT."},
    "variant": _TEXT,
    "value": {"description": "Of the flag's type."},
    "metadata": {
        "type": "object",
        "description": "why, stage, flagVersion, snapshot, decisionId, and the payload's values.",
        "required": ["why", "flagVersion"],
        "properties": {
            "why": {**_TEXT, "description": "Our code, such as region.closed."},
            "stage": _TEXT,
            "flagVersion": {"type": "integer"},
            "snapshot": _TEXT,
            "decisionId": _TEXT,
        },
    },
}
SCHEMAS: Final[dict[str, Any]] = {
    "EvaluationRequest": {
        **_object(
            ["context"],
            context={
                "type": "object",
                "required": ["targetingKey"],
                "properties": {
                    "targetingKey": {
                        **_TEXT,
                        "minLength": 1,
                        "maxLength": MAX_ID_CHARACTERS,
                        "description": "The user's id.",
                    }
                },
                "additionalProperties": True,
            },
        ),
        "example": {"context": {"targetingKey": "openid-42", "region": "440300"}},
    },
    "EvaluationSuccess": _object(["key", "reason", "variant", "value", "metadata"], **_EVALUATED),
    "EvaluationFailure": _object(
        ["key", "errorCode", "errorDetails"],
        key=_TEXT,
        errorCode={
            "enum": [
                reasons.PARSE_ERROR,
                reasons.INVALID_CONTEXT,
                reasons.TARGETING_KEY_MISSING,
                reasons.FLAG_NOT_FOUND,
                reasons.PROVIDER_NOT_READY,
                reasons.GENERAL,
            ]
        },
        errorDetails=_TEXT,
    ),
    "BulkEvaluationFailure": _object(
        ["errorCode", "errorDetails"], errorCode=_TEXT, errorDetails=_TEXT
    ),
    "BulkEvaluationSuccess": _object(
        ["flags"],
        flags={"type": "array", "items": _ref("EvaluationSuccess")},
        eventStreams={
            "type": "array",
            "items": _object(
                ["type", "endpoint"],
                type={"enum": ["sse"]},
                endpoint=_object(["requestUri"], requestUri=_TEXT),
                inactivityDelaySec={"type": "integer"},
            ),
        },
    ),
    "Visibility": _object(
        [
            "flag",
            "user",
            "visible",
            "variant",
            "reason",
            "why",
            "payload",
            "decision_id",
            "snapshot",
            "evaluated_at",
        ],
        flag=_TEXT,
        user=_TEXT,
        visible={"type": "boolean"},
        variant=_TEXT,
        reason=_TEXT,
        why=_TEXT,
        stage={"type": ["string", "null"]},
        payload={"type": "object"},
        decision_id=_TEXT,
        snapshot=_TEXT,
        evaluated_at={"type": "string", "format": "date-time"},
    ),
    "Fault": _object(
        ["error"],
        error=_object(
            ["code", "message", "path"],
            code=_TEXT,
            message=_TEXT,
            path={"type": ["string", "null"]},
        ),
    ),
}


def _refused(name: str, *statuses: str) -> dict[str, Any]:
    words = {
        "400": "Bad input; the sentence begins with the path of the fault.",
        "401": "No live key.",
        "403": "A key that may not ask this.",
        "404": "No such flag, or not for this key.",
        "413": "Larger than 1 MiB.",
        "503": "Not ready; Retry-After says when to ask again.",
    }
    return {status: _answer(words[status], _ref(name)) for status in statuses}


def _operation(name: str, summary: str, **rest: Any) -> dict[str, Any]:
    return {
        "operationId": name,
        "summary": summary,
        "tags": [TAG],
        "security": [{"apiKey": []}],
        **rest,
    }


_BODY: Final = {
    "required": True,
    "content": {"application/json": {"schema": _ref("EvaluationRequest")}},
}
PATHS: Final[dict[str, Any]] = {
    "/ofrep/v1/evaluate/flags/{key}": {
        "post": _operation(
            "ofrep_evaluate",
            "One flag, by the OpenFeature Remote Evaluation Protocol 0.3.0.",
            parameters=[_KEY],
            requestBody=_BODY,
            responses={
                "200": _answer("The flag's value for this context.", _ref("EvaluationSuccess")),
                **_refused("EvaluationFailure", "400", "401", "403", "404", "413", "503"),
            },
        )
    },
    "/ofrep/v1/evaluate/flags": {
        "post": _operation(
            "ofrep_evaluate_bulk",
            "Every flag the key may ask for; answers 304 while nothing changed.",
            parameters=[_IF_NONE_MATCH],
            requestBody=_BODY,
            responses={
                "200": _answer("Every flag's value.", _ref("BulkEvaluationSuccess"), **_ETAG),
                "304": {"description": "Nothing changed since that ETag.", "headers": _ETAG},
                **_refused("BulkEvaluationFailure", "400", "401", "403", "413", "503"),
            },
        )
    },
    "/api/v1/flags/{key}/users/{user}": {
        "get": _operation(
            "visibility",
            "Whether one user sees one flag, and why.",
            parameters=[_KEY, _USER],
            responses={
                "200": _answer("Yes or no, with the reason.", _ref("Visibility")),
                **_refused("Fault", "400", "401", "403", "404", "503"),
            },
        )
    },
}


def describe_checks(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """A postprocessing hook of drf-spectacular: add the routes `edge` answers."""
    result.setdefault("components", {}).setdefault("schemas", {}).update(SCHEMAS)
    result["paths"] = PATHS | {
        path: operations for path, operations in result["paths"].items() if path not in PATHS
    }
    return result
