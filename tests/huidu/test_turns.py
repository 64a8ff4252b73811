"""What holds thousands of objects is freed part by part, and others work between."""

from __future__ import annotations

import sys
import threading
import time
import weakref

from huidu.turns import let_go, let_go_after, no_pause, taking_turns


class Part:
    pass


class Whole:
    def __init__(self) -> None:
        self.parts = [Part() for _ in range(5)]


def test_parts_are_freed_one_after_the_other():
    whole = Whole()
    alive = weakref.WeakSet(whole.parts)
    parts = list(whole.parts)
    del whole
    seen: list[int] = []
    let_go(parts, lambda: seen.append(len(alive)))
    assert seen == [4, 3, 2, 1, 0]


def test_parts_wait_for_the_last_who_holds_the_whole():
    whole = Whole()
    alive = weakref.WeakSet(whole.parts)
    parts = list(whole.parts)
    seen: list[int] = []
    freeing = threading.Thread(
        target=let_go_after,
        args=(weakref.ref(whole), parts, 60, lambda: seen.append(len(alive))),
    )
    freeing.start()
    time.sleep(0.1)
    assert len(parts) == 5
    del whole
    freeing.join(60)
    assert seen == [4, 3, 2, 1, 0]


def test_a_whole_that_stays_is_not_waited_for_for_ever():
    whole = Whole()
    parts = list(whole.parts)
    let_go_after(weakref.ref(whole), parts, 0.01, no_pause)
    assert not parts
    assert len(whole.parts) == 5


def test_a_long_work_lets_another_thread_in_all_the_time():
    stop, counted = threading.Event(), [0]

    def other() -> None:
        while not stop.is_set():
            counted[0] += 1
            time.sleep(0)

    thread = threading.Thread(target=other)
    pause = taking_turns()
    seen = set()
    until = time.monotonic() + 30
    interval = sys.getswitchinterval()
    sys.setswitchinterval(60)  # nobody gets in but where the work rests
    try:
        thread.start()
        while len(seen) < 5 and time.monotonic() < until:
            pause()
            seen.add(counted[0])
    finally:
        stop.set()
        sys.setswitchinterval(interval)
    thread.join()
    assert len(seen) == 5
