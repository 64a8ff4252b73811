"""What a file is, told by its first bytes, so that nobody is left with a decoding error."""

from __future__ import annotations

import codecs
from typing import Final

HEAD: Final = 65_536
"""Bytes that are looked at."""

_MAGIC: Final = (
    (b"PK\x03\x04", "a zip or Excel (.xlsx) file: open it and save the sheet as CSV UTF-8"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Excel (.xls) file: save the sheet as CSV UTF-8"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it, or pack the CSV with gzip"),
    (b"Rar!", "a rar archive: unpack it, or pack the CSV with gzip"),
    (b"BZh", "a bzip2 file: unpack it, or pack the CSV with gzip"),
    (b"\xfd7zXZ", "an xz file: unpack it, or pack the CSV with gzip"),
    (b"\x28\xb5\x2f\xfd", "a zstd file: unpack it, or pack the CSV with gzip"),
    (b"%PDF", "a PDF: export the table as CSV UTF-8"),
    (b"PAR1", "a Parquet file: export it as CSV UTF-8"),
    (b"SQLite format 3\0", "a SQLite database: export the table as CSV UTF-8"),
)
GZIP: Final = b"\x1f\x8b"

_CONTROLS: Final = bytes(each for each in range(32) if each not in b"\t\n\r\x0b\x0c\x1b")
_FEW_CONTROLS: Final = 16
_MOST_CONTROLS: Final = 0.02
"""Text has next to none; packed or compiled data about a tenth."""


def looks_like(head: bytes) -> str | None:
    """What the file is instead of UTF-8, GBK or gzipped text, and what to do; None for text.

    Args:
        head: its first `HEAD` bytes, of a gzipped file what was unpacked.
    """
    for magic, sentence in _MAGIC:
        if head.startswith(magic):
            return sentence
    if head[:4] in (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE):
        return "UTF-32 text: save the file as CSV UTF-8"
    if head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return "UTF-16 text (Excel calls it Unicode text): save the file as CSV UTF-8"
    controls = len(head) - len(head.translate(None, _CONTROLS))
    if controls >= _FEW_CONTROLS and controls > _MOST_CONTROLS * len(head):
        if _every_other_is_nul(head):
            return "UTF-16 text without its byte order mark: save the file as CSV UTF-8"
        return "a binary file: expected CSV text"
    return None


def _every_other_is_nul(head: bytes) -> bool:
    """ASCII text in UTF-16: the high byte of each pair is 0, the low byte hardly ever."""
    even, odd = head[::2], head[1::2]
    least, most = sorted((even.count(0), odd.count(0)))
    return bool(least < 0.05 * len(odd) and most > 0.5 * len(odd))


def reads_as(data: bytes, encoding: str) -> bool:
    """Whether the bytes, which may end within a character, are text in the encoding."""
    try:
        codecs.getincrementaldecoder(encoding)().decode(data)
    except UnicodeDecodeError:
        return False
    return True


def fault_of_bytes(data: bytes, encoding: str) -> str:
    """Which encoding bytes that are not `encoding` look like, and what to do about it."""
    if encoding != "utf-8" and reads_as(data, "utf-8"):
        return "it looks like UTF-8: choose UTF-8"
    if encoding != "gb18030" and is_chinese(data, "gb18030"):
        return "it looks like GBK: choose GBK / GB18030, or save the file as CSV UTF-8"
    return "save the file as CSV UTF-8"


def is_chinese(data: bytes, encoding: str) -> bool:
    """Whether the bytes are text in the encoding with Chinese characters in it."""
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(data)
    except UnicodeDecodeError:
        return False
    return any("\u4e00" <= each <= "\u9fff" for each in text)
