"""``python -m edge``: the check server by itself, or in front of an ASGI application."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from types import FrameType

from edge.serve import run
from huidu.errors import HuiduError

logger = logging.getLogger("huidu.edge")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m edge", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument(
        "--port", type=int, default=int(os.environ.get("HUIDU_PORT") or 8000), help="HUIDU_PORT"
    )
    parser.add_argument("--app", help="ASGI application behind, such as config.asgi:application")
    parser.add_argument(
        "--workers", type=int, default=1, help="processes that share the port (SO_REUSEPORT)"
    )
    arguments = parser.parse_args()
    try:
        if arguments.workers > 1:
            sys.exit(_run_workers(arguments.workers, arguments))
        run(arguments.app, arguments.host, arguments.port)
    except HuiduError as error:
        sys.exit(str(error))


def _run_workers(number: int, arguments: argparse.Namespace) -> int:
    """Keep `number` processes serving; one that dies is started again, a signal ends all."""
    stopping = False
    children: set[int] = set()

    def start() -> None:
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            run(arguments.app, arguments.host, arguments.port)
            os._exit(0)
        children.add(child)

    def stop(signum: int, _: FrameType | None) -> None:
        nonlocal stopping
        stopping = True
        for child in children:
            os.kill(child, signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    for _ in range(number):
        start()
    while children:
        child, status = os.wait()
        children.discard(child)
        if not stopping:
            logger.error("edge.worker_died pid=%d status=%d", child, status)
            if os.waitstatus_to_exitcode(status) == 0:
                continue  # it ended because it was asked to
            start()
    return 0


if __name__ == "__main__":
    main()
