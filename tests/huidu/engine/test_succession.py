"""A snapshot that follows another takes over what did not change, and answers as if alone."""

from __future__ import annotations

import gc
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from huidu.engine import compile_snapshot
from huidu.engine.compile import Compiled
from huidu.errors import SnapshotError
from huidu.model import AttributeSource, Cohort, Prerequisite, Snapshot, User
from huidu.turns import taking_turns
from tests.huidu.engine.strategies import snapshots, users
from tests.huidu.engine.worlds import flag, full, gate, running, world

IN_COHORT: dict[str, Any] = {"cohort": "few"}
FLAGS = [
    flag("first", gates=[gate(IN_COHORT)], rollout=running(full(), slot=1)),
    flag("second", rollout=running(full(), slot=2)),
    flag("needs", prerequisites=[Prerequisite(flag="second")], rollout=running(full(), slot=3)),
]
FEW = Cohort(key="few")


def compiled_before() -> Compiled:
    compiled = compile_snapshot(world(*FLAGS, cohorts=[FEW]))
    compiled.warm()
    return compiled


def test_a_flag_that_did_not_change_keeps_its_function():
    before = compiled_before()
    killed = msgspec.structs.replace(FLAGS[1], version=2, killed=True)
    after = compile_snapshot(world(FLAGS[0], killed, FLAGS[2], cohorts=[FEW]), before=before)
    assert after.unchanged == {"first"}
    assert after.check_of("first") is before.check_of("first")
    assert after.reads(["first", "needs"]) == before.reads(["first", "needs"])
    assert after.evaluate("first", "u", {}).visible
    assert after.evaluate("second", "u", {}).why == "killed"
    assert not after.evaluate("needs", "u", {}).visible  # its prerequisite is asked anew
    assert before.evaluate("needs", "u", {}).visible


def test_flags_are_made_anew_when_what_they_rest_on_changed():
    before = compiled_before()
    fewer = msgspec.structs.replace(FEW, exclude=frozenset({"u"}))
    after = compile_snapshot(world(*FLAGS, cohorts=[fewer]), before=before)
    assert not after.unchanged
    assert not after.evaluate("first", "u", {}).visible
    deaf = frozenset({AttributeSource.CALLER})
    with_same_flags = world(*FLAGS, cohorts=[FEW])
    assert not compile_snapshot(with_same_flags, readable=deaf, before=before).unchanged


def test_flags_that_did_not_change_are_still_looked_at_together():
    before = compiled_before()
    doubled = world(*FLAGS, flag("third", rollout=running(full(), slot=1)), cohorts=[FEW])
    with pytest.raises(SnapshotError, match="slot"):
        compile_snapshot(doubled, before=before)
    with pytest.raises(SnapshotError, match="expected a flag"):
        compile_snapshot(world(FLAGS[0], FLAGS[2], cohorts=[FEW]), before=before)


def test_no_snapshot_keeps_those_before_it():
    compiled = compiled_before()
    for version in range(2, 6):
        changed = msgspec.structs.replace(FLAGS[1], version=version)
        flags = (FLAGS[0], changed, FLAGS[2])
        compiled = compile_snapshot(world(*flags, cohorts=[FEW]), before=compiled)
        compiled.warm()
        compiled.evaluate("first", "u", {})
    gc.collect()
    own = {"first", "second", "needs"}
    # Its type, not `isinstance`, which asks proxies other tests left for objects that are gone.
    alive = [each for each in gc.get_objects() if type(each) is Compiled]
    assert [each for each in alive if each.flags.keys() == own] == [compiled]


@settings(max_examples=40, deadline=None)
@given(snapshots(), st.data())
def test_a_successor_answers_as_if_alone(snapshot: Snapshot, data: st.DataObject):
    before = compile_snapshot(snapshot)
    before.warm()
    changed = [
        msgspec.structs.replace(each, version=each.version + 1)
        if data.draw(st.booleans())
        else each
        for each in snapshot.flags
    ]
    following = msgspec.structs.replace(snapshot, flags=changed)
    after = compile_snapshot(following, before=before, pause=taking_turns())
    alone = compile_snapshot(following)
    user: User = data.draw(users())
    for each in changed:
        assert after.check(each.key, user) == alone.check(each.key, user)
        assert after.check(each.key, user).flag_version == each.version
    keys = [each.key for each in changed]
    made = before.put_together(before.apart(keys))
    checks = after.apart(keys)
    after.put_together(checks, before=made)
    told = user.key, user.attributes, user.admissions, user.lists
    assert checks(*told) == alone.together(keys)(*told) == alone.evaluate_all(keys, *told)
