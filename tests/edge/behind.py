"""An application to put behind the check server."""

from __future__ import annotations

import asyncio
import json
from typing import Any


async def application(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    path = scope["path"]
    if path == "/broken":
        raise RuntimeError("on purpose")
    if path == "/slow":
        await asyncio.sleep(0.02)
    said: dict[str, Any] = {"path": path}
    if path == "/length":
        said = {"length": len(body)}
    elif path == "/echo":
        query = scope["query_string"].decode()
        said |= {"method": scope["method"], "query": query, "body": body.decode()}
    content = json.dumps(said).encode()
    headers = [(b"content-length", b"%d" % len(content)), (b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": content})
