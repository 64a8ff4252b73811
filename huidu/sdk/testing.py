"""For tests of applications: decide a flag in one line, without a platform.

    with override("weilidai", True):
        ...

It holds for every client and provider of the process, in all threads, until the block ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from huidu import reasons
from huidu.model import Answer
from huidu.sdk import lifecycle
from huidu.sdk.values import overrides


@contextmanager
def override(
    flag: str,
    value: Any = True,
    *,
    visible: bool | None = None,
    why: str | None = None,
    payload: dict[str, Any] | None = None,
) -> Iterator[Answer]:
    """While the block runs, `flag` answers `value` for every user.

    Args:
        visible: whether it counts as shown; by default as true as `value` is.
        why: the code to answer with; by default ``shown``, or ``stage.not_drawn`` when hidden.
    """
    shown = bool(value) if visible is None else visible
    answer = Answer(
        flag=flag,
        visible=shown,
        value=value,
        variant="on" if shown else "off",
        reason=reasons.TARGETING_MATCH,
        why=why or (reasons.SHOWN if shown else reasons.STAGE_NOT_DRAWN),
        stage=None,
        payload=payload or {},
        flag_version=0,
    )
    before = overrides.get(flag)
    overrides[flag] = answer
    lifecycle.forget_checks()
    try:
        yield answer
    finally:
        if before is None:
            overrides.pop(flag, None)
        else:
            overrides[flag] = before
