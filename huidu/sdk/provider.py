"""`HuiduProvider` for the OpenFeature SDK: either client behind the standard interface.

    from openfeature import api
    from huidu.sdk import Client
    from huidu.sdk.provider import HuiduProvider

    api.set_provider_and_wait(HuiduProvider(Client("http://localhost:8000", "hd_server_...")))

The targeting key is the user; the context's attributes are the check's attributes.

Source: OpenFeature specification sections 2.2 (flag value resolution) and 5 (events).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar, cast

from openfeature.evaluation_context import EvaluationContext
from openfeature.event import ProviderEvent, ProviderEventDetails
from openfeature.exception import ErrorCode, ProviderNotReadyError
from openfeature.flag_evaluation import FlagResolutionDetails, FlagValueType
from openfeature.provider import AbstractProvider, Metadata

from huidu import reasons
from huidu.model import Answer
from huidu.sdk.values import NOTHING, fits

T = TypeVar("T")

REMEMBERED: Final = 10_000

_ERRORS: Final = {
    reasons.FLAG_UNKNOWN: ErrorCode.FLAG_NOT_FOUND,
    reasons.IDENTITY_MISSING: ErrorCode.TARGETING_KEY_MISSING,
    reasons.SYSTEM_NOT_READY: ErrorCode.PROVIDER_NOT_READY,
}


class Checks(Protocol):
    """What the provider needs of a client: `Client` and `RemoteClient` both have it."""

    @property
    def ready(self) -> bool: ...

    def check(self, flag: str, user: str, attributes: Mapping[str, Any] = ...) -> Answer: ...

    def close(self) -> None: ...


class HuiduProvider(AbstractProvider):
    """Answers OpenFeature from a Huidu client. On any error the caller's default comes back.

    Args:
        client: a `Client` (local) or `RemoteClient`; the provider closes it at shutdown.
    """

    def __init__(self, client: Checks) -> None:
        super().__init__()
        self._client = client
        # Answers are few shared objects: what is told beside them is made once for each.
        self._told: dict[int, tuple[Answer, Mapping[str, Any]]] = {}
        on_change = getattr(client, "on_change", None)
        if on_change is not None:
            on_change(self._changed)

    def get_metadata(self) -> Metadata:
        return Metadata(name="huidu")

    def initialize(self, evaluation_context: EvaluationContext) -> None:
        """Raises `ProviderNotReadyError` when there is no snapshot; it becomes ready by itself."""
        if not self._client.ready:
            raise ProviderNotReadyError("no snapshot yet: is the platform up, is the key right?")

    def shutdown(self) -> None:
        self._client.close()

    def _changed(self) -> None:
        self._told = {}
        if hasattr(self, "_on_emit"):
            self._on_emit(self, ProviderEvent.PROVIDER_READY, ProviderEventDetails())
            self._on_emit(
                self, ProviderEvent.PROVIDER_CONFIGURATION_CHANGED, ProviderEventDetails()
            )

    def resolve_boolean_details(
        self,
        flag_key: str,
        default_value: bool,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[bool]:
        return self._resolve(flag_key, default_value, bool, evaluation_context)

    def resolve_string_details(
        self,
        flag_key: str,
        default_value: str,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[str]:
        return self._resolve(flag_key, default_value, str, evaluation_context)

    def resolve_integer_details(
        self,
        flag_key: str,
        default_value: int,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[int]:
        return self._resolve(flag_key, default_value, int, evaluation_context)

    def resolve_float_details(
        self,
        flag_key: str,
        default_value: float,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[float]:
        return self._resolve(flag_key, default_value, float, evaluation_context)

    def resolve_object_details(
        self,
        flag_key: str,
        default_value: Sequence[FlagValueType] | Mapping[str, FlagValueType],
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[Sequence[FlagValueType] | Mapping[str, FlagValueType]]:
        return self._resolve(flag_key, default_value, dict, evaluation_context)

    def _resolve(
        self, flag: str, default: T, kind: type, context: EvaluationContext | None
    ) -> FlagResolutionDetails[T]:
        if context is None:
            answer = self._client.check(flag, "", NOTHING)
        else:
            answer = self._client.check(flag, context.targeting_key or "", context.attributes)
        if answer.reason == reasons.ERROR:
            return FlagResolutionDetails(
                default,
                error_code=_ERRORS.get(answer.why, ErrorCode.GENERAL),
                error_message=f"{flag}: {answer.why}",
                reason=reasons.ERROR,
            )
        value: Any = answer.value
        if not fits(value, kind):
            return FlagResolutionDetails(
                default,
                error_code=ErrorCode.TYPE_MISMATCH,
                error_message=f"{flag}: expected {kind.__name__}, got {type(value).__name__}",
                reason=reasons.ERROR,
            )
        return FlagResolutionDetails(
            cast(T, float(value) if kind is float else value),
            None,
            None,
            answer.reason,
            answer.variant,
            self._metadata(answer),
        )

    def _metadata(self, answer: Answer) -> Mapping[str, Any]:
        told = self._told
        kept = told.get(id(answer))
        if kept is not None and kept[0] is answer:
            return kept[1]
        metadata: dict[str, Any] = {
            name: value
            for name, value in answer.payload.items()
            if type(value) in (bool, str, int, float)
        }
        metadata["why"] = answer.why
        metadata["flagVersion"] = answer.flag_version
        if answer.stage is not None:
            metadata["stage"] = answer.stage
        if len(told) >= REMEMBERED:
            told.clear()
        told[id(answer)] = (answer, metadata)  # holding the answer keeps its id from being reused
        return metadata
