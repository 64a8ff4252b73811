"""The running stage of the evidence tests."""

from tests.rollout.evidence.conftest import world as world
