"""Says on one line whether a user sees a flag, and why; with --steps, every step of the check."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import UTC, datetime
from typing import Any

import msgspec
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from cohorts import mappers, selectors
from huidu.engine import Compiled, compile_snapshot
from huidu.engine.explain import Explanation
from huidu.model import Attribute, AttributeType, User
from huidu.wire import snapshot as wire
from rollout import wording
from rollout.explanations import AUDIENCES
from rollout.services import places_told, publishing, receipts, replay_receipts
from rollout.services.answering import standing, words_at
from rollout.services.voices import voice


class Command(BaseCommand):
    help = "Explain one check by what is published and what is held about the user."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("flag", nargs="?")
        parser.add_argument("--user")
        parser.add_argument(
            "--decision",
            metavar="ID",
            help="the answer that was given under this id, by its receipt",
        )
        parser.add_argument("--audience", choices=AUDIENCES, help="tell it in this voice, as JSON")
        parser.add_argument("--environment", default=settings.HUIDU_ENVIRONMENT)
        parser.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="NAME=VALUE",
            help="pretend that an attribute has this value (JSON, or text)",
        )
        parser.add_argument("--steps", action="store_true", help="tell every step")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["decision"]:
            compiled, found, user, at = self._by_receipt(options)
        elif options["flag"] and options["user"]:
            compiled, found, user, at = self._as_now(options)
        else:
            raise CommandError("expected a flag and --user, or --decision")
        if options["audience"]:
            told = {
                language: voice(
                    compiled,
                    found,
                    user,
                    audience=options["audience"],
                    language=language,
                    words=words_at(
                        options["environment"], found.flag, at if options["decision"] else None
                    ),
                    at=at,
                )
                for language in ("zh", "en")
            }
            self.stdout.write(msgspec.json.format(msgspec.json.encode(told)).decode())
            return
        self._tell(found, steps=options["steps"])

    def _by_receipt(self, options: dict[str, Any]) -> tuple[Compiled, Explanation, User, datetime]:
        receipt = receipts.find(options["environment"], options["decision"])
        if receipt is None:
            raise CommandError(f"no receipt of decision {options['decision']!r} is kept")
        compiled, _, found, user = replay_receipts.explain_again(receipt)
        if options["flag"] not in (None, receipt.flag):
            raise CommandError(f"decision {receipt.decision} is about {receipt.flag}")
        for each in replay_receipts.differences(receipt):
            self.stderr.write(f"differs from its receipt: {each}")
        return compiled, found, user, datetime.fromtimestamp(receipt.at_ms / 1000, UTC)

    def _as_now(self, options: dict[str, Any]) -> tuple[Compiled, Explanation, User, datetime]:
        row = publishing.last_snapshot(options["environment"])
        if row is None:
            raise CommandError(f"nothing was published in {options['environment']} yet")
        compiled = compile_snapshot(wire.decode(bytes(row.blob)))
        now = timezone.now()
        held = selectors.held_users([options["user"]], now).get(options["user"])
        user = held or User(options["user"], {})
        if options["set"]:
            pretended = dict(self._pretended(each) for each in options["set"])
            user = msgspec.structs.replace(user, attributes={**user.attributes, **pretended})
        known = standing(options["environment"], options["flag"])
        found = places_told.settled(compiled.explain(options["flag"], user), known, at=now)
        return compiled, found, user, now

    def _tell(self, found: Explanation, *, steps: bool) -> None:
        answer = found.answer
        told = wording.told(answer.why)
        self.stdout.write(
            f"{'shown ' if answer.visible else 'hidden'}  {answer.flag}={answer.variant}  "
            f"{answer.reason:<15}  {answer.why} ({told.support.zh})"
            + (f"  stage {answer.stage}" if answer.stage else "")
        )
        if steps:
            for step in found.steps:
                needs = ", ".join(
                    f"{each.attribute}={each.value!r} {each.operator} {each.wanted!r}"
                    for each in step.needs
                )
                name = f"{step.kind}{' ' + step.key if step.key else ''}"
                self.stdout.write(
                    f"  {step.outcome:<8} {name:<24} {step.why or ''} {needs}".rstrip()
                )

    def _pretended(self, text: str) -> tuple[str, Any]:
        name, sign, value = text.partition("=")
        registry: dict[str, Attribute] = mappers.registry()
        if not sign or name not in registry:
            raise CommandError(f"expected NAME=VALUE with a registered attribute, got {text!r}")
        texts = (AttributeType.STRING, AttributeType.REGION, AttributeType.DATE)
        if registry[name].type in (*texts, AttributeType.SEM_VER):
            return name, value
        try:
            return name, msgspec.json.decode(value)
        except msgspec.DecodeError as error:
            raise CommandError(f"expected JSON after {name}=, got {value!r}") from error
