"""How a check server asks for a place, and what it hears.

    edge   XADD PLACES_STREAM request          one entry of the stream a user who needs a place
    desk   commits to PostgreSQL, then
           PUBLISH reply_to replies            to the one edge process that asked
           PUBLISH ROOM_CHANNEL room           to all, every second and after each change

Nothing here is stored for later: a request that nobody answers in time was a "no", and the user
asks again with the next check.
"""

from __future__ import annotations

from typing import Final

import msgspec

NO_ROOM: Final = -1
CLOSED: Final = -2
"""No place is given now: the rollout is not in effect, or the flag was killed."""

DEADLINE_MS: Final = 250
"""How long a check waits for its place."""

STALE_MS: Final = 1_000
"""A request older than this is passed over: whoever asked has long been answered."""

FRESH_SECONDS: Final = 3.0
"""How long a `Room` may be believed."""


class Request(msgspec.Struct, frozen=True, array_like=True):
    """One user needs a place. The JSON in field ``request`` of a stream entry."""

    environment: str
    slot: int
    user: str
    region: str
    reply_to: str
    number: int


class Reply(msgspec.Struct, frozen=True, array_like=True):
    """What became of the request with this number: a partner, `NO_ROOM`, or `CLOSED`."""

    number: int
    partner: int


class Room(msgspec.Struct, frozen=True):
    """Partners without room, by slot. A slot that is not named may have room: ask."""

    environment: str
    full: dict[int, list[int]]


encode_request = msgspec.json.Encoder().encode
decode_request = msgspec.json.Decoder(Request).decode
encode_replies = msgspec.json.Encoder().encode
decode_replies = msgspec.json.Decoder(list[Reply]).decode
encode_room = msgspec.json.Encoder().encode
decode_room = msgspec.json.Decoder(Room).decode
