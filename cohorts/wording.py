"""A rule in people's words, in the language that is active now."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from django.utils.translation import get_language, gettext, pgettext, pgettext_lazy

from cohorts import models
from cohorts.regions import name_of
from huidu.model import PPM

UNITS = {
    "payments": pgettext_lazy("unit", "payments"),
    "friends": pgettext_lazy("unit", "friends"),
    "points": pgettext_lazy("unit", "points"),
    "years": pgettext_lazy("unit", "years old"),
    "CNY": pgettext_lazy("unit", "CNY"),
    "days": pgettext_lazy("unit", "days"),
}
SIGNS = {"==": "=", "!=": "≠", "<": "<", "<=": "≤", ">": ">", ">=": "≥"}
_FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}
MOST_NAMED = 6
"""Longer lists of values are told by their first ones and their number."""


@dataclass(frozen=True)
class Word:
    """How one attribute is called: its label, its unit as people say it, and its type."""

    label: str
    unit: str = ""
    type: str = ""


@dataclass(frozen=True)
class Vocabulary:
    """What attributes and cohorts are called in one language."""

    language: str
    attributes: Mapping[str, Word]
    cohorts: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls) -> Vocabulary:
        """The registry's and the cohorts' names in the active language; two queries."""
        language = get_language() or "en"
        return cls(
            language=language,
            attributes={
                row.name: Word(label_of(row, row.name), unit_of(row.unit), row.type)
                for row in models.Attribute.objects.order_by("id")
            },
            cohorts={row.key: label_of(row, row.key) for row in models.Cohort.objects.all()},
        )


def label_of(row: Any, fallback: str = "") -> str:
    """The row's name in the active language; else its other name, its key, or `fallback`."""
    zh, en = getattr(row, "label_zh", ""), getattr(row, "label_en", "")
    first, second = (zh, en) if (get_language() or "").startswith("zh") else (en, zh)
    return str(first or second or getattr(row, "key", "") or fallback)


def unit_of(unit: str) -> str:
    """The unit as people say it; codes such as ``GB/T 2260`` are not said."""
    if unit.startswith("GB/T"):
        return ""
    return str(UNITS.get(unit, unit))


def number(value: Any) -> str:
    """A number as people read it, whole ones without ``.0``; other values as they are."""
    if not _counts(value):
        return str(value)
    rounded = round(value, 2)
    return f"{int(rounded) if rounded == int(rounded) else rounded:,}"


def with_unit(value: Any, unit: str) -> str:
    """A value with its unit, as `unit_of` says it; money as each language writes it."""
    if unit != str(UNITS["CNY"]) or not _counts(value):
        return f"{number(value)} {unit}".strip()
    if (get_language() or "").startswith("zh"):
        return f"{value:,.0f} {unit}" if value == int(value) else f"{value:,.2f} {unit}"
    return f"{unit} {value:,.2f}"


def _counts(value: Any) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def rule_in_words(rule: Any, words: Vocabulary) -> str:
    """The rule as one sentence; what it cannot read is told as JSON, never left out.

    Args:
        rule: as `huidu.engine.rules` reads it; ``{}`` is everybody.
        words: the names to use.
    """
    if rule == {}:
        return gettext("everybody")
    return _Speaker(words).say(rule, outermost=True)


class _Speaker:
    def __init__(self, words: Vocabulary) -> None:
        self.words = words

    def say(self, rule: Any, *, outermost: bool = False) -> str:
        if not isinstance(rule, dict) or len(rule) != 1:
            return gettext("everybody") if rule == {} else _json(rule)
        ((operator, operands),) = rule.items()
        if operator in ("and", "or") and isinstance(operands, list):
            parts = [self.say(each) for each in operands]
            if len(parts) == 1:
                return parts[0]
            joined = (
                pgettext("between claims", " and ")
                if operator == "and"
                else pgettext("between claims", " or ")
            ).join(parts)
            return joined if outermost else _bracketed(joined)
        if operator == "!":
            inner = operands[0] if isinstance(operands, list) and len(operands) == 1 else operands
            return gettext("not %(claim)s") % {"claim": _bracketed(self.say(inner, outermost=True))}
        if operator == "cohort":
            key = operands[0] if isinstance(operands, list) and operands else operands
            name = self.words.cohorts.get(str(key), str(key))
            return gettext("in the cohort “%(name)s”") % {"name": name}
        return self._claim(operator, operands) or _json(rule)

    def _claim(self, operator: str, operands: Any) -> str:
        if operator == "var":
            name = operands[0] if isinstance(operands, list) and operands else operands
            return self._flag(str(name), True)
        if not isinstance(operands, list) or len(operands) < 2:
            return ""
        if operator in ("<", "<=") and len(operands) == 3:
            low, middle, high = operands
            if name := _variable(middle):
                return self._between(name, low, high, open_ends=operator == "<")
        if operator == "in" and not _variable(operands[0]) and (name := _variable(operands[1])):
            return gettext("%(attribute)s contains “%(value)s”") % {
                "attribute": self._label(name),
                "value": operands[0],
            }
        if not _variable(operands[0]) and operator in _FLIPPED:
            operands, operator = operands[::-1], _FLIPPED[operator]
        name = _variable(operands[0])
        if not name:
            return ""
        return self._about(name, operator, operands[1:])

    def _about(self, name: str, operator: str, rest: list[Any]) -> str:
        label, word = self._label(name), self.words.attributes.get(name, Word(name))
        match operator:
            case "==" | "!=" if isinstance(rest[0], bool):
                return self._flag(name, rest[0] is (operator == "=="))
            case "==" | "!=" | "<" | "<=" | ">" | ">=":
                return f"{label} {SIGNS[operator]} {self._value(word, rest[0])}"
            case "between" if len(rest) == 2:
                return self._between(name, rest[0], rest[1])
            case "hysteresis" if len(rest) == 2:
                return gettext("%(attribute)s: enters above %(enter)s, leaves below %(leave)s") % {
                    "attribute": label,
                    "enter": self._value(Word(word.label, "", word.type), rest[0]),
                    "leave": self._value(word, rest[1]),
                }
            case "in" | "within":
                return gettext("%(attribute)s is one of %(values)s") % {
                    "attribute": label,
                    "values": self._listed(word, rest[0]),
                }
            case "starts_with":
                return gettext("%(attribute)s starts with “%(value)s”") % {
                    "attribute": label,
                    "value": rest[0],
                }
            case "sem_ver" if len(rest) == 2:
                return f"{label} {SIGNS.get(str(rest[0]), rest[0])} {rest[1]}"
        return ""

    def _flag(self, name: str, value: bool) -> str:
        label = self._label(name)
        return (gettext("%(attribute)s: yes") if value else gettext("%(attribute)s: no")) % {
            "attribute": label
        }

    def _between(self, name: str, low: Any, high: Any, *, open_ends: bool = False) -> str:
        word = self.words.attributes.get(name, Word(name))
        sentence = (
            gettext("%(attribute)s between %(low)s and %(high)s, ends excluded")
            if open_ends
            else gettext("%(attribute)s from %(low)s to %(high)s")
        )
        bare = Word(word.label, "", word.type)
        return sentence % {
            "attribute": self._label(name),
            "low": self._value(bare, low),
            "high": self._value(word, high),
        }

    def _label(self, name: str) -> str:
        word = self.words.attributes.get(name)
        return word.label if word else name

    def _listed(self, word: Word, values: Any) -> str:
        given = values if isinstance(values, list) else [values]
        separator = pgettext("between values", ", ")
        told = separator.join(self._value(word, each) for each in given[:MOST_NAMED])
        if len(given) > MOST_NAMED:
            told += gettext(" … (%(count)d in all)") % {"count": len(given)}
        return told

    def _value(self, word: Word, value: Any) -> str:
        if word.type == "region" and isinstance(value, str):
            return name_of(value, self.words.language)
        if isinstance(value, bool):
            return gettext("yes") if value else gettext("no")
        if isinstance(value, (int, float)):
            return f"{value:,} {word.unit}".strip()
        return str(value)


def _variable(operand: Any) -> str:
    if isinstance(operand, dict) and set(operand) == {"var"}:
        name = operand["var"]
        return str(name[0] if isinstance(name, list) and name else name)
    return ""


def _bracketed(text: str) -> str:
    return pgettext("brackets", "(%(inner)s)") % {"inner": text}


def _json(rule: Any) -> str:
    return json.dumps(rule, ensure_ascii=False)


def percent_of(ppm: int | None, digits: int = 4) -> str:
    """A share as percent without needless zeros, such as ``5`` or ``0.0001``; "" for None."""
    if ppm is None:
        return ""
    text = f"{Decimal(ppm) / (PPM // 100):.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def shown_percent(ppm: int | None) -> str:
    """A share as pages show it: ``5 %``; a dash when there is none."""
    return "—" if ppm is None else f"{percent_of(ppm)} %"
