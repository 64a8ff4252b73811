"""Our English error sentences in the reader's language.

Services raise sentences for logs and APIs. Here each kind of sentence is recognised and said again;
one that nobody translated is told as it is, behind a sentence that everybody can read.
"""

from __future__ import annotations

import re
from typing import Any

from django.utils.translation import get_language, gettext
from django.utils.translation import gettext_lazy as _

from huidu.errors import HuiduError

RIGHT: dict[str, Any] = {
    "a whole number": _("a whole number"),
    "a number": _("a number"),
    "true or false": _("yes or no"),
    "a registered attribute": _("a registered attribute"),
    "the key of a cohort": _("the key of a cohort"),
    "a rule": _("a rule"),
    "one operator": _("one operator"),
    "a sentence that says why": _("a sentence that says why"),
    "nothing": _("nothing"),
    "a list of one or more rules under": _("at least one condition in each group"),
    'a region code of six digits such as "440300"': _("a region code of six digits"),
    'a date such as "2026-01-31"': _("a date such as 2026-01-31"),
    'a version such as "8.0.30"': _("a version such as 8.0.30"),
    "a text of at most 1000 characters": _("a text of at most 1,000 characters"),
    "a list of 1 to 10000 values": _("at least one value"),
    "a user's id": _("a user's id"),
    "a moment or a date": _("a moment or a date"),
    "text": _("text"),
    "have no user_id": _("have no user_id"),
    "have no moment in column at": _("have no moment in column at"),
    "have no moment in column loaded_at": _("have no moment in column loaded_at"),
    "have no value: unknown, not zero": _("have no value, which is unknown and not zero"),
    "have a value that is no finite number": _("have a value that is no finite number"),
    "have a denominator that is no finite number": _("have a denominator that is no finite number"),
    "count more than their denominator": _("count more than their denominator"),
    "lie in the future": _("lie in the future"),
}

PATTERNS: list[tuple[str, Any]] = [
    (
        r"^expected (?P<right>.+?) of (?P<least>\S+) or more, got (?P<found>.+)$",
        _("Expected %(right)s of %(least)s or more, got %(found)s."),
    ),
    (
        r"^expected (?P<right>.+?) from (?P<least>\S+) to (?P<most>\S+), got (?P<found>.+)$",
        _("Expected %(right)s from %(least)s to %(most)s, got %(found)s."),
    ),
    (
        r"^expected the lower end first|^expected at most .*: the lower end comes first$",
        _("The lower end comes first."),
    ),
    (
        r"^expected an enter line above the leave line",
        _("The line to enter must lie above the line to leave."),
    ),
    (r"^expected a leave line of 1 or more", _("The line to leave must be 1 or more.")),
    (
        r"^hysteresis is for ",
        _("Hysteresis is for payments in 7 days, whose figures of past days are known."),
    ),
    (
        r"^a rule that looks at the daily counts",
        _("A rule with hysteresis is judged user by user, which takes too long for so many users."),
    ),
    (
        r"^(?P<op>\S+).* is for attributes of type .*; this one is \S+$",
        _("The operator %(op)s does not fit this attribute."),
    ),
    (r"^expected at most \d+ levels of nesting", _("Too many groups inside each other.")),
    (
        r"^expected cohorts that do not refer to themselves: (?P<circle>.+)$",
        _("Cohorts refer to each other in a circle: %(circle)s."),
    ),
    (
        r"^line (?P<line>\d+): expected UTF-8, got other bytes; it looks like GBK",
        _("Line %(line)s is not UTF-8 and looks like GBK. Choose GBK / GB18030 as the encoding."),
    ),
    (
        r"^line (?P<line>\d+): expected GB18030, got other bytes; it looks like UTF-8",
        _("Line %(line)s is not GB18030 and looks like UTF-8. Choose UTF-8 as the encoding."),
    ),
    (
        r"^line (?P<line>\d+): expected \S+, got other bytes; save the file",
        _("Line %(line)s is not text in this encoding. Save the file as CSV UTF-8."),
    ),
    (
        r"^the file (?:looks like|begins with the mark of) UTF-8",
        _("The file is UTF-8. Choose UTF-8 as the encoding."),
    ),
    (
        r"^expected CSV text, got (?:a zip or Excel|an Excel)",
        _("This is an Excel or zip file. Open it and save the sheet as CSV UTF-8."),
    ),
    (
        r"^expected CSV text, got UTF-(?P<bits>\d+) text",
        _("This is UTF-%(bits)s text, as Excel's “Unicode text”. Save the file as CSV UTF-8."),
    ),
    (
        r"^expected CSV text, got a (?:7z|rar|bzip2|xz|zstd)|^expected CSV text, got an xz",
        _("This is a packed file. Unpack it, or pack the CSV with gzip."),
    ),
    (r"^expected CSV text, got ", _("This is no text file. Export the table as CSV UTF-8.")),
    (
        r"^after line (?P<line>\d+): expected a whole \.gz file",
        _("After line %(line)s the .gz file is damaged or cut off. Upload it again."),
    ),
    (
        r"^after line (?P<line>\d+): expected lines of at most",
        _("After line %(line)s: a line is longer than 100,000 characters, so this is no list."),
    ),
    (
        r"^expected at least one user id, got ",
        _("There is no user id in this file. To empty a list, upload it as users to remove."),
    ),
    (
        r"^.*the audience, gates or weights changed while it was drawn",
        _("The audience, gates or weights changed meanwhile. Take the step again."),
    ),
    (r"^.* has moved on while ", _("The rollout has moved on meanwhile.")),
    (
        r"^.* was drawn a moment ago and is still being written down",
        _("The last draw is still being written down. Wait a moment."),
    ),
    (r"^.* is being drawn for .*: wait or cancel it", _("Another draw is under way.")),
    (r"^line 1: expected a column named user_id", _("No column is named user_id.")),
    (
        r"^(?P<list>\S+) was at version .*: upload the file again",
        _("The list has changed since the file was compared. Upload the file again."),
    ),
    (
        r"^(?P<step>.+) of (?P<flag>\S+) needs a second person: ",
        _("Changes of %(flag)s need a second person. Send the change for approval."),
    ),
    (
        r"^rollout (?P<rollout>\S+) was submitted by (?P<person>.+): somebody else",
        _("%(person)s submitted this rollout, so somebody else must approve it."),
    ),
    (
        r"^rollout (?P<rollout>\S+) needs the approval of a second person before it starts",
        _("A second person must approve this rollout before it starts."),
    ),
    (
        r"^rollout (?P<rollout>\S+) has no stages yet",
        _("This rollout has no stages yet. Add one first."),
    ),
    (
        r"^flag (?P<flag>\S+): compliance items (?P<items>.+) are unsigned or out of date$",
        _("These compliance items are unsigned or out of date: %(items)s."),
    ),
    (
        r"^rollout (?P<other>\S+) of (?P<flag>\S+) is .+: roll it back first",
        _("Rollout %(other)s of this flag is in effect. Roll it back first."),
    ),
    (
        r"^rollout (?P<rollout>\S+) is (?P<status>\S+).*this (step|promotion)",
        _("The rollout has moved on in the meantime; its state no longer allows this step."),
    ),
    (
        r"^stage (?P<stage>\S+) has started: (?P<what>.+) decided who was drawn",
        _("The stage has started: %(what)s decided who was drawn and cannot change."),
    ),
    (
        r"^stage (?P<stage>\S+) has started: its guards",
        _("The stage has started, so its guards are fixed: nobody moves the goal afterwards."),
    ),
    (
        r"^stage (?P<stage>\S+) has started: .+ belong to the plan",
        _("The stage has started: error limits and times belong to the plan of its evidence."),
    ),
    (
        r"^stage (?P<stage>\S+) has started: its minimum stay",
        _("The stage has started: its minimum stay may grow, not shrink."),
    ),
    (
        r"^stage (?P<stage>\S+) has started: widen it",
        _("The stage has started: use “Widen the share”, so that the draw is made again."),
    ),
    (
        r"^stage (?P<stage>\S+) reaches .+ and never less",
        _("A running stage never shrinks: users would lose what they were shown. Roll back."),
    ),
    (
        r"^expected a share above (?P<now>[\d,]+) ppm",
        _("Expected a larger share than now: a running stage never shrinks."),
    ),
    (
        r"^attribute (?P<target>\S+) is used by (?P<users>.+): change these first$",
        _("%(target)s is used by %(users)s. Change these first."),
    ),
    (
        r"^values of (?P<target>\S+) have been held since (?P<day>\S+): past answers",
        _(
            "Values of %(target)s have been held since %(day)s, and past answers are replayed with "
            "its name and type. Retire it and register a new one, or change its label."
        ),
    ),
    (
        r"^values of (?P<target>\S+) are held: it cannot become the caller's alone$",
        _("Values of %(target)s are held, so it cannot become the caller's alone."),
    ),
    (
        r"^(?P<target>\S+) is built in: ",
        _("%(target)s is built in: name, type, source, unit and range are fixed."),
    ),
    (
        r"^the attribute registry is in use by a long job",
        _("A long job reads the registry right now. Try again in a moment."),
    ),
    (
        r"^expected another name: (?P<name>\S+) is a word of the platform's own$",
        _("Expected another name: %(name)s is a word of the platform's own."),
    ),
    (r"^expected none: \S+ has no range$", _("Only numbers have a range; leave this empty.")),
    (
        r"^expected none: no value of it is held$",
        _("No value of it is held, so it has no term; leave this empty."),
    ),
    (
        r"^(?P<target>\S+) is still used by (?P<users>.+)$",
        _("%(target)s is still used by %(users)s."),
    ),
    (
        r"^stage (?P<stage>\S+) has no guard that must prove, and nobody signed its waiver",
        _(
            "Stage %(stage)s has no guard that must prove, and nobody signed its waiver. Write "
            "the waiver again, under your name, or add a guard."
        ),
    ),
    (
        r"^the query answers no row",
        _("The query answers no row. That is unknown, never zero."),
    ),
    (r"^the query took longer than", _("The query took too long and was stopped.")),
    (r"^no warehouse is configured", _("No warehouse is configured on this platform.")),
    (r"^expected one SELECT", _("Expected one SELECT statement, and nothing else.")),
    (
        r"^column (?P<column>\S+): expected (?P<right>.+), got (?P<found>.+); a CAST",
        _("Column %(column)s: expected %(right)s, got %(found)s. A CAST in the query may do."),
    ),
    (
        r"^column (?P<column>\S+): expected only (?P<right>.+) for a metric of kind",
        _("Column %(column)s is not expected here, only %(right)s."),
    ),
    (
        r"^expected columns (?P<right>.+), got (?P<found>.+): (?P<column>\S+) is missing",
        _("Column %(column)s is missing. Expected %(right)s, got %(found)s."),
    ),
    (
        r"^(?P<bad>[\d,]+) of (?P<all>[\d,]+) rows (?P<why>.+)$",
        _("%(bad)s of %(all)s rows cannot be true, so none is counted: they %(why)s."),
    ),
    (
        r"^expected either a relative margin or an absolute limit",
        _("Expected either a relative margin or an absolute limit."),
    ),
    (
        r"^expected a highest or lowest reading",
        _("An external reading needs a highest or a lowest value."),
    ),
    (
        r"^expected (?P<right>[^:]+), got (?P<found>.+)$",
        _("Expected %(right)s, got %(found)s."),
    ),
]


def in_words(fault: HuiduError) -> str:
    """The fault's sentence in the active language."""
    if not (get_language() or "").startswith("zh"):
        text = fault.message
        return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
    for pattern, sentence in PATTERNS:
        if match := re.match(pattern, fault.message, re.S):
            parts = {
                name: str(RIGHT.get(text, text)) if text else ""
                for name, text in match.groupdict().items()
            }
            return str(sentence) % parts
    if re.search("[一-鿿]", fault.message):  # Django's own messages are translated already
        return fault.message
    return gettext("This was refused (%(code)s): %(message)s") % {
        "code": fault.code,
        "message": fault.message,
    }
