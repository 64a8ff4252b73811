"""Texts are found in the sources, held against the catalogue, and compiled."""

from __future__ import annotations

import gettext
import os
from pathlib import Path

import polib
import pytest

from local import translations
from local.translations import Text


def found(folder: Path, name: str, source: str) -> list[Text]:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)
    return list(translations.texts_of(path))


def catalogue(*entries: polib.POEntry) -> polib.POFile:
    made = polib.POFile()
    made.extend(entries)
    return made


def wanted(*texts: Text) -> dict[tuple[str | None, str], Text]:
    return {text.key: text for text in texts}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        pytest.param('_("one")', (None, "one", None), id="short name"),
        pytest.param('gettext_lazy("o" "ne")', (None, "one", None), id="joined literals"),
        pytest.param('ngettext("one user", "%d users", n)', (None, "one user", "%d users"), id="n"),
        pytest.param('pgettext("verb", "draw")', ("verb", "draw", None), id="context"),
    ],
)
def test_texts_of_python(
    tmp_path: Path, source: str, expected: tuple[str | None, str, str | None]
) -> None:
    [text] = found(tmp_path, "a.py", f"x = {source}\n")
    assert (text.context, text.english, text.plural) == expected


def test_texts_of_a_template(tmp_path: Path) -> None:
    source = (
        "{% load i18n %}\n<p title='{% translate \"Kill\" %}'>it's\n"
        '    {% trans "draw" context "verb" %}{{ _("Stage") }}\n'
        "  {% blocktranslate count n=n trimmed %}one user{% plural %}{{ n }} users\n"
        "  {% endblocktranslate %}</p>\n"
    )
    texts = found(tmp_path, "templates/a.html", source)
    assert [(text.context, text.english, text.plural) for text in texts] == [
        (None, "Kill", None),
        ("verb", "draw", None),
        (None, "Stage", None),
        (None, "one user", "%(n)s users"),
    ]


@pytest.mark.parametrize(
    ("entries", "fault"),
    [
        pytest.param([], "is not in the catalogue", id="missing"),
        pytest.param([polib.POEntry(msgid="{n} users")], "is not translated", id="empty"),
        pytest.param(
            [polib.POEntry(msgid="{n} users", msgstr="{n} 人", flags=["fuzzy"])],
            "is marked fuzzy",
            id="fuzzy",
        ),
        pytest.param(
            [polib.POEntry(msgid="{n} users", msgstr="{m} 人")], "uses unknown {m}", id="odd field"
        ),
    ],
)
def test_a_fault_of_the_catalogue_is_named(entries: list[polib.POEntry], fault: str) -> None:
    [sentence] = translations.faults(
        catalogue(*entries), wanted(Text(None, "{n} users", files={"a.py"}))
    )
    assert sentence.startswith("a.py: '{n} users'")
    assert fault in sentence


def test_update_adds_drops_and_keeps_translations() -> None:
    made = catalogue(
        polib.POEntry(msgid="stage", msgstr="阶段"), polib.POEntry(msgid="gone", msgstr="旧")
    )
    texts = wanted(Text(None, "stage", files={"a.py"}), Text(None, "draw", files={"b.py"}))
    assert translations.update(made, texts) == (1, 1)
    assert {entry.msgid: entry.msgstr for entry in made} == {"stage": "阶段", "draw": ""}
    assert translations.update(made, texts) == (0, 0)


def test_a_plural_text_has_one_chinese_form() -> None:
    made = catalogue()
    text = Text(None, "one user", "%d users", files={"a.py"})
    translations.update(made, wanted(text))
    assert [entry.msgstr_plural for entry in made] == [{0: ""}]
    assert translations.faults(made, wanted(text)) == ["a.py: 'one user' is not translated"]


def test_only_stale_catalogues_are_compiled(tmp_path: Path) -> None:
    folder = tmp_path / "zh_Hans" / "LC_MESSAGES"
    folder.mkdir(parents=True)
    source = folder / "django.po"
    made = catalogue(polib.POEntry(msgid="stage", msgstr="阶段"))
    made.metadata = {"Content-Type": "text/plain; charset=UTF-8"}
    made.save(str(source))
    assert translations.compile_stale(tmp_path) == 1
    with (folder / "django.mo").open("rb") as compiled:
        assert gettext.GNUTranslations(compiled).gettext("stage") == "阶段"
    assert translations.compile_stale(tmp_path) == 0
    later = (folder / "django.mo").stat().st_mtime + 5
    os.utime(source, (later, later))
    assert translations.compile_stale(tmp_path) == 1
