"""Says on one line whether a user sees a flag, and why; with --steps, every step of the check."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

import msgspec
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from cohorts import mappers, selectors
from huidu.engine import compile_snapshot
from huidu.model import Attribute, AttributeType, User
from huidu.wire import snapshot as wire
from rollout import wording
from rollout.services import publishing


class Command(BaseCommand):
    help = "Explain one check by what is published and what is held about the user."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("flag")
        parser.add_argument("--user", required=True)
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
        row = publishing.last_snapshot(options["environment"])
        if row is None:
            raise CommandError(f"nothing was published in {options['environment']} yet")
        compiled = compile_snapshot(wire.decode(bytes(row.blob)))
        held = selectors.held_users([options["user"]], timezone.now()).get(options["user"])
        user = held or User(options["user"], {})
        if options["set"]:
            pretended = dict(self._pretended(each) for each in options["set"])
            user = msgspec.structs.replace(user, attributes={**user.attributes, **pretended})
        found = compiled.explain(options["flag"], user)
        answer = found.answer
        told = wording.told(answer.why)
        self.stdout.write(
            f"{'shown ' if answer.visible else 'hidden'}  {answer.flag}={answer.variant}  "
            f"{answer.reason:<15}  {answer.why} ({told.support.zh})"
            + (f"  stage {answer.stage}" if answer.stage else "")
        )
        if options["steps"]:
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
