"""The facts about one user that explanations may look at."""

from __future__ import annotations

from typing import Any

from huidu import history
from huidu.engine.values import known_value
from huidu.model import Attribute, AttributeSource, User


class Known:
    """What is known about the user; a `nodes.Facts`."""

    def __init__(self, user: User, key: str, readable: frozenset[AttributeSource]) -> None:
        self.key = key
        self._readable = readable
        self._given = user.attributes
        self._known: dict[str, Any] = {}

    def given(self, attribute: Attribute) -> Any:
        """The value as it was given, None if it was not or may not be read here."""
        if attribute.source not in self._readable:
            return None
        try:
            return self._given[attribute.name]
        except KeyError:
            return None

    def value(self, attribute: Attribute) -> Any:
        if attribute.name not in self._known:
            self._known[attribute.name] = known_value(attribute, self.given(attribute))
        return self._known[attribute.name]

    def days(self, attribute: Attribute) -> Any:
        if attribute.source is AttributeSource.CALLER or attribute.source not in self._readable:
            return None
        try:
            return self._given[history.NAME]
        except KeyError:
            return None
