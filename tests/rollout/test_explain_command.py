"""`manage.py explain`: one line with a yes or a no, and the reason."""

from __future__ import annotations

import pytest
from django.core.management import CommandError, call_command

from rollout.models import Flag, Rollout
from rollout.services import gates
from tests.rollout.conftest import ANN, BOB

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def adults_only(running: Rollout) -> Flag:
    values = {"order": 1, "key": "adult", "dimension": "compliance", "why": "compliance.age"}
    rule = {">=": [{"var": "age"}, 18]}
    gates.save_gate(running.flag, values | {"rule": rule}, by=ANN, approved_by=BOB)
    return running.flag


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (["age=30"], "shown   weilidai=on"),
        (["age=17"], "compliance.age"),
        ([], "data.missing"),
    ],
)
def test_it_tells_shown_or_hidden_and_why(adults_only: Flag, capsys, said: list[str], line: str):
    call_command("explain", "weilidai", "--user", "u1", set=said)
    assert line in capsys.readouterr().out


def test_steps_tell_what_was_found_and_needed(adults_only: Flag, capsys):
    call_command("explain", "weilidai", "--user", "u1", "--steps", set=["age=17"])
    assert "fail     gate adult" in capsys.readouterr().out


@pytest.mark.parametrize("said", ["shoe_size=4", "age", "age=old"])
def test_what_cannot_be_pretended_is_refused(adults_only: Flag, said: str):
    with pytest.raises(CommandError, match="expected"):
        call_command("explain", "weilidai", "--user", "u1", set=[said])
