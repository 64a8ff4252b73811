"""The visibility answer: ``GET /api/v1/flags/{key}/users/{user}`` as JSON.

Like OFREP answers it is made in parts, because most of it is the same for everybody who gets the
same answer: ``head + user + middle + decision id + tail + time + end``.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from huidu.model import Answer

_encode: Final = msgspec.json.Encoder().encode


def parts(answer: Answer, snapshot: str) -> tuple[bytes, bytes, bytes]:
    """The three parts of an answer's JSON that do not depend on the user or the moment."""
    shared: dict[str, Any] = {
        "visible": answer.visible,
        "variant": answer.variant,
        "reason": answer.reason,
        "why": answer.why,
        "stage": answer.stage,
        "payload": answer.payload,
    }
    head = b'{"flag":' + _encode(answer.flag) + b',"user":'
    middle = b"," + _encode(shared)[1:-1] + b',"decision_id":"'
    tail = b'","snapshot":' + _encode(snapshot) + b',"evaluated_at":"'
    return head, middle, tail


def join(parts: tuple[bytes, bytes, bytes], user: str, decision: bytes, at: bytes) -> bytes:
    """The whole object.

    Args:
        decision: the decision id's text, plain ASCII.
        at: when the check was answered, ISO 8601 in UTC, plain ASCII.
    """
    head, middle, tail = parts
    return b'%b%b%b%b%b%b"}' % (head, _encode(user), middle, decision, tail, at)


def error(code: str, message: str, path: str = "") -> bytes:
    """The shape of every error outside OFREP: ``{"error": {"code", "message", "path"}}``."""
    return _encode({"error": {"code": code, "message": message, "path": path}})
