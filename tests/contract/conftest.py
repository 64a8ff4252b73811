"""The platform's small world, for the contract tests that ask it."""

from tests.rollout.conftest import flag, fresh_process  # noqa: F401 - fixtures
