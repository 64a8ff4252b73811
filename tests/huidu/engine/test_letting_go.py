"""What was made of a snapshot is let go with it: nothing waits for the garbage collector."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings

from huidu.engine import compile_snapshot
from huidu.model import Snapshot, User
from huidu.wire import packed
from tests.huidu.engine.strategies import snapshots


@pytest.fixture
def uncollected() -> Iterator[None]:
    gc.disable()
    yield
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()


def _used(snapshot: Snapshot) -> None:
    """Make of a snapshot all that is ever made of one, and of the one that follows it."""
    compiled = compile_snapshot(snapshot)
    user = User("u", {"region": "440300", "weekly_payments": 4})
    for key in compiled.flags:
        compiled.check(key, user)
        compiled.bare_check_of(key)(user.key, user.attributes)
        compiled.explain(key, user)
        packed.check_of(compiled, key, compiled.reads([key]))
    compiled.together(compiled.flags)(user.key, user.attributes)
    following = compile_snapshot(snapshot, before=compiled)
    following.together(following.flags)(user.key, {})


@pytest.mark.usefixtures("uncollected")
@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(snapshots())
def test_nothing_made_of_a_snapshot_holds_itself(snapshot: Snapshot):
    for _ in range(3):  # another thread of this process may leave something once
        gc.set_debug(0)
        gc.collect()
        _used(snapshot)
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        found = [type(each).__name__ for each in gc.garbage]
        gc.garbage.clear()
        if not found:
            return
    raise AssertionError(f"expected nothing, found {found}")
