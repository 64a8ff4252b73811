"""OFREP 0.3.0 on the wire: what an OpenFeature provider sends and what it gets back.

Everything here is a pure function of bytes and structs. An answer is made in two halves, so that
the only part in which equal answers differ, the decision id, is put between them without encoding
anything again.

Source:
    OpenFeature Remote Evaluation Protocol 0.3.0, `service/openapi.yaml` of open-feature/protocol.
"""

from __future__ import annotations

import math
import re
from typing import Any, Final

import msgspec
import xxhash

from huidu import reasons
from huidu.errors import InputError
from huidu.model import MAX_ID_CHARACTERS, Answer, ValueType

_UNUSABLE: Final = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")


class _Request(msgspec.Struct):
    context: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET


requests: Final = msgspec.json.Decoder(_Request)
"""Reads a request; `read_context` also says what is wrong with it."""

_encode: Final = msgspec.json.Encoder().encode


def read_context(body: bytes) -> dict[str, Any]:
    """The evaluation context of a request's body.

    Raises:
        InputError: not JSON (`PARSE_ERROR`), or JSON of another shape (`INVALID_CONTEXT`).
    """
    try:
        request = requests.decode(body)
    except RecursionError:
        raise InputError("nested deeper than any context", code=reasons.PARSE_ERROR) from None
    except msgspec.ValidationError as error:
        raise InputError(_sentence(error), code=reasons.INVALID_CONTEXT) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"expected JSON: {error}", code=reasons.PARSE_ERROR) from None
    context = request.context
    if context is msgspec.UNSET:
        raise InputError(
            'expected an object, got none; send {"context": {"targetingKey": "..."}}',
            path="context",
            code=reasons.INVALID_CONTEXT,
        )
    assert isinstance(context, dict)
    return context


def _sentence(error: msgspec.ValidationError) -> str:
    """msgspec's sentence with its path in our spelling: ``context: expected ...``."""
    text, _, path = str(error).partition(" - at `$")
    path = path.rstrip("`").lstrip(".")
    text = text[:1].lower() + text[1:].replace("`", "")
    return f"{path}: {text}" if path else text


def targeting_key(context: dict[str, Any]) -> str:
    """Whom the context is about.

    Raises:
        InputError: missing or empty (`TARGETING_KEY_MISSING`), or no usable id (`INVALID_CONTEXT`).
    """
    key = context.get("targetingKey")
    if type(key) is str and 0 < len(key) <= MAX_ID_CHARACTERS and key.isprintable():
        return key  # nearly always
    if key is None or key == "":
        raise InputError(
            "expected the user's id, got none",
            path="context.targetingKey",
            code=reasons.TARGETING_KEY_MISSING,
        )
    if type(key) is not str:
        raise InputError(
            f"expected a string, got {type(key).__name__}",
            path="context.targetingKey",
            code=reasons.INVALID_CONTEXT,
        )
    fault = key_fault(key)
    if fault:
        raise InputError(fault, path="context.targetingKey", code=reasons.INVALID_CONTEXT)
    return key


def key_fault(key: str) -> str | None:
    """Why a text cannot be a user's id, as a sentence, or None when it can."""
    if len(key) > MAX_ID_CHARACTERS:
        return f"expected at most {MAX_ID_CHARACTERS} characters, got {len(key)}"
    if _UNUSABLE.search(key):
        return "expected text without control characters, got at least one"
    return None


def success(
    answer: Answer, value_type: ValueType, *, snapshot: str | None, decision: bool
) -> tuple[bytes, bytes]:
    """An `evaluationSuccess` object as two halves; a decision id's text belongs between them.

    Args:
        value_type: the flag's type; a float is always written with a decimal point.
        snapshot: the snapshot's version for the metadata, or None to leave it out (bulk answers
            leave it out, so that their ETag changes only when an answer does).
        decision: whether the metadata carries a decision id; without, the second half is empty.
    """
    metadata: dict[str, Any] = {
        name: value
        for name, value in answer.payload.items()
        if type(value) in (bool, str, int, float)
    }
    metadata["why"] = answer.why
    if answer.stage is not None:
        metadata["stage"] = answer.stage
    metadata["flagVersion"] = answer.flag_version
    if snapshot is not None:
        metadata["snapshot"] = snapshot
    body: dict[str, Any] = {
        "key": answer.flag,
        "reason": answer.reason,
        "variant": answer.variant or "",
        "value": msgspec.Raw(value_text(answer.value, value_type)),
        "metadata": metadata,
    }
    text = _encode(body)
    if not decision:
        return text, b""
    assert text.endswith(b"}}")
    return text[:-2] + b',"decisionId":"', b'"}}'


def value_text(value: Any, value_type: ValueType) -> bytes:
    """A flag's value as JSON. Strictly typed clients tell 1 from 1.0, so a float never loses its
    decimal point, and 1e22 is written 1.0e22."""
    if value_type is not ValueType.FLOAT or type(value) not in (int, float):
        return _encode(value)
    if not math.isfinite(value):
        return b"null"
    text: bytes = _encode(float(value))
    if b"." not in text:
        mantissa, _, exponent = text.partition(b"e")
        text = mantissa + b".0e" + exponent
    return text


def failure(key: str | None, code: str, details: str) -> bytes:
    """An `evaluationFailure` (with a key) or `bulkEvaluationFailure` (without one)."""
    body = {"errorCode": code, "errorDetails": details}
    return _encode(body if key is None else {"key": key, **body})


def bulk(flags: list[bytes], event_stream: str | None) -> bytes:
    """A `bulkEvaluationSuccess`.

    Args:
        flags: each flag's object as JSON.
        event_stream: path and query of the stream of changes on this same origin. Providers
            reconnect when it changes, so it must stay the same for hours.
    """
    streams = b"]}"
    if event_stream is not None:
        entry = {"type": "sse", "endpoint": {"requestUri": event_stream}, "inactivityDelaySec": 120}
        streams = b'],"eventStreams":[' + _encode(entry) + b"]}"
    return b'{"flags":[' + b",".join(flags) + streams


def etag(body: bytes) -> str:
    """A strong validator: equal bodies, equal tags, and 128 bits apart otherwise."""
    return f'"{xxhash.xxh3_128_hexdigest(body)}"'


def etag_matches(if_none_match: str, tag: str) -> bool:
    """RFC 9110 section 13.1.2: a list of tags, weak ones compared weakly, or ``*``."""
    return any(
        candidate == "*" or candidate.removeprefix("W/") == tag
        for candidate in (each.strip() for each in if_none_match.split(","))
    )


def refetch_event(sequence: int, version: str, published: int) -> bytes:
    """The event that tells providers to evaluate again.

    Args:
        published: when the snapshot was published, in Unix seconds.
    """
    data = {"type": "refetchEvaluation", "etag": version, "lastModified": published}
    return b"id: %d\nevent: message\ndata: %b\n\n" % (sequence, _encode(data))
