"""From a user to a point on the line: the one hash every draw, slice and variant rests on.

Formula 1, frozen (vectors in `huidu/vectors/bucketing.json`):

    seed(salt)        = XXH3_64(b"huidu bucket 1\\0" + le64(length of salt) + salt, seed 0)
    bucket(salt, key) = XXH3_64(key, seed = seed(salt))        texts are UTF-8, lengths in bytes

The salt is hashed on its own first and enters the second hash as its seed, where it is mixed by
multiplication. It is not added to anything, because an added salt makes the samples of different
flags shifted copies of each other; and it is not glued to the key, so ("ab", "c") and
("a", "bc") cannot meet. A flag computes its seed once, and a check then costs one C call on the
key's bytes.

Source of the hash: XXH3 by Yann Collet, via `xxhash`; its output is the same on every machine.
"""

from __future__ import annotations

from typing import Final

from xxhash import xxh3_64_intdigest

from huidu.model import FULL_THRESHOLD, PPM

FORMULA: Final = 1
"""Number of the formula. Another formula gets another number and leaves this one as it is."""

_DOMAIN: Final = b"huidu bucket 1\0"


def seed_of(salt: str) -> int:
    """The seed a salt stands for, in [0, 2**64); worth keeping, it costs as much as a bucket."""
    text = _bytes(salt)
    return xxh3_64_intdigest(_DOMAIN + len(text).to_bytes(8, "little") + text)


def bucket(salt: str, key: str) -> int:
    """Where a user stands on the line of one salt, uniform in [0, 2**64).

    Args:
        salt: names the draw, such as a rollout's salt.
        key: the targeting key. Any text will do, lone surrogates included.
    """
    return xxh3_64_intdigest(_bytes(key), seed_of(salt))


def seeded_bucket(seed: int, key: str) -> int:
    """`bucket` for a seed that was computed before."""
    return xxh3_64_intdigest(_bytes(key), seed)


def threshold_of(share_ppm: int) -> int:
    """The point below which `share_ppm` parts per million of the line lie, in [0, 2**64].

    0 takes nobody and 1,000,000 everybody. Neighbouring slices meet without a gap or an overlap,
    because both sides round down alike.
    """
    return share_ppm * FULL_THRESHOLD // PPM


def variants_salt(salt: str, flag_key: str) -> str:
    """The salt that deals a flag's variants.

    It is kept apart from the rollout's line even if somebody gives both the same salt: else the
    admitted, who all stand low on that line, would all get the first variant.
    """
    return f"variants:{salt or flag_key}"


def exclusion_salt(salt: str) -> str:
    """The salt that cuts an exclusion group into slices; kept apart like `variants_salt`."""
    return f"exclusion:{salt}"


def _bytes(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        # A lone surrogate is not Unicode, yet it can reach us; it gets a place like any other.
        return text.encode("utf-8", "surrogatepass")
