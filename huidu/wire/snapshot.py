"""A `Snapshot` as bytes: versioned, checksummed, compressed, and never half read.

    offset  size  meaning
         0     5  magic, ``HUIDU``
         5     1  format, 1
         6     4  length of the JSON text in bytes, unsigned, big-endian
        10    32  SHA-256 of the JSON text
        42     -  the JSON text, deflated (zlib)

The text is JSON because thresholds reach 2**64, which MessagePack cannot hold, and because a
person can read it. Sets and dictionaries are written sorted, so equal snapshots have equal bytes
of text and therefore one version, on every machine and with every zlib.

Each cohort and each flag stands on a line of its own (JSON has no line breaks within a text, so
that is but space to a parser): `SnapshotReader` reads one after the other and lets others work
between them, where a parser would hold the interpreter to the end.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TypeVar

import msgspec

from huidu.errors import SnapshotError
from huidu.model import Attribute, Cohort, Flag, Snapshot
from huidu.turns import Pause, no_pause

FORMAT: Final = 1
MAX_TEXT_BYTES: Final = 64 * 1024 * 1024
"""Longest JSON text that is written or read; a header that promises more is refused unread."""

_MAGIC: Final = b"HUIDU"
_HEADER: Final = struct.Struct(">5sBI32s")
_VERSION_BYTES: Final = 8

_encoder = msgspec.json.Encoder(order="deterministic")
_decoder = msgspec.json.Decoder(Snapshot)


_COHORTS: Final = b',"cohorts":[\n'
_FLAGS: Final = b'],"flags":[\n'
_END: Final = b"]}"
"""What stands before the cohorts, before the flags, and at the end."""

_PIECE_BYTES: Final = 128 * 1024
"""So much text is inflated at a time."""


class _Head(msgspec.Struct, frozen=True, kw_only=True):
    """The first line: a `Snapshot` without its long parts."""

    environment: str
    sequence: int
    published_at: str
    attributes: list[Attribute]


T = TypeVar("T")

_head_decoder = msgspec.json.Decoder(_Head)
_cohort_decoder = msgspec.json.Decoder(Cohort)
_flag_decoder = msgspec.json.Decoder(Flag)


def encode(snapshot: Snapshot) -> bytes:
    """The bytes every node loads.

    Raises:
        SnapshotError: the text would be longer than `MAX_TEXT_BYTES`, or holds what JSON cannot.
    """
    text = encode_text(snapshot)
    digest = hashlib.sha256(text).digest()
    return _HEADER.pack(_MAGIC, FORMAT, len(text), digest) + zlib.compress(text, 6)


def encode_text(snapshot: Snapshot) -> bytes:
    """The JSON text alone, the same for equal snapshots.

    Raises:
        SnapshotError: the text would be longer than `MAX_TEXT_BYTES`, or holds what JSON cannot.
    """
    head = _Head(
        environment=snapshot.environment,
        sequence=snapshot.sequence,
        published_at=snapshot.published_at,
        attributes=snapshot.attributes,
    )
    try:
        parts = [
            _encoder.encode(head).removesuffix(b"}"),
            _COHORTS,
            *_encoded_lines(snapshot.cohorts),
            _FLAGS,
            *_encoded_lines(snapshot.flags),
            _END,
        ]
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise SnapshotError(f"expected only JSON values, got one that is not: {error}") from error
    text = b"".join(parts)
    if len(text) > MAX_TEXT_BYTES:
        raise SnapshotError(
            f"expected at most {MAX_TEXT_BYTES} bytes of JSON text, got {len(text)}"
        )
    return text


def _encoded_lines(parts: Sequence[Cohort] | Sequence[Flag]) -> Iterator[bytes]:
    last = len(parts) - 1
    for number, part in enumerate(parts):
        yield _encoder.encode(part) + (b",\n" if number < last else b"\n")


def decode(data: bytes) -> Snapshot:
    """Read what `encode` wrote, or refuse all of it.

    Shapes and types are checked here; whether the snapshot makes sense is checked by
    `huidu.engine.compile_snapshot`.

    Raises:
        SnapshotError: not a snapshot, of another format, cut off, changed, or too long.
    """
    return decode_text(text_of(data))


class SnapshotReader:
    """Reads one snapshot after the other, while other threads have work.

    A flag whose text is as it was in the snapshot before is the same object again, and so is a
    cohort: most publications change one of many.
    """

    def __init__(self) -> None:
        self._cohorts: dict[bytes, Cohort] = {}
        self._flags: dict[bytes, Flag] = {}

    def read(self, data: bytes, pause: Pause) -> Snapshot:
        """`decode`; `pause` is called after each flag and cohort, and each piece inflated.

        Raises:
            SnapshotError: as `decode`; the next is compared with the last that could be read.
        """
        text = text_of(data, pause)
        try:
            return self._read(text, pause)
        except (ValueError, RecursionError):  # not in lines, or with a fault
            return decode_text(text)  # says where in the whole the fault is

    def _read(self, text: bytes, pause: Pause) -> Snapshot:
        end = text.index(_COHORTS)
        head = _head_decoder.decode(text[:end] + b"}")
        end += len(_COHORTS)
        cohorts, end = _lines(text, end, _FLAGS, _cohort_decoder, self._cohorts, pause)
        flags, end = _lines(text, end, _END, _flag_decoder, self._flags, pause)
        if end != len(text):
            raise ValueError("expected nothing after the flags")
        self._cohorts, self._flags = dict(cohorts), dict(flags)
        pause()
        return Snapshot(
            environment=head.environment,
            sequence=head.sequence,
            published_at=head.published_at,
            attributes=head.attributes,
            cohorts=[each for _, each in cohorts],
            flags=[each for _, each in flags],
        )


def _lines(
    text: bytes,
    start: int,
    closing: bytes,
    decoder: msgspec.json.Decoder[T],
    known: Mapping[bytes, T],
    pause: Pause,
) -> tuple[list[tuple[bytes, T]], int]:
    """The parts up to the closing line, each with the digest of its text; and where that ends.

    Raises:
        ValueError: the lines are not as `encode_text` writes them.
    """
    found: list[tuple[bytes, T]] = []
    more = True
    while True:
        pause()
        if text.startswith(closing, start):
            if more and found:
                raise ValueError("expected no comma after the last part")
            return found, start + len(closing)
        if not more:
            raise ValueError("expected a comma between parts")
        end = text.index(b"\n", start)
        line = text[start:end]
        more = line.endswith(b",")
        part = line.removesuffix(b",")
        digest = hashlib.blake2b(part, digest_size=16).digest()
        decoded = known.get(digest)
        found.append((digest, decoder.decode(part) if decoded is None else decoded))
        start = end + 1


def decode_text(text: bytes) -> Snapshot:
    """Read the JSON text of a snapshot.

    Raises:
        SnapshotError: not JSON, or not of a snapshot's shape; says the path of the fault.
    """
    try:
        return _decoder.decode(text)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise SnapshotError(f"expected the JSON text of a snapshot: {error}") from error


def text_of(data: bytes, pause: Pause = no_pause) -> bytes:
    """The JSON text inside a snapshot's bytes, checked against its length and checksum.

    Args:
        pause: called after each piece of the text.
    Raises:
        SnapshotError: not a snapshot, of another format, cut off, changed, or too long.
    """
    length, digest = _read_header(data)
    inflater, checksum = zlib.decompressobj(), hashlib.sha256()
    pieces: list[bytes] = []
    deflated: bytes | memoryview = memoryview(data)[_HEADER.size :]
    room = length + 1  # one byte over the promised length: a bomb is found without inflating it
    try:
        while room and (piece := inflater.decompress(deflated, min(room, _PIECE_BYTES))):
            checksum.update(piece)
            pieces.append(piece)
            room -= len(piece)
            deflated = inflater.unconsumed_tail
            pause()
    except zlib.error as error:
        raise SnapshotError(f"expected deflated text after the header: {error}") from error
    if room != 1 or not inflater.eof or inflater.unused_data:
        raise SnapshotError(
            f"expected exactly {length} bytes of text; the snapshot is cut or longer"
        )
    if checksum.digest() != digest:
        raise SnapshotError("expected the checksum in the header; the text was changed on its way")
    return b"".join(pieces)


def version_of(data: bytes) -> str:
    """The snapshot's version: the first 16 hex digits of its text's SHA-256.

    Reads only the header, so it is cheap; `decode` is what proves that the text fits it.

    Raises:
        SnapshotError: not a snapshot, or of another format.
    """
    _, digest = _read_header(data)
    return digest[:_VERSION_BYTES].hex()


def _read_header(data: bytes) -> tuple[int, bytes]:
    """Length and digest of the text."""
    if len(data) < _HEADER.size:
        raise SnapshotError(f"expected at least {_HEADER.size} bytes, got {len(data)}")
    magic, wire_format, length, digest = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        raise SnapshotError(f"expected bytes that start with {_MAGIC!r}, got {magic!r}")
    if wire_format != FORMAT:
        raise SnapshotError(f"expected format {FORMAT}, got {wire_format}; update this program")
    if length > MAX_TEXT_BYTES:
        raise SnapshotError(f"expected at most {MAX_TEXT_BYTES} bytes of text, got {length}")
    return length, digest
