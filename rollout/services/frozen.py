"""An answer and everything it rests on, frozen as JSON: what a review case keeps.

Texts, labels and settings go on changing; this says what was true and told at that moment.
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from typing import Any

import msgspec

from cohorts import selectors as who
from huidu import model
from huidu.engine import Compiled
from huidu.history import Paid
from huidu.version import CODE_VERSION
from rollout.explanations import AUDIENCES
from rollout.mappers import iso
from rollout.services import places_told
from rollout.services.answering import standing
from rollout.services.voices import voice

LANGUAGES = ("zh", "en")


def freeze(
    environment: str,
    flag_key: str,
    user: model.User,
    *,
    compiled: Compiled,
    version: str,
    at: datetime,
    decision: str = "",
) -> dict[str, Any]:
    """The explanation of one check in all voices and languages, with facts and versions.

    Args:
        user: the user as judged.
        compiled: the snapshot that answers, `version` its name.
        at: the moment that is explained.
        decision: the id of the answer that was given, where it is known.
    """
    known = standing(environment, flag_key)
    found = places_told.settled(compiled.explain(flag_key, user), known, at=at)
    words = known.words
    made: dict[str, Any] = {
        "environment": environment,
        "flag": flag_key,
        "at": iso(at),
        "decision_id": decision,
        "snapshot": version,
        "sequence": found.sequence,
        "code": CODE_VERSION,
        "secret": sorted(words.secret),
        "answer": msgspec.to_builtins(found.answer),
        "facts": {
            "attributes": {
                name: fact.days() if isinstance(fact, Paid) else fact
                for name, fact in user.attributes.items()
            },
            "learned": {name: iso(each) for name, each in who.learned(user.key, at).at.items()},
            "admissions": {
                str(slot): msgspec.structs.asdict(each) for slot, each in user.admissions.items()
            },
            "lists": sorted(user.lists),
        },
        "told": {
            audience: {
                language: voice(
                    compiled,
                    found,
                    user,
                    audience=audience,
                    language=language,
                    words=words,
                    at=at,
                )
                for language in LANGUAGES
            }
            for audience in AUDIENCES
        },
    }
    plain: dict[str, Any] = json.loads(msgspec.json.encode(made, enc_hook=str))
    return plain


def hash_of(receipt: dict[str, Any]) -> str:
    """SHA-256 of a receipt's JSON in one canonical form, which PostgreSQL gives back as well."""
    text = json.dumps(receipt, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def for_support(receipt: dict[str, Any]) -> dict[str, Any]:
    """The receipt without the risk officer's voice and without anti-fraud facts."""
    secret = set(receipt["secret"])
    facts = dict(receipt["facts"])
    for part in ("attributes", "learned"):
        facts[part] = {name: each for name, each in facts[part].items() if name not in secret}
    told = {audience: each for audience, each in receipt["told"].items() if audience != "risk"}
    return {**receipt, "facts": facts, "told": told}
