"""Collects the source of one check and turns it into a function.

The source is put together from fixed pieces only. Whatever comes from a snapshot (names, texts,
numbers, sets, answers) is an object in the function's own namespace, which has no builtins.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from math import nan
from sys import intern
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakValueDictionary

from xxhash import xxh3_64_intdigest

from huidu import history
from huidu.engine import values
from huidu.engine.claims import NUMERIC
from huidu.model import Admission, Answer, Attribute, AttributeSource, AttributeType

if TYPE_CHECKING:
    from huidu.engine.plan import RegionTable

Check = Callable[
    [str, Mapping[str, Any], Mapping[int, Admission] | None, frozenset[int] | None], Answer
]
"""One flag's check: key, attributes, admissions or None, lists or None."""

BareCheck = Callable[[str, Mapping[str, Any]], Answer]
"""One flag's check of users about whom nothing is held: key, attributes."""

Given = Answer | values.Memo[Answer]
"""What the source of a check answers with: an answer, or a table of answers."""

_POOLED: Final = (str, int, float, tuple, frozenset)
_WORD: Final = re.compile(r"\w+")

LOAD: Final[dict[AttributeType, str]] = {
    AttributeType.INTEGER: "if type({v}) is not int: {v} = whole({v})",
    # The difference is not 0.0 for infinity and NaN, which are no numbers.
    AttributeType.NUMBER: "if type({v}) is not float or {v} - {v}: {v} = number({v})",
    AttributeType.STRING: "if type({v}) is not str: {v} = text({v})",
    AttributeType.REGION: "if type({v}) is not str: {v} = text({v})",
    AttributeType.DATE: "{v} = DAYS[{v}] if type({v}) is str else day_of({v})",
    AttributeType.SEM_VER: "{v} = VERSIONS[{v}] if type({v}) is str else version_of({v})",
    AttributeType.STRINGS: "{v} = strings({v})",
}
"""Makes of what a variable holds a value of the type, or unknown."""

_TOOLS: Final[dict[str, Any]] = {
    "type": type,
    "int": int,
    "float": float,
    "str": str,
    "whole": values.whole,
    "number": values.number,
    "text": values.text,
    "strings": values.strings,
    "day_of": values.day_of,
    "version_of": values.version_of,
    "was_inside": history.was_inside,
    "DAYS": values.DAYS,
    "VERSIONS": values.VERSIONS,
    "NAN": nan,
    "hash64": xxh3_64_intdigest,
    "KeyError": KeyError,
    "UnicodeEncodeError": UnicodeEncodeError,
}


class Writer:
    """Collects the lines of one function and the objects they name. Is a `nodes.Scope`.

    Args:
        readable: attributes of other sources are unknown.
        holds: whether the function is told admissions and lists; else it is a `BareCheck`.
    """

    def __init__(self, readable: frozenset[AttributeSource], *, holds: bool = True) -> None:
        self.readable = readable
        self.holds = holds
        self.lines = [f"def check(key, attributes{', admissions, lists' if holds else ''}):"]
        self.named: dict[str, Any] = {}
        self._names: dict[Any, str] = {}
        self._loaded: dict[str, str] = {}
        self._has_raw = False
        self._classes = 0

    def line(self, *lines: str) -> None:
        self.lines.extend(f"    {line}" for line in lines)

    def constant(self, value: Any) -> str:
        pooled = isinstance(value, _POOLED)
        identity = (type(value), value) if pooled else ("object", id(value))
        if identity not in self._names:
            name = f"c{len(self.named)}"
            self._names[identity] = name
            self.named[name] = value  # also keeps the object, and so its id, alive
        return self._names[identity]

    def answer(self, given: Given) -> str:
        """Name of what is answered with."""
        return self.constant(given)

    def variable(self, attribute: Attribute) -> str:
        if attribute.name not in self._loaded:
            name = f"a{len(self._loaded)}"
            self._loaded[attribute.name] = name
            unknown = "NAN" if attribute.type in NUMERIC else "None"
            if attribute.source not in self.readable:
                self.line(f"{name} = {unknown}")
                return name
            self.load(name, attribute, unknown)
        return self._loaded[attribute.name]

    def load(self, name: str, attribute: Attribute, unknown: str) -> None:
        """Let the variable hold the attribute's value, or `unknown`."""
        # Costs nothing while the attribute is there, and `get` would cost its call.
        self.line(
            f"try: {name} = attributes[{self.constant(intern(attribute.name))}]",
            f"except KeyError: {name} = {unknown}",
        )
        if attribute.type in LOAD:
            self.line("else:", f"    {LOAD[attribute.type].format(v=name)}")

    def days(self, attribute: Attribute) -> str:
        """Name of a variable with the daily counts behind an attribute, None where there are none.

        They are the platform's, so they say nothing about a figure that only callers tell.
        """
        if attribute.source is AttributeSource.CALLER or attribute.source not in self.readable:
            return "None"
        if history.NAME not in self._loaded:
            name = self._loaded[history.NAME] = f"a{len(self._loaded)}"
            self.line(
                f"try: {name} = attributes[{self.constant(history.NAME)}]",
                f"except KeyError: {name} = None",
            )
        return self._loaded[history.NAME]

    @property
    def reads(self) -> frozenset[str]:
        """Names of the attributes the function looks at; it asks for no others."""
        return frozenset(self._loaded)

    def identity(self, missing: str) -> None:
        """Let `key` be text; an empty one is answered with `missing`."""
        self.line(
            "if type(key) is not str or not key:",
            "    key = text(key)",
            f"    if not key: return {missing}",
        )

    def region_class(self, table: RegionTable, region: str) -> str:
        """Name of a variable that holds the class of the region that a variable holds."""
        self._classes += 1
        name = f"r{self._classes}"
        self.line(f"{name} = {self.constant(table)}[{region}]")
        return name

    def raw_key(self) -> str:
        """Name of the variable that holds the bytes of the key."""
        if not self._has_raw:
            self._has_raw = True
            self.line(
                "try: raw = key.encode()",
                "except UnicodeEncodeError: raw = key.encode('utf-8', 'surrogatepass')",
            )
        return "raw"

    def bucket(self, name: str, seed: int) -> None:
        """Let the variable hold the user's place on the line of a seed; see `bucketing`."""
        raw = self.raw_key()
        self.line(f"{name} = hash64({raw}, {self.constant(seed)})")

    def stages(self) -> None:
        """What comes before the stages has been written."""

    def function(self) -> Check:
        return made_of(self.lines, self.named)


def made_of(lines: Iterable[str], named: Mapping[str, Any]) -> Check:
    """The function `check` of these lines, which finds its objects under their names."""
    source = "\n".join(lines)
    known = {**_TOOLS, **named}
    # All functions share the texts of the names.
    namespace = {intern(word): known[word] for word in _WORD.findall(source) if word in known}
    namespace["__builtins__"] = {}
    check: Check = FunctionType(_code_of(source), namespace)
    return check


_codes: Final[WeakValueDictionary[bytes, CodeType]] = WeakValueDictionary()
"""By digest of the source: the code of a function that is in use."""


def _code_of(source: str) -> CodeType:
    """The code of the one function in the source.

    Compiling takes a millisecond for each flag in it, and nobody else gets to do anything
    meanwhile. What differs between flags is mostly in the objects, so the source was often met
    before. Each function has a copy of its own: the interpreter notes in the code where in a
    function's namespace things are found.
    """
    digest = blake2b(source.encode(), digest_size=16).digest()
    known = _codes.get(digest)
    if known is None:
        module = compile(source, "<huidu check>", "exec", dont_inherit=True)
        code = next(each for each in module.co_consts if isinstance(each, CodeType))
    else:
        code = known.replace()
    _codes[digest] = code
    return code
