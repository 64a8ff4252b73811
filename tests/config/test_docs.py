"""The manual names every setting and every code the engine gives."""

from __future__ import annotations

from config.environment import ROOT, Environment
from huidu import reasons

SETTINGS = (ROOT / "docs" / "reference" / "settings.md").read_text()


def test_every_setting_is_in_the_manual():
    for name, field in Environment.model_fields.items():
        choices = getattr(field.validation_alias, "choices", None)
        told = choices[0] if choices else f"HUIDU_{name.upper()}"
        assert f"`{told}`" in SETTINGS, told


def test_the_manual_names_every_code_of_the_engine():
    manual = "".join(page.read_text() for page in (ROOT / "docs" / "reference").glob("*.md"))
    codes = {
        value
        for name, value in vars(reasons).items()
        if name.isupper() and isinstance(value, str) and value.islower()
    }
    assert codes
    missing = sorted(code for code in codes if f"`{code}`" not in manual)
    assert not missing, missing
