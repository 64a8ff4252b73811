"""The Chinese texts: found in the sources, kept in .po files, compiled to .mo. Needs no gettext.

    python -m local.translations check      every text of the sources has its translation
    python -m local.translations update     brings the .po files up to date with the sources
    python -m local.translations compile    writes the .mo files that Django reads

Texts in the sources are English, so `en` needs no file. `bin/up` and `bin/test` compile by
themselves.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import polib

ROOT = Path(__file__).resolve().parent.parent
LOCALE = ROOT / "locale"
TRANSLATED = ("zh_Hans",)
SOURCES = ("cohorts", "config", "edge", "huidu", "local", "rollout", "templates")
TEMPLATES = {".html", ".txt"}
KEYWORDS: dict[str, tuple[int | tuple[int, str], ...] | None] = {
    "_": None,
    "gettext": None,
    "gettext_lazy": None,
    "gettext_noop": None,
    "ngettext": (1, 2),
    "ngettext_lazy": (1, 2),
    "pgettext": ((1, "c"), 2),
    "pgettext_lazy": ((1, "c"), 2),
    "npgettext": ((1, "c"), 2, 3),
    "npgettext_lazy": ((1, "c"), 2, 3),
}
SHOWN = 20  # faults printed; the count tells the rest
PLACEHOLDER = re.compile(r"%\(\w+\)[sdf]|(?<!%)%[sdf]|\{\w*\}")


@dataclass
class Text:
    """One translatable text and the files that use it."""

    context: str | None
    english: str
    plural: str | None = None
    files: set[str] = field(default_factory=set)

    @property
    def key(self) -> tuple[str | None, str]:
        return self.context, self.english


def texts(root: Path = ROOT) -> dict[tuple[str | None, str], Text]:
    """Every translatable text of the sources, by context and English text."""
    found: dict[tuple[str | None, str], Text] = {}
    for path in sources(root):
        for text in texts_of(path):
            known = found.setdefault(text.key, text)
            known.plural = known.plural or text.plural
            known.files.add(path.relative_to(root).as_posix())
    return found


def sources(root: Path) -> Iterator[Path]:
    """Python files and templates that may hold texts, in a stable order."""
    for folder in SOURCES:
        for path in sorted((root / folder).rglob("*")):
            python = path.suffix == ".py" and "migrations" not in path.parts
            if python or (path.suffix in TEMPLATES and "templates" in path.parts):
                yield path


def texts_of(path: Path) -> Iterator[Text]:
    """The texts of one file. Raises `SyntaxError` or Django's `TemplateSyntaxError` if broken."""
    from babel.messages.extract import extract
    from django.utils.translation.template import templatize

    source = path.read_text()
    if path.suffix in TEMPLATES:
        # The result reads as calls amid noise; in brackets, its indentation means nothing.
        source = f"({templatize(source, origin=str(path))}\n)"
    options = {"encoding": "utf-8"}
    for _, message, _, context in extract(
        "python", BytesIO(source.encode()), keywords=KEYWORDS, options=options
    ):
        english, plural = message[:2] if isinstance(message, tuple) else (message, None)
        if english:
            yield Text(context, english, plural)


def faults(catalogue: polib.POFile, wanted: dict[tuple[str | None, str], Text]) -> list[str]:
    """What is missing or wrong in a catalogue, one sentence each."""
    entries = {(entry.msgctxt, entry.msgid): entry for entry in catalogue if not entry.obsolete}
    found = []
    for key, text in wanted.items():
        where = f"{min(text.files, default='?')}: {text.english!r}"
        entry = entries.get(key)
        if entry is None:
            found.append(f"{where} is not in the catalogue")
        elif "fuzzy" in entry.flags:
            found.append(f"{where} is marked fuzzy")
        elif not all(chinese := list(entry.msgstr_plural.values()) or [entry.msgstr]):
            found.append(f"{where} is not translated")
        else:
            known = set(PLACEHOLDER.findall(text.english + (text.plural or "")))
            for translation in chinese:
                if odd := set(PLACEHOLDER.findall(translation)) - known:
                    found.append(f"{where}: {translation!r} uses unknown {', '.join(sorted(odd))}")
    return found


def update(catalogue: polib.POFile, wanted: dict[tuple[str | None, str], Text]) -> tuple[int, int]:
    """Add new texts, drop those no source uses. Returns how many of each; translations stay."""
    stale = [entry for entry in catalogue if (entry.msgctxt, entry.msgid) not in wanted]
    for entry in stale:
        catalogue.remove(entry)
    entries = {(entry.msgctxt, entry.msgid): entry for entry in catalogue}
    added = 0
    for key, text in wanted.items():
        entry = entries.get(key)
        if entry is None:
            entry = polib.POEntry(msgctxt=text.context, msgid=text.english)
            catalogue.append(entry)
            added += 1
        if text.plural and not entry.msgstr_plural:
            entry.msgid_plural = text.plural
            entry.msgstr_plural = {0: entry.msgstr}  # Chinese has one form
            entry.msgstr = ""
        if not re.search("[A-Za-z]", text.english) and not entry.msgstr_plural:
            entry.msgstr = entry.msgstr or text.english
        entry.occurrences = [(name, "") for name in sorted(text.files)]
    catalogue.sort(key=lambda entry: (entry.occurrences[:1], entry.msgid, entry.msgctxt or ""))
    return added, len(stale)


def compile_stale(locale: Path = LOCALE) -> int:
    """Write the .mo beside each .po that is newer or has none. Returns how many were written."""
    written = 0
    for source in sorted(locale.glob("*/LC_MESSAGES/*.po")):
        target = source.with_suffix(".mo")
        if target.exists() and target.stat().st_mtime_ns >= source.stat().st_mtime_ns:
            continue
        # Several processes may compile at once: each writes its own file, the last rename wins.
        new = target.with_suffix(f".{os.getpid()}")
        polib.pofile(str(source)).save_as_mofile(str(new))
        new.replace(target)
        written += 1
    return written


def open_catalogue(language: str) -> polib.POFile:
    """The catalogue of a language; a new one when there is none yet."""
    path = LOCALE / language / "LC_MESSAGES" / "django.po"
    if path.exists():
        return polib.pofile(str(path), wrapwidth=100)
    catalogue = polib.POFile(wrapwidth=100, fpath=str(path))
    catalogue.metadata = {
        "Project-Id-Version": "huidu",
        "POT-Creation-Date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M+0000"),
        "Language": language,
        "MIME-Version": "1.0",
        "Content-Type": "text/plain; charset=UTF-8",
        "Content-Transfer-Encoding": "8bit",
        "Plural-Forms": "nplurals=1; plural=0;",
    }
    return catalogue


def main(command: str) -> int:
    if command == "compile":
        print(f"{compile_stale()} .mo files written")
        return 0
    wanted = texts()
    status = 0
    for language in TRANSLATED:
        catalogue = open_catalogue(language)
        if command == "update":
            added, dropped = update(catalogue, wanted)
            Path(catalogue.fpath).parent.mkdir(parents=True, exist_ok=True)
            catalogue.save()
            print(f"{language}: {added} texts added, {dropped} dropped")
        found = faults(catalogue, wanted)
        for sentence in found[:SHOWN]:
            print(f"{language}: {sentence}")
        print(f"{language}: {len(wanted)} texts, {len(found)} faults")
        status |= bool(found) and command == "check"
    return status


if __name__ == "__main__":
    if sys.argv[1:] not in (["check"], ["update"], ["compile"]):
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
