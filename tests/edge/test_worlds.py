"""A snapshot answers for all flags at once, and is quick about it once a thread has seen to it."""

from __future__ import annotations

import datetime

import pytest

from edge.state import World
from huidu.engine import compile_snapshot
from huidu.model import Snapshot
from huidu.turns import no_pause
from huidu.wire import profile
from huidu.wire.access import KeyKind
from tests.edge.running import ATTRIBUTES, ENVIRONMENT, flags

TODAY = datetime.date(2026, 3, 2)


@pytest.fixture
def world() -> World:
    snapshot = Snapshot(
        environment=ENVIRONMENT,
        sequence=1,
        published_at="2026-01-01T00:00:00Z",
        attributes=ATTRIBUTES,
        cohorts=[],
        flags=flags(),
    )
    return World(snapshot, compile_snapshot(snapshot), "v", {})


def answers(world: World, kind: KeyKind) -> list[object]:
    record = profile.encode(
        profile.Profile(updated=TODAY, region="440300", staff=True, last_day=TODAY)
    )
    held = world.reading_for(kind).of(record, TODAY.toordinal())
    return list(world.evaluate_for(kind)("ada", *held))


@pytest.mark.parametrize("kind", [KeyKind.SERVER, KeyKind.CLIENT])
def test_all_flags_are_answered_alike_before_and_after_they_are_put_together(
    world: World, kind: KeyKind
):
    asked: list[World] = []
    world.when_asked = asked.append
    assert world.is_together
    before = answers(world, kind)
    assert asked == [world]
    assert not world.is_together
    everything = world.reading_for(kind)
    world.put_together(no_pause)
    assert world.is_together
    assert answers(world, kind) == before
    assert world.reading_for(kind) is not everything
    assert len(before) == len(world.flags_for(kind))
    assert asked == [world]


def test_a_newer_snapshot_knows_who_asked_for_all_flags(world: World):
    answers(world, KeyKind.SERVER)
    newer = World(world.snapshot, world.compiled, "w", {})
    newer.take_over(world)
    assert list(newer.checks_for) == [KeyKind.SERVER]
    assert not newer.is_together


def test_putting_together_can_be_given_up(world: World):
    def pause() -> None:
        raise InterruptedError

    before = answers(world, KeyKind.SERVER)
    with pytest.raises(InterruptedError):
        world.put_together(pause)
    assert not world.is_together
    assert answers(world, KeyKind.SERVER) == before


def test_what_is_quick_is_made_from_what_was_quick_before(world: World):
    answers(world, KeyKind.SERVER)
    world.put_together(no_pause)
    newer = World(world.snapshot, compile_snapshot(world.snapshot, before=world.compiled), "w", {})
    newer.take_over(world)
    held = ({"region": "440300"}, {}, frozenset[int]())
    before = world.together_of(world.evaluate_for(KeyKind.SERVER).outcomes("ada", *held))
    newer.put_together(no_pause)
    assert newer.is_together
    told = newer.together_of(newer.evaluate_for(KeyKind.SERVER).outcomes("ada", *held))
    # What is told of an answer names its snapshot.
    assert {each.snapshot for each in before.answers} == {"v"}
    assert {each.snapshot for each in told.answers} == {"w"}
    assert [each.answer for each in told.answers] == [each.answer for each in before.answers]


def test_all_that_a_world_made_is_among_its_parts(world: World):
    answers(world, KeyKind.SERVER)
    world.put_together(no_pause)
    asked = world.evaluate_for(KeyKind.SERVER)
    world.together(asked("ada", {}))
    world.packed_of("weilidai")
    parts = {id(each) for each in world.parts()}
    made = [*world.flags.values(), *world.rendered_by_id.values(), *asked.parts()]
    assert made
    assert parts.issuperset(map(id, made))
