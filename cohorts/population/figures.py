"""Counts, and what they are worth where only a sample was counted."""

from __future__ import annotations

from math import ceil, sqrt
from typing import Final

import msgspec

from huidu.model import PPM
from huidu.sampling import size_of_draw

Z: Final = 1.959964
"""Of a normal distribution, 95 % lies within so many standard deviations."""


class Figure(msgspec.Struct, frozen=True):
    """How many users; `error` is the half-width of the 95 % interval, 0 where all were counted."""

    users: int
    error: int = 0


class Scale(msgspec.Struct, frozen=True):
    """From counts among the users who were read to all users.

    Args:
        read: how many were read, picked without looking at any fact.
        users: how many there are.
    """

    read: int
    users: int

    @property
    def exact(self) -> bool:
        return self.read >= self.users

    def of(self, counted: int) -> Figure:
        """What a count among the read means for everybody.

        Source:
            Wilson 1927 for the interval, which holds for rare users too; its wider side is told.
            Cochran 1977, Sampling Techniques, section 2.6: the correction for a finite population.
        """
        if self.exact or not self.read:
            return Figure(counted)
        part = counted / self.read
        z2 = Z * Z * (1 - self.read / self.users) / self.read
        middle = (part + z2 / 2) / (1 + z2)
        half = sqrt(z2 * part * (1 - part) + z2 * z2 / 4) / (1 + z2)
        error = max(middle + half - part, part - middle + half)
        return Figure(round(part * self.users), ceil(error * self.users))

    def share_of(self, counted: int, share_ppm: int) -> Figure:
        """How many a draw of this share takes of those whom a count among the read stands for."""
        whole = self.of(counted)
        error = ceil(whole.error * share_ppm / PPM)
        return Figure(size_of_draw(share_ppm, whole.users), error)
