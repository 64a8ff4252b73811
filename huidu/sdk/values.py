"""From an answer to the caller's value: a wrong-typed value is never returned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeVar, cast

from huidu import reasons
from huidu.model import Answer

T = TypeVar("T")

NOTHING: Final[Mapping[str, Any]] = {}

overrides: Final[dict[str, Answer]] = {}
"""Answers that tests put before every client of the process; see `huidu.sdk.testing`."""


def refusal(flag: str, why: str) -> Answer:
    """The answer when nothing could be decided: hidden, reason ERROR."""
    return Answer(
        flag=flag,
        visible=False,
        value=None,
        variant=None,
        reason=reasons.ERROR,
        why=why,
        stage=None,
        payload={},
        flag_version=0,
    )


def fits(value: object, kind: type) -> bool:
    """Whether a flag's value may be handed to a caller who expects `kind`.

    True is not 1, 1 is a float's whole number, and an object is a dict or a list.
    """
    if kind is float:
        return type(value) in (int, float)
    if kind in (dict, list):
        return isinstance(value, dict | list)
    return type(value) is kind


def shown_or(answer: Answer, default: bool) -> bool:
    """Whether the answer shows the flag; `default` when it is none."""
    return default if answer.reason == reasons.ERROR else answer.visible


def value_or(answer: Answer, default: T) -> T:
    """The answer's value when it is one and of the type of `default`, else `default`."""
    value: Any = answer.value
    kind = type(default)
    if answer.reason == reasons.ERROR:
        return default
    if type(value) is not kind:  # mostly it is, and that fits
        if not fits(value, kind):
            return default
        value = float(value) if kind is float else value
    return cast(T, value)


class Asking:
    """What every client answers beside `check`, from what `check` says."""

    def check(self, flag: str, user: str, attributes: Mapping[str, Any] = NOTHING) -> Answer:
        raise NotImplementedError

    def visible(
        self,
        flag: str,
        user: str,
        attributes: Mapping[str, Any] = NOTHING,
        default: bool = False,
    ) -> bool:
        """Whether `user` sees `flag`; `default` when that cannot be decided."""
        return shown_or(self.check(flag, user, attributes), default)

    def value(self, flag: str, user: str, default: T, attributes: Mapping[str, Any] = NOTHING) -> T:
        """The flag's value for `user`, of the type of `default`; else `default`."""
        return value_or(self.check(flag, user, attributes), default)
