"""A rule that has been read: a tree that knows its truth and its Python source.

Logic has three values (Kleene 1952): a claim about a missing or mistyped attribute is *unknown*,
and so is its negation. A rule lets somebody pass only when it is definitely true.

Each node says the same thing twice, for two readers:

    truth(facts)           True, False or None (unknown); *explain* walks the tree with it
    source(claim, scope)   a Python expression that is true exactly when the node is definitely
                           `claim`; the compiled check is made of these

Since "definitely true" and "definitely false" are each plain two-valued claims, compiled code
needs no third value: ``and`` is definitely false when a part is, "not" swaps the claims, and an
unknown value satisfies neither claim. Constants from rules never enter the source as text: a
scope names them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from huidu.model import Attribute

if TYPE_CHECKING:
    from huidu.engine.claims import Leaf

TRUE: Final = "True"
FALSE: Final = "False"


class Facts(Protocol):
    """What is known about one user."""

    key: str

    def value(self, attribute: Attribute) -> Any:
        """The value in the form rules compare, or `UNKNOWN`."""

    def days(self, attribute: Attribute) -> Any:
        """The daily counts behind the attribute (`huidu.history.Paid`), None if not known."""


class Scope(Protocol):
    """The generated function a source is written for."""

    def variable(self, attribute: Attribute) -> str:
        """Name of the local variable that holds the attribute, loaded and checked."""

    def days(self, attribute: Attribute) -> str:
        """Name of the local variable that holds the daily counts behind the attribute, or None."""

    def constant(self, value: Any) -> str:
        """Name under which the generated function finds this object."""


class Node(msgspec.Struct, frozen=True):
    """One step of a rule."""

    def truth(self, facts: Facts) -> bool | None:
        raise NotImplementedError

    def source(self, claim: bool, scope: Scope) -> str:
        raise NotImplementedError

    def fails(self, scope: Scope) -> str:
        """``source(False, scope)``, for where ``source(True, scope)`` was found not to hold."""
        return self.source(False, scope)

    def parts(self) -> tuple[Node, ...]:
        """The nodes below this one."""
        return ()

    def leaves(self) -> Iterator[Leaf]:
        """Every claim about an attribute, in reading order."""
        for part in self.parts():
            yield from part.leaves()


class Always(Node, frozen=True):
    """``{}``: true for everybody."""

    def truth(self, facts: Facts) -> bool | None:
        return True

    def source(self, claim: bool, scope: Scope) -> str:
        return TRUE if claim else FALSE


class All(Node, frozen=True):
    """``and``: as true as its least true part."""

    nodes: tuple[Node, ...]

    def truth(self, facts: Facts) -> bool | None:
        outcome: bool | None = True
        for node in self.nodes:
            truth = node.truth(facts)
            if truth is False:
                return False
            if truth is None:
                outcome = None
        return outcome

    def source(self, claim: bool, scope: Scope) -> str:
        sources = (node.source(claim, scope) for node in self.nodes)
        return both(*sources) if claim else either(*sources)

    def parts(self) -> tuple[Node, ...]:
        return self.nodes


class Any_(Node, frozen=True):  # noqa: N801 (`Any` is taken)
    """``or``: as true as its truest part."""

    nodes: tuple[Node, ...]

    def truth(self, facts: Facts) -> bool | None:
        outcome: bool | None = False
        for node in self.nodes:
            truth = node.truth(facts)
            if truth is True:
                return True
            if truth is None:
                outcome = None
        return outcome

    def source(self, claim: bool, scope: Scope) -> str:
        sources = (node.source(claim, scope) for node in self.nodes)
        return either(*sources) if claim else both(*sources)

    def parts(self) -> tuple[Node, ...]:
        return self.nodes


class Not(Node, frozen=True):
    """``!``: the opposite; the opposite of unknown is unknown."""

    node: Node

    def truth(self, facts: Facts) -> bool | None:
        truth = self.node.truth(facts)
        return None if truth is None else not truth

    def source(self, claim: bool, scope: Scope) -> str:
        return self.node.source(not claim, scope)

    def parts(self) -> tuple[Node, ...]:
        return (self.node,)


class InCohort(Node, frozen=True):
    """``cohort``: never the excluded, always the included, else by the cohort's rule."""

    cohort: str
    node: Node
    include: frozenset[str]
    exclude: frozenset[str]

    def truth(self, facts: Facts) -> bool | None:
        if facts.key in self.exclude:
            return False
        return True if facts.key in self.include else self.node.truth(facts)

    def source(self, claim: bool, scope: Scope) -> str:
        source = self.node.source(claim, scope)
        if self.include:
            names = scope.constant(self.include)
            source = (
                either(f"key in {names}", source) if claim else both(f"key not in {names}", source)
            )
        if self.exclude:
            names = scope.constant(self.exclude)
            source = (
                both(f"key not in {names}", source) if claim else either(f"key in {names}", source)
            )
        return source

    def parts(self) -> tuple[Node, ...]:
        return (self.node,)


def both(*sources: str) -> str:
    """All of the claims; the settled ones are left out."""
    return _joined(sources, " and ", FALSE, TRUE)


def either(*sources: str) -> str:
    """One of the claims; the settled ones are left out."""
    return _joined(sources, " or ", TRUE, FALSE)


def _joined(sources: tuple[str, ...], word: str, settles: str, adds_nothing: str) -> str:
    if settles in sources:
        return settles
    open_claims = [source for source in sources if source != adds_nothing]
    if not open_claims:
        return adds_nothing
    return open_claims[0] if len(open_claims) == 1 else f"({word.join(open_claims)})"
