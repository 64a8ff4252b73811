"""The garbage collector rests while a snapshot is made, and is as it was afterwards."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator

import pytest

from huidu import collector
from huidu.collector import resting_collector


class Ring:
    """Holds itself, so that only a collection frees it."""

    def __init__(self) -> None:
        self.own = self


@pytest.fixture(autouse=True)
def working_collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # Whatever other tests of the process made: no full collection is due.
    monkeypatch.setattr(collector, "_leaps", 0)
    gc.enable()
    yield
    gc.enable()


def many() -> list[list[int]]:
    """More objects than a collection waits for."""
    return [[number] for number in range(gc.get_threshold()[0] * 3)]


def run_alone(code: str) -> None:
    """In a process of its own: one that is pytest's neither forks nor freezes well."""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def collections() -> int:
    return sum(each["collections"] for each in gc.get_stats())


def test_nothing_is_collected_meanwhile():
    with resting_collector():
        held = collections()
        kept = many()
        assert collections() == held
    assert gc.isenabled()
    assert kept


def test_what_was_made_is_old_afterwards_and_its_garbage_is_found_all_the_same():
    with resting_collector():
        kept, ring = many(), Ring()
        gone = weakref.ref(ring)
        del ring
    young = {id(each) for generation in (0, 1) for each in gc.get_objects(generation)}
    assert not young.intersection(map(id, kept))
    assert gone() is not None
    gc.collect()
    assert gone() is None


def test_where_little_was_made_the_young_stay_young():
    gc.collect()
    with resting_collector():
        young = Ring()
    assert any(each is young for each in gc.get_objects(0))


def test_a_collector_that_was_off_stays_off():
    gc.disable()
    with resting_collector():
        assert not gc.isenabled()
    assert not gc.isenabled()


def test_a_fault_wakes_it_too():
    with pytest.raises(ZeroDivisionError), resting_collector():
        raise ZeroDivisionError
    assert gc.isenabled()


def test_it_rests_until_the_last_thread_is_out():
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with resting_collector():
            inside.set()
            leave.wait(30)

    thread = threading.Thread(target=other)
    thread.start()
    assert inside.wait(30)
    with resting_collector():
        pass
    assert not gc.isenabled()
    leave.set()
    thread.join()
    assert gc.isenabled()


def test_after_many_times_without_a_full_collection_one_is_held(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(collector, "MOST_LEAPS", 3)
    gc.collect()
    full = gc.get_stats()[-1]["collections"]
    kept: list[list[int]] = []
    for _ in range(3):
        with resting_collector():
            kept += many()
    assert gc.get_stats()[-1]["collections"] == full
    with resting_collector():
        kept += many()
    assert gc.get_stats()[-1]["collections"] == full + 1


def test_where_somebody_always_rests_garbage_is_found_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(collector, "MOST_LEAPS", 2)
    ring = Ring()
    gone = weakref.ref(ring)
    del ring
    with resting_collector():
        kept: list[list[int]] = []
        for _ in range(4):
            with resting_collector():
                kept += many()
            assert not gc.isenabled()
        assert gone() is None
    assert gc.isenabled()


def test_what_a_process_froze_stays_frozen():
    code = (
        "import gc; from huidu.collector import resting_collector\n"
        "gc.freeze(); frozen = gc.get_freeze_count()\n"
        "with resting_collector(): kept = [[each] for each in range(5_000)]\n"
        "assert gc.isenabled() and 0 < gc.get_freeze_count() <= frozen\n"
        "assert frozen - gc.get_freeze_count() < 100\n"
    )
    run_alone(code)


@needs_fork
def test_a_child_of_a_process_in_the_middle_of_it_collects():
    code = (
        "import gc, os; from huidu.collector import resting_collector\n"
        "with resting_collector():\n"
        "    child = os.fork()\n"
        "    if not child: os._exit(0 if gc.isenabled() else 1)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
    )
    run_alone(code)


@needs_fork
def test_a_child_collects_whatever_the_parent_was_just_at():
    """Whenever the collector is off, even for the moment it is put off and on again."""
    code = (
        "import gc, os\n"
        "off, on = gc.disable, gc.enable\n"
        "def as_it_was(): gc.enable = on\n"
        "os.register_at_fork(after_in_child=as_it_was)\n"
        "from huidu.collector import resting_collector\n"
        "def forked():\n"
        "    child = os.fork()\n"
        "    if not child: os._exit(0 if gc.isenabled() else 1)\n"
        "    assert os.waitpid(child, 0)[1] == 0\n"
        "gc.disable = lambda: (off(), forked())\n"
        "gc.enable = lambda: (forked(), on())\n"
        "with resting_collector(): pass\n"
        "assert gc.isenabled()\n"
    )
    run_alone(code)


@needs_fork
def test_a_child_made_in_the_middle_rests_again_when_it_makes_its_own():
    code = (
        "import gc, os; from huidu.collector import resting_collector\n"
        "with resting_collector():\n"
        "    child = os.fork()\n"
        "if not child:\n"
        "    with resting_collector(): rested = not gc.isenabled()\n"
        "    os._exit(0 if rested and gc.isenabled() else 1)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
    )
    run_alone(code)
