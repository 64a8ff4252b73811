"""The way nearly every check goes: from a request to a command, from a reply to an answer.

Two functions do all of it, without a call into others of ours but the flag's own and the reader of
its facts: a check is some microseconds, and a call in Python a twelfth of one. They know only
the most frequent case: one flag, a request like the one before it, a record that can be read, an
answer that was given before. Whatever is not that (a fault, a new answer, another order) they leave
to `edge.checks`, which does the same step by step and knows every case.

`tests/edge/test_quick.py` asks the same of both.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from xxhash import xxh3_128_digest

from edge import context
from edge.checks import NO_ADMISSIONS, NOTHING_SAID, QuickCheck
from edge.link import Reply, Waiter
from edge.profiles import MOST_WAITING
from huidu.model import MAX_ID_CHARACTERS
from huidu.wire.ofrep import requests
from huidu.wire.profile import spread

if TYPE_CHECKING:
    from edge.connection import Connection
    from edge.requests import Plan
    from edge.server import Edge

logger = logging.getLogger("huidu.edge")

_read: Final = requests.decode
_QUOTE, _BACKSLASH = b'"\\'


def ask(connection: Connection, plan: Plan, data: bytes) -> bool:
    """Ask for the profile a check needs.

    Args:
        connection: nothing else is to be answered on it.
        plan: what requests of this size with its head mean; its `commands` are known.
        data: the whole request, whose head may be another one.
    Returns:
        Whether that was done. If not, nothing was done.
    """
    commands, profiles = plan.commands, plan.profiles
    assert commands is not None
    user: str
    said: Any
    waiters = profiles.waiters
    if profiles.open or not profiles.link.alive or len(waiters) >= MOST_WAITING:
        return False
    try:
        text, name, closing = plan.cut(data)
        if text != plan.text or closing != plan.closing:
            return False
        if closing:  # the body says nothing but whom it is about
            user, said = name.decode(), NOTHING_SAID
            # Letters and digits alone are what they say, as nearly all ids are.
            if not name.isalnum() and (
                _QUOTE in name or _BACKSLASH in name or not user.isprintable()
            ):
                return False
        else:
            said = _read(name).context
            user = said["targetingKey"]
            if len(user) > MAX_ID_CHARACTERS or not user or not user.isprintable():
                return False
            # What is printable has no lone surrogates.
            name = user.encode()
            said = NOTHING_SAID if len(said) == 1 else context.said(said, plan.right.sayable)
        bucket, field = spread(xxh3_128_digest(name))
    except Exception:  # `edge.checks` finds out what is wrong, and says so
        return False
    # It is free: nothing else is to be answered on its connection.
    check = connection.quick_check
    check.plan = plan
    check.user = user
    check.said = said
    check.ready = None
    connection.queue.append(check)
    waiters.append(check)
    unsent = profiles.unsent
    if not unsent:
        profiles.send_soon()
    bucket &= commands.mask
    unsent.append((commands.get(bucket) or commands[bucket]) + field)
    return True


def answer_all(edge: Edge, next_reply: Callable[[], Reply], waiters: deque[Waiter]) -> None:
    """Answer the checks whose replies have come. Their moment has been looked at already."""
    take = waiters.popleft
    lines = edge.responses.json_ok
    moment, decisions = edge.state.moment, edge.state.decisions
    ms, day = moment.ms, moment.day
    head, pairs = decisions.block(ms)
    quick = 0
    while (reply := next_reply()) is not False:
        if not waiters:
            continue
        check = take()
        if type(check) is not QuickCheck:
            check(reply)
            continue
        plan, user = check.plan, check.user
        try:
            packed = plan.packed[reply[0]]
            if packed is not None and not check.said:
                admissions = NO_ADMISSIONS
                answer = packed(user, reply, day)
                rendered = plan.rendered.get(id(answer)) or plan.right.world.rendered(answer)
            else:
                facts, admissions, lists = plan.readers[reply[0]](reply, day)
                if check.said:
                    facts.update(check.said)
                rendered = plan.rendered[id(plan.evaluate(user, facts, admissions, lists))]
        except Exception:  # no record, a damaged one, an answer's first time, ...
            check(reply)
            continue
        if rendered.failed:
            check(reply)
            continue
        quick += 1
        rendered.given[0] += 1
        pair = next(pairs, None)
        if pair is None:
            head, pairs = decisions.next_block(ms)
            pair = next(pairs)
        if rendered.records:
            edge.exposures.take(plan.right.world, rendered, user, admissions, ms, head + pair)
        if rendered.lines is not lines:
            rendered.begin(lines)
        connection = check.connection
        queue = connection.queue
        if len(queue) == 1 and not connection.stopping:
            # uvloop writes at the end of its turn, after the other answers of this turn were made:
            # their clients are awake then, and a wake-up costs as much as a check.
            queue.clear()
            connection.transport.write(b"".join((rendered.start, head, pair, rendered.end)))
        else:
            check.finish(b"".join((rendered.start, head, pair, rendered.end)))
    edge.metrics.asked += quick
    edge.profiles.answered()
