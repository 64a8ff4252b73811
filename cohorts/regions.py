"""Names of regions: provinces and prefectures by their GB/T 2260 code.

`regions.csv` holds 34 provinces and the prefectures below them. A code without an entry (a
district, a county) is told with the name of the region around it.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Region:
    """One region; `parent` is the code of the province around it, or empty for a province."""

    code: str
    zh: str
    en: str

    @property
    def parent(self) -> str:
        province = f"{self.code[:2]}0000"
        return "" if self.code == province else province

    def name(self, language: str) -> str:
        """Its name in Chinese (``zh...``) or else in English."""
        return self.zh if language.startswith("zh") else self.en


@cache
def regions() -> dict[str, Region]:
    """Every named region by code, provinces before their prefectures."""
    with Path(__file__).with_name("regions.csv").open(encoding="utf-8", newline="") as file:
        rows = [Region(row["code"], row["zh"], row["en"]) for row in csv.DictReader(file)]
    return {row.code: row for row in rows}


def is_known(code: str) -> bool:
    """Whether the code names a region, or a district within one."""
    known = regions()
    return len(code) == 6 and any(
        each in known for each in (code, f"{code[:4]}00", f"{code[:2]}0000")
    )


def name_of(code: str, language: str) -> str:
    """What people call a region: ``深圳市``, or ``深圳市 440305`` for a district without a name."""
    known = regions()
    if code in known:
        return known[code].name(language)
    for around in (f"{code[:4]}00", f"{code[:2]}0000"):
        if around in known:
            return f"{known[around].name(language)} {code}"
    return code
