"""The steps of a rollout, as buttons: what each does, whom it touches, the service it calls."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from cohorts.admin.fields import shown_percent
from cohorts.models import DrawJob
from cohorts.services import draw_jobs, preview
from cohorts.wording import label_of
from huidu.errors import HuiduError
from huidu.model import PPM
from rollout.admin import faults, flags
from rollout.admin.acts import Act, calling, requesting
from rollout.admin.effect_told import in_digits
from rollout.models import Rollout
from rollout.services import drawn_steps, dry_run, eligibility, rollouts

Status = Rollout.Status


def held_back(row: Rollout) -> str:
    """How many users the current stage holds back, as far as its draw knew them."""
    stage = row.current
    if stage is None or stage.population is None or stage.drawn is None:
        return "?"
    return f"{stage.population - stage.drawn:,}"


def touched_now(row: Rollout) -> str:
    """Who sees it now, for steps that take nothing away."""
    return flags.touched(row.flag)


def touched_by_start(row: Rollout) -> str:
    """Whom the first stage addresses; the draw itself happens at the start."""
    first = row.stages.select_related("audience").order_by("order").first()
    return gettext("Nobody yet.") if first is None else _stage_reach(first)


def touched_by_promotion(row: Rollout) -> str:
    if row.current is None:
        return ""
    following = (
        row.stages.select_related("audience")
        .filter(order__gt=row.current.order)
        .order_by("order")
        .first()
    )
    if following is None:
        return gettext("Nobody more: this is the last stage.")
    return _stage_reach(following)


def _stage_reach(stage: Any) -> str:
    whom = label_of(stage.audience) if stage.audience else gettext("everybody eligible")
    sentence = gettext("%(share)s of “%(whom)s” (stage “%(stage)s”).") % {
        "share": shown_percent(stage.share_ppm),
        "whom": whom,
        "stage": label_of(stage),
    }
    try:
        found = preview.preview(eligibility.eligible(stage))
    except HuiduError as fault:
        return f"{sentence} {faults.in_words(fault)}"
    told = found.scale.share_of(found.after.matched, stage.share_ppm)
    counted = ngettext(
        "That is %(users)s user, gates included.",
        "That is %(users)s users, gates included.",
        told.users,
    ) % {"users": in_digits(told)}
    return f"{sentence} {counted}{flags.by_the_facts_of(found.as_of)}"


ACTS = (
    Act(
        name="submit",
        title=_("Submit for approval"),
        icon="send",
        kind="primary",
        does=lambda row: gettext(
            "Asks another person to approve this plan. Its stages do not change while it waits."
        ),
        run=calling(rollouts.submit),
        fits=lambda row: row.status == Status.DRAFT,
    ),
    Act(
        name="approve",
        title=_("Approve"),
        icon="how_to_reg",
        kind="primary",
        does=lambda row: (
            gettext("Approves the plan that %(person)s submitted. It may then be started.")
            % {"person": row.submitted_by}
        ),
        touched=touched_by_start,
        run=calling(rollouts.approve),
        fits=lambda row: row.status == Status.AWAITING_APPROVAL and not row.approved_by,
    ),
    Act(
        name="reject",
        title=_("Send back"),
        icon="undo",
        does=lambda row: gettext("Turns it back into a draft, so that its plan can change."),
        run=calling(rollouts.reject),
        fits=lambda row: row.status == Status.AWAITING_APPROVAL,
    ),
    Act(
        name="start",
        title=_("Start"),
        icon="play_arrow",
        kind="primary",
        does=lambda row: gettext(
            "Enters the first stage: its users are drawn once and for all, and see the product."
        ),
        touched=touched_by_start,
        run=calling(rollouts.start),
        fits=lambda row: (
            (row.status == Status.AWAITING_APPROVAL and bool(row.approved_by))
            or (not row.flag.four_eyes and row.status == Status.DRAFT)
        ),
    ),
    Act(
        name="cancel_draw",
        title=_("Cancel the draw"),
        icon="cancel",
        does=lambda row: gettext("Stops the draw. The rollout stays in the stage it is in."),
        run=calling(drawn_steps.cancel),
        fits=lambda row: (
            (job := draw_jobs.active(row.slot)) is not None
            and job.state != DrawJob.State.REMEMBERING
        ),
    ),
    Act(
        name="promote",
        title=_("Promote now"),
        icon="fast_forward",
        kind="warn",
        does=lambda row: gettext(
            "Leaves the stage without waiting for evidence. The platform promotes by itself once "
            "harm is ruled out; promoting by hand is on your record."
        ),
        touched=touched_by_promotion,
        # The stage as it is now: an approval that comes late must not promote another one.
        run=requesting("rollout.promote", lambda row, values: {"stage": row.current_id}),
        fits=lambda row: row.status == Status.RUNNING,
    ),
    Act(
        name="approve-stage",
        title=_("Approve the promotion"),
        icon="verified",
        kind="primary",
        does=lambda row: gettext(
            "Lets the platform promote this stage once its evidence is there, not before."
        ),
        touched=touched_by_promotion,
        run=lambda row, by, values: (
            rollouts.approve_stage(row.current, by=by, reason=values["reason"]) and None
        ),
        fits=lambda row: (
            row.status == Status.RUNNING
            and row.current is not None
            and row.current.needs_approval
            and not row.current.approved_by
        ),
    ),
    Act(
        name="hold",
        title=_("Hold the stage"),
        icon="front_hand",
        does=lambda row: gettext(
            "The stage goes on, but only a person's approval promotes it from now on."
        ),
        touched=lambda row: gettext("Nobody gains or loses anything."),
        run=calling(rollouts.hold),
        fits=lambda row: row.status == Status.RUNNING,
    ),
    Act(
        name="pause",
        title=_("Pause"),
        icon="pause",
        does=lambda row: gettext(
            "Stops reviews and promotions. Nobody loses what they were shown."
        ),
        touched=touched_now,
        run=calling(rollouts.pause),
        fits=lambda row: row.status == Status.RUNNING,
    ),
    Act(
        name="resume",
        title=_("Go on"),
        icon="play_arrow",
        kind="primary",
        does=lambda row: gettext("Reviews and promotions go on where they stopped."),
        touched=touched_now,
        run=requesting("rollout.resume"),
        fits=lambda row: row.status == Status.PAUSED,
    ),
    Act(
        name="stop-acting",
        title=_("Only decide"),
        icon="visibility",
        kind="warn",
        does=lambda row: gettext(
            "Looks go on and are recorded, but move nothing: nobody is promoted, and proven harm "
            "rolls nothing back until a person does."
        ),
        touched=touched_now,
        run=requesting("rollout.dry_run", lambda row, values: {"dry_run": True}),
        fits=lambda row: row.status in dry_run.OPEN and not row.dry_run,
    ),
    Act(
        name="resume-acting",
        title=_("Act on decisions"),
        icon="bolt",
        does=lambda row: gettext(
            "Decisions are carried out again: promotions from the next look on, and a rollback "
            "that was decided meanwhile at once."
        ),
        touched=touched_now,
        run=requesting("rollout.dry_run", lambda row, values: {"dry_run": False}),
        fits=lambda row: row.status in dry_run.OPEN and row.dry_run,
    ),
    Act(
        name="release-holdback",
        title=_("Release the holdback"),
        icon="group_add",
        kind="warn",
        does=lambda row: gettext(
            "Shows the product to those the full release held back. From then on nobody is left to "
            "compare with, so evidence of late harm ends."
        ),
        touched=lambda row: gettext("%(users)s users more.") % {"users": held_back(row)},
        run=requesting("rollout.release_holdback"),
        fits=lambda row: (
            row.current is not None
            and row.current.holdback
            and row.current.share_ppm < PPM
            and row.status in (Status.RUNNING, Status.PAUSED, Status.COMPLETED)
        ),
    ),
    Act(
        name="rollback",
        title=_("Roll back"),
        icon="history",
        kind="danger",
        does=lambda row: gettext(
            "Takes the product back from everybody this rollout showed it to, at once. Going on "
            "later needs a new rollout."
        ),
        touched=lambda row: flags.loses(row.flag),
        run=calling(rollouts.rollback),
        fits=lambda row: row.status in Rollout.IN_EFFECT,
    ),
)
