"""Two fields for region policies, one line an entry: easy to read, to paste, and to compare."""

from __future__ import annotations

import json
from typing import Any

from django import forms
from django.utils.translation import get_language
from django.utils.translation import gettext_lazy as _
from unfold.widgets import UnfoldAdminTextareaWidget

from cohorts.admin.fields import PercentField, percent_of
from cohorts.regions import name_of, regions


class LineField(forms.Field):
    """A text area whose lines are entries; a fault names its line."""

    def __init__(self, **options: Any) -> None:
        options.setdefault(
            "widget", UnfoldAdminTextareaWidget(attrs={"class": "hd-mono", "rows": 8})
        )
        super().__init__(**options)

    def entry(self, line: str) -> Any:
        raise NotImplementedError

    def entries(self, value: Any) -> list[Any]:
        found = []
        for number, line in enumerate(str(value or "").splitlines(), start=1):
            if not line.strip():
                continue
            try:
                found.append(self.entry(line.strip()))
            except forms.ValidationError as error:
                raise forms.ValidationError(
                    _("Line %(number)s: %(fault)s"),
                    params={"number": number, "fault": " ".join(error.messages)},
                    code="line",
                ) from error
        return found


class ClassesField(LineField):
    """``key | ceiling % | Chinese name | English name | payload``; a list of objects."""

    def prepare_value(self, value: Any) -> Any:
        if not isinstance(value, list):
            return value
        return "\n".join(
            " | ".join(
                [
                    each["key"],
                    percent_of(each.get("ceiling_ppm")) + "%",
                    each.get("label_zh", ""),
                    each.get("label_en", ""),
                    json.dumps(each.get("payload") or {}, ensure_ascii=False),
                ]
            )
            for each in value
        )

    def to_python(self, value: Any) -> list[dict[str, Any]]:
        found = self.entries(value)
        if len({each["key"] for each in found}) < len(found):
            raise forms.ValidationError(_("Each class needs a key of its own."), code="double")
        return found

    def entry(self, line: str) -> dict[str, Any]:
        # Names hold commas, payloads may hold bars: only the first four bars separate.
        parts = [part.strip() for part in line.replace("｜", "|").split("|", 4)]
        if len(parts) < 2:
            raise forms.ValidationError(_("Expected at least a key and a ceiling in percent."))
        parts += [""] * (5 - len(parts))
        try:
            payload = json.loads(parts[4] or "{}")
        except ValueError as error:
            raise forms.ValidationError(_("The payload is not valid JSON.")) from error
        if not isinstance(payload, dict):
            raise forms.ValidationError(_("The payload is a JSON object in braces."))
        return {
            "key": parts[0],
            "ceiling_ppm": PercentField().clean(parts[1]),
            "label_zh": parts[2],
            "label_en": parts[3],
            "payload": payload,
        }

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return bool((initial or []) != self.to_python(data))
        except forms.ValidationError:
            return True


def code_of(word: str) -> str:
    """The code a person means by six digits or by a name.

    Raises:
        ValidationError: neither.
    """
    if word.isdigit():
        if len(word) != 6:
            raise forms.ValidationError(_("Use six digits, such as 440300."))
        return word
    for region in regions().values():
        if word in (region.zh, region.en, region.zh.rstrip("市省")):
            return region.code
    raise forms.ValidationError(_("There is no region called “%(name)s”."), params={"name": word})


class CodesField(LineField):
    """``440300`` or ``深圳``, one a line; the value is a list of codes."""

    def prepare_value(self, value: Any) -> Any:
        if not isinstance(value, list):
            return value
        language = get_language() or "en"
        return "\n".join(f"{code} {name_of(code, language)}" for code in value)

    def to_python(self, value: Any) -> list[str]:
        if isinstance(value, list):
            return value
        return sorted(dict.fromkeys(self.entries(value)))

    def entry(self, line: str) -> str:
        # A code may have its name behind it; a name may hold blanks.
        first = line.split()[0]
        return code_of(first if first.isdigit() else line)

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return sorted(initial or []) != self.to_python(data)
        except forms.ValidationError:
            return True


class RegionsField(LineField):
    """``440300 open``; the value maps codes to the keys of classes."""

    def prepare_value(self, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        language = get_language() or "en"
        return "\n".join(
            f"{code} {name_of(code, language).replace(' ', '_')} {name}"
            for code, name in sorted(value.items())
        )

    def to_python(self, value: Any) -> dict[str, str]:
        return dict(self.entries(value))

    def entry(self, line: str) -> tuple[str, str]:
        words = line.replace("，", " ").replace(",", " ").split()
        if len(words) < 2:
            raise forms.ValidationError(_("Expected a region and the key of a class."))
        first, last = words[0], words[-1]
        return code_of(first), last

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return bool((initial or {}) != self.to_python(data))
        except forms.ValidationError:
            return True
