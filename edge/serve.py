"""Run the check server: alone, or in front of an ASGI application on the same port."""

from __future__ import annotations

import gc
import logging
import os
import resource
import socket
from typing import Any

import uvicorn
from uvicorn._types import ASGI3Application

from edge import alone, metrics
from edge.protocol import HuiduProtocol
from edge.server import Edge
from edge.settings import Settings, read

logger = logging.getLogger("huidu.edge")

GRACEFUL_SECONDS = 10
BACKLOG = 4096
MOST_FILES = 1_048_576
GARBAGE_THRESHOLDS = (20_000, 20, 20)


class Config(uvicorn.Config):
    """uvicorn's configuration with an `Edge` in it, which `HuiduProtocol` looks for.

    Args:
        app: the ASGI application behind, as an object or ``module:name``; None to run alone.
        settings: read from the environment when not given.
        options: uvicorn's own, such as `host`, `port`, `uds`, `fd`, `ssl_certfile`.
    """

    def __init__(
        self, app: Any = None, *, settings: Settings | None = None, **options: Any
    ) -> None:
        self.edge = Edge(settings or read())
        self.in_front = app is not None
        behind: ASGI3Application | str = alone.application(self.edge) if app is None else app
        defaults: dict[str, Any] = {
            "http": HuiduProtocol,
            "loop": "uvloop",
            "lifespan": "off" if app is None else "auto",
            "ws": "none" if app is None else "auto",
            "access_log": False,
            "server_header": False,
            "backlog": BACKLOG,
            "timeout_keep_alive": 75,
            "timeout_graceful_shutdown": GRACEFUL_SECONDS,
            "log_config": None,
            "proxy_headers": app is not None,
        }
        super().__init__(behind, **(defaults | options))


class Server(uvicorn.Server):
    """uvicorn's server, which starts and stops the edge with it."""

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        metrics.register(config.edge)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await self.config.edge.start(self.server_state)
        await super().startup(sockets)
        _settle_memory()
        logger.info("edge.serves environment=%s", self.config.edge.settings.environment)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        await self.config.edge.stop()


def run(app: Any = None, host: str = "127.0.0.1", port: int = 8000, **options: Any) -> None:
    """Serve until a signal ends it.

    Args:
        app: the ASGI application behind, or None.
        port: 0 picks a free one.
        options: see `Config`.
    """
    _set_up_logging()
    _allow_many_connections()
    config = Config(app, host=host, port=port, **options)
    Server(config).run(sockets=[_listen(host, port)])


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket other processes may share (SO_REUSEPORT), without delayed writes."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "SO_REUSEPORT"):
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind((host, port))
    listener.setblocking(False)
    listener.set_inheritable(True)
    logger.info("edge.listens host=%s port=%d", host, listener.getsockname()[1])
    return listener


def _allow_many_connections() -> None:
    """Raise this process's soft limit of open files to what the system allows it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _settle_memory() -> None:
    """Let what was made at the start be old, and make garbage collections rarer.

    A check leaves no cycles behind, so looking for them after every few hundred objects is a
    twentieth of its cost.
    """
    gc.collect()
    gc.set_threshold(*GARBAGE_THRESHOLDS)


def _set_up_logging() -> None:
    if not logging.getLogger().handlers:
        logging.basicConfig(
            level=os.environ.get("HUIDU_LOG_LEVEL", "INFO").upper(),
            format="%(asctime)s %(levelname)s %(name)s %(message)s",
        )
    logging.getLogger("uvicorn.access").disabled = True
