"""The steps people take in a review case, each with its form and what it will do."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.widgets import (
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from cohorts.wording import label_of
from huidu.errors import InputError
from rollout.admin.acts import Act
from rollout.models import Case
from rollout.services import case_outcomes, case_proposals, cases
from rollout.services.audit import Actor

Status = Case.Status


def _area(label: Any, help_text: Any = "", *, required: bool = True) -> forms.CharField:
    return forms.CharField(
        label=label,
        required=required,
        max_length=cases.MAX_TEXT,
        help_text=help_text,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        error_messages={"required": _("Say it in at least one sentence.")},
    )


class TextForm(forms.Form):
    text = _area(_("Note"), _("Kept in the case; colleagues read it, the customer does not."))


class AssignForm(forms.Form):
    person = forms.ChoiceField(label=_("Who"), widget=UnfoldAdminSelectWidget)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        names = cases.reviewers().values_list("username", flat=True)
        self.fields["person"].choices = [(name, name) for name in names]  # type: ignore[attr-defined]


REPLY_HELP = _("Sent to the customer as it stands: no reason codes, no score, no promise.")
REASON_HELP = _("What you looked at and why you decide so. Colleagues and auditors read it.")


class DecideForm(forms.Form):
    reason = _area(_("Reason"), REASON_HELP)
    reply = _area(_("Reply to the customer"), REPLY_HELP)


class CorrectForm(DecideForm):
    """One fact at a time: which, and what it really is."""

    attribute = forms.ChoiceField(label=_("Wrong fact"), widget=UnfoldAdminSelectWidget)
    value = forms.CharField(
        label=_("Right value"),
        max_length=200,
        help_text=_(
            "As in profiles: yes or no, a number, a region code, a date; empty is unknown."
        ),
        required=False,
        widget=UnfoldAdminTextInputWidget,
    )
    field_order = ("attribute", "value", "reason", "reply")

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.fields["attribute"].choices = [  # type: ignore[attr-defined]
            (each.name, label_of(each, each.name)) for each in case_outcomes.correctable(risk=False)
        ]


WORDS = {"yes": True, "true": True, "是": True, "no": False, "false": False, "否": False}


def value_of(attribute: str, text: str) -> Any:
    """What was typed, as the fact's type has it.

    Raises:
        InputError: it is not of the attribute's type.
    """
    text = text.strip()
    if not text:
        return None
    row = next(each for each in case_outcomes.correctable(risk=False) if each.name == attribute)
    if row.type == "boolean":
        if text.lower() not in WORDS:
            raise InputError("expected true or false", path="value")
        return WORDS[text.lower()]
    if row.type in ("integer", "number"):
        try:
            return int(text) if row.type == "integer" else float(text)
        except ValueError as error:
            raise InputError("expected a number", path="value") from error
    if row.type == "strings":
        return [each.strip() for each in text.split(",") if each.strip()]
    return text


def _correct(row: Case, by: Actor, values: dict[str, Any]) -> Any:
    name = values["attribute"]
    facts = {name: value_of(name, values["value"])}
    return case_proposals.correct(row, facts, by=by, reason=values["reason"], reply=values["reply"])


def _under_way(row: Case) -> bool:
    return row.status in Case.UNDER_WAY


def _in_hand(row: Case) -> bool:
    return row.status in cases.IN_HAND


def _take(row: Case, by: Actor, values: dict[str, Any]) -> str:
    cases.assign(row, by.person, by=by)
    return gettext("The case is in your hands.")


def _grant_does(row: Case) -> str:
    _now, listed = case_outcomes.would_be(row)
    if not listed.visible:
        return gettext("The allow list would not help: %(why)s refuses those on it too.") % {
            "why": listed.why
        }
    return gettext(
        "Puts this one user on the list “granted by review” of the flag and closes the case. A "
        "live flag with four eyes needs a second person."
    )


ACTS = (
    Act(
        name="take",
        title=_("Take it"),
        icon="pan_tool",
        kind="primary",
        form=forms.Form,
        does=lambda row: gettext("The case goes into your hands."),
        run=_take,
        fits=lambda row: row.status == Status.OPEN,
    ),
    Act(
        name="uphold",
        title=_("The answer stands"),
        icon="gavel",
        form=DecideForm,
        does=lambda row: gettext("Closes the case; nothing about the user changes."),
        run=lambda row, by, values: cases.uphold(
            row, by=by, reply=values["reply"], text=values["reason"]
        ),
        fits=_in_hand,
    ),
    Act(
        name="correct",
        title=_("Correct a fact"),
        icon="edit_note",
        form=CorrectForm,
        does=lambda row: gettext(
            "Writes the right value into the user's profile and closes the case. On a live flag "
            "with four eyes a second person approves it first."
        ),
        run=_correct,
        fits=_in_hand,
    ),
    Act(
        name="grant",
        title=_("Grant it"),
        icon="how_to_reg",
        form=DecideForm,
        does=_grant_does,
        run=lambda row, by, values: case_proposals.grant(
            row, by=by, reason=values["reason"], reply=values["reply"]
        ),
        fits=_in_hand,
    ),
    Act(
        name="wait",
        title=_("Ask the customer"),
        icon="hourglass_empty",
        form=TextForm,
        does=lambda row: gettext(
            "Marks that the customer must bring something; the due date stays."
        ),
        run=lambda row, by, values: cases.wait(row, values["text"], by=by),
        fits=lambda row: row.status in (Status.OPEN, Status.IN_REVIEW),
    ),
    Act(
        name="go_on",
        title=_("Go on"),
        icon="play_arrow",
        form=TextForm,
        does=lambda row: gettext("What was waited for is here."),
        run=lambda row, by, values: cases.go_on(row, values["text"], by=by),
        fits=lambda row: row.status == Status.WAITING,
    ),
    Act(
        name="assign",
        title=_("Hand over"),
        icon="person_add",
        form=AssignForm,
        does=lambda row: gettext("Puts the case into somebody's hands."),
        run=lambda row, by, values: cases.assign(row, values["person"], by=by),
        fits=_under_way,
    ),
    Act(
        name="note",
        title=_("Write a note"),
        icon="sticky_note_2",
        form=TextForm,
        does=lambda row: gettext("Adds a note to the case."),
        run=lambda row, by, values: cases.note(row, values["text"], by=by),
        fits=lambda row: bool(row.user_id),
    ),
    Act(
        name="withdraw",
        title=_("Withdraw"),
        icon="undo",
        form=TextForm,
        does=lambda row: gettext("Closes the case because the customer no longer asks."),
        run=lambda row, by, values: cases.withdraw(row, values["text"], by=by),
        fits=_under_way,
    ),
)
