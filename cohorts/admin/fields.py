"""Form fields in the units people think in: shares in percent, stays in days, JSON, rules."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from cohorts.wording import percent_of, shown_percent
from huidu.model import PPM

DAY = timedelta(days=1)

__all__ = [
    "DaysField",
    "LinesField",
    "PercentField",
    "PrettyJson",
    "RuleField",
    "RuleWidget",
    "UnitInput",
    "WeightsField",
    "WeightsWidget",
    "percent_of",
    "shown_percent",
]


class UnitInput(UnfoldAdminTextInputWidget):
    """A number with its unit behind it."""

    template_name = "huidu/widgets/unit_input.html"
    input_type = "number"

    def __init__(self, unit: Any, attrs: dict[str, Any] | None = None) -> None:
        super().__init__(attrs={"step": "any", "inputmode": "decimal", **(attrs or {})})
        self.unit = unit

    def get_context(self, name: str, value: Any, attrs: Any) -> dict[str, Any]:
        context: dict[str, Any] = super().get_context(name, value, attrs)
        context["unit"] = self.unit
        return context


def changed(field: forms.Field, initial: Any, data: Any) -> bool:
    """Whether what was typed means something else than what is stored."""
    try:
        return bool(field.to_python(data) != initial)
    except forms.ValidationError:
        return True


class PercentField(forms.Field):
    """Shows and takes percent, 0 to 100 with up to four decimals; its value is parts per million.

    One millionth is 0.0001 %, so four decimals say every share exactly.
    """

    default_error_messages = {
        "range": _("Type a share between 0 and 100 %, such as 5."),
        "digits": _("At most four decimals: the smallest step is 0.0001 %."),
    }

    def __init__(self, **options: Any) -> None:
        options.setdefault("widget", UnitInput("%", {"min": 0, "max": 100}))
        super().__init__(**options)

    def prepare_value(self, value: Any) -> Any:
        return percent_of(value) if isinstance(value, int) else value

    def to_python(self, value: Any) -> int | None:
        if value in self.empty_values:
            return None
        if self.disabled and isinstance(value, int):
            return value  # not typed: the stored parts per million themselves
        try:
            ppm = Decimal(str(value).strip().rstrip("%")) * (PPM // 100)
        except InvalidOperation as error:
            raise forms.ValidationError(self.error_messages["range"], code="range") from error
        if not ppm.is_finite() or not 0 <= ppm <= PPM:
            raise forms.ValidationError(self.error_messages["range"], code="range")
        if ppm != int(ppm):
            raise forms.ValidationError(self.error_messages["digits"], code="digits")
        return int(ppm)

    def has_changed(self, initial: Any, data: Any) -> bool:
        return not self.disabled and changed(self, initial, data)


class DaysField(forms.Field):
    """Shows and takes days, also parts of a day; its value is a `timedelta`."""

    default_error_messages = {"days": _("Type a number of days, such as 7 or 0.5.")}

    def __init__(self, **options: Any) -> None:
        options.setdefault("widget", UnitInput(_("days"), {"min": 0}))
        super().__init__(**options)

    def prepare_value(self, value: Any) -> Any:
        return f"{value / DAY:.6g}" if isinstance(value, timedelta) else value

    def to_python(self, value: Any) -> timedelta | None:
        if value in self.empty_values:
            return None
        if isinstance(value, timedelta):
            return value
        try:
            days = float(str(value))
            if not 0 <= days <= 36_500:
                raise ValueError
        except ValueError as error:
            raise forms.ValidationError(self.error_messages["days"], code="days") from error
        # Whole seconds: what is shown again is what was typed.
        return timedelta(seconds=round(days * 86_400))

    def has_changed(self, initial: Any, data: Any) -> bool:
        return not self.disabled and changed(self, initial, data)


class PrettyJson(forms.JSONField):
    """JSON, indented and with Chinese characters as they are."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("widget", UnfoldAdminTextareaWidget(attrs={"class": "hd-mono"}))
        super().__init__(**options)

    def prepare_value(self, value: Any) -> Any:
        if isinstance(value, forms.fields.InvalidJSONInput):
            return value
        return "" if value is None else json.dumps(value, ensure_ascii=False, indent=2)


class LinesField(forms.Field):
    """A list of texts, one a line."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("widget", UnfoldAdminTextareaWidget(attrs={"class": "hd-mono"}))
        super().__init__(**options)

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(map(str, value)) if isinstance(value, (list, tuple)) else value

    def to_python(self, value: Any) -> list[str]:
        lines = (line.strip() for line in str(value or "").splitlines())
        return list(dict.fromkeys(line for line in lines if line))

    def has_changed(self, initial: Any, data: Any) -> bool:
        return list(initial or []) != self.to_python(data)


class RuleWidget(UnfoldAdminTextareaWidget):
    """The visual rule editor around a text area, which alone is sent.

    Without JavaScript the text area stays, so the rule can always be edited.
    """

    template_name = "huidu/widgets/rule.html"
    weights = False

    class Media:
        js = ("huidu/rule-model.js", "huidu/rule-editor.js")

    def __init__(self, attrs: dict[str, Any] | None = None, **options: Any) -> None:
        super().__init__(attrs)
        self.options = options

    def __deepcopy__(self, memo: dict[int, Any]) -> RuleWidget:
        # Each form has its own: what one page is told must not show on the next.
        made: RuleWidget = super().__deepcopy__(memo)
        made.options = dict(self.options)
        return made

    def get_context(self, name: str, value: Any, attrs: Any) -> dict[str, Any]:
        context: dict[str, Any] = super().get_context(name, value, attrs)
        context["editor"] = {**self.options, "weights": self.weights}
        return context


class WeightsWidget(RuleWidget):
    """The same editor for a list of rules with a weight each."""

    weights = True


class RuleField(PrettyJson):
    """A rule; `{}` is everybody."""

    empty_values = [None, ""]

    def __init__(self, **options: Any) -> None:
        options.setdefault("widget", RuleWidget())
        super().__init__(**options)


class WeightsField(PrettyJson):
    """A list of ``{"rule", "weight"}``; the first match wins."""

    empty_values = [None, ""]

    def __init__(self, **options: Any) -> None:
        options.setdefault("widget", WeightsWidget())
        super().__init__(**options)

    def validate(self, value: Any) -> None:
        super().validate(value)
        whole = isinstance(value, list) and all(
            isinstance(each, Mapping)
            and set(each) == {"rule", "weight"}
            and isinstance(each["weight"], int)
            and 1 <= each["weight"] <= 1_000
            for each in value
        )
        if not whole:
            raise forms.ValidationError(
                _("Each line needs a rule and a whole weight from 1 to 1,000."), code="weights"
            )
