"""The remote client: every check is one OFREP request; nothing is kept here."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec

from huidu import reasons
from huidu.model import Answer
from huidu.sdk import lifecycle
from huidu.sdk.transport import Transport, Unreachable
from huidu.sdk.values import NOTHING, Asking, overrides, refusal

logger = logging.getLogger("huidu.sdk")

T = TypeVar("T")

FAILURES_BEFORE_REST: Final = 3
REST_SECONDS: Final = 1.0

_WHY: Final = {
    reasons.FLAG_NOT_FOUND: reasons.FLAG_UNKNOWN,
    reasons.TARGETING_KEY_MISSING: reasons.IDENTITY_MISSING,
    reasons.PROVIDER_NOT_READY: reasons.SYSTEM_NOT_READY,
}


class _Success(msgspec.Struct):
    key: str
    reason: str
    value: Any = None
    variant: str = ""
    metadata: dict[str, Any] = msgspec.field(default_factory=dict)


class _Failure(msgspec.Struct, rename="camel"):
    error_code: str
    error_details: str = ""


_success: Final = msgspec.json.Decoder(_Success)
_failure: Final = msgspec.json.Decoder(_Failure)


class RemoteClient(Asking):
    """Asks the platform at each check, with what it holds about the user. Never raises.

    Args:
        url: the platform's address.
        key: a server or client key.
        timeout: seconds for one request. After three failures in a row the client rests for a
            second and answers at once, so that a platform that is away does not slow callers down.
    """

    def __init__(self, url: str, key: str, *, timeout: float = 0.5) -> None:
        self._transport = Transport(url, key, timeout)
        self._failures = 0
        self._rest_until = 0.0
        lifecycle.follow(self)

    ready = True

    def check(self, flag: str, user: str, attributes: Mapping[str, Any] = NOTHING) -> Answer:
        """Does `user` see `flag`, and why; hidden with reason ``ERROR`` when nobody can say."""
        if overrides and flag in overrides:
            return overrides[flag]
        if time.monotonic() < self._rest_until:
            return refusal(flag, reasons.SYSTEM_ERROR)
        try:
            context = {**attributes, "targetingKey": user}
            status, body = self._transport.evaluate(flag, context)
            answer = _read(flag, status, body)
            self._failures = 0
        except Unreachable as error:
            self._failures += 1
            if self._failures >= FAILURES_BEFORE_REST:
                self._rest_until = time.monotonic() + REST_SECONDS
            logger.warning("sdk.platform_unreachable error=%s", error)
            return refusal(flag, reasons.SYSTEM_ERROR)
        except Exception:  # a check answers, whatever happens
            logger.exception("sdk.check_failed flag=%s", flag)
            return refusal(flag, reasons.SYSTEM_ERROR)
        return answer

    def close(self) -> None:
        self._transport.close()

    def forget_checks(self) -> None:
        """Nothing is kept here."""

    def after_fork(self) -> None:
        self._transport.reopen()


def _read(flag: str, status: int, body: bytes) -> Answer:
    """An OFREP answer as ours.

    Raises:
        Unreachable: the platform is overloaded or broken, or what answers is not OFREP.
    """
    if status == 200:
        try:
            success = _success.decode(body)
        except msgspec.MsgspecError as error:
            raise Unreachable(f"not an OFREP answer: {error}") from error
        told = dict(success.metadata)
        why = str(told.pop("why", success.reason))
        stage = told.pop("stage", None)
        version = told.pop("flagVersion", 0)
        for name in ("snapshot", "decisionId"):
            told.pop(name, None)
        return Answer(
            flag=success.key,
            # Only the platform knows; another OFREP server's true is the nearest thing.
            visible=bool(told.pop("visible", why in _SHOWN or success.value is True)),
            value=success.value,
            variant=success.variant or None,
            reason=success.reason,
            why=why,
            stage=stage,
            payload=told,
            flag_version=version if isinstance(version, int) else 0,
        )
    try:
        failure = _failure.decode(body)
    except msgspec.MsgspecError as error:
        raise Unreachable(f"answered {status}: {body[:200]!r}") from error
    if status == 429 or status >= 500:
        raise Unreachable(f"answered {status}: {failure.error_details}")
    logger.warning("sdk.check_refused flag=%s error=%s", flag, failure.error_details)
    return refusal(flag, _WHY.get(failure.error_code, reasons.SYSTEM_ERROR))


_SHOWN: Final = frozenset({reasons.SHOWN, reasons.ALLOWED_LIST})
